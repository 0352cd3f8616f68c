"""Sends one request over a connection of its own and says what is known about its fate.

- NOT_SENT only if no byte of the request can have left; whatever is doubtful is UNKNOWN, because
  a single-use token may be spent.
- One deadline over connecting, sending and reading; no redirects, no retries, no cookies.
"""

import asyncio
import zlib
from collections.abc import Callable, Mapping
from typing import Final

import httpx

from flero_vault.core.connector import Verdict
from flero_vault.core.ports import Delivery, Failure
from flero_vault.oauth.answers import HttpAnswer, retry_after
from flero_vault.oauth.urls import is_acceptable

BODY_MAX: Final = 1 << 20
_HEADERS: Final = {
    "Accept": "application/json",
    # A body that is not packed cannot grow while it is read.
    "Accept-Encoding": "identity",
    "User-Agent": "flero-vault",
}
_NEVER_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)
_ANY_ENCODING: Final = 32 + zlib.MAX_WBITS  # gzip or zlib, whichever it is

ClientFactory = Callable[[], httpx.AsyncClient]


def fresh_clients() -> ClientFactory:
    """Return a factory of clients that share nothing but the parsed trust store.

    The environment is not trusted: a proxy or a netrc that somebody left there must not see
    tokens. A deployment that needs a proxy injects its own factory.
    """
    context = httpx.create_ssl_context(trust_env=False)
    return lambda: httpx.AsyncClient(verify=context, trust_env=False)


class _TooLongError(Exception):
    """The body is longer than any honest answer."""


class Transport:
    """Sends requests. `wall` is the time of day, for Retry-After dates."""

    def __init__(
        self, clients: ClientFactory, wall: Callable[[], float], *, allow_loopback: bool
    ) -> None:
        self._clients = clients
        self._wall = wall
        self._allow_loopback = allow_loopback

    def accepts(self, url: str) -> bool:
        """Say whether requests may go to this address."""
        return is_acceptable(url, allow_loopback=self._allow_loopback)

    async def send(
        self,
        method: str,
        url: str,
        *,
        until: float,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HttpAnswer | Failure:
        """Send one request; `until` is a time of the event loop."""
        if not self.accepts(url):
            return _failure(Delivery.NOT_SENT, "insecure_url")
        if until <= asyncio.get_running_loop().time():
            return _failure(Delivery.NOT_SENT, "timeout")
        progress = _Progress()
        try:
            async with asyncio.timeout_at(until):
                return await self._send(method, url, form, headers or {}, progress)
        except TimeoutError:
            delivery = Delivery.NOT_SENT if progress.connecting else Delivery.UNKNOWN
            return _failure(delivery, "timeout")
        except _NEVER_SENT:
            return _failure(Delivery.NOT_SENT, "unreachable")
        except _TooLongError:
            return _failure(Delivery.UNKNOWN, "too_long")
        except (httpx.HTTPError, httpx.StreamError, OSError, ValueError, zlib.error):
            return _failure(Delivery.UNKNOWN, "cut_off")

    async def _send(
        self,
        method: str,
        url: str,
        form: Mapping[str, str] | None,
        headers: Mapping[str, str],
        progress: "_Progress",
    ) -> HttpAnswer:
        async with (
            self._clients() as client,
            client.stream(
                method,
                url,
                data=form,
                headers={**_HEADERS, **headers},
                timeout=None,  # the one deadline is around all of it
                follow_redirects=False,
                extensions={"trace": progress.note},
            ) as response,
        ):
            raw = bytearray()
            async for chunk in response.aiter_raw():
                raw += chunk
                if len(raw) > BODY_MAX:
                    raise _TooLongError
            return HttpAnswer(
                response.status_code,
                _unpacked(bytes(raw), response.headers.get("content-encoding", "")),
                retry_after(response.headers.get("retry-after"), self._wall()),
            )


class _Progress:
    """How far a request came, told by httpcore's trace; other transports tell nothing."""

    def __init__(self) -> None:
        self.connecting = False

    async def note(self, event: str, info: object) -> None:  # noqa: ARG002  # httpcore's signature
        """Hear of a step."""
        if event.endswith("send_request_headers.started"):
            self.connecting = False
        elif event.endswith((".connect_tcp.started", ".start_tls.started")):
            self.connecting = True


def _unpacked(raw: bytes, encoding: str) -> bytes:
    """Undo a packing that was not asked for, within the same bound."""
    if encoding.strip().lower() not in {"gzip", "x-gzip", "deflate"}:
        return raw
    unpacker = zlib.decompressobj(_ANY_ENCODING)
    body = unpacker.decompress(raw, BODY_MAX)
    if unpacker.unconsumed_tail:
        raise _TooLongError
    return body


def _failure(delivery: Delivery, code: str) -> Failure:
    return Failure(delivery, Verdict.SERVICE_DOWN, code)
