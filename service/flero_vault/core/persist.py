"""Holding on to an answer that cannot be fetched again, while it cannot be stored."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from flero_vault.core.log import Log
from flero_vault.core.ports import Clock

Stored = TypeVar("Stored")


@dataclass(frozen=True, slots=True)
class Persistence:
    """Tries until it is stored. The answer lies in memory only for as long as `patience`."""

    clock: Clock
    log: Log
    patience: timedelta = timedelta(seconds=60)
    pause: timedelta = timedelta(milliseconds=250)

    async def store(self, do: Callable[[], Awaitable[Stored]]) -> Stored:
        """Do it until it succeeds, whatever fails: what was spent for it cannot be spent again.

        Raises:
            Exception: what it failed with last, when patience is over.

        """
        end = self.clock.monotonic() + self.patience.total_seconds()
        while True:
            try:
                return await do()
            except Exception:
                if self.clock.monotonic() >= end:
                    raise
                self.log.exception("answer.not_stored_yet")
            await asyncio.sleep(self.pause.total_seconds())
