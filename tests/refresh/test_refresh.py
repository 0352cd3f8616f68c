"""When a token is refreshed, when it is left alone, and what becomes of an answer."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import grpc
import pytest
from flero_vault.migrations import known
from google.protobuf.duration_pb2 import Duration
from tests.refresh.helpers import Rows, eventually, just_expired, refresh_calls
from tests.stack import USER, Vault, refusal_of

from flero_vault.core.model import CredentialName, Grant
from flero_vault.core.ports import NewTokens, SealedRow
from flero_vault.core.sealing import ACCESS, REFRESH
from flero_vault.store.postgres import PostgresStore
from flero_vault_client.v1 import credential_pb2, credential_vault_pb2

pytestmark = pytest.mark.usefixtures("reset")
ACTIVE = credential_pb2.CREDENTIAL_STATUS_ACTIVE
EXPIRED = credential_pb2.CREDENTIAL_STATUS_EXPIRED


@pytest.fixture
def rows(database_url: str) -> Rows:
    return Rows(database_url)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    async with PostgresStore.open(database_url, prepared=True, revision=known()[-1]) as store:
        yield store


async def status(vault: Vault, name: str) -> Any:
    request = credential_vault_pb2.GetCredentialRequest(name=name, user=USER)
    return (await vault.rpc.GetCredential(request)).status


async def refused(vault: Vault, name: str, **fields: Any) -> str:
    """Ask for a token that is not given; return the reason."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await vault.token(name, **fields)
    return refusal_of(caught.value).reason


def sha256(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


# --- callers and services that go away --------------------------------------------------------


async def test_a_caller_that_hangs_up_does_not_lose_the_refreshed_token(vault: Vault) -> None:
    credential, old = await just_expired(vault, "oidc")
    before = await refresh_calls(vault.emulator, "oidc")
    await vault.emulator.control("oidc", hang_s=1)
    call = vault.rpc.GetAccessToken(
        credential_vault_pb2.GetAccessTokenRequest(name=credential.name, user=USER)
    )

    async def sent() -> bool:
        return await refresh_calls(vault.emulator, "oidc") == before + 1

    await eventually(sent)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    token = (await vault.token(credential.name)).access_token

    assert token != old
    assert await vault.emulator.accepts("oidc", token)
    assert await refresh_calls(vault.emulator, "oidc") == before + 1


@pytest.mark.parametrize("fault", ["server_error_500", "html_502", "rate_limited_429", "empty"])
async def test_while_the_service_is_down_a_valid_token_is_served_and_nothing_expires(
    vault: Vault, rows: Rows, fault: str
) -> None:
    credential = await vault.connect("oidc")
    old = (await vault.token(credential.name)).access_token
    await rows.age(credential.name, had=3560, left=40)
    await vault.emulator.control("oidc", fail=fault)

    answers = [await vault.token(credential.name) for _ in range(3)]

    assert {answer.access_token for answer in answers} == {old}
    assert all(answer.warning for answer in answers)
    assert await refresh_calls(vault.emulator, "oidc") == 1
    assert await status(vault, credential.name) == ACTIVE


async def test_a_refused_oauth_app_never_expires_a_credential_and_heals_by_itself(
    vault: Vault, rows: Rows
) -> None:
    credential = await vault.connect("google")
    await rows.age(credential.name, had=3600, left=-1)
    await vault.emulator.control("google", fail="invalid_client")

    reason = await refused(vault, credential.name)
    meanwhile = await status(vault, credential.name)
    await vault.emulator.control("google", fail=None)

    async def served() -> str:
        with suppress(grpc.aio.AioRpcError):  # the back-off of the refusal has to pass
            return str((await vault.token(credential.name)).access_token)
        return ""

    token = await eventually(served)
    assert reason == "OAUTH_APP_REJECTED"
    assert meanwhile == ACTIVE
    assert await vault.emulator.accepts("google", token)


async def test_a_refused_refresh_token_expires_the_credential_and_is_not_sent_again(
    vault: Vault, rows: Rows
) -> None:
    credential = await vault.connect("google")
    await rows.age(credential.name, had=3600, left=-1)
    await vault.emulator.control("google", fail="invalid_grant")

    reasons = [await refused(vault, credential.name) for _ in range(3)]

    assert set(reasons) == {"CREDENTIAL_EXPIRED"}
    assert await status(vault, credential.name) == EXPIRED
    assert await refresh_calls(vault.emulator, "google") == 1


# --- whose answer counts ----------------------------------------------------------------------


def answer_for(grant: Grant, fingerprint: bytes | None) -> NewTokens:
    """Return an answer to a refresh of this grant; its ciphertexts are those of before."""
    assert grant.access_token is not None
    assert grant.refresh_token is not None
    fields = {ACCESS: grant.access_token.data, REFRESH: grant.refresh_token.data}
    return NewTokens(
        slot=grant.slot,
        tokens=SealedRow(grant.access_token.key_id, fields),
        refresh_fingerprint=fingerprint,
        token_type=grant.token_type,
        scopes=grant.scopes,
        connection=grant.connection,
        expires_in=3600,
        refresh_expires_in=None,
        age=0,
        rotated=fingerprint != grant.refresh_fingerprint,
    )


async def grant_of(store: PostgresStore, name: str) -> Grant:
    (grant,) = await store.grants_of(CredentialName.parse(name))
    return grant


async def test_a_late_refusal_of_a_token_that_another_spent_well_expires_nothing(
    vault: Vault, store: PostgresStore
) -> None:
    credential = await vault.connect("oidc")
    old = await grant_of(store, credential.name)

    renewed = await store.renew(old, answer_for(old, bytes(32)))
    buried = await store.bury(old, "reconnect")

    assert renewed
    assert not buried
    assert await status(vault, credential.name) == ACTIVE
    assert (await vault.token(credential.name)).access_token


async def test_a_late_refusal_expires_nothing_where_the_refresh_token_stays_the_same(
    vault: Vault, store: PostgresStore
) -> None:
    credential = await vault.connect("hubspot")
    old = await grant_of(store, credential.name)

    await store.renew(old, answer_for(old, old.refresh_fingerprint))
    buried = await store.bury(old, "reconnect")

    assert not buried
    assert await status(vault, credential.name) == ACTIVE


async def test_an_answer_to_an_older_generation_is_not_stored_over_a_newer_one(
    vault: Vault, store: PostgresStore
) -> None:
    credential = await vault.connect("hubspot")
    old = await grant_of(store, credential.name)

    first = await store.renew(old, answer_for(old, old.refresh_fingerprint))
    second = await store.renew(old, answer_for(old, old.refresh_fingerprint))

    assert first
    assert not second
    assert (await grant_of(store, credential.name)).generation == old.generation + 1


async def test_an_answer_counts_even_when_the_lease_went_to_another_process(
    vault: Vault, store: PostgresStore
) -> None:
    credential = await vault.connect("oidc")
    old = await grant_of(store, credential.name)
    lost = await store.lease(old, uuid.uuid4(), timedelta(0), hinted=False)
    taken = await store.lease(old, uuid.uuid4(), timedelta(seconds=24), hinted=False)

    stored = await store.renew(old, answer_for(old, bytes(32)))

    assert lost is not None
    assert taken is not None
    assert stored


async def test_of_fifty_processes_that_want_the_lease_one_gets_it(
    vault: Vault, store: PostgresStore
) -> None:
    credential = await vault.connect("oidc")
    grant = await grant_of(store, credential.name)

    leases = await asyncio.gather(
        *(store.lease(grant, uuid.uuid4(), timedelta(seconds=24), hinted=False) for _ in range(50))
    )

    assert len([lease for lease in leases if lease is not None]) == 1


async def test_a_credential_revoked_during_a_refresh_gets_no_token_and_the_answer_is_to_be_revoked(
    vault: Vault, rows: Rows
) -> None:
    # Delivered revocations leave their table; the trigger keeps what was ever put there.
    await rows.run("CREATE TABLE kept (LIKE revocations)")
    await rows.run(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO kept SELECT NEW.*; RETURN NEW; END'"
    )
    await rows.run(
        "CREATE TRIGGER keep AFTER INSERT ON revocations FOR EACH ROW EXECUTE FUNCTION keep()"
    )
    credential = await vault.connect("oidc")
    await rows.age(credential.name, had=3600, left=-1)
    before = await rows.grant(credential.name)
    await vault.emulator.control("oidc", hang_s=1)
    asked = asyncio.ensure_future(refused(vault, credential.name))

    async def sent() -> bool:
        return await refresh_calls(vault.emulator, "oidc") == 1

    await eventually(sent)
    revoked = await vault.rpc.Revoke(
        credential_vault_pb2.RevokeRequest(name=credential.name, user=USER, revoke_at_service=True)
    )
    after_revoke = await refused(vault, credential.name)
    during_revoke = await asked

    async def queued() -> list[Any]:
        found = await rows.run(
            "SELECT * FROM kept WHERE grant_id = $1 ORDER BY create_time", before["grant_id"]
        )
        return found if len(found) > 1 else []

    first, late = await eventually(queued)
    grant = await rows.grant(credential.name)
    assert revoked.service_revocation == credential_pb2.SERVICE_REVOCATION_PENDING
    assert after_revoke == during_revoke == "CREDENTIAL_REVOKED"
    assert first["sealed_refresh_token"] == before["sealed_refresh_token"]
    assert late["sealed_refresh_token"] not in {None, first["sealed_refresh_token"]}
    assert late["sealed_access_token"] not in {None, first["sealed_access_token"]}
    assert grant["sealed_access_token"] is grant["sealed_refresh_token"] is None
    assert await refresh_calls(vault.emulator, "oidc") == 1


# --- which refresh token is kept --------------------------------------------------------------


async def refresh_twice(vault: Vault, rows: Rows, connector: str) -> tuple[set[str], set[bytes]]:
    """Refresh a credential twice; return its access tokens and refresh tokens' fingerprints."""
    credential = await vault.connect(connector)
    tokens = {(await vault.token(credential.name)).access_token}
    fingerprints = {(await rows.grant(credential.name))["refresh_fingerprint"]}
    for _ in range(2):
        await rows.age(credential.name, had=3600, left=-1)
        tokens.add((await vault.token(credential.name)).access_token)
        fingerprints.add((await rows.grant(credential.name))["refresh_fingerprint"])
    assert await refresh_calls(vault.emulator, connector) == 2
    return tokens, fingerprints


async def test_google_sends_no_refresh_token_and_the_old_one_is_kept(
    vault: Vault, rows: Rows
) -> None:
    tokens, fingerprints = await refresh_twice(vault, rows, "google")

    assert len(tokens) == 3
    assert len(fingerprints) == 1


async def test_hubspot_echoes_its_refresh_token_and_that_is_no_rotation(
    vault: Vault, rows: Rows
) -> None:
    tokens, fingerprints = await refresh_twice(vault, rows, "hubspot")

    assert len(tokens) == 3
    assert len(fingerprints) == 1
    assert not await rows.run("SELECT FROM grants WHERE connector = 'hubspot' AND rotation_seen")


async def test_a_rotated_refresh_token_takes_the_place_of_the_spent_one(
    vault: Vault, rows: Rows
) -> None:
    tokens, fingerprints = await refresh_twice(vault, rows, "oidc")

    assert len(tokens) == 3
    assert len(fingerprints) == 3


async def test_the_two_slots_of_a_slack_installation_refresh_apart(
    vault: Vault, rows: Rows
) -> None:
    credential = await vault.connect("slack", requested_scopes=["chat:write", "search:read"])
    name = credential.name
    bot = (await vault.token(name, slot="bot")).access_token
    user = (await vault.token(name, slot="user")).access_token
    await rows.age(name, had=43200, left=-1, slot="bot")

    user_after_bot = (await vault.token(name, slot="user")).access_token
    new_bot = (await vault.token(name, slot="bot")).access_token
    calls_for_bot = await refresh_calls(vault.emulator, "slack")
    await rows.age(name, had=43200, left=-1, slot="user")
    new_user = (await vault.token(name, slot="user")).access_token
    bot_after_user = (await vault.token(name, slot="bot")).access_token

    assert user_after_bot == user
    assert bot_after_user == new_bot
    assert len({bot, user, new_bot, new_user}) == 4
    assert calls_for_bot == 1
    assert await refresh_calls(vault.emulator, "slack") == 2
    for token in (new_bot, new_user):
        assert await vault.emulator.accepts("slack", token)


# --- when nothing is refreshed ----------------------------------------------------------------


async def test_a_wish_for_more_life_than_a_token_has_does_not_refresh_at_every_call(
    vault: Vault, rows: Rows
) -> None:
    credential = await vault.connect("oidc")
    await rows.age(credential.name, had=40, left=60)
    wish = Duration(seconds=3600)

    answers = [await vault.token(credential.name, min_ttl=wish) for _ in range(10)]
    in_first_half = await refresh_calls(vault.emulator, "oidc")
    await vault.emulator.control("oidc", access_ttl_s=100)
    await rows.age(credential.name, had=60, left=40)
    for _ in range(10):
        await vault.token(credential.name, min_ttl=wish)

    assert all(answer.warning for answer in answers)
    assert in_first_half == 0
    assert await refresh_calls(vault.emulator, "oidc") == 1


async def test_a_rejected_token_causes_one_refresh_a_minute(vault: Vault, rows: Rows) -> None:
    credential = await vault.connect("oidc")
    name = credential.name
    first = (await vault.token(name)).access_token
    second = (await vault.token(name, rejected_token_sha256=sha256(first))).access_token

    within = await vault.token(name, rejected_token_sha256=sha256(second))
    calls_within = await refresh_calls(vault.emulator, "oidc")
    await rows.hinted(name, 61)
    third = (await vault.token(name, rejected_token_sha256=sha256(second))).access_token

    assert first != second
    assert within.access_token == second
    assert within.warning
    assert calls_within == 1
    assert third != second
    assert await refresh_calls(vault.emulator, "oidc") == 2


async def test_rejected_tokens_cause_five_refreshes_an_hour(vault: Vault, rows: Rows) -> None:
    credential = await vault.connect("oidc")
    name = credential.name
    token = (await vault.token(name)).access_token
    await rows.hinted(name, 3500, 2500, 1500, 500, 61)

    sixth = await vault.token(name, rejected_token_sha256=sha256(token))
    calls_of_sixth = await refresh_calls(vault.emulator, "oidc")
    await rows.hinted(name, 3601, 2500, 1500, 500, 61)
    later = await vault.token(name, rejected_token_sha256=sha256(token))

    assert sixth.access_token == token
    assert calls_of_sixth == 0
    assert later.access_token != token
    assert await refresh_calls(vault.emulator, "oidc") == 1


async def test_the_hash_of_some_other_token_causes_nothing(vault: Vault) -> None:
    credential = await vault.connect("oidc")
    token = (await vault.token(credential.name)).access_token

    answers = [
        await vault.token(credential.name, rejected_token_sha256=sha256(f"other {number}"))
        for number in range(5)
    ]

    assert {answer.access_token for answer in answers} == {token}
    assert await refresh_calls(vault.emulator, "oidc") == 0


async def test_a_rejected_token_is_not_handed_out_again_when_the_service_gives_no_other(
    vault: Vault,
) -> None:
    credential = await vault.connect("google")
    rejected = (await vault.token(credential.name)).access_token
    await vault.emulator.control("google", fail="server_error_500")

    reasons = [
        await refused(vault, credential.name, rejected_token_sha256=sha256(rejected))
        for _ in range(3)
    ]

    assert set(reasons) == {"SERVICE_UNAVAILABLE"}
    assert await refresh_calls(vault.emulator, "google") <= 2
