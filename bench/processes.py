"""Server processes that are measured: started, watched through `/proc`, stopped."""

import asyncio
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

READY = b"ready\n"
START_WITHIN_S = 60.0
STOP_WITHIN_S = 30.0
_LOG_TAIL_LINES = 20
_OURS = ("FLERO_VAULT_", "OTEL_")
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# `/proc/PID/stat` from the field after the command's name, which may hold spaces.
_USER_TICKS, _SYSTEM_TICKS = 11, 12


class NotReady(Exception):
    """A server did not start; the message ends with its own words."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server process that said `ready`. `ready_s`: how long that took from its start."""

    pid: int
    target: str
    ready_s: float

    def cpu_s(self) -> float:
        """Return the processor time that it has used up to now, over all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2]
        ticks = fields.split()
        return (int(ticks[_USER_TICKS]) + int(ticks[_SYSTEM_TICKS])) / _TICKS_A_SECOND

    def rss_mb(self) -> float:
        """Return the memory that it holds, in millions of bytes."""
        pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * _PAGE_BYTES / 1e6


def free_target() -> str:
    """Return a loopback address that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"127.0.0.1:{listening.getsockname()[1]}"


@asynccontextmanager
async def started(
    *arguments: str, target: str, settings: Mapping[str, str], log: Path
) -> AsyncIterator[Server]:
    """Run a Python process that serves on `target` until the block is left.

    Its stderr goes to `log`, in place of what that held. Settings of the caller do not
    reach it: they would be measured without a word.

    Raises:
        NotReady: it ended, or did not say `ready` in time.

    """
    outside = {name: text for name, text in os.environ.items() if not name.startswith(_OURS)}
    with log.open("wb") as stderr:
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, env=outside | dict(settings), stdout=PIPE, stderr=stderr
        )
        try:
            if process.stdout is None:
                raise AssertionError("unreachable: stdout is a pipe")
            line = b""
            try:
                async with asyncio.timeout(START_WITHIN_S):
                    line = await process.stdout.readline()
                    if not line:
                        # It is ending: a signal now would race with asyncio for its exit code.
                        await process.wait()
            except TimeoutError:
                pass
            if line != READY:
                raise NotReady(f"{' '.join(arguments)} did not get ready:\n{tail(log)}")
            yield Server(process.pid, target, time.monotonic() - began)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_WITHIN_S)
            except TimeoutError:
                process.kill()
                await process.wait()


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_LOG_TAIL_LINES:])
