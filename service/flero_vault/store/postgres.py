"""The core's `Store` on PostgreSQL.

- Every call is one statement, or one transaction of a few; none stays open while anything else
  is awaited. Every change is conditional on what it was decided upon.
- Times are compared and made by the database's clock.
- What asyncpg raises when the database is away becomes `Unavailable`; nothing above knows asyncpg.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from flero_vault.core.errors import Reason, Unavailable
from flero_vault.core.model import (
    Account,
    App,
    AppName,
    Attempt,
    Credential,
    CredentialName,
    Grant,
    ServiceRevocation,
    Status,
)
from flero_vault.core.observe import Observer
from flero_vault.core.ports import (
    Activated,
    Activation,
    DueRevocation,
    Filter,
    Lease,
    NewTokens,
    SealedRow,
    TokenRead,
    WrappedKey,
)
from flero_vault.core.sealing import ACCESS, REFRESH
from flero_vault.store import rows
from flero_vault.store.held import HeldConnections
from flero_vault.store.hints import CHANNEL, Hints
from flero_vault.store.queries import load as load_queries

POOL_SIZE = 8
HELD_CONNECTIONS = 4
"""For token reads. Each serves some thousands a second; more add nothing."""
_PREPARED_ONCE = {"plan_cache_mode": "force_generic_plan", "jit": "off"}
"""Reads by primary key have one good plan; planning a batch anew each time costs half of it."""
STATEMENT_TIMEOUT_S = 10.0
MARKED_AT_ONCE = 500
"""How many rows one statement holds for a moment to write when they were used."""
REQUEST_ID_LIFE = timedelta(minutes=10)
ATTEMPT_LIFE = timedelta(minutes=10)
ATTEMPT_KEPT = timedelta(days=1)

_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
)
"""What asyncpg raises when the database is away, stopping, starting, full, a standby, or asks to
try a transaction again."""


class DatabaseRefused(Exception):
    """The database URL is malformed, or the server refuses its user, password or database."""

    def __str__(self) -> str:
        return (
            "FLERO_VAULT_DATABASE_URL is malformed, or the server refuses its user, password or "
            "database; special characters in a password must be percent-encoded"
        )


class SchemaUnknown(Exception):
    """The database's schema is not the one that this version of the server serves."""


def _unavailable() -> Unavailable:
    return Unavailable(
        Reason.VAULT_UNAVAILABLE,
        "The credential vault cannot reach its database. Try again in a moment.",
        metadata={"component": "database"},
        retry_after=1,
    )


def _unobserved(_query: str) -> AbstractContextManager[object]:
    return _NOTHING


_NOTHING: AbstractContextManager[object] = nullcontext()


def _from_json(text: str) -> Any:
    # Most of them are empty, and a read of many tokens has two for each.
    return {} if text == "{}" else json.loads(text)


async def _prepare_connection(connection: Any) -> None:
    await connection.set_type_codec(
        "jsonb", encoder=json.dumps, decoder=_from_json, schema="pg_catalog"
    )


class PostgresStore:
    """The database of the vault. Use `open` to make one."""

    def __init__(
        self, pool: Any, held: HeldConnections, hints: Hints, observer: Observer | None
    ) -> None:
        self._pool = pool
        self._held = held
        self._hints = hints
        self._observe = observer.statement if observer else _unobserved
        self._sql = load_queries()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, database_url: str, *, prepared: bool, revision: str, observer: Observer | None = None
    ) -> AsyncIterator["PostgresStore"]:
        """Connect; `prepared` False is for poolers that lose prepared statements.

        Raises:
            SchemaUnknown: the database does not stand at `revision`.
            Unavailable: it cannot be reached.

        """
        hints = Hints(database_url)
        cached = 100 if prepared else 0
        try:
            pool = await asyncpg.create_pool(
                database_url,
                min_size=1,
                max_size=POOL_SIZE,
                command_timeout=STATEMENT_TIMEOUT_S,
                statement_cache_size=cached,
                init=_prepare_connection,
            )
        except _AWAY as error:
            raise _unavailable() from error
        except (asyncpg.PostgresError, asyncpg.InternalClientError, ValueError):
            # Whatever is wrong with the URL, its text holds the password.
            raise DatabaseRefused from None

        async def connect() -> Any:
            connection = await asyncpg.connect(
                database_url,
                timeout=STATEMENT_TIMEOUT_S,
                command_timeout=STATEMENT_TIMEOUT_S,
                statement_cache_size=cached,
                server_settings=_PREPARED_ONCE if prepared else None,
            )
            await _prepare_connection(connection)
            return connection

        held = HeldConnections(connect, size=HELD_CONNECTIONS, prepared=prepared)
        store = cls(pool, held, hints, observer)
        try:
            await store._check_schema(revision)
            hints.start()
            yield store
        finally:
            try:
                await hints.stop()
            finally:
                held.close()
                await pool.close()

    async def _check_schema(self, revision: str) -> None:
        try:
            row = await self._row("revision")
        except asyncpg.UndefinedTableError:
            row = None
        if row is None or row["version_num"] != revision:
            stands = "no schema" if row is None else f"schema {row['version_num']}"
            raise SchemaUnknown(
                f"the database has {stands}, this server serves schema {revision}: "
                "run `flero-vault migrate` of the same version"
            )

    # How statements are run

    async def _row(self, query: str, *arguments: object) -> Any:
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT_S):
                with self._observe(query):
                    return await self._pool.fetchrow(self._sql[query], *arguments)
        except _AWAY as error:
            raise _unavailable() from error

    async def _rows(self, query: str, *arguments: object) -> Any:
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT_S):
                with self._observe(query):
                    return await self._pool.fetch(self._sql[query], *arguments)
        except _AWAY as error:
            raise _unavailable() from error

    async def _read(self, query: str, *arguments: object) -> Any:
        """Run a read of the serving path."""
        try:
            with self._observe(query):
                return await self._held.fetch(self._sql[query], *arguments)
        except _AWAY as error:
            raise _unavailable() from error

    @asynccontextmanager
    async def _transaction(self, name: str) -> AsyncIterator["_Transaction"]:
        try:
            with self._observe(name):
                async with (
                    asyncio.timeout(STATEMENT_TIMEOUT_S),
                    self._pool.acquire() as connection,
                    connection.transaction(),
                ):
                    yield _Transaction(connection, self._sql)
        except _AWAY as error:
            raise _unavailable() from error

    async def now(self) -> datetime:
        """Return the database's time."""
        now: datetime = (await self._row("now"))["now"]
        return now

    # OAuth apps

    async def put_app(self, app: App) -> App | None:
        """Store the app; None if its client id belongs to an app of another id."""
        row = await self._row(
            "put_app",
            app.name.workspace,
            app.name.id,
            app.connector,
            app.client_id,
            list(app.origins),
            app.secrets.key_id,
            app.secrets.data,
        )
        return rows.app(row) if row else None

    async def find_app(self, workspace: str, connector: str, client_id: str) -> App | None:
        """Return the app of this client id."""
        row = await self._row("find_app", workspace, connector, client_id)
        return rows.app(row) if row else None

    async def load_app(self, name: AppName) -> App | None:
        """Return an app by name."""
        row = await self._row("load_app", name.workspace, name.id)
        return rows.app(row) if row else None

    async def current_app(self, workspace: str, connector: str) -> App | None:
        """Return the app for new consents."""
        row = await self._row("current_app", workspace, connector)
        return rows.app(row) if row else None

    async def configured(self, workspace: str) -> frozenset[str]:
        """Return the connectors that have an app."""
        return frozenset(row["connector"] for row in await self._rows("configured", workspace))

    async def list_apps(self, workspace: str, after: UUID | None, limit: int) -> Sequence[App]:
        """Return apps by id."""
        return [rows.app(row) for row in await self._rows("list_apps", workspace, after, limit)]

    async def delete_app(self, name: AppName) -> bool | None:
        """Delete the app: True; False while something needs it; None if there is none."""
        try:
            row = await self._row("delete_app", name.workspace, name.id)
        except asyncpg.ForeignKeyViolationError:
            return False
        return True if row else None

    # credentials

    async def load(self, name: CredentialName) -> Credential | None:
        """Return a credential."""
        row = await self._row("load", name.workspace, name.id)
        return rows.credential(row) if row else None

    async def list(
        self,
        workspace: str,
        user: str,
        wanted: Filter,
        after: tuple[datetime, UUID] | None,
        limit: int,
    ) -> Sequence[Credential]:
        """Return what the user can see, oldest first."""
        found = await self._rows(
            "list",
            workspace,
            user,
            wanted.status,
            wanted.connector,
            wanted.owner,
            wanted.authorized_by,
            *(after or (None, None)),
            limit,
        )
        return [rows.credential(row) for row in found]

    async def update(self, credential: Credential, revision: int) -> bool:
        """Store display name, scope and owner if the revision is still this one."""
        name = credential.name
        row = await self._row(
            "update",
            name.workspace,
            name.id,
            revision,
            credential.display_name,
            credential.scope,
            credential.owner,
        )
        return row is not None

    async def delete(self, name: CredentialName, revision: int) -> bool:
        """Delete it with attempts and unshared grants if the revision is still this one."""
        async with self._transaction("delete") as transaction:
            await transaction.row("lock_credential", name.workspace, name.id)
            held = await transaction.rows("held_grants", name.workspace, name.id)
            row = await transaction.row("delete_credential", name.workspace, name.id, revision)
            if row is None:
                return False
            ids = [grant["grant_id"] for grant in held]
            await transaction.rows("delete_grants", name.workspace, ids)
            return True

    async def revoke(self, name: CredentialName, *, at_service: bool, supported: bool) -> bool:
        """Stop it: status, generation, leases, ciphertexts, outbox, in one transaction."""
        async with self._transaction("revoke") as transaction:
            row = await transaction.row("lock_credential", name.workspace, name.id)
            if row is None:
                return False
            # Also when it is stopped already: a consent begun since then is stopped too.
            await transaction.rows("void_attempts", name.workspace, name.id)
            if row["status"] == Status.REVOKED:
                return False
            locked = await transaction.rows("lock_grants", name.workspace, name.id)
            ids = [grant["grant_id"] for grant in locked]
            outcome = ServiceRevocation.NOT_REQUESTED
            if at_service and not supported:
                outcome = ServiceRevocation.UNSUPPORTED
            elif at_service and await transaction.rows(
                "queue_revocations", name.workspace, name.id, ids
            ):
                outcome = ServiceRevocation.PENDING
            await transaction.rows("empty_grants", name.workspace, ids)
            await transaction.row("revoke_credential", name.workspace, name.id, outcome)
            return True

    async def remember_account(self, name: CredentialName, revision: int, account: Account) -> None:
        """Store what the service says now, if the credential is still as it was when asked."""
        await self._row(
            "remember_account",
            name.workspace,
            name.id,
            revision,
            account.id,
            account.email,
            account.label,
        )

    async def mark_used(self, minutes: Mapping[CredentialName, datetime]) -> None:
        """Store when credentials were last used."""
        every = list(minutes.items())
        for start in range(0, len(every), MARKED_AT_ONCE):
            some = every[start : start + MARKED_AT_ONCE]
            await self._row(
                "mark_used",
                [name.workspace for name, _ in some],
                [name.id for name, _ in some],
                [minute for _, minute in some],
            )

    # attempts

    async def begin(
        self, attempt: Attempt, request_key: bytes | None, new: Credential | None
    ) -> Attempt | None:
        """Store an attempt, void the older ones, make the credential if there is none.

        Returns None if the request key is taken, because somebody else's same request was faster,
        or if the credential or the app was deleted in this moment.
        """
        secrets = attempt.secrets
        with suppress(_AlreadyStored, asyncpg.ForeignKeyViolationError):
            async with self._transaction("begin") as transaction:
                # Of two that begin at once the later one sees, and voids, the earlier one's.
                await transaction.row("lock_credential", attempt.workspace, attempt.credential_id)
                if new is not None:
                    await transaction.row(
                        "insert_credential",
                        new.name.workspace,
                        new.name.id,
                        new.connector,
                        new.display_name,
                        new.scope,
                        new.owner,
                        list(new.requested_scopes),
                        dict(new.connection_params),
                    )
                if request_key is not None:
                    await transaction.row(
                        "forget_request", attempt.workspace, request_key, REQUEST_ID_LIFE
                    )
                row = await transaction.row(
                    "insert_attempt",
                    attempt.workspace,
                    attempt.state_hash,
                    attempt.credential_id,
                    attempt.user,
                    attempt.binding_hash,
                    attempt.connector,
                    attempt.app.workspace,
                    attempt.app.id,
                    attempt.redirect_uri,
                    attempt.issuer,
                    list(attempt.requested_scopes),
                    dict(attempt.connection_params),
                    attempt.allow_account_change,
                    secrets.key_id if secrets else None,
                    secrets.data if secrets else None,
                    request_key,
                    attempt.request_digest,
                    ATTEMPT_LIFE,
                )
                if row is None:
                    raise _AlreadyStored
                await transaction.row(
                    "void_older", attempt.workspace, attempt.credential_id, attempt.state_hash
                )
                return rows.attempt(row)
        return None

    async def attempt_by_request(self, workspace: str, request_key: bytes) -> Attempt | None:
        """Return the attempt of a repeated request."""
        row = await self._row("attempt_by_request", workspace, request_key)
        return rows.attempt(row) if row else None

    async def attempt(self, workspace: str, state_hash: bytes) -> tuple[Attempt | None, datetime]:
        """Return the attempt of a state, and the database's time."""
        row = await self._row("attempt", workspace, state_hash)
        return (rows.attempt(row) if row["state_hash"] else None), row["now"]

    async def consume(
        self, attempt: Attempt, code_hash: bytes, process_id: UUID, lease: timedelta
    ) -> bool:
        """Take an OPEN attempt for exchange. True for exactly one caller."""
        row = await self._row(
            "consume", attempt.workspace, attempt.state_hash, code_hash, process_id, lease
        )
        return row is not None

    async def finish(
        self, attempt: Attempt, outcome: Mapping[str, object], reason: str, message: str
    ) -> None:
        """End an attempt without a grant, and say why on the credential."""
        workspace, credential_id = attempt.workspace, attempt.credential_id
        async with self._transaction("finish") as transaction:
            await transaction.row("lock_credential", workspace, credential_id)
            row = await transaction.row("finish", workspace, attempt.state_hash, dict(outcome))
            if row is not None:
                await transaction.row("note_refusal", workspace, credential_id, reason, message)

    async def activate(self, activation: Activation) -> Activated:
        """End an attempt with a grant, in one transaction."""
        try:
            async with self._transaction("activate") as transaction:
                await self._activate(transaction, activation)
        except _RefreshCameBetween:
            return Activated.CHANGED
        except _Gone:
            return Activated.GONE
        return Activated.DONE

    async def _activate(self, transaction: "_Transaction", activation: Activation) -> None:
        attempt = activation.attempt
        workspace, credential_id = attempt.workspace, attempt.credential_id
        account = activation.account
        await transaction.row("lock_credential", workspace, credential_id)
        row = await transaction.row(
            "activate_credential",
            workspace,
            credential_id,
            attempt.user,
            account.id if account else "",
            account.email if account else "",
            account.label if account else "",
            list(attempt.requested_scopes),
        )
        ended = row and await transaction.row(
            "finish_activated", workspace, attempt.state_hash, dict(activation.outcome)
        )
        if not ended:
            raise _Gone
        held = await transaction.rows("held_grants", workspace, credential_id)
        await transaction.rows("drop_slots", workspace, credential_id)
        for position, (grant_id, tokens) in enumerate(activation.grants):
            put = await transaction.row("put_grant", *_new_grant(attempt, grant_id, tokens))
            if put is None:
                raise _RefreshCameBetween
            await transaction.row(
                "put_slot", workspace, credential_id, tokens.slot, position, grant_id
            )
        await transaction.rows("delete_grants", workspace, [grant["grant_id"] for grant in held])

    # tokens

    async def read_token(self, name: CredentialName, slot: str) -> TokenRead | None:
        """Return what GetAccessToken needs, in one read by primary key."""
        found = await self._read("read_token", name.workspace, name.id, slot)
        return rows.token_read(name, found[0]) if found else None

    async def read_tokens(
        self, workspace: str, wanted: Sequence[tuple[UUID, str]]
    ) -> Sequence[TokenRead | None]:
        """Return the same for many, in the same order, in one statement."""
        found = await self._read(
            "read_tokens", workspace, [each[0] for each in wanted], [each[1] for each in wanted]
        )
        reads: list[TokenRead | None] = [None] * len(wanted)
        for row in found:
            *columns, place = row
            name = CredentialName(workspace, wanted[place - 1][0])
            reads[place - 1] = rows.token_read(name, columns)
        return reads

    async def grants_of(self, name: CredentialName) -> Sequence[Grant]:
        """Return the grants of a credential, the first slot first."""
        return [rows.grant(row) for row in await self._rows("grants_of", name.workspace, name.id)]

    async def read_grant(self, workspace: str, grant_id: UUID) -> tuple[Grant, datetime] | None:
        """Return a grant and the database's time."""
        row = await self._row("read_grant", workspace, grant_id)
        return (rows.grant(row), row["now"]) if row else None

    async def lease(
        self, grant: Grant, process_id: UUID, length: timedelta, *, hinted: bool
    ) -> Lease | None:
        """Take the lease of this generation if it is free, in one statement."""
        row = await self._row(
            "lease", grant.workspace, grant.id, grant.generation, process_id, length, hinted
        )
        return Lease(rows.grant(row), row["now"]) if row else None

    async def release(self, grant: Grant, process_id: UUID, failure: str, retry: timedelta) -> None:
        """Give the lease back after a failure, and leave the service alone for a while."""
        await self._row(
            "release", grant.workspace, grant.id, grant.generation, process_id, failure, retry
        )

    async def renew(self, grant: Grant, tokens: NewTokens) -> bool:
        """Store a refresh's answer if generation and spent refresh token are still those."""
        row = await self._row(
            "renew",
            grant.workspace,
            grant.id,
            grant.generation,
            grant.refresh_fingerprint,
            tokens.tokens.key_id,
            tokens.tokens.fields[ACCESS],
            tokens.tokens.fields.get(REFRESH),
            tokens.refresh_fingerprint,
            tokens.token_type,
            list(tokens.scopes),
            dict(tokens.connection),
            timedelta(seconds=tokens.age),
            _length(tokens.expires_in),
            _length(tokens.refresh_expires_in),
            tokens.rotated,
        )
        return row is not None

    async def bury(self, grant: Grant, reason: str) -> bool:
        """Mark the grant dead if generation and refresh token are still those."""
        row = await self._row(
            "bury",
            grant.workspace,
            grant.id,
            grant.generation,
            grant.refresh_fingerprint,
            reason,
        )
        return row is not None

    # revocations

    async def outbox(self, grant: Grant, tokens: SealedRow, revocation_id: UUID) -> None:
        """Queue tokens that arrived late, if the grant's own tokens were queued before."""
        await self._row(
            "outbox",
            grant.workspace,
            grant.id,
            revocation_id,
            tokens.key_id,
            tokens.fields[ACCESS],
            tokens.fields.get(REFRESH),
        )

    async def due_revocations(self, hold: timedelta, limit: int) -> Sequence[DueRevocation]:
        """Take revocations that are due, each for one process for as long as `hold`."""
        return [rows.due_revocation(r) for r in await self._rows("due_revocations", hold, limit)]

    async def end_revocation(self, due: DueRevocation, outcome: ServiceRevocation) -> None:
        """Record the outcome and forget the tokens."""
        async with self._transaction("end_revocation") as transaction:
            # Of two slots that end at once the later one sees that it is the last.
            await transaction.row("lock_credential", due.workspace, due.credential_id)
            await transaction.row("end_revocation", due.workspace, due.id, outcome)

    async def postpone_revocation(self, due: DueRevocation, wait: timedelta) -> None:
        """Try again later."""
        await self._row("postpone_revocation", due.workspace, due.id, wait)

    # data keys

    async def open_key(self, workspace: str, purpose: str) -> WrappedKey | None:
        """Return the key that a workspace seals or hashes with now."""
        row = await self._row("open_key", workspace, purpose)
        return _wrapped_key(row) if row else None

    async def load_key(self, workspace: str, key_id: UUID) -> WrappedKey | None:
        """Return a key by its id, open or closed."""
        row = await self._row("load_key", workspace, key_id)
        return _wrapped_key(row) if row else None

    async def add_key(self, key: WrappedKey) -> WrappedKey:
        """Store a new key; return the one that is open now, which may be another's."""
        row = await self._row(
            "add_key", key.workspace, key.key_id, key.purpose, key.kek_id, key.wrapped
        )
        return _wrapped_key(row or await self._row("open_key", key.workspace, key.purpose))

    # upkeep

    async def beat(self, process_id: UUID, *, ended: bool) -> None:
        """Write this process's heartbeat."""
        await self._row("beat", process_id, ended)

    async def sweep(self, pending: timedelta, awaiting_approval: timedelta) -> None:
        """Delete what nobody can come back to."""
        await self._row("sweep_attempts", ATTEMPT_KEPT)
        await self._row("sweep_credentials", pending, awaiting_approval)
        await self._row("sweep_processes")

    # hints

    async def announce(self, workspace: str, row: UUID) -> None:
        """Tell the other processes that this credential or grant changed. Best effort."""
        with suppress(asyncpg.PostgresError, *_AWAY):
            async with asyncio.timeout(STATEMENT_TIMEOUT_S):
                await self._pool.execute("SELECT pg_notify($1, $2)", CHANNEL, f"{workspace}/{row}")

    def listen(self, workspace: str, row: UUID) -> AbstractContextManager[asyncio.Event]:
        """Give an event that is set when a change is announced."""
        return self._hints.listen(workspace, row)


class _Gone(Exception):
    """Rolls a transaction back: nobody wants, or may have, this grant any more."""


class _RefreshCameBetween(Exception):
    """Rolls a transaction back: the refresh token that is kept is not, or may soon not be, it."""


class _AlreadyStored(Exception):
    """Rolls a transaction back: the same request was stored by somebody faster."""


class _Transaction:
    """The named statements on one connection."""

    def __init__(self, connection: Any, sql: Mapping[str, str]) -> None:
        self._connection = connection
        self._sql = sql

    async def row(self, query: str, *arguments: object) -> Any:
        return await self._connection.fetchrow(self._sql[query], *arguments)

    async def rows(self, query: str, *arguments: object) -> Any:
        return await self._connection.fetch(self._sql[query], *arguments)


def _length(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _wrapped_key(row: rows.Row) -> WrappedKey:
    return WrappedKey(
        workspace=row["workspace_id"],
        key_id=row["key_id"],
        purpose=row["purpose"],
        kek_id=row["kek_id"],
        wrapped=bytes(row["wrapped_key"]),
    )


def _new_grant(attempt: Attempt, grant_id: UUID, tokens: NewTokens) -> tuple[object, ...]:
    return (
        attempt.workspace,
        grant_id,
        attempt.connector,
        tokens.slot,
        dict(attempt.connection_params),
        attempt.app.workspace,
        attempt.app.id,
        tokens.tokens.key_id,
        tokens.tokens.fields[ACCESS],
        tokens.tokens.fields.get(REFRESH),
        tokens.refresh_fingerprint,
        tokens.token_type,
        list(tokens.scopes),
        dict(tokens.connection),
        timedelta(seconds=tokens.age),
        _length(tokens.expires_in),
        _length(tokens.refresh_expires_in),
        tokens.kept_from,
    )
