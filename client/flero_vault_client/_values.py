"""What calls take and return: frozen values, made of messages.

- An enum's number that a newer vault sends is UNSPECIFIED here, not a crash.
- Times are aware, in UTC; None where the vault says nothing.
- What a person or a program must not find in a log has no place in a `repr`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import NoReturn, Self, TypeVar

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from flero_vault_client.v1 import connector_catalog_pb2, credential_pb2, credential_vault_pb2


class CredentialScope(StrEnum):
    """Who in the workspace may use a credential. Not an OAuth scope."""

    UNSPECIFIED = "UNSPECIFIED"
    PERSONAL = "PERSONAL"
    WORKSPACE = "WORKSPACE"


class CredentialStatus(StrEnum):
    """Where a credential stands in its life."""

    UNSPECIFIED = "UNSPECIFIED"
    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"


class ServiceRevocation(StrEnum):
    """What became of a grant at the service when it was revoked in Flero."""

    UNSPECIFIED = "UNSPECIFIED"
    NOT_REQUESTED = "NOT_REQUESTED"
    DONE = "DONE"
    PENDING = "PENDING"
    UNSUPPORTED = "UNSUPPORTED"
    FAILED = "FAILED"


class Verification(StrEnum):
    """How well the facts of a connector are known."""

    UNSPECIFIED = "UNSPECIFIED"
    VENDOR = "VENDOR"
    METADATA = "METADATA"
    SECONDHAND = "SECONDHAND"


_Short = TypeVar("_Short", bound=StrEnum)


def _short(kind: type[_Short], enum: EnumDescriptor, prefix: str, number: int) -> _Short:
    """Return the short name of an enum's number."""
    known = enum.values_by_number.get(number)
    name = known.name.removeprefix(prefix) if known else ""
    return kind(name if name in kind.__members__ else "UNSPECIFIED")


def scope_number(scope: CredentialScope) -> credential_pb2.CredentialScope.ValueType:
    """Return a credential scope as the protocol writes it."""
    return credential_pb2.CredentialScope.Value(f"CREDENTIAL_SCOPE_{scope}")


def several(scopes: Sequence[str]) -> tuple[str, ...]:
    """Return OAuth scopes as a tuple.

    Raises:
        TypeError: it is one string, which would be taken letter by letter.

    """
    if isinstance(scopes, str):
        raise TypeError("scopes are a list of strings, not one string")
    return tuple(scopes)


def _time(message: Message, name: str) -> datetime | None:
    stamp: Timestamp = getattr(message, name)
    return stamp.ToDatetime(tzinfo=UTC) if message.HasField(name) else None


def _span(message: Message, name: str) -> timedelta | None:
    span: Duration = getattr(message, name)
    return span.ToTimedelta() if message.HasField(name) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What GetAccessToken is asked, as one item of a batch.

    `min_ttl` is how long the token must still live, up to 24 hours; None: a minute.
    `rejected_token` is one that the service just refused with 401; only its hash is sent.
    """

    name: str
    user: str = ""
    min_ttl: timedelta | None = None
    rejected_token: str | None = field(default=None, repr=False)
    required_scopes: tuple[str, ...] = ()
    slot: str = ""
    purpose: str = ""

    def to_message(self) -> credential_vault_pb2.GetAccessTokenRequest:
        """Return it as it is sent."""
        message = credential_vault_pb2.GetAccessTokenRequest(
            name=self.name,
            user=self.user,
            required_scopes=several(self.required_scopes),
            slot=self.slot,
            purpose=self.purpose,
        )
        if self.min_ttl is not None:
            message.min_ttl.FromTimedelta(self.min_ttl)
        if self.rejected_token is not None:
            message.rejected_token_sha256 = hashlib.sha256(self.rejected_token.encode()).digest()
        return message


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessToken:
    """A token that was valid when the vault answered. Fetch it when it is used, and keep it not.

    It cannot be copied or pickled: in a job's payload it would be stored, and soon be stale.
    """

    access_token: str = field(repr=False)
    token_type: str
    expire_time: datetime | None
    granted_scopes: tuple[str, ...]
    connection: Mapping[str, str]
    warning: str

    @property
    def headers(self) -> dict[str, str]:
        """The header of a request to the service.

        Bearer whatever `token_type` says: services name the token's kind there (Slack: `bot`,
        `user`) and take the same header for all (RFC 6750).
        """
        return {"Authorization": f"Bearer {self.access_token}"}

    def __reduce__(self) -> NoReturn:
        """Refuse.

        Raises:
            TypeError: always.

        """
        raise TypeError("an access token is fetched when it is used, never stored or passed on")

    @classmethod
    def of(cls, message: credential_vault_pb2.GetAccessTokenResponse) -> Self:
        """Return the value of a message."""
        return cls(
            access_token=message.access_token,
            token_type=message.token_type,
            expire_time=_time(message, "expire_time"),
            granted_scopes=tuple(message.granted_scopes),
            connection=MappingProxyType(dict(message.connection)),
            warning=message.warning,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account at the service, as the person knows it."""

    id: str
    email: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReason:
    """Why a credential stands where it stands; `message` is a sentence for a person."""

    reason: str
    message: str
    time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """One OAuth scope in words; `granted`: whether the present grant already has it."""

    scope: str
    description: str = ""
    granted: bool = False

    @classmethod
    def of(cls, message: credential_pb2.Permission) -> Self:
        """Return the value of a message."""
        return cls(scope=message.scope, description=message.description, granted=message.granted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """One connection of a workspace to one account at a service. Never contains a token."""

    name: str
    connector: str
    display_name: str
    credential_scope: CredentialScope
    status: CredentialStatus
    status_reason: StatusReason | None
    owner: str
    authorized_by: str
    account: Account | None
    requested_scopes: tuple[str, ...]
    granted_scopes: tuple[str, ...]
    access_token_expire_time: datetime | None
    refresh_token_expire_time: datetime | None
    reauthenticate_by_time: datetime | None
    last_refresh_time: datetime | None
    last_used_time: datetime | None
    create_time: datetime | None
    update_time: datetime | None
    etag: str

    def __repr__(self) -> str:
        return f"<Credential {self.name} {self.status}>"

    @classmethod
    def of(cls, message: credential_pb2.Credential) -> Self:
        """Return the value of a message."""
        account, why = message.account, message.status_reason
        return cls(
            name=message.name,
            connector=message.connector,
            display_name=message.display_name,
            credential_scope=_short(
                CredentialScope,
                credential_pb2.CredentialScope.DESCRIPTOR,
                "CREDENTIAL_SCOPE_",
                message.credential_scope,
            ),
            status=_short(
                CredentialStatus,
                credential_pb2.CredentialStatus.DESCRIPTOR,
                "CREDENTIAL_STATUS_",
                message.status,
            ),
            status_reason=StatusReason(
                reason=why.reason, message=why.message, time=_time(why, "time")
            )
            if message.HasField("status_reason")
            else None,
            owner=message.owner,
            authorized_by=message.authorized_by,
            account=Account(id=account.id, email=account.email, label=account.label)
            if message.HasField("account")
            else None,
            requested_scopes=tuple(message.requested_scopes),
            granted_scopes=tuple(message.granted_scopes),
            access_token_expire_time=_time(message, "access_token_expire_time"),
            refresh_token_expire_time=_time(message, "refresh_token_expire_time"),
            reauthenticate_by_time=_time(message, "reauthenticate_by_time"),
            last_refresh_time=_time(message, "last_refresh_time"),
            last_used_time=_time(message, "last_used_time"),
            create_time=_time(message, "create_time"),
            update_time=_time(message, "update_time"),
            etag=message.etag,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A trip to the consent page: open `authorize_url` in a tab before `expire_time`.

    `authorize_url` is empty if a repeated request_id finds that the person was there already.
    """

    credential: Credential
    authorize_url: str = field(repr=False)
    permissions: tuple[Permission, ...]
    expire_time: datetime | None

    @classmethod
    def of(
        cls,
        message: credential_vault_pb2.BeginAuthorizeResponse
        | credential_vault_pb2.ReauthenticateResponse,
    ) -> Self:
        """Return the value of a message."""
        return cls(
            credential=Credential.of(message.credential),
            authorize_url=message.authorize_url,
            permissions=tuple(Permission.of(each) for each in message.permissions),
            expire_time=_time(message, "expire_time"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A consent that was accepted, and the OAuth scopes that were asked for and not granted."""

    credential: Credential
    missing_scopes: tuple[str, ...]

    @classmethod
    def of(cls, message: credential_vault_pb2.CompleteCallbackResponse) -> Self:
        """Return the value of a message."""
        return cls(
            credential=Credential.of(message.credential),
            missing_scopes=tuple(message.missing_scopes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """A stopped credential, what became of it at the service, and where a person can look."""

    credential: Credential
    service_revocation: ServiceRevocation
    manage_url: str

    @classmethod
    def of(cls, message: credential_vault_pb2.RevokeResponse) -> Self:
        """Return the value of a message."""
        return cls(
            credential=Credential.of(message.credential),
            service_revocation=_short(
                ServiceRevocation,
                credential_pb2.ServiceRevocation.DESCRIPTOR,
                "SERVICE_REVOCATION_",
                message.service_revocation,
            ),
            manage_url=message.manage_url,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionParam:
    """A value that the person or the frontend gives before the consent.

    The whole value matches `pattern` (RE2). Without `default_value` it is required.
    """

    key: str
    description: str = ""
    pattern: str = ".*"
    default_value: str = ""
    example: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """A service that Flero can connect to."""

    name: str
    display_name: str
    permissions: tuple[Permission, ...] = ()
    default_scopes: tuple[str, ...] = ()
    connection_params: tuple[ConnectionParam, ...] = ()
    setup_steps: tuple[str, ...] = ()
    redirect_uri: str = ""
    admin_approval: str = ""
    manage_url: str = ""
    access_token_lifetime: timedelta | None = None
    refresh_token_idle_lifetime: timedelta | None = None
    verification: Verification = Verification.UNSPECIFIED
    verification_url: str = ""
    slots: tuple[str, ...] = ()
    configured: bool = True

    @property
    def key(self) -> str:
        """What BeginAuthorize and CompleteCallback call it, such as `slack`."""
        return self.name.removeprefix("connectors/")

    @classmethod
    def of(cls, message: connector_catalog_pb2.Connector) -> Self:
        """Return the value of a message."""
        return cls(
            name=message.name,
            display_name=message.display_name,
            permissions=tuple(Permission.of(each) for each in message.permissions),
            default_scopes=tuple(message.default_scopes),
            connection_params=tuple(
                ConnectionParam(
                    key=each.key,
                    description=each.description,
                    pattern=each.pattern,
                    default_value=each.default_value,
                    example=each.example,
                )
                for each in message.connection_params
            ),
            setup_steps=tuple(message.setup_steps),
            redirect_uri=message.redirect_uri,
            admin_approval=message.admin_approval,
            manage_url=message.manage_url,
            access_token_lifetime=_span(message, "access_token_lifetime"),
            refresh_token_idle_lifetime=_span(message, "refresh_token_idle_lifetime"),
            verification=_short(
                Verification,
                connector_catalog_pb2.Verification.DESCRIPTOR,
                "VERIFICATION_",
                message.verification,
            ),
            verification_url=message.verification_url,
            slots=tuple(message.slots),
            configured=message.configured,
        )
