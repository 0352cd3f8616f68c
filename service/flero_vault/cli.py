"""The command `flero-vault`.

Exit codes: 0 ok, 1 refused, 2 usage, 3 unreachable. What a command cannot do is one line on
stderr that names the setting and the remedy.
"""

from types import ModuleType

import click

from flero_vault import __version__
from flero_vault.commands.completion import completion
from flero_vault.commands.connectors import connectors
from flero_vault.commands.credentials import credentials
from flero_vault.commands.exits import EXITS


def _server() -> ModuleType:
    """Return what the server's commands do, loaded now: the others start without its libraries."""
    from flero_vault.commands import server  # noqa: PLC0415

    return server


@click.group(epilog=EXITS)
@click.version_option(__version__)
def main() -> None:
    """Run the Flero credential vault, or ask it."""


main.add_command(completion)
main.add_command(connectors)
main.add_command(credentials)


@main.command()
def serve() -> None:
    """Serve gRPC. Needs FLERO_VAULT_DATABASE_URL and FLERO_VAULT_KEK."""
    _server().serve()


@main.command()
def migrate() -> None:
    """Bring the database to this version's schema. Safe to start from several replicas."""
    _server().migrate()


@main.command()
def dev() -> None:
    """Run everything here: database, key, vault, emulated services, dialog."""
    _server().dev()


@main.command()
@click.option("--target", default="127.0.0.1:50051", show_default=True, help="The vault's gRPC.")
@click.option("--web", default="http://127.0.0.1:8080", show_default=True, help="The dialog.")
@click.option(
    "--emulator", default="http://localhost:9400", show_default=True, help="Emulated services."
)
def smoke(target: str, web: str, emulator: str) -> None:
    """Walk the whole life cycle against a running `flero-vault dev`."""
    _server().smoke(target, web, emulator)


if __name__ == "__main__":
    # Not what Python was started with: a completion script calls the command by this name.
    main(prog_name="flero-vault")
