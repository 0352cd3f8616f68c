"""Runs `flero-vault` as a person does, as a process of its own.

The vault that it asks lives in the loop of the tests, so that loop must not be blocked.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

# As at a terminal: whoever runs the tests in the background may have them ignore interrupts.
_AT_A_TERMINAL = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "runpy.run_module('flero_vault.cli', run_name='__main__')"
)
COMMAND = (sys.executable, "-c", _AT_A_TERMINAL)
NOBODY = "workspaces/acme/credentials/00000000-0000-4000-8000-000000000000"
PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str


@asynccontextmanager
async def started(
    *arguments: str, command: tuple[str, ...] = COMMAND, stdin: int = asyncio.subprocess.DEVNULL,
    stdout: int = asyncio.subprocess.PIPE, variables: dict[str, str] | None = None,
) -> AsyncIterator[asyncio.subprocess.Process]:  # fmt: skip
    """Run a command for as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(
        *command,
        *arguments,
        stdin=stdin,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(variables or {})},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def flero_vault(
    *arguments: str,
    command: tuple[str, ...] = COMMAND,
    stdin: int = asyncio.subprocess.DEVNULL,
    variables: dict[str, str] | None = None,
) -> Done:
    """Run a command to its end."""
    async with (
        asyncio.timeout(PATIENCE_S),
        started(*arguments, command=command, stdin=stdin, variables=variables) as process,
    ):
        out, err = await process.communicate()
        return Done(await process.wait(), out.decode(), err.decode())


async def next_line(process: asyncio.subprocess.Process) -> str:
    """Return the next line that a command prints."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        return (await process.stdout.readline()).decode()


def unused_target() -> str:
    """Return an address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"127.0.0.1:{listening.getsockname()[1]}"
