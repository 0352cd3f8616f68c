"""Answers that go wrong on purpose.

- Most faults stand in front of the service: it never sees the call, and no token is used.
- Two come after it: `truncated` and `reset` let the service act (a single-use refresh token is
  spent) and lose its answer on the wire. A client cannot tell that from a service that is down.
"""

from asyncio import Transport
from collections.abc import Callable, Mapping
from typing import Final, cast

from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

RETRY_AFTER_S: Final = 7
TRANSPORT: Final = "flero.transport"  # where the server leaves the connection in the ASGI scope

_BAD_GATEWAY: Final = """<html>
<head><title>502 Bad Gateway</title></head>
<body><center><h1>502 Bad Gateway</h1></center></body>
</html>
"""
_CAPTIVE_PORTAL: Final = """<!doctype html>
<html><head><title>Sign in to the network</title></head>
<body><h1>Please sign in to use this network</h1></body></html>
"""

BEFORE: Final[Mapping[str, Callable[[], Response]]] = {
    "server_error_500": lambda: JSONResponse({"error": "server_error"}, 500),
    "html_502": lambda: HTMLResponse(_BAD_GATEWAY, 502),
    "html_200": lambda: HTMLResponse(_CAPTIVE_PORTAL),
    "empty": lambda: Response(b"", media_type="application/json"),
}


class Truncated(Response):
    """Announces the whole body, sends half of it and closes the connection."""

    def __init__(self, whole: Response) -> None:
        super().__init__(whole.body, whole.status_code)
        self.raw_headers = whole.raw_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send half and hang up."""
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})
        transport = _transport(scope)
        transport.close()  # unlike abort(), lets the half out first
        await _until_gone(receive)


class Dropped(Response):
    """Closes the connection without a single byte of an answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Hang up."""
        _transport(scope).abort()
        await _until_gone(receive)


def _transport(scope: Scope) -> Transport:
    transport = scope.get(TRANSPORT)
    if transport is None:
        # In-process test transports have no connection to close; their client sees this instead.
        raise ConnectionResetError("the emulator dropped the connection, as it was told to")
    return cast("Transport", transport)


async def _until_gone(receive: Receive) -> None:
    # The server complains about a handler that ends without an answer, unless the peer left first.
    while (await receive())["type"] != "http.disconnect":
        pass
