"""The emulated services with a tap on the wire, that learns every secret which crosses it."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import httpx
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tests.stack import Emulator, _Quiet

from flero_vault_dev.emulator.server import create_app

SECRET_FIELDS = frozenset(
    {
        "access_token", "client_secret", "code", "code_verifier", "id_token", "refresh_token",
        "token",
    }
)  # fmt: skip


class Tap:
    """Passes everything on, and keeps the secrets of it: pairs of kind and value."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.secrets: set[tuple[str, str]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        sent, answered = bytearray(), bytearray()

        async def receiving() -> Message:
            message = await receive()
            sent.extend(message.get("body", b""))
            return message

        async def sending(message: Message) -> None:
            answered.extend(message.get("body", b""))
            await send(message)

        await self._app(scope, receiving, sending)
        for name, value in scope["headers"]:
            if name == b"authorization":
                self._authorization(value.decode())
        self._keep(parse_qsl(sent.decode(errors="replace")))
        try:
            self._keep(_pairs(json.loads(answered)))
        except ValueError:
            return

    def _authorization(self, value: str) -> None:
        scheme, _, rest = value.partition(" ")
        if scheme.lower() == "basic":
            _, _, secret = base64.b64decode(rest).decode().partition(":")
            self.secrets.add(("client_secret", unquote_plus(secret)))
        else:
            self.secrets.add(("access_token", rest))

    def _keep(self, pairs: Any) -> None:
        self.secrets |= {(name, value) for name, value in pairs if name in SECRET_FIELDS}


def _pairs(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if isinstance(inner, str):
                yield name, inner
            yield from _pairs(inner)


@asynccontextmanager
async def running_tapped() -> AsyncIterator[tuple[Emulator, Tap]]:
    """Run the emulated services on a free port."""
    listening = socket.create_server(("127.0.0.1", 0))
    origin = f"http://localhost:{listening.getsockname()[1]}"
    tap = Tap(create_app(origin))
    config = uvicorn.Config(
        tap, access_log=False, log_level="error", lifespan="off", timeout_graceful_shutdown=1
    )
    server = _Quiet(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        async with httpx.AsyncClient(base_url=origin, timeout=30) as http:
            yield Emulator(origin, http), tap
    finally:
        server.should_exit = True
        await task
        listening.close()
