"""Which vault a command asks, as whom, and what becomes of its refusal.

A secret is never an argument, where every user of the machine could read it: it is in a file.
"""

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from flero_vault.commands.exits import UNREACHABLE, fail
from flero_vault.commands.output import printable
from flero_vault_client import (
    InvalidField,
    Tls,
    VaultClient,
    VaultError,
    VaultUnavailable,
    bearer_from,
)

_FILE: Final = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_NAME: Final = re.compile(r"workspaces/[^/]+/credentials/[^/]+")
_Answer = TypeVar("_Answer")


def _target(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if "://" in value and value.startswith("http"):
        raise click.BadParameter(f"{value!r} is a URL: give HOST:PORT, such as 127.0.0.1:50051")
    if ":" not in value:
        raise click.BadParameter(f"{value!r} names no port: give HOST:PORT, such as {value}:50051")
    return value


def workspace_name(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str:
    """Return the resource name of a workspace, given as `acme` or as `workspaces/acme`."""
    if value is None:
        return ""
    workspace = value.removeprefix("workspaces/")
    if not workspace or "/" in workspace:
        raise click.BadParameter(f"{value!r} is no workspace: give its name, such as acme")
    return f"workspaces/{workspace}"


def credential_name(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """Return the resource name of a credential. What is in its parts the vault knows better."""
    if not _NAME.fullmatch(value):
        raise click.BadParameter(
            f"{value!r} must be workspaces/.../credentials/..., "
            "as `flero-vault credentials list` prints it"
        )
    return value


_CONNECTION: Final = (
    click.Option(
        ["--target"],
        default="127.0.0.1:50051",
        show_default=True,
        callback=_target,
        help="The vault's gRPC.",
    ),
    click.Option(
        ["--ca"], type=_FILE, help="TLS: PEM of the authority that signed the vault's certificate."
    ),
    click.Option(["--cert"], type=_FILE, help="TLS: PEM of our own certificate; needs --key."),
    click.Option(["--key", "private_key"], type=_FILE, help="TLS: PEM of its private key."),
    click.Option(
        ["--token-file"],
        type=_FILE,
        help="File with the token that proves who calls. Other machines get it through TLS only.",
    ),
    click.Option(
        ["--timeout"],
        type=click.FloatRange(min=0, min_open=True, max=3600),
        default=30.0,
        show_default=True,
        help="Seconds that an answer may take.",
    ),
    click.Option(
        ["--output"],
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="For people, or for programs.",
    ),
)


def _tls(ca: Path | None, certificate: Path | None, key: Path | None) -> Tls | None:
    if ca is None and certificate is None and key is None:
        return None
    if certificate and not key:
        raise click.UsageError("--cert needs --key: the file of its private key")
    if key and not certificate:
        raise click.UsageError("--key needs --cert: the file of its certificate")
    # gRPC takes any bytes and then calls the vault unreachable. OpenSSL says what is wrong.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca:
        try:
            context.load_verify_locations(cafile=ca)
        except OSError:
            raise _bad("--ca", f"{str(ca)!r} must be PEM with a certificate") from None
    if certificate and key:
        try:
            context.load_cert_chain(certificate, key, password=lambda: "")
        except OSError:
            raise _bad(
                "--cert",
                f"{str(certificate)!r} and --key {str(key)!r} must be PEM of a certificate and "
                "of the private key that it was made for, without a password",
            ) from None
    return Tls(ca=ca, certificate=certificate, key=key)


def _token(path: Path | None) -> Callable[[], str] | None:
    if path is None:
        return None
    read = bearer_from(path)

    def token() -> str:
        try:
            value = read()
        except (OSError, UnicodeError):
            value = ""
        if not _TOKEN.fullmatch(value):
            raise _bad("--token-file", f"{str(path)!r} must hold one token and nothing else")
        return value

    token()
    return token


def _bad(option: str, message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint=f"'{option}'")


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks the vault that the options name; `as_json`: answers are for programs."""

    target: str
    tls: Tls | None
    token: Callable[[], str] | None
    timeout: float
    as_json: bool

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Asker":
        """Return what the options mean.

        Raises:
            click.UsageError: they do not fit each other, or a file is not what it should be.

        """
        return cls(
            target=options["target"],
            tls=_tls(options["ca"], options["cert"], options["private_key"]),
            token=_token(options["token_file"]),
            timeout=options["timeout"],
            as_json=options["output"] == "json",
        )

    def ask(self, work: Callable[[VaultClient], Awaitable[_Answer]]) -> _Answer:
        """Return what `work` makes of a connected client.

        Raises:
            VaultError: the vault refused, or did not answer.
            click.UsageError: the token would travel in the clear.

        """
        try:
            client = VaultClient(self.target, tls=self.tls, token=self.token, timeout=self.timeout)
        except ValueError:
            raise _bad(
                "--token-file",
                f"the token would travel to {self.target} in the clear: "
                "add --ca, the file of the authority that signed the vault's certificate",
            ) from None

        async def connected() -> _Answer:
            async with client as vault:
                return await work(vault)

        return asyncio.run(connected())

    def advice(self) -> str:
        """Return what to look at when nothing answers."""
        if self.tls is None:
            return f"Is {self.target} the vault (--target), and does it speak without TLS (--ca)?"
        return f"Is {self.target} the vault (--target), and is its certificate trusted (--ca)?"


class AskingCommand(click.Command):
    """A command that asks a vault: has the options of the connection, passes on an Asker."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own parameters, those of the connection, and --help."""
        own = super().get_params(ctx)
        return [*own[: len(self.params)], *_CONNECTION, *own[len(self.params) :]]

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; end it with the exit code of what the vault says."""
        asker = ctx.obj = Asker.of(
            {str(each.name): ctx.params.pop(str(each.name)) for each in _CONNECTION}
        )
        try:
            return super().invoke(ctx)
        except VaultUnavailable as error:
            fail(f"{_sentence(error)}\n{printable(asker.advice())}", UNREACHABLE)
        except InvalidField as error:
            self._blame(error, ctx)
            fail(_sentence(error))
        except VaultError as error:
            fail(_sentence(error))

    def _blame(self, error: InvalidField, ctx: click.Context) -> None:
        """Say which of our own parameters the vault does not understand, if it is one.

        Raises:
            click.BadParameter: it is one.

        """
        own = {_FIELDS.get(str(each.name), each.name): each for each in self.params}
        for field, remedy in error.violations:
            if field in own:
                raise click.BadParameter(printable(remedy), ctx=ctx, param=own[field])


_FIELDS: Final = {"workspace": "parent", "only": "filter"}
"""The field of a request that a parameter of another name fills."""


def _sentence(error: VaultError) -> str:
    """Return what the vault says: the sentence, the reason, and where to go."""
    lines = [f"{error.user_message} ({error.reason or error.code.name})"]
    lines += [f"{field}: {remedy}" for field, remedy in error.violations]
    if error.help_url:
        lines.append(f"See {error.help_url}")
    return "\n".join(map(printable, lines))
