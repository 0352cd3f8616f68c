"""Holds the layout of docs/adr/0001-layout.md by walking the imports, and proves each rule."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import flero_vault_client

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {
    "flero_vault.migrations": ROOT / "migrations",
    "flero_vault": ROOT / "service" / "flero_vault",
    "flero_vault_dev": ROOT / "service" / "flero_vault_dev",
    "flero_vault_client": ROOT / "client" / "flero_vault_client",
}
GENERATED = "flero_vault_client.v1"
"""Left out: protoc writes it."""

DOORS = {
    "grpc": {"flero_vault.api"},
    "grpc_health": {"flero_vault.api"},
    "grpc_reflection": {"flero_vault.api"},
    "grpc_status": {"flero_vault.api"},
    "asyncpg": {"flero_vault.store"},
    "httpx": {"flero_vault.oauth"},
    "joserfc": {"flero_vault.oauth"},
    "pydantic": {"flero_vault.oauth", "flero_vault.settings"},
    "pydantic_settings": {"flero_vault.settings"},
    "cryptography": {"flero_vault.envelope"},
    "structlog": {"flero_vault.logs"},
    "opentelemetry": {"flero_vault.telemetry"},
    "alembic": {"flero_vault.migrations"},
    "sqlalchemy": {"flero_vault.migrations"},
}
"""A technology, and the only parts of the service that may import it."""

ADAPTERS = ("api", "store", "oauth", "envelope")
INWARD = {
    "flero_vault.settings": set[str](),
    "flero_vault.logs": {"flero_vault.core"},
    "flero_vault.telemetry": {
        "flero_vault.core",
        "flero_vault.settings",
        "flero_vault.__version__",
    },
    **{f"flero_vault.{name}": {"flero_vault.core"} for name in ADAPTERS},
}
"""A part, and what else of the service it may import: dependencies point one way."""

COMMANDS = "flero_vault.commands"
RUNS_THE_VAULT = "flero_vault.commands.server"
"""The one part of the commands that is not a client like any other."""
PUBLIC = {f"flero_vault_client.{name}" for name in flero_vault_client.__all__}

CLOCKS = {"datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today",
          "datetime.date.today", "time.time", "time.time_ns"}  # fmt: skip
ENVIRONMENT = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv", "os.unsetenv"}
IMPORTERS = {"importlib.import_module", "__import__", "builtins.__import__"}


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


class Names(ast.NodeVisitor):
    """Collects what a module imports, and the dotted names that it uses, as they really are."""

    def __init__(self, module: str, *, is_package: bool) -> None:
        self.imports: list[tuple[int, str]] = []
        self.uses: list[tuple[int, str]] = []
        self.texts: list[tuple[int, str]] = []
        self._bound: dict[str, str] = {}
        self._package = module if is_package else module.rpartition(".")[0]

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.imports.append((node.lineno, alias.name))
            top = alias.name.partition(".")[0]
            self._bound[alias.asname or top] = alias.name if alias.asname else top

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            parents = self._package.split(".")
            base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [base])])
        for alias in node.names:
            whole = f"{base}.{alias.name}"
            self.imports.append((node.lineno, whole))
            self.uses.append((node.lineno, whole))
            self._bound[alias.asname or alias.name] = whole

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._use(node)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        self._use(node)

    def visit_Call(self, node: ast.Call) -> None:
        if self._dotted(node.func) in IMPORTERS:
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    self.texts.append((node.lineno, argument.value))
                else:
                    self.texts.append((node.lineno, "?"))
        self.generic_visit(node)

    def _use(self, node: ast.expr) -> None:
        name = self._dotted(node)
        if name:
            self.uses.append((node.lineno, name))

    def _dotted(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return self._bound.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            head = self._dotted(node.value)
            return f"{head}.{node.attr}" if head else ""
        return ""


def offences(module: str, source: str, *, is_package: bool = False) -> Iterator[str]:
    """Yield a line for everything in a module that breaks a rule of the layout."""
    names = Names(module, is_package=is_package)
    names.visit(ast.parse(source))
    for line, imported in names.imports:
        for why in import_offences(module, imported):
            yield f"{module}:{line} imports {imported}: {why}"
    for line, imported in names.texts:
        if within(module, "flero_vault"):
            if imported == "?" or not within(imported, "flero_vault_dev"):
                yield f"{module}:{line} imports {imported}: by name, only flero_vault_dev"
            elif module != RUNS_THE_VAULT:
                yield f"{module}:{line} imports {imported}: that does only {RUNS_THE_VAULT}"
    for line, used in names.uses:
        for why in use_offences(module, used):
            yield f"{module}:{line} uses {used}: {why}"


def import_offences(module: str, imported: str) -> Iterator[str]:
    top = imported.partition(".")[0]
    if within(module, "flero_vault_client"):
        if top in {"flero_vault", "flero_vault_dev"}:
            yield "the client never imports the service"
        return
    if not within(module, "flero_vault"):
        return
    if within(module, "flero_vault.core") and not (
        within(imported, "flero_vault.core") or top in sys.stdlib_module_names
    ):
        yield "core imports only the standard library and core"
    if top in DOORS and not any(within(module, door) for door in DOORS[top]):
        yield f"{top} belongs to {', '.join(sorted(DOORS[top]))}"
    if top == "flero_vault_dev":
        yield "nothing imports flero_vault_dev"
    if within(module, COMMANDS) and module != RUNS_THE_VAULT:
        yield from command_offences(imported)
    elif top == "flero_vault_client" and not within(imported, GENERATED):
        yield "of the client, only the generated stubs"
    if top == "flero_vault":
        yield from outward(module, imported)


def command_offences(imported: str) -> Iterator[str]:
    top = imported.partition(".")[0]
    if top == "flero_vault_client" and imported not in PUBLIC:
        yield "commands ask the vault through the public names of its client"
    if top == "flero_vault" and (
        not within(imported, COMMANDS) or within(imported, RUNS_THE_VAULT)
    ):
        yield "commands that ask a vault need no part of a server"


def outward(module: str, imported: str) -> Iterator[str]:
    for part, allowed in INWARD.items():
        if within(module, part) and not any(within(imported, o) for o in {part, *allowed}):
            yield f"{part} imports of the service only {sorted(allowed)}"


def use_offences(module: str, used: str) -> Iterator[str]:
    if within(module, "flero_vault.core") and used in CLOCKS:
        yield "core gets the time as an argument"
    if within(module, "flero_vault") and module != "flero_vault.settings" and used in ENVIRONMENT:
        yield "only settings read the environment"


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join([package, *(part for part in parts if part != "__init__")])
            if not within(name, GENERATED):
                yield name, path


def found_in(module: str, source: str) -> list[str]:
    return list(offences(module, source))


def test_every_module_keeps_to_the_layout() -> None:
    found = [
        offence
        for name, path in modules()
        for offence in offences(
            name, path.read_text(encoding="utf-8"), is_package=path.name == "__init__.py"
        )
    ]
    assert found == []


def test_the_walk_sees_every_part_of_the_layout() -> None:
    seen = {name for name, _ in modules()}
    parts = {
        "flero_vault.core.decisions", "flero_vault.api.server", "flero_vault.store.postgres",
        "flero_vault.oauth.transport", "flero_vault.envelope.format", "flero_vault.settings",
        "flero_vault.logs", "flero_vault.cli", "flero_vault.migrations.env",
        "flero_vault.commands.server", "flero_vault.commands.credentials",
        "flero_vault_dev.commands", "flero_vault_client.web",
    }  # fmt: skip
    assert parts <= seen


def test_a_door_that_nobody_uses_is_taken_off_the_list() -> None:
    used: set[tuple[str, str]] = set()
    for name, path in modules():
        names = Names(name, is_package=path.name == "__init__.py")
        names.visit(ast.parse(path.read_text(encoding="utf-8")))
        for _, imported in names.imports:
            top = imported.partition(".")[0]
            used |= {(top, door) for door in DOORS.get(top, ()) if within(name, door)}
    assert used == {(top, door) for top, doors in DOORS.items() for door in doors}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("flero_vault.core.tokens", "import httpx"),
        ("flero_vault.core.tokens", "import google.protobuf"),
        ("flero_vault.core.tokens", "from flero_vault.store import rows"),
        ("flero_vault.core.tokens", "from ..store import rows"),
        ("flero_vault.core.tokens", "from flero_vault import settings"),
        ("flero_vault.core.tokens", "def f():\n    import structlog"),
        ("flero_vault.core.tokens", "if TYPE_CHECKING:\n    import grpc"),
        ("flero_vault.core.tokens", "from flero_vault_client.v1 import credential_pb2"),
    ],
)
def test_core_that_imports_more_than_the_standard_library_is_caught(
    module: str, source: str
) -> None:
    assert found_in(module, source)


@pytest.mark.parametrize("technology", sorted(DOORS))
def test_a_technology_is_caught_outside_of_its_door(technology: str) -> None:
    assert found_in("flero_vault.server", f"import {technology}")
    assert found_in("flero_vault.server", f"import {technology}.part as other")
    assert found_in("flero_vault.server", f"from {technology}.part import thing")
    for other in ("api", "store", "oauth", "envelope", "logs", "settings", "migrations"):
        module = f"flero_vault.{other}"
        caught = bool(found_in(module, f"from {technology} import thing"))
        assert caught == (module not in DOORS[technology])


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.environ['FLERO_VAULT_KEK']",
        "import os\nos.getenv('HOME')",
        "import os as system\nsystem.environ.get('HOME')",
        "from os import environ",
        "from os import getenv as get",
    ],
)
def test_reading_the_environment_is_caught_outside_of_settings(source: str) -> None:
    assert found_in("flero_vault.cli", source)
    assert not found_in("flero_vault.settings", source)


@pytest.mark.parametrize("one", ADAPTERS)
@pytest.mark.parametrize("other", ADAPTERS)
def test_an_adapter_that_imports_another_is_caught(one: str, other: str) -> None:
    module = f"flero_vault.{one}.part"
    assert bool(found_in(module, f"from flero_vault.{other} import x")) == (one != other)
    assert bool(found_in(module, f"from flero_vault import {other}")) == (one != other)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("outer", ["server", "cli", "settings", "logs", "process"])
def test_an_adapter_that_imports_what_wires_it_is_caught(adapter: str, outer: str) -> None:
    assert found_in(f"flero_vault.{adapter}.part", f"from flero_vault.{outer} import x")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("flero_vault.cli", "import flero_vault_dev.commands"),
        ("flero_vault.cli", "from flero_vault_dev import commands"),
        ("flero_vault.commands.server", "from flero_vault_dev import commands"),
        ("flero_vault.cli", "import importlib\nimportlib.import_module('flero_vault_dev.x')"),
        ("flero_vault.server", "import importlib\nimportlib.import_module('flero_vault_dev.x')"),
        ("flero_vault.server", "__import__('flero_vault_dev.x')"),
    ],
)
def test_the_service_that_imports_its_development_tools_is_caught(module: str, source: str) -> None:
    assert found_in(module, source)


def test_one_command_module_may_reach_the_development_tools_by_name() -> None:
    source = "import importlib\nimportlib.import_module('flero_vault_dev.commands')"
    assert not found_in("flero_vault.commands.server", source)


@pytest.mark.parametrize("name", ["'httpx'", "name", "'flero_vault_' + 'dev'"])
def test_an_import_by_name_that_would_hide_from_the_rules_is_caught(name: str) -> None:
    source = f"from importlib import import_module as load\nload({name})"
    assert found_in("flero_vault.commands.server", source)


@pytest.mark.parametrize(
    "source",
    [
        "import grpc",
        "import flero_vault_client",
        "from flero_vault_client import _client",
        "from flero_vault_client._client import VaultClient",
        "from flero_vault_client.v1 import credential_pb2",
        "from flero_vault_client.testing import FakeVault",
        "from flero_vault.core.model import Credential",
        "from flero_vault import settings",
        "from flero_vault.commands import server",
        "def f():\n    from flero_vault.commands.server import serve",
    ],
)
def test_a_client_command_that_goes_past_the_client_is_caught(source: str) -> None:
    assert found_in("flero_vault.commands.credentials", source)


def test_a_client_command_may_use_the_public_client_and_its_siblings() -> None:
    source = "from flero_vault_client import VaultClient\nfrom flero_vault.commands import output"
    assert not found_in("flero_vault.commands.credentials", source)
    assert found_in("flero_vault.cli", "from flero_vault_client import VaultClient")


@pytest.mark.parametrize("package", ["flero_vault", "flero_vault.core.secret", "flero_vault_dev"])
def test_a_client_that_imports_the_service_is_caught(package: str) -> None:
    assert found_in("flero_vault_client.web.page", f"import {package}")
    assert not found_in("flero_vault_client.web.page", "from flero_vault_client.v1 import x")


def test_a_service_that_imports_more_of_the_client_than_its_stubs_is_caught() -> None:
    assert found_in("flero_vault.api.vault", "from flero_vault_client.web import callback_routes")
    assert found_in("flero_vault.api.vault", "from flero_vault_client import web")
    assert not found_in("flero_vault.api.vault", "from flero_vault_client.v1 import vault_pb2")
    assert not found_in("flero_vault.api.vault", "from flero_vault_client import v1")


@pytest.mark.parametrize(
    "source",
    [
        "from datetime import datetime\ndatetime.now()",
        "from datetime import UTC, datetime as dt\ndt.now(UTC)",
        "import datetime\ndatetime.datetime.utcnow()",
        "import datetime as d\nd.date.today()",
        "import time\ntime.time()",
        "from time import time",
        "from time import time as now\nnow()",
        "import datetime\nclock = datetime.datetime.now",
    ],
)
def test_core_that_reads_a_clock_is_caught(source: str) -> None:
    assert found_in("flero_vault.core.decisions", source)


def test_core_may_use_the_standard_library_and_itself() -> None:
    source = (
        "import hmac\nfrom datetime import datetime, timedelta\n"
        "from flero_vault.core.model import Grant\nfrom . import model\n"
        "async def f(clock):\n    return clock.monotonic(), datetime.fromisoformat('')"
    )
    assert found_in("flero_vault.core.decisions", source) == []
