"""How a command ends when it cannot do what was asked."""

import sys
from typing import Final, NoReturn

import click

REFUSED: Final = 1
UNREACHABLE: Final = 3

EXITS: Final = (
    "Exit codes: 0 ok, 1 refused by the vault, 2 usage, 3 the vault or a part of it cannot be "
    "reached, or did not answer in time."
)
"""The end of a group's help."""


def fail(message: str, code: int = REFUSED) -> NoReturn:
    """End the command with a message."""
    click.echo(f"flero-vault: {message}", err=True)
    sys.exit(code)
