"""The command `flero-vault`.

Exit codes: 0 ok, 1 refused, 2 usage, 3 unreachable. What a command cannot do is one line on
stderr that names the setting and the remedy.
"""

import asyncio
import importlib
import signal
import sys
from collections.abc import Awaitable, Callable
from types import ModuleType

import click

from flero_vault import __version__, logs, settings
from flero_vault.api.server import CannotBind
from flero_vault.core.errors import Unavailable
from flero_vault.envelope.local import KeyringRefused
from flero_vault.migrations import runner
from flero_vault.oauth.catalogue import ConnectorFilesInvalid
from flero_vault.server import running
from flero_vault.store.postgres import DatabaseRefused, SchemaUnknown

REFUSED = 1
UNREACHABLE = 3


def fail(message: str, code: int = REFUSED) -> None:
    """End the command with one line."""
    click.echo(f"flero-vault: {message}", err=True)
    sys.exit(code)


def _settings() -> tuple[settings.Settings, settings.Otlp]:
    try:
        return settings.load(), settings.otlp()
    except settings.SettingsInvalid as error:
        for problem in error.problems:
            click.echo(f"flero-vault: {problem}", err=True)
        sys.exit(REFUSED)


Stopped = Callable[[], Awaitable[object]]
"""Waits for SIGINT or SIGTERM."""


def run(main: Callable[[Stopped], Awaitable[int]]) -> None:
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


def development() -> ModuleType:
    """Return the module of the development commands, which the extra [dev] brings."""
    try:
        return importlib.import_module("flero_vault_dev.commands")
    except ModuleNotFoundError as error:
        fail(f"this command needs the extra [dev] (missing: {error.name})")
        raise


@click.group()
@click.version_option(__version__)
def main() -> None:
    """Run the Flero credential vault, or ask it."""


@main.command()
def serve() -> None:
    """Serve gRPC. Needs FLERO_VAULT_DATABASE_URL and FLERO_VAULT_KEK."""
    chosen, otlp = _settings()
    if not chosen.database_url.get_secret_value():
        fail("FLERO_VAULT_DATABASE_URL must be set (`flero-vault dev` brings its own database)")
    if not chosen.kek:
        fail("FLERO_VAULT_KEK must be set, for example local:/var/lib/flero-vault/keyring.json")
    log = logs.configure(json=chosen.log_format == "json")

    async def serving(stopped: Stopped) -> int:
        async with running(chosen, log, otlp=otlp):
            click.echo("ready")
            await stopped()
        return 0

    run(serving)


@main.command()
def migrate() -> None:
    """Bring the database to this version's schema. Safe to start from several replicas."""
    url = _settings()[0].database_url.get_secret_value()
    if not url:
        fail("FLERO_VAULT_DATABASE_URL must be set")
    try:
        runner.migrate(url)
    except OSError:
        fail("the database of FLERO_VAULT_DATABASE_URL cannot be reached", UNREACHABLE)
    except Exception:  # noqa: BLE001 - whatever is wrong with the URL, its text holds the password
        fail(str(DatabaseRefused()))


@main.command()
def dev() -> None:
    """Run everything here: database, key, vault, emulated services, dialog."""
    commands = development()
    chosen, otlp = _settings()
    log = logs.configure(json=chosen.log_format == "json")
    run(lambda stopped: commands.dev(chosen, otlp, log, click.echo, stopped))


@main.command()
@click.option("--target", default="127.0.0.1:50051", show_default=True, help="The vault's gRPC.")
@click.option("--web", default="http://127.0.0.1:8080", show_default=True, help="The dialog.")
@click.option(
    "--emulator", default="http://localhost:9400", show_default=True, help="Emulated services."
)
def smoke(target: str, web: str, emulator: str) -> None:
    """Walk the whole life cycle against a running `flero-vault dev`."""
    commands = development()
    sys.exit(asyncio.run(commands.smoke(target, web, emulator, click.echo)))


if __name__ == "__main__":
    main()
