"""The log drops what is not on its list, and never writes an exception's message."""

import json
import subprocess
import sys
from typing import Any

import pytest

from flero_vault.logs import FIELDS

PROGRAM = """
from flero_vault import logs
log = logs.configure(json={json})
{body}
"""
FAILING = """
def spend(token):
    raise ValueError(f"refused {token}") from KeyError(token)
try:
    spend("planted")
except ValueError:
    log.exception("refresh.failed", grant="g1", token="planted")
"""


def logged(body: str, *, as_json: bool = True) -> str:
    """Return what a program's log says; its own process, because a log is set up once."""
    program = PROGRAM.format(json=as_json, body=body)
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == ""
    return done.stderr


def lines(body: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged(body).splitlines()]


def test_fields_that_are_not_on_the_list_are_dropped() -> None:
    (line,) = lines("log.info('x.y', grant='g1', token='planted', url='planted', user='planted')")
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "x.y", "level": "info", "grant": "g1"}


def test_every_field_of_the_list_is_written() -> None:
    free = sorted(FIELDS - {"event", "level", "timestamp"})
    (line,) = lines(f"log.warning('x.y', **dict.fromkeys({free!r}, 'v'))")
    assert set(line) == FIELDS


def test_no_field_of_the_list_is_named_after_a_secret() -> None:
    secret = {"token", "secret", "code_verifier", "state", "url", "message", "user", "email"}
    assert not FIELDS & secret


def test_an_exception_is_logged_as_its_type_and_place_without_its_message() -> None:
    text = logged(FAILING)
    (line,) = [json.loads(part) for part in text.splitlines()]
    assert line["exception"] == "ValueError"
    assert line["where"][-1].endswith(" spend")
    assert line["level"] == "error"
    assert "planted" not in text


def test_a_terminal_gets_no_message_either() -> None:
    text = logged(FAILING, as_json=False)
    assert "refresh.failed" in text
    assert "ValueError" in text
    assert "planted" not in text


def test_a_secret_that_is_logged_by_mistake_shows_nothing() -> None:
    body = "from flero_vault.core.secret import Secret\nlog.info('x.y', grant=Secret('planted'))"
    assert "planted" not in logged(body)


@pytest.mark.parametrize("name", ["httpx", "httpcore", "alembic", "asyncio"])
def test_libraries_that_log_urls_and_messages_are_silent(name: str) -> None:
    body = f"import logging\nlogging.getLogger('{name}.part').error('GET https://x/?code=planted')"
    assert logged(body) == ""
