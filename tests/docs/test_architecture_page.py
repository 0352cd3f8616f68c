"""Every file and function that the architecture page names is there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.markdown import ROOT

PAGE = ROOT / "docs/architecture.md"
BASES = (ROOT, ROOT / "service/flero_vault")
_CODE = re.compile(r"`([^`\n]+)`")
_REFERENCE = re.compile(r"([\w./-]+\.(?:py|sql|toml|proto|md))(?::([\w.]+))?")
_QUERY = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def references(text: str) -> list[tuple[str, str]]:
    """Return what the page names: a file, and what in it (empty: the file itself)."""
    found = (_REFERENCE.fullmatch(code) for code in _CODE.findall(text))
    return [(match[1], match[2] or "") for match in found if match]


def _bound(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
            yield name
        case ast.Assign(targets):
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        case ast.AnnAssign(ast.Name(name)):
            yield name


def names(path: Path) -> set[str]:
    """Return what a file defines: queries, or functions, classes, methods and constants."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".sql":
        return set(_QUERY.findall(text))
    found: set[str] = set()
    for node in ast.parse(text).body:
        found |= set(_bound(node))
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for inner in node.body for name in _bound(inner)}
    return found


def wrong(text: str) -> list[str]:
    """Return what a page names that is not there."""
    found = []
    for file, name in references(text):
        path = next((base / file for base in BASES if (base / file).is_file()), None)
        if path is None:
            found.append(file)
        elif name and name not in names(path):
            found.append(f"{file}:{name}")
    return found


def test_what_the_page_names_is_there() -> None:
    assert wrong(PAGE.read_text(encoding="utf-8")) == []


def test_the_page_names_the_files_of_both_flows() -> None:
    files = {file for file, _ in references(PAGE.read_text(encoding="utf-8"))}

    assert {
        "api/calls.py", "api/vault.py", "core/tokens.py", "core/refresh.py", "core/authorize.py",
        "core/decisions.py", "core/persist.py", "core/sealing.py", "core/revoke.py",
        "store/postgres.py", "oauth/wire.py", "envelope/keys.py", "server.py",
    } <= files  # fmt: skip


@pytest.mark.parametrize(
    "named",
    [
        "core/gone.py",
        "core/tokens.py:gone",
        "core/tokens.py:Tokens.gone",
        "store/queries/tokens.sql:gone",
    ],
)
def test_what_is_not_there_is_noticed(named: str) -> None:
    assert wrong(f"See `{named}`.") == [named]


@pytest.mark.parametrize(
    "named",
    [
        "core/tokens.py",
        "core/tokens.py:Tokens.get",
        "core/decisions.py:need",
        "core/decisions.py:YOUNG",
        "store/queries/tokens.sql:renew",
        "protos/flero/vault/v1/credential.proto",
    ],
)
def test_what_is_there_is_not(named: str) -> None:
    assert wrong(f"See `{named}`.") == []
