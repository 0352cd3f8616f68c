"""Connections that are kept for reads: none is lost, none is reused with an answer still in it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from tests.refresh.helpers import eventually

from flero_vault.store.held import HeldConnections

WHO = "SELECT pg_backend_pid() AS pid"
SLOWLY = "SELECT pg_backend_pid() AS pid, pg_sleep(0.2)"


class Connections:
    """Makes connections to the test database, and can be told to fail."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self.made = 0
        self.away = False

    async def connect(self) -> Any:
        if self.away:
            raise ConnectionRefusedError
        self.made += 1
        return await asyncpg.connect(self._url, statement_cache_size=0)

    async def run(self, statement: str, *arguments: object) -> Any:
        """Run a statement from outside."""
        connection = await asyncpg.connect(self._url)
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()

    async def end(self, pid: int) -> None:
        """End a session, and wait until its process is gone."""
        await self.run("SELECT pg_terminate_backend($1, 5000)", pid)


@pytest.fixture
def connections(database_url: str) -> Connections:
    return Connections(database_url)


@pytest.fixture(params=[True, False], ids=["prepared", "not prepared"])
async def held(
    connections: Connections, request: pytest.FixtureRequest
) -> AsyncIterator[HeldConnections]:
    held = HeldConnections(connections.connect, size=2, prepared=request.param)
    yield held
    held.close()


async def pid(held: HeldConnections, statement: str = WHO) -> int:
    (row,) = await held.fetch(statement)
    found: int = row["pid"]
    return found


async def test_one_caller_after_the_other_uses_one_connection(
    held: HeldConnections, connections: Connections
) -> None:
    assert len({await pid(held) for _ in range(10)}) == 1
    assert connections.made == 1


async def test_many_callers_at_once_share_the_few_that_there_are(
    held: HeldConnections, connections: Connections
) -> None:
    pids = await asyncio.gather(*[pid(held, SLOWLY) for _ in range(6)])

    assert len(set(pids)) == 2
    assert connections.made == 2


async def test_a_connection_that_died_unnoticed_is_replaced_without_an_error(
    held: HeldConnections, connections: Connections
) -> None:
    old = set(await asyncio.gather(pid(held, SLOWLY), pid(held, SLOWLY)))
    for each in old:
        await connections.end(each)

    assert await pid(held) not in old
    assert connections.made == 3


async def test_a_database_that_is_away_is_an_error_and_its_return_is_noticed(
    held: HeldConnections, connections: Connections
) -> None:
    connections.away = True
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            await pid(held)

    connections.away = False

    assert await pid(held)


async def test_a_caller_that_hangs_up_leaves_no_answer_for_the_next(
    held: HeldConnections, connections: Connections
) -> None:
    first = await pid(held)
    slow = asyncio.create_task(held.fetch("SELECT 0 AS pid, pg_sleep(30)"))

    async def sleeping() -> Any:
        return await connections.run(
            "SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'", first
        )

    await eventually(sleeping)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow

    assert await pid(held) not in {0, first}


async def test_a_statement_that_fails_costs_its_caller_an_error_and_nobody_else(
    held: HeldConnections,
) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        await held.fetch("SELECT 1/0 AS pid")

    assert await pid(held)
