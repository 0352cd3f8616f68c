"""What the edges are measured with. Absent (None) unless telemetry is switched on, and then free.

Names come from the code: a method, a query, a connector's key. Values never do.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Protocol


class Observation(Protocol):
    """Something under way. `outcome` is a machine-readable word; empty: it went well."""

    outcome: str


class Observer(Protocol):
    """Measures how long things take and how they end."""

    def call(
        self, method: str, metadata: Iterable[tuple[str, str | bytes]]
    ) -> AbstractContextManager[Observation]:
        """Observe a call of `package.Service/Method`, as part of the caller's trace if it has one.

        `metadata` is what the caller sent; only its trace context is read.
        """

    def statement(self, query: str) -> AbstractContextManager[Observation]:
        """Observe a statement or transaction, by its name."""
