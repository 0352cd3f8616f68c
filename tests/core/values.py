"""Grants, credentials, attempts and connectors with sensible fields, to change one at a time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flero_vault.core.connector import Connector, Verified
from flero_vault.core.model import (
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
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
KEY = UUID(int=7)
SEALED = Sealed(KEY, b"sealed")
GRANT = Grant(
    id=UUID(int=1),
    workspace="demo",
    generation=1,
    connector="google",
    connection_params={},
    slot="",
    app=AppName("demo", UUID(int=2)),
    access_token=SEALED,
    refresh_token=SEALED,
    refresh_fingerprint=b"f" * 32,
    token_type="Bearer",
    scopes=("mail",),
    connection={},
    issue_time=NOW - timedelta(minutes=10),
    expire_time=NOW + timedelta(minutes=50),
    dead_reason="",
    dead_time=None,
    retry_time=None,
    failure="",
    failure_count=0,
    hinted_times=(),
    lease_expire_time=None,
)
CREDENTIAL = Credential(
    name=CredentialName("demo", UUID(int=3)),
    connector="google",
    display_name="My Google",
    scope=CredentialScope.PERSONAL,
    status=Status.ACTIVE,
    owner="ada",
    authorized_by="ada",
    account=None,
    requested_scopes=("mail",),
    granted_scopes=("mail",),
    connection_params={},
    status_reason=None,
    service_revocation=ServiceRevocation.NOT_REQUESTED,
    access_token_expire_time=None,
    refresh_token_expire_time=None,
    last_refresh_time=None,
    last_used_time=None,
    create_time=NOW,
    update_time=NOW,
    revision=1,
    generations=1,
)
ATTEMPT = Attempt(
    workspace="demo",
    state_hash=b"s" * 32,
    credential_id=UUID(int=3),
    phase=Phase.OPEN,
    user="ada",
    binding_hash=b"b" * 32,
    connector="google",
    app=AppName("demo", UUID(int=2)),
    redirect_uri="https://flero.example/oauth/callback/google",
    issuer="https://accounts.example",
    requested_scopes=("mail",),
    connection_params={},
    allow_account_change=False,
    secrets=SEALED,
    code_hash=None,
    outcome=None,
    create_time=NOW - timedelta(minutes=1),
    expire_time=NOW + timedelta(minutes=9),
    lease_expire_time=None,
    request_digest=None,
)


def grant(**fields: Any) -> Grant:
    return replace(GRANT, **fields)


def credential(**fields: Any) -> Credential:
    return replace(CREDENTIAL, **fields)


def attempt(**fields: Any) -> Attempt:
    return replace(ATTEMPT, **fields)


def connector(**fields: Any) -> Connector:
    about = {"display_name": "Google", "verified": Verified.VENDOR, "verified_by": "a page"}
    return Connector(**{"key": "google", **about, **fields})
