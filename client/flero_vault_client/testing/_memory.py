"""What the fake vault knows and decides: synchronous, without gRPC and without a clock of its own.

Each RPC is a method that takes its request and returns its response or raises Refused.
"""

import hashlib
import re
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from google.protobuf import empty_pb2
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from flero_vault_client._values import Connector, CredentialStatus
from flero_vault_client.testing._checks import check
from flero_vault_client.testing._refused import Refused, invalid
from flero_vault_client.v1 import connector_catalog_pb2, credential_pb2, credential_vault_pb2

ATTEMPT_LIFETIME: Final = timedelta(minutes=10)
MIN_TTL_DEFAULT: Final = timedelta(seconds=60)
HINT_SPACING: Final = timedelta(minutes=1)
PAGE_DEFAULT: Final = 50

Credential = credential_pb2.Credential
Begin = credential_vault_pb2.BeginAuthorizeRequest | credential_vault_pb2.ReauthenticateRequest
_Begun = TypeVar(
    "_Begun",
    credential_vault_pb2.BeginAuthorizeResponse,
    credential_vault_pb2.ReauthenticateResponse,
)

_ACTIVE = credential_pb2.CREDENTIAL_STATUS_ACTIVE
_EXPIRED = credential_pb2.CREDENTIAL_STATUS_EXPIRED
_PENDING = credential_pb2.CREDENTIAL_STATUS_PENDING
_REVOKED = credential_pb2.CREDENTIAL_STATUS_REVOKED


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One trip to the consent page; `outcome` and `code` are set when it came back."""

    credential: str
    connector: str
    user: str
    binding: str
    scopes: tuple[str, ...]
    expire_time: datetime
    allow_account_change: bool
    void: bool = False
    code: str = ""
    outcome: credential_vault_pb2.CompleteCallbackResponse | Refused | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What a code stands for: whose account, and which scopes the person allowed."""

    account: credential_pb2.Account
    scopes: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Token:
    """An access token and until when the service honours it."""

    value: str
    expire_time: datetime
    issue_time: datetime


@dataclass(slots=True, kw_only=True)
class Grant:
    """What the service issued: a token for each slot."""

    tokens: dict[str, Token]
    hint_time: datetime | None = None


@dataclass(slots=True, kw_only=True)
class Memory:
    """Everything that the fake vault holds."""

    now: datetime
    connectors: Mapping[str, Connector]
    token_lifetime: timedelta
    largest_page: int
    credentials: dict[str, Credential] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    codes: dict[tuple[str, str], Consent] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    _requests: dict[tuple[str, str, str], tuple[Message, str]] = field(default_factory=dict)

    # Consent

    def begin_authorize(
        self, request: credential_vault_pb2.BeginAuthorizeRequest
    ) -> credential_vault_pb2.BeginAuthorizeResponse:
        """Make a PENDING credential and its URL."""
        connector = self._connector(request.connector)
        _check_params(connector, request.connection_params)
        response = credential_vault_pb2.BeginAuthorizeResponse()
        state = self._repeated(request)
        if state is None:
            self._require_app(connector)
            credential = Credential(
                name=f"{request.parent}/credentials/{uuid.uuid4()}",
                connector=connector.key,
                display_name=request.display_name,
                credential_scope=request.credential_scope,
                status=_PENDING,
                owner=request.user,
                requested_scopes=request.requested_scopes or connector.default_scopes,
                create_time=self._stamp(),
            )
            self.credentials[credential.name] = credential
            self._changed(credential)
            state = self._attempt(request, credential, allow_account_change=False)
        return self._begun(response, state)

    def reauthenticate(
        self, request: credential_vault_pb2.ReauthenticateRequest
    ) -> credential_vault_pb2.ReauthenticateResponse:
        """Start the consent again."""
        credential = self.find(request.name, request.user)
        response = credential_vault_pb2.ReauthenticateResponse()
        state = self._repeated(request)
        if state is None:
            self._require_app(self._connector(credential.connector))
            state = self._attempt(
                request, credential, allow_account_change=request.allow_account_change
            )
        return self._begun(response, state)

    def complete_callback(
        self, request: credential_vault_pb2.CompleteCallbackRequest
    ) -> credential_vault_pb2.CompleteCallbackResponse:
        """Take what came back; the same state and code get the first outcome again."""
        attempt = self.attempts.get(request.state)
        if (
            attempt is None
            or attempt.void
            or attempt.user != request.user
            or attempt.binding != request.browser_binding
            or attempt.connector != request.connector
            or request.iss not in {"", issuer(attempt.connector)}
        ):
            raise _state_invalid()
        said = request.code or f"error {request.error}"
        if attempt.outcome is None:
            if attempt.expire_time <= self.now:
                raise _state_invalid()
            attempt.code = said
            try:
                attempt.outcome = self._accept(request, attempt)
            except Refused as refused:
                attempt.outcome = refused
        elif attempt.code != said:
            raise _state_invalid()
        if isinstance(attempt.outcome, Refused):
            raise attempt.outcome
        return attempt.outcome

    def redeem(self, state: str, code: str) -> Consent | None:
        """Return what a code stands for, as the service would when it is exchanged."""
        return self.codes.pop((state, code), None)

    # Tokens

    def get_access_token(
        self, request: credential_vault_pb2.GetAccessTokenRequest
    ) -> credential_vault_pb2.GetAccessTokenResponse:
        """Return a token that is valid now."""
        credential = self.find(request.name, request.user)
        connector = self._connector(credential.connector)
        grant = self._usable(credential)
        slot = request.slot or (connector.slots[0] if connector.slots else "")
        if slot not in grant.tokens:
            slots = ", ".join(connector.slots) or "no slots"
            raise invalid(("slot", f"must be one of: {slots}"))
        absent = [each for each in request.required_scopes if each not in credential.granted_scopes]
        if absent:
            raise Refused(
                "SCOPES_MISSING",
                f"“{credential.display_name}” was not given all the permissions that are needed: "
                f"{'; '.join(absent)}. Re-authenticate it and allow them.",
                metadata=_about(credential) | {"missing_scopes": " ".join(absent)},
            )
        min_ttl = MIN_TTL_DEFAULT
        if request.HasField("min_ttl"):
            min_ttl = request.min_ttl.ToTimedelta()
        token = grant.tokens[slot]
        wanted = min(min_ttl, (token.expire_time - token.issue_time) / 2)
        rejected = request.rejected_token_sha256 == _sha256(token.value)
        warning = ""
        if token.expire_time - self.now < wanted or (rejected and self._may_hint(grant)):
            self._refresh(credential, grant)
            token = grant.tokens[slot]
        elif rejected:
            warning = (
                "The service refused this token, but it was refreshed for that reason just now."
            )
        if token.expire_time - self.now < min_ttl:
            warning = (
                "This token lives shorter than asked for; the service does not issue longer ones."
            )
        credential.last_used_time.CopyFrom(self._stamp())
        return credential_vault_pb2.GetAccessTokenResponse(
            access_token=token.value,
            token_type=slot or "Bearer",
            expire_time=_stamp(token.expire_time),
            granted_scopes=credential.granted_scopes,
            warning=warning,
        )

    def batch_get_access_tokens(
        self, request: credential_vault_pb2.BatchGetAccessTokensRequest
    ) -> credential_vault_pb2.BatchGetAccessTokensResponse:
        """Return each token or its own error, in order."""
        response = credential_vault_pb2.BatchGetAccessTokensResponse()
        for each in request.requests:
            result = response.results.add()
            try:
                check(each)
                if not each.name.startswith(f"{request.parent}/"):
                    raise _not_found()
                result.token.CopyFrom(self.get_access_token(each))
            except Refused as refused:
                result.error.CopyFrom(refused.status())
        return response

    def accepts(self, token: str) -> bool:
        """Say whether the service honours an access token."""
        return any(
            each.value == token and each.expire_time > self.now
            for grant in self.grants.values()
            for each in grant.tokens.values()
        )

    # Life

    def revoke(
        self, request: credential_vault_pb2.RevokeRequest
    ) -> credential_vault_pb2.RevokeResponse:
        """Stop a credential and every consent under way."""
        credential = self._owned(request.name, request.user, "revoke")
        self._void(credential.name)
        self.grants.pop(credential.name, None)
        if credential.status != _REVOKED:
            credential.status = _REVOKED
            self._changed(credential)
        return credential_vault_pb2.RevokeResponse(
            credential=credential,
            service_revocation=credential_pb2.SERVICE_REVOCATION_DONE
            if request.revoke_at_service
            else credential_pb2.SERVICE_REVOCATION_NOT_REQUESTED,
            manage_url=self._connector(credential.connector).manage_url,
        )

    def get_credential(self, request: credential_vault_pb2.GetCredentialRequest) -> Credential:
        """Return one credential."""
        return self.find(request.name, request.user)

    def check_credential(self, request: credential_vault_pb2.CheckCredentialRequest) -> Credential:
        """Ask the service, which here means: need a token."""
        credential = self.find(request.name, request.user)
        self.get_access_token(
            credential_vault_pb2.GetAccessTokenRequest(name=request.name, user=request.user)
        )
        return credential

    def list_credentials(
        self, request: credential_vault_pb2.ListCredentialsRequest
    ) -> credential_vault_pb2.ListCredentialsResponse:
        """List what the user can see, oldest first."""
        wanted = _terms(request.filter)
        found = [
            each
            for each in self.credentials.values()
            if each.name.startswith(f"{request.parent}/")
            and _visible(each, request.user)
            and all(_value(each, key) == value for key, value in wanted.items())
        ]
        page, token = self._page(found, request.page_size, request.page_token)
        return credential_vault_pb2.ListCredentialsResponse(credentials=page, next_page_token=token)

    def update_credential(
        self, request: credential_vault_pb2.UpdateCredentialRequest
    ) -> Credential:
        """Change what a person may change."""
        new = request.credential
        credential = self._owned(new.name, request.user, "change")
        _check_etag(credential, new.etag)
        mask = request.update_mask.paths or [
            path for path in ("display_name", "credential_scope", "owner") if getattr(new, path)
        ]
        personal = credential_pb2.CREDENTIAL_SCOPE_PERSONAL
        scopes = {credential.credential_scope, new.credential_scope}
        if "owner" in mask and new.owner != credential.owner and personal in scopes:
            raise Refused(
                "CALLER_NOT_ALLOWED",
                f"“{credential.display_name}” is personal and stays with its owner.",
                metadata=_about(credential),
            )
        for path in mask:
            setattr(credential, path, getattr(new, path))
        self._changed(credential)
        return credential

    def delete_credential(
        self, request: credential_vault_pb2.DeleteCredentialRequest
    ) -> empty_pb2.Empty:
        """Delete a credential with its tokens."""
        credential = self._owned(request.name, request.user, "delete")
        _check_etag(credential, request.etag)
        del self.credentials[credential.name]
        self.grants.pop(credential.name, None)
        self.attempts = {
            state: attempt
            for state, attempt in self.attempts.items()
            if attempt.credential != credential.name
        }
        return empty_pb2.Empty()

    def expire(self, name: str) -> None:
        """Have the service forget a grant."""
        credential = self.credentials[name]
        connector = self._connector(credential.connector)
        self.grants.pop(name, None)
        credential.status = _EXPIRED
        credential.status_reason.CopyFrom(
            credential_pb2.StatusReason(
                reason="CREDENTIAL_EXPIRED",
                message=f"{connector.display_name} no longer accepts “{credential.display_name}”.",
                time=self._stamp(),
            )
        )
        self._changed(credential)

    # Catalogue

    def list_connectors(
        self, request: connector_catalog_pb2.ListConnectorsRequest
    ) -> connector_catalog_pb2.ListConnectorsResponse:
        """List the connectors by key."""
        found = [connector_message(each) for _, each in sorted(self.connectors.items())]
        page, token = self._page(found, request.page_size, request.page_token)
        return connector_catalog_pb2.ListConnectorsResponse(connectors=page, next_page_token=token)

    def get_connector(
        self, request: connector_catalog_pb2.GetConnectorRequest
    ) -> connector_catalog_pb2.Connector:
        """Return one connector."""
        return connector_message(self._connector(request.name.removeprefix("connectors/")))

    # Inside

    def find(self, name: str, user: str) -> Credential:
        """Return a credential that this user can see."""
        credential = self.credentials.get(name)
        if credential is None or not _visible(credential, user):
            raise _not_found()
        return credential

    def _owned(self, name: str, user: str, action: str) -> Credential:
        credential = self.find(name, user)
        if credential.owner != user:
            raise Refused(
                "CALLER_NOT_ALLOWED",
                f"Only the owner of “{credential.display_name}” can {action} it.",
                metadata=_about(credential),
            )
        return credential

    def _connector(self, key: str) -> Connector:
        if key not in self.connectors:
            raise Refused(
                "CONNECTOR_NOT_FOUND",
                f"There is no connector “{key}” in this deployment.",
                metadata={"connector": key},
            )
        return self.connectors[key]

    def _require_app(self, connector: Connector) -> None:
        if not connector.configured:
            raise Refused(
                "OAUTH_APP_NOT_CONFIGURED",
                f"{connector.display_name} is not set up in this deployment yet.",
                metadata={"connector": connector.key},
            )

    def _repeated(self, request: Begin) -> str | None:
        """Return the state that this very request got a moment ago."""
        if not request.request_id:
            return None
        key = (request.DESCRIPTOR.name, request.user, request.request_id)
        first, state = self._requests.get(key, (None, ""))
        attempt = self.attempts.get(state)
        if first is None or attempt is None or attempt.expire_time <= self.now:
            return None
        if first != request:
            raise Refused(
                "REQUEST_ID_REUSED",
                "This request_id was used a moment ago with other fields. Use a new one.",
            )
        return state

    def _attempt(
        self, request: Begin, credential: Credential, *, allow_account_change: bool
    ) -> str:
        """Begin a trip to the consent page, which replaces those under way; return its state."""
        self._void(credential.name)
        workspace = credential.name.split("/")[1]
        state = f"{workspace}.{secrets.token_urlsafe(32)}"
        self.attempts[state] = Attempt(
            credential=credential.name,
            connector=credential.connector,
            user=request.user,
            binding=request.browser_binding,
            scopes=tuple(request.requested_scopes or credential.requested_scopes),
            expire_time=self.now + ATTEMPT_LIFETIME,
            allow_account_change=allow_account_change,
        )
        if request.request_id:
            key = (request.DESCRIPTOR.name, request.user, request.request_id)
            self._requests[key] = (request, state)
        return state

    def _void(self, name: str) -> None:
        for attempt in self.attempts.values():
            if attempt.credential == name and attempt.outcome is None:
                attempt.void = True

    def _begun(self, response: _Begun, state: str) -> _Begun:
        attempt = self.attempts[state]
        credential = self.credentials[attempt.credential]
        described = {
            each.scope: each.description for each in self._connector(attempt.connector).permissions
        }
        response.credential.CopyFrom(credential)
        if attempt.outcome is None and not attempt.void:
            response.authorize_url = f"{issuer(attempt.connector)}/authorize?state={state}"
        response.permissions.extend(
            credential_pb2.Permission(
                scope=each,
                description=described.get(each, ""),
                granted=each in credential.granted_scopes,
            )
            for each in attempt.scopes
        )
        response.expire_time.CopyFrom(_stamp(attempt.expire_time))
        return response

    def _accept(
        self, request: credential_vault_pb2.CompleteCallbackRequest, attempt: Attempt
    ) -> credential_vault_pb2.CompleteCallbackResponse:
        credential = self.credentials[attempt.credential]
        service = self._connector(attempt.connector).display_name
        if request.error:
            raise self._not_granted(
                credential,
                "CONSENT_DENIED",
                f"The authorization was cancelled at {service}. Start again if that was a mistake.",
            )
        consent = self.redeem(request.state, request.code)
        if consent is None:
            raise self._not_granted(
                credential,
                "CODE_REJECTED",
                f"{service} did not complete the authorization. Start again.",
            )
        known, chosen = credential.account, consent.account
        if known.id not in {"", chosen.id} and not attempt.allow_account_change:
            raise self._not_granted(
                credential,
                "ACCOUNT_MISMATCH",
                f"“{credential.display_name}” belongs to {known.label}, but {chosen.label} was "
                f"chosen. Nothing was changed: start again and choose {known.label}.",
                expected_account=known.label,
                actual_account=chosen.label,
            )
        credential.account.CopyFrom(chosen)
        credential.status = _ACTIVE
        credential.authorized_by = attempt.user
        credential.requested_scopes[:] = attempt.scopes
        credential.granted_scopes[:] = consent.scopes
        credential.ClearField("status_reason")
        self.grants[credential.name] = grant = Grant(tokens={})
        self._issue(credential, grant)
        self._changed(credential)
        response = credential_vault_pb2.CompleteCallbackResponse(
            missing_scopes=[each for each in attempt.scopes if each not in consent.scopes]
        )
        response.credential.CopyFrom(credential)
        return response

    def _not_granted(
        self, credential: Credential, reason: str, sentence: str, **metadata: str
    ) -> Refused:
        """Write down why a consent brought nothing, and return the error that says so."""
        why = credential_pb2.StatusReason(reason=reason, message=sentence, time=self._stamp())
        credential.status_reason.CopyFrom(why)
        return Refused(reason, sentence, metadata=_about(credential) | metadata)

    def _usable(self, credential: Credential) -> Grant:
        name = credential.display_name
        service = self._connector(credential.connector).display_name
        if credential.status == _PENDING:
            raise Refused(
                "CREDENTIAL_PENDING",
                f"“{name}” is not connected yet: somebody has to finish authorizing it at "
                f"{service}.",
                metadata=_about(credential),
            )
        if credential.status == _REVOKED:
            raise Refused(
                "CREDENTIAL_REVOKED",
                f"“{name}” was revoked. Re-authenticate it to use it again.",
                metadata=_about(credential),
            )
        if credential.status == _EXPIRED:
            raise Refused(
                "CREDENTIAL_EXPIRED",
                f"{service} no longer accepts “{name}”. Open the credential and re-authenticate "
                "it; workflows that use it then work again.",
                metadata=_about(credential),
                help_url=self._connector(credential.connector).manage_url,
            )
        return self.grants[credential.name]

    def _may_hint(self, grant: Grant) -> bool:
        """Say whether a refused token causes a refresh: once a minute."""
        if grant.hint_time is not None and self.now - grant.hint_time < HINT_SPACING:
            return False
        grant.hint_time = self.now
        return True

    def _refresh(self, credential: Credential, grant: Grant) -> None:
        self._issue(credential, grant)
        credential.last_refresh_time.CopyFrom(self._stamp())

    def _issue(self, credential: Credential, grant: Grant) -> None:
        expire_time = self.now + self.token_lifetime
        for slot in self._connector(credential.connector).slots or ("",):
            grant.tokens[slot] = Token(
                value=f"fake-{credential.connector}-{secrets.token_urlsafe(24)}",
                issue_time=self.now,
                expire_time=expire_time,
            )
        credential.access_token_expire_time.CopyFrom(_stamp(expire_time))

    def _changed(self, credential: Credential) -> None:
        revision = int(credential.etag.removeprefix("r") or 0)
        credential.etag = f"r{revision + 1}"
        credential.update_time.CopyFrom(self._stamp())

    def _page(self, found: Sequence[Any], size: int, token: str) -> tuple[Sequence[Any], str]:
        if not re.fullmatch(r"\d*", token):
            remedy = "must be the next_page_token of the same request"
            raise invalid(("page_token", remedy))
        first = int(token or 0)
        last = first + min(size or PAGE_DEFAULT, self.largest_page)
        return found[first:last], str(last) if last < len(found) else ""

    def _stamp(self) -> Timestamp:
        return _stamp(self.now)


def issuer(connector: str) -> str:
    """Return what the emulated service calls itself (RFC 9207)."""
    return f"https://service.example/{connector}"


def connector_message(value: Connector) -> connector_catalog_pb2.Connector:
    """Return a connector as it is sent."""
    message = connector_catalog_pb2.Connector(
        name=value.name,
        display_name=value.display_name,
        permissions=[
            credential_pb2.Permission(scope=each.scope, description=each.description)
            for each in value.permissions
        ],
        default_scopes=value.default_scopes,
        connection_params=[
            connector_catalog_pb2.ConnectionParam(
                key=each.key,
                description=each.description,
                pattern=each.pattern,
                default_value=each.default_value,
                example=each.example,
            )
            for each in value.connection_params
        ],
        setup_steps=value.setup_steps,
        redirect_uri=value.redirect_uri,
        admin_approval=value.admin_approval,
        manage_url=value.manage_url,
        verification=connector_catalog_pb2.Verification.Value(f"VERIFICATION_{value.verification}"),
        verification_url=value.verification_url,
        slots=value.slots,
        configured=value.configured,
    )
    if value.access_token_lifetime is not None:
        message.access_token_lifetime.FromTimedelta(value.access_token_lifetime)
    if value.refresh_token_idle_lifetime is not None:
        message.refresh_token_idle_lifetime.FromTimedelta(value.refresh_token_idle_lifetime)
    return message


def _sha256(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _stamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def _visible(credential: Credential, user: str) -> bool:
    workspace = credential_pb2.CREDENTIAL_SCOPE_WORKSPACE
    return credential.credential_scope == workspace or credential.owner == user


def _about(credential: Credential) -> dict[str, str]:
    return {
        "credential": credential.name,
        "connector": credential.connector,
        "display_name": credential.display_name,
    }


def _not_found() -> Refused:
    return Refused("CREDENTIAL_NOT_FOUND", "This credential does not exist, or you cannot use it.")


def _state_invalid() -> Refused:
    return Refused(
        "STATE_INVALID",
        "This authorization link is no longer valid, or was opened in another browser. "
        "Start again from Flero.",
    )


def _check_etag(credential: Credential, etag: str) -> None:
    if etag not in {"", credential.etag}:
        raise Refused(
            "ETAG_MISMATCH",
            f"“{credential.display_name}” was changed meanwhile. Look at it again, then decide.",
            metadata=_about(credential),
        )


def _check_params(connector: Connector, given: Mapping[str, str]) -> None:
    declared = {each.key: each for each in connector.connection_params}
    wrong = [
        (f"connection_params.{key}", f"is not a parameter of {connector.display_name}")
        for key in given
        if key not in declared
    ]
    wrong += [
        (f"connection_params.{key}", f"must match {each.pattern}")
        for key, each in declared.items()
        if not re.fullmatch(each.pattern, given.get(key) or each.default_value)
    ]
    if wrong:
        raise invalid(*wrong)


def _terms(filter_: str) -> dict[str, str]:
    """Return the terms of a filter whose form was checked."""
    found = re.findall(r'(\w+)\s*=\s*(?:"([^"]+)"|([^\s"]+))', filter_)
    terms = {key: quoted or plain for key, quoted, plain in found}
    if "status" in terms:
        terms["status"] = terms["status"].removeprefix("CREDENTIAL_STATUS_")
        known = [each for each in CredentialStatus if each is not CredentialStatus.UNSPECIFIED]
        if terms["status"] not in known:
            raise invalid(("filter", f"status must be one of {', '.join(known)}"))
    return terms


def _value(credential: Credential, key: str) -> str:
    if key == "status":
        name = credential_pb2.CredentialStatus.Name(credential.status)
        return name.removeprefix("CREDENTIAL_STATUS_")
    value: str = getattr(credential, key)
    return value
