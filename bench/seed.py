"""Fills a database with connected credentials, sealed by the vault's own code.

Only the rows are written past the vault: through its RPCs each would take a consent page.
"""

import secrets
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
from flero_vault.migrations import known

from flero_vault.core.model import CredentialName, CredentialScope, Seat, Status
from flero_vault.core.ports import SlotTokens
from flero_vault.core.sealing import ACCESS, REFRESH, seal_tokens
from flero_vault.core.secret import Secret
from flero_vault.envelope.keys import Keys
from flero_vault.envelope.local import open_keyring
from flero_vault.store.postgres import PostgresStore

CONNECTOR = "google"
USER = "bench"
WORKSPACES = tuple(f"bench-{number}" for number in range(4))
CREDENTIALS = 10_000
TOKEN_BYTES = 1_500
REFRESH_TOKEN_BYTES = 100
TOKEN_LIFE = timedelta(hours=12)
"""Longer than any run, so that nothing is refreshed."""
SCOPES = (
    "openid",
    "https://www.googleapis.com/auth/userinfo.email",
    "https://www.googleapis.com/auth/userinfo.profile",
)
_SLOT = ""
_GRANT_COLUMNS = (
    *("workspace_id", "grant_id", "connector", "slot", "key_id"),
    *("sealed_access_token", "sealed_refresh_token", "refresh_fingerprint"),
    *("token_type", "scopes", "issue_time", "expire_time"),
)
_CREDENTIAL_COLUMNS = (
    *("workspace_id", "credential_id", "connector", "display_name", "credential_scope"),
    *("status", "owner", "authorized_by", "requested_scopes"),
)
_SLOT_COLUMNS = ("workspace_id", "credential_id", "slot", "position", "grant_id")


@dataclass(frozen=True, slots=True)
class Seeded:
    """A credential, and the token that the vault must answer for it."""

    name: CredentialName
    token: str


@dataclass(frozen=True, slots=True)
class _Rows:
    credentials: list[tuple[object, ...]]
    grants: list[tuple[object, ...]]
    slots: list[tuple[object, ...]]


def _random_text(start: str, length: int) -> str:
    """Return a text that looks like a service's token: it does not compress."""
    return (start + secrets.token_urlsafe(length))[:length]


async def seed(database_url: str, keyring: Path) -> tuple[list[Seeded], str]:
    """Store the credentials; return them, and the version of the database."""
    store_context = PostgresStore.open(database_url, prepared=True, revision=known()[-1])
    async with store_context as store:
        seeded, rows = await _seal_all(Keys(store, open_keyring(keyring)))
    connection = await asyncpg.connect(database_url)
    try:
        tables = (
            ("credentials", _CREDENTIAL_COLUMNS, rows.credentials),
            ("grants", _GRANT_COLUMNS, rows.grants),
            ("credential_slots", _SLOT_COLUMNS, rows.slots),
        )
        for table, columns, records in tables:
            await connection.copy_records_to_table(table, columns=columns, records=records)
        # Now, or PostgreSQL does both at some moment of the measurement.
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
        version: str = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    return seeded, version


async def _seal_all(keys: Keys) -> tuple[list[Seeded], _Rows]:
    now = datetime.now(UTC)
    seeded: list[Seeded] = []
    rows = _Rows([], [], [])
    for number in range(CREDENTIALS):
        workspace = WORKSPACES[number % len(WORKSPACES)]
        credential_id, grant_id = uuid.uuid4(), uuid.uuid4()
        token = _random_text("ya29.", TOKEN_BYTES)
        refresh_token = Secret(_random_text("1//", REFRESH_TOKEN_BYTES))
        sealed = await seal_tokens(
            keys,
            Seat("grant", workspace, str(grant_id)),
            SlotTokens(
                slot=_SLOT,
                access_token=Secret(token),
                refresh_token=refresh_token,
                token_type="Bearer",  # noqa: S106 - the type is no password
                scopes=SCOPES,
                expires_in=TOKEN_LIFE.total_seconds(),
                refresh_expires_in=None,
            ),
            kept_refresh_token=None,
            kept_from=None,
            scopes=SCOPES,
            connection={},
            age=0.0,
        )
        rows.credentials.append(
            (
                *(workspace, credential_id, CONNECTOR, f"Google {number}"),
                *(CredentialScope.PERSONAL, Status.ACTIVE, USER, USER, SCOPES),
            )
        )
        rows.grants.append(
            (
                *(workspace, grant_id, CONNECTOR, _SLOT, sealed.tokens.key_id),
                *(sealed.tokens.fields[ACCESS], sealed.tokens.fields[REFRESH]),
                *(sealed.refresh_fingerprint, sealed.token_type, sealed.scopes),
                *(now, now + TOKEN_LIFE),
            )
        )
        rows.slots.append((workspace, credential_id, _SLOT, 0, grant_id))
        seeded.append(Seeded(CredentialName(workspace, credential_id), token))
    return seeded, rows
