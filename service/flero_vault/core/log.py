"""What the core logs with. Fields are an allow-list in the adapter; values are never secrets."""

from typing import Protocol


class Log(Protocol):
    """A structured log: an event's name and fields that name things."""

    def info(self, event: str, /, **fields: object) -> None:
        """Log what happened."""

    def warning(self, event: str, /, **fields: object) -> None:
        """Log what somebody may have to look at."""

    def exception(self, event: str, /, **fields: object) -> None:
        """Log a fault of ours, with where it happened, not with its message."""
