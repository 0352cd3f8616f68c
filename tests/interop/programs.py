"""Programs that nobody here wrote: found, or asked for by their package; started, and ended."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "build" / "tools"
STOP_WITHIN_S = 20.0
LOOK_AGAIN_S = 0.05


class ToolMissing(Exception):
    """A program that the suite cannot do without; the message says what to install."""


def program(name: str, package: str) -> str:
    """Return the path of a program of the machine; `package` is Debian's."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        raise ToolMissing(f"interop needs {name}: apt-get install {package}")
    return found


def built(*parts: str) -> Path:
    """Return the path of something that `make interop-tools` builds."""
    path = TOOLS.joinpath(*parts)
    if not path.exists():
        raise ToolMissing(f"interop needs build/tools/{'/'.join(parts)}: make interop-tools")
    return path


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def unprivileged() -> dict[str, Any]:
    """Return how to start what refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def make_reachable(folder: Path) -> Path:
    """Make a folder that what is started by `unprivileged` owns."""
    folder.mkdir()
    account = unprivileged()
    if account:
        os.chown(folder, account["user"], account["group"])
    return folder


@contextmanager
def running(
    command: Sequence[str | Path],
    output: Path,
    *,
    is_ready: Callable[[], object],
    within: float,
    environment: Mapping[str, str] | None = None,
    **how: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block is left; all it prints goes to `output`.

    The kernel ends it when we end without leaving the block. It has a session of its own, so that
    Ctrl-C reaches us alone and one that does not stop is killed with all that it started.
    """
    with output.open("wb") as file:
        process = subprocess.Popen(
            [program("setpriv", "util-linux"), "--pdeathsig", "TERM", *command],
            env=os.environ | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **how,
        )
    try:
        deadline = time.monotonic() + within
        while not is_ready():
            said = f"{command[0]} is not ready:\n{output.read_text(errors='replace')[-4000:]}"
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(LOOK_AGAIN_S)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers_on(port: int) -> bool:
    """Say whether somebody takes connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
