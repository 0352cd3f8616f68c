"""What must hold when a refresh meets a new consent, or the vault's own keys are away."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from flero_vault.migrations import known
from tests.refresh.helpers import Rows, refresh_calls
from tests.refresh.test_refresh import answer_for, grant_of, status
from tests.stack import BINDING, USER, Emulator, Vault, refusal_of, running_vault

from flero_vault.core.authorize import hash_state
from flero_vault.core.errors import Reason, Unavailable
from flero_vault.core.model import CredentialName, Grant
from flero_vault.core.ports import (
    Activated,
    Activation,
    Client,
    Consent,
    Failure,
    TokenAnswer,
)
from flero_vault.core.secret import Secret
from flero_vault.envelope.keys import Keys
from flero_vault.oauth.wire import HttpServers
from flero_vault.process import SystemClock
from flero_vault.store.postgres import PostgresStore
from flero_vault_client.v1 import credential_pb2, credential_vault_pb2

pytestmark = pytest.mark.usefixtures("reset")
ACTIVE = credential_pb2.CREDENTIAL_STATUS_ACTIVE
LEASE = timedelta(seconds=24)
WITHIN_S = 15.0


class SparingServers(HttpServers):
    """The services, which give no refresh token at a consent while they are `sparing`."""

    def __init__(self) -> None:
        super().__init__(SystemClock(), allow_loopback=True)
        self.sparing = False

    async def exchange(
        self, client: Client, consent: Consent, code: Secret, redirect_params: Mapping[str, str]
    ) -> TokenAnswer | Failure:
        answer = await super().exchange(client, consent, code, redirect_params)
        if isinstance(answer, Failure) or not self.sparing:
            return answer
        return replace(
            answer, slots=tuple(replace(slot, refresh_token=None) for slot in answer.slots)
        )


@pytest.fixture
def rows(database_url: str) -> Rows:
    return Rows(database_url)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    async with PostgresStore.open(database_url, prepared=True, revision=known()[-1]) as store:
        yield store


@pytest.fixture(scope="module")
def servers() -> SparingServers:
    return SparingServers()


@pytest.fixture(scope="module")
async def vault(
    database_url: str, emulator: Emulator, servers: SparingServers
) -> AsyncIterator[Vault]:
    async with running_vault(database_url, emulator, servers=servers) as vault:
        yield vault


@pytest.fixture(autouse=True)
def generous(servers: SparingServers) -> None:
    """Have the services give refresh tokens, before the test."""
    servers.sparing = False


async def consented_again(vault: Vault, name: str) -> dict[str, str]:
    """Go to the consent page again; return the callback's parameters."""
    begun = await vault.rpc.Reauthenticate(
        credential_vault_pb2.ReauthenticateRequest(name=name, user=USER, browser_binding=BINDING)
    )
    return await vault.emulator.consent(begun.authorize_url)


# --- a consent that keeps the refresh token -----------------------------------------------------


async def keeping(vault: Vault, store: PostgresStore, name: str, kept: Grant) -> Activation:
    """Return a consent that is being exchanged and keeps the refresh token of this grant."""
    state = (await consented_again(vault, name))["state"]
    workspace = CredentialName.parse(name).workspace
    attempt, _ = await store.attempt(workspace, hash_state(Secret(state)))
    credential = await store.load(CredentialName.parse(name))
    assert attempt is not None
    assert credential is not None
    assert await store.consume(attempt, b"code", uuid4(), LEASE)
    tokens = replace(answer_for(kept, kept.refresh_fingerprint), kept_from=kept.generation)
    return Activation(attempt, credential.account, [(kept.id, tokens)], {})


async def seen(rows: Rows, name: str) -> list[Any]:
    """Return all that the database holds about a credential."""
    tables = ("credentials", "credential_slots", "attempts")
    credential_id = name.rpartition("/")[2]
    found = [
        await rows.run(
            f"SELECT * FROM {table} WHERE credential_id = $1::text::uuid ORDER BY 1, 2, 3",  # noqa: S608 - our own names
            credential_id,
        )
        for table in tables
    ]
    return [*found, await rows.grant(name)]


async def test_a_consent_that_keeps_a_refresh_token_which_was_spent_meanwhile_changes_nothing(
    vault: Vault, store: PostgresStore, rows: Rows
) -> None:
    credential = await vault.connect("google")
    old = await grant_of(store, credential.name)
    late = await keeping(vault, store, credential.name, old)
    assert await store.renew(old, answer_for(old, bytes(32)))
    before = await seen(rows, credential.name)

    activated = await store.activate(late)

    assert activated is Activated.CHANGED
    assert await seen(rows, credential.name) == before
    assert (await grant_of(store, credential.name)).refresh_fingerprint == bytes(32)


async def test_a_consent_that_keeps_a_refresh_token_waits_while_that_is_being_spent(
    vault: Vault, store: PostgresStore, rows: Rows
) -> None:
    credential = await vault.connect("google")
    old = await grant_of(store, credential.name)
    early = await keeping(vault, store, credential.name, old)
    holder = uuid4()
    assert await store.lease(old, holder, LEASE, hinted=False)
    before = await seen(rows, credential.name)

    meanwhile = await store.activate(early)
    after = await seen(rows, credential.name)
    await store.release(old, holder, "", timedelta(0))
    at_last = await store.activate(early)

    assert meanwhile is Activated.CHANGED
    assert after == before
    assert at_last is Activated.DONE


async def test_a_consent_without_a_refresh_token_keeps_the_one_that_a_refresh_just_brought(
    vault: Vault, servers: SparingServers, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    # At a service that rotates and ends a grant whose refresh token comes twice.
    name = (await vault.connect("oidc")).name
    servers.sparing = True
    first = (await rows.grant(name))["refresh_fingerprint"]
    back = await consented_again(vault, name)
    about_to_store, go_on = asyncio.Event(), asyncio.Event()
    activate = PostgresStore.activate
    outcomes = []

    async def held_up(self: PostgresStore, activation: Activation) -> Activated:
        about_to_store.set()
        await go_on.wait()
        outcomes.append(await activate(self, activation))
        return outcomes[-1]

    monkeypatch.setattr(PostgresStore, "activate", held_up)
    completing = asyncio.ensure_future(vault.complete("oidc", back))
    try:
        async with asyncio.timeout(WITHIN_S):
            await about_to_store.wait()
        await rows.age(name, had=3600, left=-1)
        await vault.token(name)
        newest = (await rows.grant(name))["refresh_fingerprint"]
    finally:
        go_on.set()
    await completing
    kept = (await rows.grant(name))["refresh_fingerprint"]
    await rows.age(name, had=3600, left=-1)
    token = (await vault.token(name)).access_token

    assert outcomes == [Activated.CHANGED, Activated.DONE]
    assert newest != first
    assert kept == newest
    assert await vault.emulator.accepts("oidc", token)
    assert await status(vault, name) == ACTIVE


async def test_google_brings_no_refresh_token_again_and_the_old_one_goes_on(
    vault: Vault, servers: SparingServers, rows: Rows
) -> None:
    name = (await vault.connect("google")).name
    servers.sparing = True
    first = (await rows.grant(name))["refresh_fingerprint"]

    await vault.complete("google", await consented_again(vault, name))
    kept = (await rows.grant(name))["refresh_fingerprint"]
    await rows.age(name, had=3600, left=-1)
    token = (await vault.token(name)).access_token

    assert kept == first
    assert await vault.emulator.accepts("google", token)
    assert await status(vault, name) == ACTIVE


# --- the KMS is away ----------------------------------------------------------------------------


async def test_a_kms_that_is_away_is_the_vaults_trouble_and_spends_and_records_nothing(
    vault: Vault, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = await vault.connect("oidc")
    await rows.age(credential.name, had=3600, left=-1)

    async def away(_self: Keys, _workspace: str) -> None:
        raise Unavailable(
            Reason.VAULT_UNAVAILABLE, "The KMS is away.", metadata={"component": "kms"}
        )

    with monkeypatch.context() as patched:
        patched.setattr(Keys, "warm", away)
        answers = await asyncio.gather(
            *(vault.token(credential.name) for _ in range(5)), return_exceptions=True
        )
        calls_meanwhile = await refresh_calls(vault.emulator, "oidc")
        grant = await rows.grant(credential.name)
    token = (await vault.token(credential.name)).access_token

    refusals = [refusal_of(a) for a in answers if isinstance(a, grpc.aio.AioRpcError)]
    assert [(r.reason, r.metadata["component"]) for r in refusals] == [
        ("VAULT_UNAVAILABLE", "kms")
    ] * 5
    assert calls_meanwhile == 0
    assert grant["lease_process_id"] is grant["lease_expire_time"] is grant["retry_time"] is None
    assert (grant["failure"], grant["failure_count"]) == ("", 0)
    assert await vault.emulator.accepts("oidc", token)
    assert await refresh_calls(vault.emulator, "oidc") == 1
