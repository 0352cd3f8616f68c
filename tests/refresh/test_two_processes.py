"""Two server processes on one database: together they spend a refresh token once.

The service rotates its refresh tokens and, when one comes twice, ends the whole grant: a second
send would show in what every call answers.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.refresh.helpers import (
    DOOMED,
    SERVE,
    Rows,
    Server,
    just_expired,
    put_app,
    refresh_calls,
    serving,
)
from tests.stack import Emulator

from flero_vault_dev.commands import write_connectors

CALLS = 500
pytestmark = pytest.mark.usefixtures("reset")


@pytest.fixture(scope="module")
def settings(
    database_url: str, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("two_processes")
    return {
        "FLERO_VAULT_DATABASE_URL": database_url,
        "FLERO_VAULT_KEK": f"local:{folder / 'keyring.json'}",
        "FLERO_VAULT_CONNECTORS_DIR": str(write_connectors(folder / "connectors", emulator.origin)),
        "FLERO_VAULT_ALLOW_LOOPBACK_SERVICES": "true",
    }


@asynccontextmanager
async def servers(
    emulator: Emulator, settings: dict[str, str], folder: Path, *commands: tuple[str, ...]
) -> AsyncIterator[list[Server]]:
    async with AsyncExitStack() as stack:
        started: list[Server] = []
        for number, command in enumerate(commands):
            output = folder / f"{number}.log"
            started.append(
                await stack.enter_async_context(serving(command, settings, emulator, output))
            )
        await put_app(started[0].vault, "oidc")
        yield started


@pytest.fixture(scope="module")
async def pair(
    emulator: Emulator, settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[Server]]:
    folder = tmp_path_factory.mktemp("pair")
    async with servers(emulator, settings, folder, SERVE, SERVE) as started:
        yield started


async def ask_all(servers: list[Server], name: str) -> list[Any]:
    """Ask for the token CALLS times at once, spread evenly over the servers."""
    asked = (servers[number % len(servers)].vault.token(name) for number in range(CALLS))
    return await asyncio.gather(*asked)


async def assert_one_refresh_served_all(
    emulator: Emulator, answers: list[Any], old: str, before: int
) -> None:
    (token,) = {answer.access_token for answer in answers}
    assert len(answers) == CALLS
    assert token != old
    assert await emulator.accepts("oidc", token)
    assert await refresh_calls(emulator, "oidc") == before + 1


async def test_five_hundred_calls_at_two_processes_spend_the_refresh_token_once(
    emulator: Emulator, pair: list[Server]
) -> None:
    credential, old = await just_expired(pair[0].vault, "oidc")
    before = await refresh_calls(emulator, "oidc")

    answers = await ask_all(pair, credential.name)

    await assert_one_refresh_served_all(emulator, answers, old, before)


async def test_five_hundred_calls_wait_for_the_one_refresh_of_a_slow_service(
    emulator: Emulator, pair: list[Server]
) -> None:
    credential, old = await just_expired(pair[0].vault, "oidc")
    before = await refresh_calls(emulator, "oidc")
    await emulator.control("oidc", hang_s=3)

    answers = await ask_all(pair, credential.name)

    await assert_one_refresh_served_all(emulator, answers, old, before)


async def test_a_leader_killed_before_it_sends_is_replaced_when_its_lease_has_run_out(
    emulator: Emulator, settings: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    short = settings | {"FLERO_VAULT_REFRESH_LEASE": "3"}
    async with servers(emulator, short, tmp_path, SERVE, SERVE, (DOOMED,)) as started:
        *living, doomed = started
        credential, old = await just_expired(living[0].vault, "oidc")
        before = await refresh_calls(emulator, "oidc")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await doomed.vault.token(credential.name)
        died_of = await doomed.process.wait()
        sent_by_the_dead = await refresh_calls(emulator, "oidc") - before
        lease_end = (await Rows(database_url).grant(credential.name))["lease_expire_time"]

        answers = await ask_all(living, credential.name)

        journal = (await emulator.counters("oidc"))["log"]
    sent = [line["time"] for line in journal if line["event"] == "refresh.received"][-1]
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert died_of == -signal.SIGKILL
    assert sent_by_the_dead == 0
    assert sent >= lease_end.timestamp()
    await assert_one_refresh_served_all(emulator, answers, old, before)
