"""The commands that run the vault, and those that need the extra [dev].

What a command cannot do is one line on stderr that names the setting and the remedy.
"""

import asyncio
import importlib
import signal
import sys
from collections.abc import Awaitable, Callable
from types import ModuleType

import click

from flero_vault import logs, settings
from flero_vault.api.server import CannotBind
from flero_vault.commands.exits import REFUSED, UNREACHABLE, fail
from flero_vault.core.errors import Unavailable
from flero_vault.envelope.local import KeyringRefused
from flero_vault.migrations import runner
from flero_vault.oauth.catalogue import ConnectorFilesInvalid
from flero_vault.process import settle_memory
from flero_vault.server import running
from flero_vault.store.postgres import DatabaseRefused, SchemaUnknown


def _settings() -> tuple[settings.Settings, settings.Otlp]:
    try:
        return settings.load(), settings.otlp()
    except settings.SettingsInvalid as error:
        for problem in error.problems:
            click.echo(f"flero-vault: {problem}", err=True)
        sys.exit(REFUSED)


Stopped = Callable[[], Awaitable[object]]
"""Waits for SIGINT or SIGTERM."""


def _run(main: Callable[[Stopped], Awaitable[int]]) -> None:
    """Run a server command, turning what it cannot do into a line and an exit code."""

    async def entry() -> int:
        # Before anything starts: a signal in the moment of `ready` must stop it cleanly too.
        stopped = asyncio.Event()
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, stopped.set)
        return await main(stopped.wait)

    try:
        sys.exit(asyncio.run(entry()))
    except CannotBind as error:
        fail(f"the address {error} is taken or not ours: change FLERO_VAULT_GRPC_BIND")
    except (ConnectorFilesInvalid, DatabaseRefused, KeyringRefused, SchemaUnknown) as error:
        fail(str(error))
    except Unavailable as error:
        fail(error.message, UNREACHABLE)


def _development() -> ModuleType:
    """Return the module of the development commands, which the extra [dev] brings."""
    try:
        return importlib.import_module("flero_vault_dev.commands")
    except ModuleNotFoundError as error:
        fail(f"this command needs the extra [dev] (missing: {error.name})")


def serve() -> None:
    """Serve gRPC until a signal comes."""
    chosen, otlp = _settings()
    if not chosen.database_url.get_secret_value():
        fail("FLERO_VAULT_DATABASE_URL must be set (`flero-vault dev` brings its own database)")
    if not chosen.kek:
        fail("FLERO_VAULT_KEK must be set, for example local:/var/lib/flero-vault/keyring.json")
    log = logs.configure(json=chosen.log_format == "json")

    async def serving(stopped: Stopped) -> int:
        async with running(chosen, log, otlp=otlp):
            settle_memory()
            click.echo("ready")
            await stopped()
        return 0

    _run(serving)


def migrate() -> None:
    """Bring the database to this version's schema."""
    url = _settings()[0].database_url.get_secret_value()
    if not url:
        fail("FLERO_VAULT_DATABASE_URL must be set")
    try:
        runner.migrate(url)
    except OSError:
        fail("the database of FLERO_VAULT_DATABASE_URL cannot be reached", UNREACHABLE)
    except Exception:  # noqa: BLE001 - whatever is wrong with the URL, its text holds the password
        fail(str(DatabaseRefused()))


def dev() -> None:
    """Run everything here until a signal comes."""
    commands = _development()
    chosen, otlp = _settings()
    log = logs.configure(json=chosen.log_format == "json")
    _run(lambda stopped: commands.dev(chosen, otlp, log, click.echo, stopped))


def smoke(target: str, web: str, emulator: str) -> None:
    """Walk the whole life cycle."""
    commands = _development()
    sys.exit(asyncio.run(commands.smoke(target, web, emulator, click.echo)))
