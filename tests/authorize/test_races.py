"""Callbacks that somebody else's change, a closed tab or an absent database comes between."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import grpc
import pytest
from tests.refresh.helpers import Rows, eventually
from tests.stack import BINDING, USER, Emulator, Vault, refusal_of, running_vault

from flero_vault.core.authorize import Authorize, CallbackRequest, Completed
from flero_vault.core.errors import Reason, Unavailable
from flero_vault.core.model import Attempt
from flero_vault.core.ports import Activated, Activation, Client, Consent, Failure, TokenAnswer
from flero_vault.core.secret import Secret
from flero_vault.oauth.wire import HttpServers
from flero_vault.process import SystemClock
from flero_vault.store.postgres import PostgresStore
from flero_vault_client.v1 import credential_pb2, credential_vault_pb2

pytestmark = pytest.mark.usefixtures("reset")
ACTIVE = credential_pb2.CREDENTIAL_STATUS_ACTIVE
PERSONAL = credential_pb2.CREDENTIAL_SCOPE_PERSONAL
WORKSPACE = credential_pb2.CREDENTIAL_SCOPE_WORKSPACE
MALLORY = "mallory"
WITHIN_S = 15.0


class Gate:
    """Holds up whoever comes through while it is shut."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._reached = asyncio.Event()
        self.passed = 0

    @asynccontextmanager
    async def shut(self) -> AsyncIterator[None]:
        """Shut it for a block."""
        self._reached.clear()
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    async def reached(self) -> None:
        """Wait until somebody stands before it."""
        async with asyncio.timeout(WITHIN_S):
            await self._reached.wait()

    async def pass_through(self) -> None:
        """Wait until it is open."""
        self._reached.set()
        await self._open.wait()
        self.passed += 1


class GatedServers(HttpServers):
    """The services, behind a gate at the exchange of codes."""

    def __init__(self, gate: Gate) -> None:
        super().__init__(SystemClock(), allow_loopback=True)
        self._gate = gate

    async def exchange(
        self, client: Client, consent: Consent, code: Secret, redirect_params: Mapping[str, str]
    ) -> TokenAnswer | Failure:
        await self._gate.pass_through()
        return await super().exchange(client, consent, code, redirect_params)


@pytest.fixture(scope="module")
def gate() -> Gate:
    return Gate()


@pytest.fixture(scope="module")
async def vault(database_url: str, emulator: Emulator, gate: Gate) -> AsyncIterator[Vault]:
    """A vault whose exchanges can be held up."""
    async with running_vault(database_url, emulator, servers=GatedServers(gate)) as vault:
        yield vault


@pytest.fixture
def rows(database_url: str) -> Rows:
    return Rows(database_url)


async def seen_by_owner(vault: Vault, name: str) -> Any:
    request = credential_vault_pb2.GetCredentialRequest(name=name, user=USER)
    return await vault.rpc.GetCredential(request)


# --- somebody who may no longer authorize -------------------------------------------------------


async def begun_by_mallory(vault: Vault) -> tuple[str, dict[str, str]]:
    """Return a WORKSPACE credential of another, and mallory's callback with another account."""
    name = (await vault.connect("oidc", credential_scope=WORKSPACE)).name
    begun = await vault.rpc.Reauthenticate(
        credential_vault_pb2.ReauthenticateRequest(
            name=name, user=MALLORY, browser_binding=BINDING, allow_account_change=True
        )
    )
    return name, await vault.emulator.consent(begun.authorize_url, account="grace")


async def made_personal(vault: Vault, name: str) -> None:
    credential = credential_pb2.Credential(name=name, credential_scope=PERSONAL)
    await vault.rpc.UpdateCredential(
        credential_vault_pb2.UpdateCredentialRequest(credential=credential, user=USER)
    )


async def refused(completing: Awaitable[Any]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await completing
    return refusal_of(caught.value).reason


async def test_a_credential_made_personal_is_not_authorized_by_another_who_began_before(
    vault: Vault, rows: Rows, gate: Gate
) -> None:
    name, back = await begun_by_mallory(vault)
    before = await seen_by_owner(vault, name), await rows.grant(name)
    exchanged_before = gate.passed
    await made_personal(vault, name)

    reason = await refused(vault.complete("oidc", back, user=MALLORY))

    after = await seen_by_owner(vault, name), await rows.grant(name)
    assert reason == "STATE_INVALID"
    assert after[0].account == before[0].account
    assert after[0].authorized_by == USER
    assert after[0].status == ACTIVE
    assert after[1] == before[1]
    assert gate.passed == exchanged_before


async def test_a_credential_made_personal_during_the_exchange_keeps_its_account_and_grant(
    vault: Vault, rows: Rows, gate: Gate
) -> None:
    name, back = await begun_by_mallory(vault)
    before = await seen_by_owner(vault, name), await rows.grant(name)

    async with gate.shut():
        completing = asyncio.ensure_future(vault.complete("oidc", back, user=MALLORY))
        await gate.reached()
        await made_personal(vault, name)
    reason = await refused(completing)

    after = await seen_by_owner(vault, name), await rows.grant(name)
    assert reason == "STATE_INVALID"
    assert after[0].account == before[0].account
    assert after[0].authorized_by == USER
    assert after[0].status == ACTIVE
    assert after[1] == before[1]


async def test_a_repeated_callback_shows_nothing_of_a_credential_that_became_personal(
    vault: Vault,
) -> None:
    name, back = await begun_by_mallory(vault)
    completed = await vault.complete("oidc", back, user=MALLORY)
    repeated = await vault.complete("oidc", back, user=MALLORY)
    await made_personal(vault, name)

    reason = await refused(vault.complete("oidc", back, user=MALLORY))

    assert completed.credential.name == repeated.credential.name == name
    assert reason == "STATE_INVALID"


# --- a person who closes the tab ----------------------------------------------------------------


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Say when the server has let go of a call of CompleteCallback, however it ended."""
    ended = asyncio.Event()
    complete = Authorize.complete

    async def watched(self: Authorize, request: CallbackRequest) -> Completed:
        try:
            return await complete(self, request)
        finally:
            ended.set()

    monkeypatch.setattr(Authorize, "complete", watched)
    return ended


async def closes_the_tab(
    vault: Vault, back: dict[str, str], gate: Gate, handled: asyncio.Event
) -> None:
    """Cancel the callback before the gate, and see the server notice before it opens."""
    async with gate.shut():
        completing = asyncio.ensure_future(vault.complete("oidc", back))
        await gate.reached()
        completing.cancel()
        with suppress(asyncio.CancelledError):
            await completing
        async with asyncio.timeout(WITHIN_S):
            await handled.wait()


async def becomes_active(vault: Vault, name: str) -> None:
    async def active() -> bool:
        return bool((await seen_by_owner(vault, name)).status == ACTIVE)

    await eventually(active)


async def test_a_caller_that_hangs_up_during_the_exchange_has_authorized_all_the_same(
    vault: Vault, gate: Gate, handled: asyncio.Event
) -> None:
    begun = await vault.begin("oidc")
    back = await vault.emulator.consent(begun.authorize_url)

    await closes_the_tab(vault, back, gate, handled)
    await becomes_active(vault, begun.credential.name)
    repeated = await vault.complete("oidc", back)

    assert repeated.credential.name == begun.credential.name
    assert repeated.credential.status == ACTIVE


async def test_a_caller_that_hangs_up_once_its_state_is_consumed_has_authorized_all_the_same(
    vault: Vault, handled: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = await vault.begin("oidc")
    back = await vault.emulator.consent(begun.authorize_url)
    consumed = Gate()
    consume: Callable[..., Awaitable[bool]] = PostgresStore.consume

    async def held_up(
        self: PostgresStore, attempt: Attempt, code_hash: bytes, process: UUID, lease: timedelta
    ) -> bool:
        won = await consume(self, attempt, code_hash, process, lease)
        await consumed.pass_through()
        return won

    monkeypatch.setattr(PostgresStore, "consume", held_up)
    await closes_the_tab(vault, back, consumed, handled)
    await becomes_active(vault, begun.credential.name)
    repeated = await vault.complete("oidc", back)

    assert repeated.credential.name == begun.credential.name
    assert repeated.credential.status == ACTIVE


# --- a database that is away --------------------------------------------------------------------


async def test_an_exchange_that_cannot_be_stored_at_first_ends_active_with_its_one_code(
    vault: Vault, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = await vault.begin("oidc")
    back = await vault.emulator.consent(begun.authorize_url)
    exchanged_before = gate.passed
    activate = PostgresStore.activate
    tries = []

    async def twice_away(self: PostgresStore, activation: Activation) -> Activated:
        tries.append(activation)
        if len(tries) <= 2:
            raise Unavailable(Reason.VAULT_UNAVAILABLE, "Away.", metadata={"component": "database"})
        return await activate(self, activation)

    monkeypatch.setattr(PostgresStore, "activate", twice_away)
    completed = await vault.complete("oidc", back)
    token = (await vault.token(begun.credential.name)).access_token

    assert completed.credential.status == ACTIVE
    assert len(tries) == 3
    assert gate.passed == exchanged_before + 1
    assert await vault.emulator.accepts("oidc", token)
