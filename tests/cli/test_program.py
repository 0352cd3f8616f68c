"""What holds for the program as a whole: help, completion, and what it loads to start."""

import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.cli.program import flero_vault

from flero_vault.cli import main
from flero_vault.commands.target import AskingCommand

SERVER_PARTS = {
    "alembic", "asyncpg", "cryptography", "httpx", "joserfc", "opentelemetry", "pydantic",
    "sqlalchemy", "starlette", "structlog", "uvicorn", "flero_vault.core", "flero_vault.store",
    "flero_vault.server", "flero_vault.settings",
}  # fmt: skip


def client_commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from client_commands(command, *path, name)
        elif isinstance(command, AskingCommand):
            yield (*path, name), command.help or ""


CLIENT_COMMANDS = dict(client_commands(main))


def test_every_client_command_has_an_example() -> None:
    assert len(CLIENT_COMMANDS) == 6
    for path, text in CLIENT_COMMANDS.items():
        assert "\b\nExample:\n  flero-vault " + " ".join(path) in inspect.cleandoc(text), path


@pytest.mark.parametrize("group", ["credentials", "connectors"])
async def test_the_exit_codes_stand_once_in_the_help_of_a_group(group: str) -> None:
    shown = await flero_vault(group, "--help")
    below = await flero_vault(group, "show", "--help")

    assert shown.out.count("Exit codes: 0 ok, 1 refused") == 1
    assert "Exit codes" not in below.out
    assert all(
        f"--{name} " in below.out
        for name in ("target", "ca", "cert", "key", "token-file", "output")
    )


@pytest.mark.parametrize("arguments", [[], ["credentials"], ["credentials", "list"], ["dev"]])
def test_asking_for_help_loads_no_part_of_a_server(arguments: list[str]) -> None:
    program = (
        "import sys; from flero_vault.cli import main\n"
        f"main([*{arguments!r}, '--help'], standalone_mode=False)\n"
        "print('LOADED', *sys.modules)"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    loaded = set(ran.stdout.partition("LOADED ")[2].split())
    assert "click" in loaded
    assert loaded & SERVER_PARTS == set()


# Completion


@pytest.mark.parametrize(
    ("shell", "hook"),
    [("bash", "complete -o nosort -F"), ("zsh", "compdef"), ("fish", "complete --no-files")],
)
async def test_each_shell_gets_a_script_with_the_hook_of_this_program(
    shell: str, hook: str
) -> None:
    done = await flero_vault("completion", shell)

    assert done.code == 0
    assert hook in done.out
    assert f"_FLERO_VAULT_COMPLETE={shell}_complete" in done.out


async def test_an_unknown_shell_is_a_usage_error() -> None:
    done = await flero_vault("completion", "tcsh")

    assert done.code == 2


async def completed(tmp_path: Path, *words: str) -> set[str]:
    """Return what bash offers at the end of the words."""
    program = tmp_path / "flero-vault"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m flero_vault.cli "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(flero-vault completion bash)"\n'
        'complete -p flero-vault >/dev/null || exit 9\n'
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))\n'
        '_flero_vault_completion flero-vault\n'
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )  # fmt: skip
    done = await flero_vault(
        *("-c", script, "bash", "flero-vault", *words),
        command=("bash", "--norc"),
        variables={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert done.code == 0, done.err
    return set(done.out.split())


async def test_bash_completes_groups_commands_and_options(tmp_path: Path) -> None:
    assert await completed(tmp_path, "con") == {"connectors"}
    assert await completed(tmp_path, "credentials", "sh") == {"show"}
    assert await completed(tmp_path, "credentials", "list", "--ca") == {"--ca"}
    assert await completed(tmp_path, "credentials", "list", "--output", "j") == {"json"}
