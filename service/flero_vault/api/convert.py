"""Values to messages. One function a message."""

from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from flero_vault.core.authorize import Permission
from flero_vault.core.catalogue import Offer
from flero_vault.core.connector import Verified
from flero_vault.core.model import App, Credential, CredentialScope, ServiceRevocation, Status
from flero_vault.core.tokens import AccessToken
from flero_vault_client.v1 import (
    connector_catalog_pb2,
    credential_pb2,
    credential_vault_pb2,
    vault_admin_pb2,
)

_STATUS = {
    status: credential_pb2.CredentialStatus.Value(f"CREDENTIAL_STATUS_{status}")
    for status in Status
}
_SCOPE = {
    scope: credential_pb2.CredentialScope.Value(f"CREDENTIAL_SCOPE_{scope}")
    for scope in CredentialScope
}
_REVOCATION = {
    outcome: credential_pb2.ServiceRevocation.Value(f"SERVICE_REVOCATION_{outcome}")
    for outcome in ServiceRevocation
}
_VERIFICATION = {
    verified: connector_catalog_pb2.Verification.Value(f"VERIFICATION_{verified.upper()}")
    for verified in Verified
}
_FROM_SCOPE = {number: scope for scope, number in _SCOPE.items()}


def timestamp(time: datetime | None) -> Timestamp | None:
    """Return a time, or None if it is unknown."""
    if time is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration


def scope_of(number: int) -> CredentialScope:
    """Return the credential scope of a number that was checked."""
    return _FROM_SCOPE[credential_pb2.CredentialScope.ValueType(number)]


def revocation(outcome: ServiceRevocation) -> credential_pb2.ServiceRevocation.ValueType:
    """Return what became of a grant at the service."""
    return _REVOCATION[outcome]


def credential(value: Credential) -> credential_pb2.Credential:
    """Return a credential's message."""
    reason = value.status_reason
    account = value.account
    return credential_pb2.Credential(
        name=str(value.name),
        connector=value.connector,
        display_name=value.display_name,
        credential_scope=_SCOPE[value.scope],
        status=_STATUS[value.status],
        status_reason=credential_pb2.StatusReason(
            reason=reason.reason, message=reason.message, time=timestamp(reason.time)
        )
        if reason
        else None,
        owner=value.owner,
        authorized_by=value.authorized_by,
        account=credential_pb2.Account(id=account.id, email=account.email, label=account.label)
        if account
        else None,
        requested_scopes=value.requested_scopes,
        granted_scopes=value.granted_scopes,
        access_token_expire_time=timestamp(value.access_token_expire_time),
        refresh_token_expire_time=timestamp(value.refresh_token_expire_time),
        last_refresh_time=timestamp(value.last_refresh_time),
        last_used_time=timestamp(value.last_used_time),
        create_time=timestamp(value.create_time),
        update_time=timestamp(value.update_time),
        etag=value.etag,
    )


def permission(value: Permission) -> credential_pb2.Permission:
    """Return a permission's message."""
    return credential_pb2.Permission(
        scope=value.scope, description=value.description, granted=value.granted
    )


def access_token(value: AccessToken) -> credential_vault_pb2.GetAccessTokenResponse:
    """Return a token's message."""
    message = credential_vault_pb2.GetAccessTokenResponse()
    into_token(value, message)
    return message


def into_token(value: AccessToken, message: credential_vault_pb2.GetAccessTokenResponse) -> None:
    """Fill a token's message: the one place where a token leaves the vault."""
    message.access_token = value.token.reveal()
    message.token_type = value.token_type
    if value.expire_time is not None:
        # What FromDatetime does, at a third of its cost; a thousand of these make one answer.
        message.expire_time.seconds = int(value.expire_time.timestamp())
        message.expire_time.nanos = value.expire_time.microsecond * 1000
    message.granted_scopes.extend(value.scopes)
    if value.connection:
        message.connection.update(value.connection)
    if value.warning:
        message.warning = value.warning


def connector(offer: Offer, redirect_uri: str) -> connector_catalog_pb2.Connector:
    """Return a connector's message."""
    value = offer.connector
    described = [*value.default_scopes, *(s for s in value.scopes if s not in value.default_scopes)]
    return connector_catalog_pb2.Connector(
        name=f"connectors/{value.key}",
        display_name=value.display_name,
        permissions=[
            credential_pb2.Permission(scope=scope, description=value.scopes.get(scope, ""))
            for scope in described
        ],
        default_scopes=value.default_scopes,
        connection_params=[
            connector_catalog_pb2.ConnectionParam(
                key=key,
                description=param.description,
                pattern=param.pattern,
                default_value=param.default,
                example=param.example,
            )
            for key, param in value.connection_params.items()
        ],
        setup_steps=[step.replace("{redirect_uri}", redirect_uri) for step in value.setup_steps],
        redirect_uri=redirect_uri,
        admin_approval=value.admin_approval,
        manage_url=value.manage_url,
        access_token_lifetime=_duration(value.lifetimes.access_token_s),
        refresh_token_idle_lifetime=_duration(value.lifetimes.refresh_token_idle_s),
        verification=_VERIFICATION[value.verified],
        verification_url=value.verified_by,
        slots=[slot.name for slot in value.slots if slot.name],
        configured=offer.configured,
    )


def oauth_app(value: App) -> vault_admin_pb2.OAuthApp:
    """Return an OAuth app's message, without its secrets."""
    return vault_admin_pb2.OAuthApp(
        name=str(value.name),
        connector=value.connector,
        client_id=value.client_id,
        origins=value.origins,
        create_time=timestamp(value.create_time),
        update_time=timestamp(value.update_time),
    )
