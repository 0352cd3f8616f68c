"""The contract of the Store, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from flero_vault.migrations import known

from flero_vault.core.model import (
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
)
from flero_vault.core.ports import Activated, Activation, NewTokens, SealedRow, WrappedKey
from flero_vault.store.postgres import PostgresStore

LONG = timedelta(minutes=1)
NOW = datetime(2026, 11, 24, tzinfo=UTC)
MANY = 50


@dataclass
class World:
    """A workspace of its own with a data key and an app, and a plain connection to look with."""

    store: PostgresStore
    sql: Any
    workspace: str
    key: UUID
    app: AppName

    def tokens(self, text: str = "one", *, slot: str = "", refresh: bool = True) -> NewTokens:
        fields = {"access_token": f"access {text}".encode()}
        if refresh:
            fields["refresh_token"] = f"refresh {text}".encode()
        return NewTokens(
            slot=slot,
            tokens=SealedRow(self.key, fields),
            refresh_fingerprint=text.encode() if refresh else None,
            token_type="Bearer",
            scopes=("mail",),
            connection={},
            expires_in=3600,
            refresh_expires_in=None,
            age=0,
            rotated=False,
        )

    def credential(self) -> Credential:
        return Credential(
            name=CredentialName(self.workspace, uuid4()),
            connector="google",
            display_name="My Google",
            scope=CredentialScope.PERSONAL,
            status=Status.PENDING,
            owner="ada",
            authorized_by="",
            account=None,
            requested_scopes=("mail",),
            granted_scopes=(),
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
            generations=0,
        )

    def attempt(self, credential: Credential) -> Attempt:
        return Attempt(
            workspace=self.workspace,
            state_hash=uuid4().bytes * 2,
            credential_id=credential.name.id,
            phase=Phase.OPEN,
            user="ada",
            binding_hash=b"b" * 32,
            connector="google",
            app=self.app,
            redirect_uri="https://flero.example/oauth/callback/google",
            issuer="",
            requested_scopes=("mail",),
            connection_params={},
            allow_account_change=False,
            secrets=Sealed(self.key, b"state"),
            code_hash=None,
            outcome=None,
            create_time=NOW,
            expire_time=NOW,
            lease_expire_time=None,
            request_digest=b"digest",
        )

    async def begun(self) -> tuple[Credential, Attempt]:
        new = self.credential()
        begun = await self.store.begin(self.attempt(new), None, new)
        assert begun
        return new, begun

    async def activated(self, *texts: str) -> tuple[CredentialName, list[Grant]]:
        new, begun = await self.begun()
        assert await self.store.consume(begun, b"code", uuid4(), LONG)
        grants = [(uuid4(), self.tokens(text, slot=text)) for text in texts or ("one",)]
        activation = Activation(begun, None, grants, {})
        assert await self.store.activate(activation) is Activated.DONE
        return new.name, list(await self.store.grants_of(new.name))

    async def count(self, table: str) -> int:
        found = await self.sql.fetchval(
            f"SELECT count(*) FROM {table} WHERE workspace_id = $1",  # noqa: S608 - our own names
            self.workspace,
        )
        return int(found)


@pytest.fixture(scope="module")
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    async with PostgresStore.open(database_url, prepared=True, revision=known()[-1]) as store:
        yield store


@pytest.fixture
async def world(store: PostgresStore, database_url: str) -> AsyncIterator[World]:
    sql = await asyncpg.connect(database_url)
    workspace, key = f"w-{uuid4()}", uuid4()
    app = AppName(workspace, uuid4())
    await store.add_key(WrappedKey(workspace, key, "seal", "local:1", b"wrapped"))
    await store.put_app(
        App(app, "google", "id", ("https://a.example",), Sealed(key, b"x"), NOW, NOW)
    )
    yield World(store, sql, workspace, key, app)
    # A store that others share: nothing of this test is due for the next one.
    await sql.execute("DELETE FROM revocations WHERE workspace_id = $1", workspace)
    await sql.close()


async def wins(calls: list[Awaitable[Any]]) -> int:
    return sum(bool(result) for result in await asyncio.gather(*calls))


async def test_of_fifty_callers_one_consumes_an_attempt(world: World) -> None:
    _, begun = await world.begun()
    calls: list[Awaitable[Any]] = [
        world.store.consume(begun, b"code", uuid4(), LONG) for _ in range(MANY)
    ]
    assert await wins(calls) == 1
    found, _ = await world.store.attempt(world.workspace, begun.state_hash)
    assert found
    assert found.phase is Phase.EXCHANGING


async def test_an_attempt_that_is_too_old_is_consumed_by_nobody(world: World) -> None:
    _, begun = await world.begun()
    await world.sql.execute(
        "UPDATE attempts SET expire_time = clock_timestamp() WHERE state_hash = $1",
        begun.state_hash,
    )
    assert not await world.store.consume(begun, b"code", uuid4(), LONG)


async def test_of_fifty_processes_one_gets_the_lease(world: World) -> None:
    _, (grant,) = await world.activated()
    calls: list[Awaitable[Any]] = [
        world.store.lease(grant, uuid4(), LONG, hinted=False) for _ in range(MANY)
    ]
    assert await wins(calls) == 1


async def test_a_lease_that_ran_out_is_free_and_one_of_an_old_generation_is_not(
    world: World,
) -> None:
    _, (grant,) = await world.activated()
    assert await world.store.lease(grant, uuid4(), timedelta(0), hinted=False)
    old = replace(grant, generation=grant.generation - 1)
    assert not await world.store.lease(old, uuid4(), LONG, hinted=False)
    assert await world.store.lease(grant, uuid4(), LONG, hinted=False)


async def test_only_its_holder_gives_a_lease_back(world: World) -> None:
    _, (grant,) = await world.activated()
    holder = uuid4()
    assert await world.store.lease(grant, holder, LONG, hinted=False)
    await world.store.release(grant, uuid4(), "", timedelta(0))
    assert not await world.store.lease(grant, uuid4(), LONG, hinted=False)
    await world.store.release(grant, holder, "", timedelta(0))
    assert await world.store.lease(grant, uuid4(), LONG, hinted=False)


async def test_while_the_service_rests_nobody_gets_a_lease(world: World) -> None:
    _, (grant,) = await world.activated()
    holder = uuid4()
    assert await world.store.lease(grant, holder, LONG, hinted=False)
    await world.store.release(grant, holder, "service_down", LONG)
    assert not await world.store.lease(grant, uuid4(), LONG, hinted=False)


async def test_the_last_five_hints_are_remembered(world: World) -> None:
    _, (grant,) = await world.activated()
    for _ in range(7):
        assert await world.store.lease(grant, uuid4(), timedelta(0), hinted=True)
    read = await world.store.read_grant(world.workspace, grant.id)
    assert read
    assert len(read[0].hinted_times) == 5
    assert sorted(read[0].hinted_times) == list(read[0].hinted_times)


@pytest.mark.parametrize(
    "change", [{"generation": 7}, {"refresh_fingerprint": b"other"}, {"id": UUID(int=9)}]
)
async def test_an_answer_counts_only_for_what_was_spent(
    world: World, change: dict[str, Any]
) -> None:
    _, (grant,) = await world.activated()
    other = replace(grant, **change)
    assert not await world.store.renew(other, world.tokens("two"))
    assert not await world.store.bury(other, "reconnect")
    read = await world.store.read_grant(world.workspace, grant.id)
    assert read
    assert read[0] == grant


async def test_of_fifty_answers_for_one_generation_one_is_stored(world: World) -> None:
    _, (grant,) = await world.activated()
    calls: list[Awaitable[Any]] = [
        world.store.renew(grant, world.tokens(f"{number}")) for number in range(MANY)
    ]
    assert await wins(calls) == 1
    read = await world.store.read_grant(world.workspace, grant.id)
    assert read
    assert read[0].generation == grant.generation + 1


async def test_an_answer_counts_without_the_lease(world: World) -> None:
    _, (grant,) = await world.activated()
    assert await world.store.lease(grant, uuid4(), LONG, hinted=False)
    assert await world.store.renew(grant, world.tokens("two"))


async def test_a_buried_grant_makes_its_credential_expired(world: World) -> None:
    name, (grant,) = await world.activated()
    assert await world.store.bury(grant, "reconnect")
    assert not await world.store.bury(grant, "reconnect")
    found = await world.store.load(name)
    assert found
    assert found.status is Status.EXPIRED
    (dead,) = await world.store.grants_of(name)
    assert not await world.store.lease(dead, uuid4(), LONG, hinted=False)
    assert not await world.store.renew(dead, world.tokens("two"))


async def test_a_consent_accepted_after_revoke_changes_nothing(world: World) -> None:
    name, _ = await world.activated()
    present = await world.store.load(name)
    assert present
    begun = await world.store.begin(world.attempt(present), None, None)
    assert begun
    assert await world.store.consume(begun, b"code", uuid4(), LONG)
    assert await world.store.revoke(name, at_service=False, supported=True)
    late = Activation(begun, None, [(uuid4(), world.tokens("late"))], {})
    assert await world.store.activate(late) is Activated.GONE
    found = await world.store.load(name)
    assert found
    assert found.status is Status.REVOKED


async def test_a_consent_accepted_after_delete_changes_nothing(world: World) -> None:
    new, begun = await world.begun()
    assert await world.store.consume(begun, b"code", uuid4(), LONG)
    assert await world.store.delete(new.name, 1)
    late = Activation(begun, None, [(uuid4(), world.tokens("late"))], {})
    assert await world.store.activate(late) is Activated.GONE
    assert await world.count("grants") == 0


async def test_the_same_request_is_stored_once(world: World) -> None:
    first, second = world.credential(), world.credential()
    assert await world.store.begin(world.attempt(first), b"request", first)
    assert await world.store.begin(world.attempt(second), b"request", second) is None
    assert await world.store.load(second.name) is None
    assert await world.count("credentials") == 1
    assert await world.count("attempts") == 1
    stored = await world.store.attempt_by_request(world.workspace, b"request")
    assert stored
    assert stored.credential_id == first.name.id


async def test_of_fifty_same_requests_one_is_stored(world: World) -> None:
    news = [world.credential() for _ in range(MANY)]
    calls: list[Awaitable[Any]] = [
        world.store.begin(world.attempt(new), b"request", new) for new in news
    ]
    assert await wins(calls) == 1
    assert await world.count("credentials") == 1


async def test_after_ten_minutes_a_request_is_a_new_one(world: World) -> None:
    first, second = world.credential(), world.credential()
    assert await world.store.begin(world.attempt(first), b"request", first)
    await world.sql.execute(
        "UPDATE attempts SET create_time = create_time - interval '11 min' WHERE workspace_id = $1",
        world.workspace,
    )
    assert await world.store.begin(world.attempt(second), b"request", second)


async def test_a_new_attempt_voids_the_older_one(world: World) -> None:
    new, older = await world.begun()
    assert await world.store.begin(world.attempt(new), None, None)
    found, _ = await world.store.attempt(world.workspace, older.state_hash)
    assert found
    assert found.phase is Phase.VOID
    assert found.secrets is None
    assert not await world.store.consume(older, b"code", uuid4(), LONG)


async def test_delete_leaves_nothing_behind(world: World) -> None:
    name, _ = await world.activated("bot", "user")
    found = await world.store.load(name)
    assert found
    assert not await world.store.delete(name, found.revision + 1)
    assert await world.store.delete(name, found.revision)
    assert await world.store.load(name) is None
    for table in ("credentials", "credential_slots", "grants", "attempts"):
        assert await world.count(table) == 0


async def test_delete_keeps_a_grant_that_another_credential_holds(world: World) -> None:
    name, (grant,) = await world.activated()
    other, (own,) = await world.activated("two")
    await world.sql.execute(
        "UPDATE credential_slots SET grant_id = $2 WHERE credential_id = $1", other.id, grant.id
    )
    found = await world.store.load(name)
    assert found
    assert await world.store.delete(name, found.revision)
    assert await world.store.read_grant(world.workspace, grant.id)
    assert own.id != grant.id


async def test_revoke_moves_every_ciphertext_to_the_outbox(world: World) -> None:
    name, grants = await world.activated("bot", "user")
    assert await world.store.revoke(name, at_service=True, supported=True)
    for before, after in zip(grants, await world.store.grants_of(name), strict=True):
        assert after.access_token is None
        assert after.refresh_token is None
        assert after.refresh_fingerprint is None
        assert after.generation == before.generation + 1
        assert not await world.store.renew(before, world.tokens("late"))
    due = [one for one in await world.store.due_revocations(LONG, 99)]  # noqa: C416 - a list
    ours = {one.slot: one for one in due if one.workspace == world.workspace}
    assert ours["bot"].refresh_token == Sealed(world.key, b"refresh bot")
    assert ours["user"].access_token == Sealed(world.key, b"access user")
    assert not await world.store.revoke(name, at_service=True, supported=True)


async def test_revoke_without_the_service_forgets_the_tokens(world: World) -> None:
    name, _ = await world.activated()
    assert await world.store.revoke(name, at_service=False, supported=True)
    assert await world.count("revocations") == 0


async def test_the_last_revocation_to_end_says_done(world: World) -> None:
    name, _ = await world.activated("bot", "user")
    await world.store.revoke(name, at_service=True, supported=True)
    due = await world.store.due_revocations(LONG, 99)
    said = []
    for one in due:
        await world.store.end_revocation(one, ServiceRevocation.DONE)
        found = await world.store.load(name)
        assert found
        said.append(found.service_revocation)
    assert said == [ServiceRevocation.PENDING, ServiceRevocation.DONE]


async def test_a_revocation_that_is_due_is_taken_by_one_of_two(world: World) -> None:
    name, _ = await world.activated("bot", "user")
    await world.store.revoke(name, at_service=True, supported=True)
    one, other = await asyncio.gather(
        world.store.due_revocations(LONG, 99), world.store.due_revocations(LONG, 99)
    )
    taken = [due.id for due in [*one, *other] if due.workspace == world.workspace]
    assert len(taken) == len(set(taken)) == 2


async def test_a_revocation_waits_for_the_refresh_under_way(world: World) -> None:
    name, (grant,) = await world.activated()
    assert await world.store.lease(grant, uuid4(), LONG, hinted=False)
    await world.store.revoke(name, at_service=True, supported=True)
    assert await world.store.due_revocations(LONG, 99) == []
    await world.store.outbox(grant, world.tokens("late").tokens, uuid4())
    (late,) = await world.store.due_revocations(LONG, 99)
    assert late.refresh_token == Sealed(world.key, b"refresh late")


async def test_an_app_is_kept_while_a_grant_or_a_revocation_needs_it(world: World) -> None:
    name, _ = await world.activated()
    assert await world.store.delete_app(world.app) is False
    await world.store.revoke(name, at_service=True, supported=True)
    assert await world.store.delete_app(world.app) is False
    for due in await world.store.due_revocations(LONG, 99):
        await world.store.end_revocation(due, ServiceRevocation.DONE)
    assert await world.store.delete_app(world.app) is True
    assert await world.store.delete_app(world.app) is None


async def backdate(world: World, name: CredentialName, hours: int) -> None:
    age = timedelta(hours=hours)
    for table in ("credentials", "attempts"):
        await world.sql.execute(
            f"UPDATE {table} SET create_time = create_time - $2::interval "  # noqa: S608 - our own names
            "WHERE credential_id = $1",
            name.id,
            age,
        )
    await world.sql.execute(
        "UPDATE attempts SET expire_time = expire_time - $2::interval WHERE credential_id = $1",
        name.id,
        age,
    )


async def test_the_sweep_takes_old_pending_credentials_only(world: World) -> None:
    fresh, _ = await world.begun()
    stale, _ = await world.begun()
    resumed, _ = await world.begun()
    awaited, asked = await world.begun()
    active, _ = await world.activated()
    assert await world.store.consume(asked, b"code", uuid4(), LONG)
    await world.store.finish(asked, {}, "ADMIN_APPROVAL_REQUIRED", "Ask them.")
    for name in (stale.name, resumed.name, awaited.name, active):
        await backdate(world, name, 25)
    assert await world.store.begin(world.attempt(resumed), None, None)
    await world.store.sweep(timedelta(hours=24), timedelta(days=30))
    kept = [fresh.name, resumed.name, awaited.name, active]
    assert [await world.store.load(name) is not None for name in kept] == [True] * 4
    assert await world.store.load(stale.name) is None
    await backdate(world, awaited.name, 30 * 24)
    await world.store.sweep(timedelta(hours=24), timedelta(days=30))
    assert await world.store.load(awaited.name) is None


async def test_of_two_open_keys_the_first_one_stays(world: World) -> None:
    other = WrappedKey(world.workspace, uuid4(), "seal", "local:1", b"other")
    assert (await world.store.add_key(other)).key_id == world.key
    assert await world.store.load_key(world.workspace, other.key_id) is None


async def test_use_is_written_forward_only_and_never_waits_for_a_row(world: World) -> None:
    first, second, third = [(await world.begun())[0] for _ in range(3)]
    now = datetime(2026, 11, 24, 12, 30, tzinfo=UTC)
    earlier = now - timedelta(minutes=1)
    await world.store.mark_used({first.name: now, second.name: earlier})
    select = "SELECT last_used_time FROM credentials WHERE credential_id = $1"
    lock = f"{select} FOR UPDATE"

    async with world.sql.transaction():
        await world.sql.execute(lock, third.name.id)
        async with asyncio.timeout(5):
            await world.store.mark_used({first.name: earlier, second.name: now, third.name: now})

    seen = [await world.sql.fetchval(select, each.name.id) for each in (first, second, third)]
    assert seen == [now, now, None]
