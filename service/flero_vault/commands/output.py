"""What the vault answered, for people and for programs.

- JSON has the names of the protos. What the vault leaves unsaid is null; times are RFC 3339 in UTC.
- Tables fit in 100 columns, whatever the terminal, so that what is piped looks the same. Only what
  one copies (names, URLs) is never cut or broken.
"""

import json
import os
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Final

import click

WIDTH: Final = 100
GAP: Final = "  "


def emit(text: str) -> None:
    """Print; end the command when nobody reads any more."""
    try:
        click.echo(text)
    except BrokenPipeError:
        # As `| head` does, having seen enough. Without the detour the interpreter would complain
        # about the same pipe once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


# Programs


def document(value: object) -> str:
    """Return a value of the client as one line of JSON."""
    return json.dumps(plain(value))


def pretty(value: object) -> str:
    """Return a value of the client as a JSON document that people can read too."""
    return json.dumps(plain(value), indent=2)


def plain(value: object) -> object:
    """Return a value of the client as JSON knows values."""
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return stamp(value)
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.9f}".rstrip("0").rstrip(".") + "s"
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(each) for each in value]
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    return value


def stamp(time: datetime) -> str:
    """Return a time as RFC 3339 writes it in UTC."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


# People


def printable(text: str) -> str:
    """Return text that cannot move a terminal's cursor: services choose some of it."""
    return "".join(
        each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in text
    )


def when(time: datetime | None, precision: str = "minutes") -> str:
    """Return a time as people read it, in UTC."""
    if time is None:
        return ""
    return time.astimezone(UTC).isoformat(" ", precision).replace("+00:00", "Z")


def how_long(span: timedelta | None) -> str:
    """Return a length of time in the largest unit that fits."""
    if span is None:
        return "unknown"
    seconds = int(span.total_seconds())
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length and seconds % length == 0:
            return _many(seconds // length, unit)
    return _many(seconds, "second")


def _many(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def _columns(text: str) -> int:
    """Return how many columns of a terminal text takes."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1
        for each in text
    )


def _cut(text: str, columns: int) -> str:
    if _columns(text) <= columns:
        return text
    while _columns(text) > columns - 1:
        text = text[:-1]
    return f"{text}…"


def lines(rows: Sequence[Sequence[str]], widest: Sequence[int]) -> Iterator[str]:
    """Yield rows with their cells under each other, each cut where it is wider than `widest`."""
    cells = [
        [
            _cut(printable(cell).replace("\n", " "), most)
            for cell, most in zip(row, widest, strict=True)
        ]
        for row in rows
    ]
    widths = [max(map(_columns, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (
            cell + " " * (width - _columns(cell)) for cell, width in zip(row, widths, strict=True)
        )
        yield GAP.join(padded).rstrip()


def wrapped(text: str, indent: int, first: str = "") -> list[str]:
    """Return lines of text behind an indent; `first` stands in the indent of the first line."""
    parts = textwrap.wrap(
        printable(text), WIDTH - indent, break_long_words=False, break_on_hyphens=False
    )
    heads = [first + " " * (indent - _columns(first))]
    return [head + part for head, part in zip_longest(heads, parts or [""], fillvalue=" " * indent)]


def facts(pairs: Iterable[tuple[str, str | Sequence[str]]]) -> str:
    """Return labels and what belongs to each; a label with nothing is left out."""
    known = [
        (label, [value] if isinstance(value, str) else list(value))
        for label, value in pairs
        if value
    ]
    indent = max(len(label) for label, _ in known) + len(GAP)
    return "\n".join(
        line
        for label, values in known
        for at, value in enumerate(values)
        for line in wrapped(value, indent, label if at == 0 else "")
    )
