"""`flero-vault credentials`: look at them, watch them, stop them."""

import sys
from contextlib import aclosing
from typing import Final

import click

from flero_vault.commands.exits import EXITS
from flero_vault.commands.output import (
    document,
    emit,
    facts,
    lines,
    pretty,
    printable,
    when,
    wrapped,
)
from flero_vault.commands.target import Asker, AskingCommand, credential_name, workspace_name
from flero_vault_client import (
    Credential,
    CredentialStatus,
    Revoked,
    ServiceRevocation,
    VaultClient,
)

PAGE: Final = 1000
HEAD: Final = ("STATUS", "CONNECTOR", "DISPLAY NAME", "ACCOUNT", "FOR", "LAST USED")
WIDEST: Final = (11, 14, 26, 20, 9, 17)
BELOW: Final = 2

PENDING: Final = "Nobody has finished authorizing it."
AT_SERVICE: Final = {
    ServiceRevocation.NOT_REQUESTED: "The service was not told; --at-service tells it.",
    ServiceRevocation.DONE: "The service confirmed that it revoked the newest token.",
    ServiceRevocation.PENDING: "The service has not confirmed yet; the vault goes on trying "
    "for 24 hours.",
    ServiceRevocation.UNSUPPORTED: "The service offers no way to revoke: a person has to do it "
    "there.",
    ServiceRevocation.FAILED: "The service refused to revoke: a person has to do it there.",
    ServiceRevocation.UNSPECIFIED: "This version does not understand what the vault says about "
    "the service.",
}


@click.group(epilog=EXITS)
def credentials() -> None:
    """Look at credentials, watch them, stop them. No command shows a token."""


_named = click.argument(
    "name",
    metavar="NAME",
    callback=credential_name,
    help="The credential, as `credentials list` prints its name.",
)
_as_user = click.option("--user", required=True, help="The person on whose behalf you ask.")


@credentials.command("list", cls=AskingCommand)
@click.option(
    "--workspace", required=True, callback=workspace_name, help="The workspace, such as acme."
)
@_as_user
@click.option(
    "--filter",
    "only",
    default="",
    help="status, connector, owner, authorized_by with =, joined by AND.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most this many, the oldest first.")
@click.pass_obj
def list_(asker: Asker, workspace: str, user: str, only: str, limit: int | None) -> None:
    """List the credentials that a person can see, the oldest first.

    \b
    Example:
      flero-vault credentials list --workspace acme --user ada \\
        --filter 'status=EXPIRED AND connector=slack'
    """  # noqa: D301 - click keeps the lines of a paragraph that begins so

    async def found(vault: VaultClient) -> list[Credential]:
        several: list[Credential] = []
        pages = vault.list_credentials(
            workspace, user=user, filter=only, page_size=min(limit or PAGE, PAGE)
        )
        async with aclosing(pages) as each:
            async for credential in each:
                several.append(credential)
                if len(several) == limit:
                    break
        return several

    answer = asker.ask(found)
    if asker.as_json:
        emit(pretty({"credentials": answer}))
    elif answer:
        emit(_table(answer))
    else:
        click.echo("There is no such credential that this user can see.", err=True)


@credentials.command(cls=AskingCommand)
@_named
@_as_user
@click.pass_obj
def show(asker: Asker, name: str, user: str) -> None:
    """Show one credential.

    \b
    Example:
      flero-vault credentials show \\
        workspaces/acme/credentials/5a3c8c6e-6d0f-4a54-9a51-0f6f6d3c9b1e --user ada
    """  # noqa: D301 - click keeps the lines of a paragraph that begins so
    credential = asker.ask(lambda vault: vault.get_credential(name, user=user))
    emit(pretty(credential) if asker.as_json else _facts(credential))


@credentials.command(cls=AskingCommand)
@_named
@_as_user
@click.pass_obj
def watch(asker: Asker, name: str, user: str) -> None:
    """Print a line for the credential as it is and for each change, until interrupted.

    Goes on by itself when the vault goes away and comes back. Ends with exit code 1 when the
    credential is gone, and with 0 when it is interrupted.

    \b
    Example:
      flero-vault credentials watch \\
        workspaces/acme/credentials/5a3c8c6e-6d0f-4a54-9a51-0f6f6d3c9b1e --user ada --output json
    """  # noqa: D301 - click keeps the lines of a paragraph that begins so

    async def watched(vault: VaultClient) -> None:
        # The watch itself would wait for a vault that was never there.
        await vault.get_credential(name, user=user)
        async with aclosing(vault.watch_credential(name, user=user)) as changes:
            async for credential in changes:
                emit(document(credential) if asker.as_json else _line(credential))

    try:
        asker.ask(watched)
    except KeyboardInterrupt:
        sys.exit(0)


@credentials.command(cls=AskingCommand)
@_named
@_as_user
@click.option("--at-service", is_flag=True, help="Also end the access at the service.")
@click.option("--yes", is_flag=True, help="Do not ask whether it is meant.")
@click.pass_obj
def revoke(asker: Asker, name: str, user: str, *, at_service: bool, yes: bool) -> None:
    """Stop a credential at once, everywhere in Flero. Re-authenticating starts it again.

    \b
    Example:
      flero-vault credentials revoke \\
        workspaces/acme/credentials/5a3c8c6e-6d0f-4a54-9a51-0f6f6d3c9b1e --user ada --at-service
    """  # noqa: D301 - click keeps the lines of a paragraph that begins so
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("there is no terminal to ask on: --yes says that it is meant")
        # Not within the calls: an event loop cannot be interrupted while a person thinks.
        credential = asker.ask(lambda vault: vault.get_credential(name, user=user))
        where = " and at the service" if at_service else ""
        click.confirm(f"Revoke {_title(credential)} in Flero{where}?", abort=True, err=True)
    revoked = asker.ask(lambda vault: vault.revoke(name, user=user, revoke_at_service=at_service))
    emit(pretty(revoked) if asker.as_json else _outcome(revoked))


def _account(credential: Credential) -> str:
    account = credential.account
    return (account.email or account.label or account.id) if account else ""


def _title(credential: Credential) -> str:
    """Return what a person knows a credential by."""
    account = _account(credential) or "no account yet"
    return printable(f"{credential.display_name} ({credential.connector}: {account})")


def _why(credential: Credential) -> str:
    """Return the sentence about a credential that is not as it should be."""
    if credential.status_reason:
        return credential.status_reason.message
    return PENDING if credential.status is CredentialStatus.PENDING else ""


def _table(several: list[Credential]) -> str:
    head, *rows = lines(
        [
            HEAD,
            *(
                (
                    each.status,
                    each.connector,
                    each.display_name,
                    _account(each) or "-",
                    each.credential_scope,
                    when(each.last_used_time) or "-",
                )
                for each in several
            ),
        ],
        WIDEST,
    )
    printed = [head]
    for row, each in zip(rows, several, strict=True):
        printed += [row, " " * BELOW + each.name]
        printed += wrapped(_why(each), BELOW) if _why(each) else []
    return "\n".join(printed)


def _facts(credential: Credential) -> str:
    account = credential.account
    why = credential.status_reason
    missing = [s for s in credential.requested_scopes if s not in credential.granted_scopes]
    return facts(
        [
            ("name", credential.name),
            ("display name", credential.display_name),
            ("connector", credential.connector),
            ("for", credential.credential_scope),
            ("status", credential.status),
            ("why", _why(credential)),
            ("reason", why.reason if why else ""),
            ("since", when(why.time) if why else ""),
            ("owner", credential.owner),
            ("authorized by", credential.authorized_by),
            ("account", " ".join(filter(None, [account.label, account.email])) if account else ""),
            ("account id", account.id if account else ""),
            ("granted", credential.granted_scopes),
            ("not granted", missing if credential.granted_scopes else ""),
            ("access token ends", when(credential.access_token_expire_time)),
            ("refresh token ends", when(credential.refresh_token_expire_time)),
            ("re-authenticate by", when(credential.reauthenticate_by_time)),
            ("last refreshed", when(credential.last_refresh_time)),
            ("last used", when(credential.last_used_time)),
            ("made", when(credential.create_time)),
            ("changed", when(credential.update_time)),
        ]
    )


def _line(credential: Credential) -> str:
    parts = [
        when(credential.update_time, "seconds"),
        credential.status,
        _title(credential),
        _why(credential),
    ]
    return printable("  ".join(filter(None, parts)).replace("\n", " "))


def _outcome(revoked: Revoked) -> str:
    return "\n".join(
        filter(
            None,
            [
                f"{_title(revoked.credential)} is {revoked.credential.status}.",
                AT_SERVICE[revoked.service_revocation],
                f"See {printable(revoked.manage_url)}" if revoked.manage_url else "",
            ],
        )
    )
