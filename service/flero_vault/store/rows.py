"""Rows to values. One function a value; nothing else knows the columns."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from flero_vault.core.connector import Verdict
from flero_vault.core.errors import Reason
from flero_vault.core.model import (
    Account,
    App,
    AppName,
    Attempt,
    Credential,
    CredentialName,
    CredentialScope,
    Grant,
    Phase,
    Sealed,
    ServiceRevocation,
    Status,
    StatusReason,
)
from flero_vault.core.ports import DueRevocation, TokenRead

Row = Mapping[str, Any]

_EXPIRED_MESSAGE = "The service no longer accepts it. Re-authenticate it to use it again."
_FAILING = {
    Verdict.APP_REFUSED: (
        Reason.OAUTH_APP_REJECTED,
        "The service refuses Flero's own registration; the platform team has to correct it.",
    ),
    Verdict.SLOW_DOWN: (Reason.SERVICE_RATE_LIMITED, "The service asks Flero to slow down."),
    Verdict.SERVICE_DOWN: (Reason.SERVICE_UNAVAILABLE, "The service does not answer refreshes."),
}


def sealed(row: Row, column: str) -> Sealed | None:
    """Return a sealed column, or None if it is empty."""
    data = row[column]
    return None if data is None else Sealed(row["key_id"], data)


def app_name(row: Row) -> AppName | None:
    """Return the app that a row refers to."""
    app_id: UUID | None = row["app_id"]
    return None if app_id is None else AppName(row["app_workspace_id"], app_id)


def credential(row: Row) -> Credential:
    """Return a row of `credentials_as_seen`."""
    account = None
    if row["account_id"]:
        account = Account(row["account_id"], row["account_email"], row["account_label"])
    return Credential(
        name=CredentialName(row["workspace_id"], row["credential_id"]),
        connector=row["connector"],
        display_name=row["display_name"],
        scope=CredentialScope(row["credential_scope"]),
        status=Status(row["status"]),
        owner=row["owner"],
        authorized_by=row["authorized_by"],
        account=account,
        requested_scopes=tuple(row["requested_scopes"]),
        granted_scopes=tuple(row["granted_scopes"]),
        connection_params=row["connection_params"],
        status_reason=_status_reason(row),
        service_revocation=ServiceRevocation(row["service_revocation"]),
        access_token_expire_time=row["expire_time"],
        refresh_token_expire_time=row["refresh_expire_time"],
        last_refresh_time=row["last_refresh_time"],
        last_used_time=row["last_used_time"],
        create_time=row["create_time"],
        update_time=row["update_time"],
        revision=row["revision"],
        generations=row["generations"],
    )


def _status_reason(row: Row) -> StatusReason | None:
    """Return what a person should know: an attempt's end first, then what the grants say."""
    if row["reason_time"] is not None:
        return StatusReason(row["reason"], row["reason_message"], row["reason_time"])
    if row["status"] == Status.EXPIRED:
        return StatusReason(Reason.CREDENTIAL_EXPIRED, _EXPIRED_MESSAGE, row["dead_time"])
    if row["failure"] in _FAILING and row["status"] == Status.ACTIVE:
        reason, message = _FAILING[Verdict(row["failure"])]
        return StatusReason(reason, message, row["last_refresh_time"] or row["update_time"])
    return None


def grant(row: Row) -> Grant:
    """Return a row of `grants`."""
    return Grant(
        id=row["grant_id"],
        workspace=row["workspace_id"],
        generation=row["generation"],
        connector=row["connector"],
        connection_params=row["connection_params"],
        slot=row["slot"],
        app=app_name(row),
        access_token=sealed(row, "sealed_access_token"),
        refresh_token=sealed(row, "sealed_refresh_token"),
        refresh_fingerprint=row["refresh_fingerprint"],
        token_type=row["token_type"],
        scopes=tuple(row["scopes"]),
        connection=row["connection"],
        issue_time=row["issue_time"],
        expire_time=row["expire_time"],
        dead_reason=row["dead_reason"],
        dead_time=row["dead_time"],
        retry_time=row["retry_time"],
        failure=row["failure"],
        failure_count=row["failure_count"],
        hinted_times=tuple(row["hinted_times"]),
        lease_expire_time=row["lease_expire_time"],
    )


_SCOPES = {scope.value: scope for scope in CredentialScope}
_STATUSES = {status.value: status for status in Status}


def token_read(name: CredentialName, row: Sequence[Any]) -> TokenRead:
    """Return a row of the queries `read_token` and `read_tokens`, by position.

    A thousand of these make one answer, and looking columns up by name costs as much as the rest.
    """
    (
        connector, display_name, scope, status, reason_time, owner, now,
        grant_id, workspace, generation, grant_connector, connection_params, slot,
        app_workspace, app_id, key_id, access_token, has_refresh_token, fingerprint,
        token_type, scopes, connection, issue_time, expire_time, dead_reason, dead_time,
        retry_time, failure, failure_count, hinted_times, lease_expire_time,
    ) = row  # fmt: skip
    found = None
    if grant_id is not None:
        found = Grant(
            grant_id,
            workspace,
            generation,
            grant_connector,
            connection_params,
            slot,
            None if app_id is None else AppName(app_workspace, app_id),
            None if access_token is None else Sealed(key_id, access_token),
            Sealed(key_id, b"") if has_refresh_token else None,
            fingerprint,
            token_type,
            tuple(scopes),
            connection,
            issue_time,
            expire_time,
            dead_reason,
            dead_time,
            retry_time,
            failure,
            failure_count,
            tuple(hinted_times),
            lease_expire_time,
        )
    return TokenRead(
        name,
        connector,
        display_name,
        _SCOPES[scope],
        _STATUSES[status],
        reason_time,
        owner,
        found,
        now,
    )


def app(row: Row) -> App:
    """Return a row of `oauth_apps`."""
    return App(
        name=AppName(row["workspace_id"], row["app_id"]),
        connector=row["connector"],
        client_id=row["client_id"],
        origins=tuple(row["origins"]),
        secrets=Sealed(row["key_id"], bytes(row["sealed_secrets"])),
        create_time=row["create_time"],
        update_time=row["update_time"],
    )


def attempt(row: Row) -> Attempt:
    """Return a row of `attempts`."""
    return Attempt(
        workspace=row["workspace_id"],
        state_hash=bytes(row["state_hash"]),
        credential_id=row["credential_id"],
        phase=Phase(row["phase"]),
        user=row["user_id"],
        binding_hash=bytes(row["binding_hash"]),
        connector=row["connector"],
        app=AppName(row["app_workspace_id"], row["app_id"]),
        redirect_uri=row["redirect_uri"],
        issuer=row["issuer"],
        requested_scopes=tuple(row["requested_scopes"]),
        connection_params=row["connection_params"],
        allow_account_change=row["allow_account_change"],
        secrets=sealed(row, "sealed_secrets"),
        code_hash=row["code_hash"],
        outcome=row["outcome"],
        create_time=row["create_time"],
        expire_time=row["expire_time"],
        lease_expire_time=row["lease_expire_time"],
        request_digest=row["request_digest"],
    )


def due_revocation(row: Row) -> DueRevocation:
    """Return a row of the query `due_revocations`."""
    return DueRevocation(
        workspace=row["workspace_id"],
        id=row["revocation_id"],
        credential_id=row["credential_id"],
        grant_id=row["grant_id"],
        connector=row["connector"],
        slot=row["slot"],
        connection_params=row["connection_params"],
        connection=row["connection"],
        app=app_name(row),
        access_token=sealed(row, "sealed_access_token"),
        refresh_token=sealed(row, "sealed_refresh_token"),
        tries=row["tries"],
        create_time=row["create_time"],
        now=row["now"],
    )
