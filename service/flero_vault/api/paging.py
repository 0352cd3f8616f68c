"""Page sizes, page tokens and filters (AIP-158, AIP-160)."""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.message import Message

from flero_vault.core.errors import InvalidField, Violation
from flero_vault.core.model import Status
from flero_vault.core.ports import Filter

DEFAULT_SIZE = 50
LARGEST_SIZE = 1000
_TERM = re.compile(r'\s*(\w+)\s*=\s*(?:"([^"]{1,256})"|([^\s"]{1,256}))\s*')
_AND = re.compile(r'\s+AND\s+(?=(?:[^"]*"[^"]*")*[^"]*$)')  # not within quotes


def page_size(asked: int) -> int:
    """Return how many rows a page has."""
    return min(asked or DEFAULT_SIZE, LARGEST_SIZE)


def _digest(request: Message) -> str:
    """Return what must be the same on every page: all but size and token."""
    copy = type(request)()
    copy.CopyFrom(request)
    copy.ClearField("page_size")
    copy.ClearField("page_token")
    return hashlib.sha256(copy.SerializeToString(deterministic=True)).hexdigest()[:16]


def page_token(request: Message, *position: str) -> str:
    """Return a token for the page after this position."""
    text = json.dumps([_digest(request), *position])
    return base64.urlsafe_b64encode(text.encode()).decode()


def position(request: Message, token: str, length: int) -> Sequence[str] | None:
    """Return the position in a page token; None for the first page.

    Raises:
        InvalidField: the token is not ours, or another field changed since.

    """
    if not token:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, binascii.Error, RecursionError):
        found = None
    sound = (
        isinstance(found, list)
        and len(found) == length + 1
        and all(isinstance(part, str) for part in found)
    )
    if not sound or found[0] != _digest(request):
        raise page_token_invalid()
    parts: list[str] = found[1:]
    return parts


def page_token_invalid() -> InvalidField:
    """Return the error for a token that does not continue this list."""
    remedy = "must be the next_page_token of the same request, with every other field unchanged"
    return InvalidField(Violation("page_token", remedy))


def time_and_id(parts: Sequence[str] | None) -> tuple[datetime, UUID] | None:
    """Return the position of a list that is ordered by time and id."""
    if parts is None:
        return None
    try:
        time, last = datetime.fromisoformat(parts[0]), UUID(parts[1])
        if time.tzinfo is None:
            raise page_token_invalid()
        # In UTC it may lie before the first or after the last year, which the database cannot take.
        return time.astimezone(UTC), last
    except (ValueError, OverflowError):
        raise page_token_invalid() from None


def only_id(parts: Sequence[str] | None) -> UUID | None:
    """Return the position of a list that is ordered by id."""
    if parts is None:
        return None
    try:
        return UUID(parts[0])
    except ValueError:
        raise page_token_invalid() from None


def parse_filter(text: str) -> Filter:
    """Return what ListCredentials looks for.

    Raises:
        InvalidField: the filter is not terms of the four fields with `=`, joined by AND.

    """
    remedy = 'must be status, connector, owner, authorized_by with "=", joined by AND'
    found: dict[str, str] = {}
    if text.strip():
        for term in _AND.split(text):
            match = _TERM.fullmatch(term)
            if match is None or match[1] in found or match[1] not in Filter.__dataclass_fields__:
                raise InvalidField(Violation("filter", remedy))
            found[match[1]] = match[2] or match[3]
    status = found.get("status", "").removeprefix("CREDENTIAL_STATUS_")
    if "status" in found and status not in Status.__members__:
        raise InvalidField(Violation("filter", f"status must be one of {', '.join(Status)}"))
    return Filter(
        status=Status(status) if status else None,
        connector=found.get("connector"),
        owner=found.get("owner"),
        authorized_by=found.get("authorized_by"),
    )
