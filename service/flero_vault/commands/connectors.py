"""`flero-vault connectors`: which services a deployment can connect to, and how to set one up."""

from collections.abc import Iterator
from typing import Final

import click

from flero_vault.commands.exits import EXITS
from flero_vault.commands.output import emit, facts, how_long, lines, pretty
from flero_vault.commands.target import Asker, AskingCommand, workspace_name
from flero_vault_client import ConnectionParam, Connector, VaultClient, Verification

HEAD: Final = ("CONNECTOR", "SERVICE", "OAUTH APP", "VERIFIED BY", "DEFAULT SCOPES")
WIDEST: Final = (20, 20, 14, 11, 27)
APP: Final = {True: "registered", False: "not registered"}
KNOWN: Final = {
    Verification.VENDOR: "the vendor's own documentation",
    Verification.METADATA: "the server's published metadata",
    Verification.SECONDHAND: "somebody else's documentation or code",
    Verification.UNSPECIFIED: "unknown",
}


@click.group(epilog=EXITS)
def connectors() -> None:
    """See which services the vault can connect to."""


_workspace = click.option(
    "--workspace",
    callback=workspace_name,
    help="Whose OAuth apps count, such as acme; without it the deployment's.",
)


@connectors.command("list", cls=AskingCommand)
@_workspace
@click.pass_obj
def list_(asker: Asker, workspace: str) -> None:
    """List the connectors.

    \b
    Example:
      flero-vault connectors list --workspace acme
    """  # noqa: D301 - click keeps the lines of a paragraph that begins so

    async def found(vault: VaultClient) -> list[Connector]:
        return [each async for each in vault.list_connectors(workspace)]

    answer = asker.ask(found)
    if asker.as_json:
        emit(pretty({"connectors": answer}))
    else:
        rows = [
            (
                each.key,
                each.display_name,
                APP[each.configured],
                each.verification,
                " ".join(each.default_scopes),
            )
            for each in answer
        ]
        emit("\n".join(lines([HEAD, *rows], WIDEST)))


@connectors.command(cls=AskingCommand)
@click.argument("name", metavar="KEY", help="The connector, such as slack.")
@_workspace
@click.pass_obj
def show(asker: Asker, name: str, workspace: str) -> None:
    """Show one connector: what it may do, and how to register its OAuth app.

    \b
    Example:
      flero-vault connectors show slack
    """  # noqa: D301 - click keeps the lines of a paragraph that begins so
    resource = f"connectors/{name.removeprefix('connectors/')}"
    connector = asker.ask(lambda vault: vault.get_connector(resource, parent=workspace))
    emit(pretty(connector) if asker.as_json else _facts(connector))


def _facts(connector: Connector) -> str:
    return facts(
        [
            ("connector", connector.key),
            ("service", connector.display_name),
            ("OAuth app", APP[connector.configured]),
            ("redirect URI", connector.redirect_uri),
            ("setup", [f"{at}. {step}" for at, step in enumerate(connector.setup_steps, 1)]),
            ("approval", connector.admin_approval),
            ("permissions", list(_permissions(connector))),
            ("parameters", [_parameter(each) for each in connector.connection_params]),
            ("grants", connector.slots if len(connector.slots) > 1 else ""),
            ("access token lives", how_long(connector.access_token_lifetime)),
            ("unused refresh token lives", how_long(connector.refresh_token_idle_lifetime)),
            ("manage at", connector.manage_url),
            ("verified by", KNOWN[connector.verification]),
            ("", connector.verification_url),
        ]
    )


def _permissions(connector: Connector) -> Iterator[str]:
    for each in connector.permissions:
        asked = "" if each.scope in connector.default_scopes else " (only if asked for)"
        yield f"{each.scope}: {each.description or 'not described'}{asked}"


def _parameter(each: ConnectionParam) -> str:
    parts = [
        f"pattern {each.pattern}",
        f"default {each.default_value}" if each.default_value else "required",
        f"for example {each.example}" if each.example else "",
    ]
    return f"{each.key}: {each.description} ({', '.join(filter(None, parts))})"
