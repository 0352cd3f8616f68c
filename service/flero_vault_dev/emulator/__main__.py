"""Runs the emulator: `python -m flero_vault_dev.emulator --bind 127.0.0.1:9400`.

Prints `ready` when it listens. SIGINT and SIGTERM end it with status 0; an address that cannot be
had is named on stderr, status 1. There is no access log: its lines would hold codes and states.
"""

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import Final

import uvicorn

from flero_vault_dev.emulator.server import create_app

GRACE_S: Final = 1  # for calls that hang on purpose


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m flero_vault_dev.emulator")
    parser.add_argument("--bind", type=_address, default="127.0.0.1:9400", metavar="HOST:PORT")
    host, port = parser.parse_args(argv).bind
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as exc:
        sys.stderr.write(f"emulator: cannot listen on --bind {host}:{port}: {exc.strerror}\n")
        return 1
    with listener:
        app = create_app(f"http://localhost:{listener.getsockname()[1]}")
        config = uvicorn.Config(
            app,
            access_log=False,
            lifespan="off",
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
            ws="none",
        )
        asyncio.run(_serve(_Server(config), listener))
    return 0


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            sys.stdout.write("ready\n")
            sys.stdout.flush()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise the signal again once it has stopped, and the status would not be 0.
        yield


async def _serve(server: _Server, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: setattr(server, "should_exit", True))
    await server.serve(sockets=[listener])


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    sys.exit(main())
