"""`flero-vault completion`: what a shell needs to complete the commands."""

from typing import Final

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

PROGRAM: Final = "flero-vault"
VARIABLE: Final = "_FLERO_VAULT_COMPLETE"
"""What click asks for when the command is called by the name above."""

SHELLS: Final[dict[str, type[ShellComplete]]] = {
    "bash": BashComplete,
    "zsh": ZshComplete,
    "fish": FishComplete,
}


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)), help="The shell to complete in.")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes this command in a shell.

    \b
    bash, in ~/.bashrc:
      eval "$(flero-vault completion bash)"

    \b
    zsh, in ~/.zshrc after compinit:
      eval "$(flero-vault completion zsh)"

    \b
    fish, once:
      flero-vault completion fish > ~/.config/fish/completions/flero-vault.fish
    """  # noqa: D301 - click keeps the lines of a paragraph that begins so
    script = SHELLS[shell](ctx.find_root().command, {}, PROGRAM, VARIABLE)
    click.echo(script.source())
