"""The log: structured, to stderr, with an allow-list of fields. The only importer of structlog.

- A field that is not on the list is dropped, so a new one has to be thought about here.
- An exception is logged as its type and where it was raised; its message could hold anything.
"""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

import structlog

from flero_vault.core.log import Log

FIELDS = frozenset(
    {
        "event", "level", "timestamp", "exception", "where",
        "address", "cause", "code", "component", "connector", "credential", "delivery", "doubt",
        "generation", "grant", "outcome", "process", "reason", "rpc", "stored", "trace", "tries",
        "verdict", "workspace",
    }
)  # fmt: skip

Event = MutableMapping[str, Any]


def _only_allowed(_logger: object, _method: str, event: Event) -> Event:
    return {key: value for key, value in event.items() if key in FIELDS}


def _exception_without_message(_logger: object, _method: str, event: Event) -> Event:
    if event.pop("exc_info", None):
        kind, error, trace = sys.exc_info()
        if kind is not None and error is not None:
            frames = traceback.extract_tb(trace)
            event["exception"] = kind.__qualname__
            event["where"] = [f"{f.filename}:{f.lineno} {f.name}" for f in frames[-5:]]
    return event


def configure(*, json: bool) -> Log:
    """Set the log up and return it; `json` False: for a person's terminal."""
    # Libraries log URLs and messages of their own; only their complaints are of interest, and
    # those of HTTP clients not even then.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
    for name in ("httpx", "httpcore", "alembic", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    renderer: Any = (
        structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _exception_without_message,
            _only_allowed,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    log: Log = structlog.get_logger()
    return log
