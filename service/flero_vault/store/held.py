"""Connections for the one read that is asked for many times a second.

A pool resets a connection after each use, which is a second round trip. Here a few connections are
kept for statements that leave no state behind: each statement is prepared once a connection, and
the connection used last is used next, so that a quiet process keeps few of them busy.

    held = HeldConnections(connect, size=4)
    rows = await held.fetch(sql, workspace, ids)

A connection that fails is dropped. A call that got a connection which had died while nobody looked
is tried once more on a new one; the statements are reads, so twice is as good as once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg


class _Held:
    """A connection and its prepared statements."""

    def __init__(self, connection: Any, *, prepared: bool) -> None:
        self._connection = connection
        self._prepared = prepared
        self._statements: dict[str, Any] = {}

    async def fetch(self, sql: str, *arguments: object) -> Any:
        if not self._prepared:
            return await self._connection.fetch(sql, *arguments)
        statement = self._statements.get(sql)
        if statement is None:
            statement = self._statements[sql] = await self._connection.prepare(sql)
        return await statement.fetch(*arguments)

    def terminate(self) -> None:
        self._connection.terminate()


class HeldConnections:
    """At most `size` connections, made when they are needed. `connect` makes one."""

    def __init__(self, connect: Callable[[], Awaitable[Any]], *, size: int, prepared: bool) -> None:
        self._connect = connect
        self._prepared = prepared
        self._free = asyncio.Semaphore(size)
        self._idle: list[_Held] = []

    async def fetch(self, sql: str, *arguments: object) -> Any:
        """Run a read that leaves no state in its session; return its rows.

        Raises:
            What asyncpg raises.

        """
        async with self._free:
            while self._idle:
                held = self._idle.pop()
                try:
                    return await self._fetch(held, sql, *arguments)
                except (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError):
                    # It may have died long ago, and the others with it.
                    continue
            held = _Held(await self._connect(), prepared=self._prepared)
            return await self._fetch(held, sql, *arguments)

    async def _fetch(self, held: _Held, sql: str, *arguments: object) -> Any:
        try:
            rows = await held.fetch(sql, *arguments)
        except BaseException:
            # Also when the caller has hung up: the answer of its statement is still on the way.
            held.terminate()
            raise
        self._idle.append(held)
        return rows

    def close(self) -> None:
        """Let every connection go. Call it when nothing is under way."""
        while self._idle:
            self._idle.pop().terminate()
