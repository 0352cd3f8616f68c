"""What leaves on the wire, and what is known after it."""

import asyncio
import base64
import gzip
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from tests.oauth.harness import Monotonic, client_of, consent_of, form_of, plain_connector, scripted

from flero_vault.core.connector import (
    ClientAuth,
    Connector,
    Identity,
    IdentitySource,
    Param,
    Revocation,
    RevocationStyle,
    Verdict,
)
from flero_vault.core.model import ServiceRevocation
from flero_vault.core.ports import Client, Delivery, Failure, TokenAnswer
from flero_vault.core.secret import Secret
from flero_vault.oauth.wire import HttpServers

ORIGINS = ("https://id.example.com",)
SPENT = Secret("planted-refresh-canary")
TOKENS = {"access_token": "planted-access-canary"}


def servers(clients: Callable[[], httpx.AsyncClient] | None, **settings: Any) -> HttpServers:
    return HttpServers(Monotonic(), clients=clients, **settings)


def client(connector: Connector | None = None, *secrets: str, **changes: Any) -> Client:
    made = connector or plain_connector()
    return client_of(made, *(secrets or ("s+e/c%r:et",)), **{"origins": ORIGINS, **changes})


def with_auth(style: ClientAuth) -> Connector:
    connector = plain_connector()
    return replace(connector, token=replace(connector.token, client_auth=style))


@pytest.mark.parametrize(
    ("style", "pair"),
    [(ClientAuth.BASIC, "an+id:s%2Be%2Fc%25r%3Aet"), (ClientAuth.BASIC_RAW, "an id:s+e/c%r:et")],
)
async def test_basic_credentials_stand_in_the_header_only(style: ClientAuth, pair: str) -> None:
    clients, seen = scripted(httpx.Response(200, json=TOKENS))
    await servers(clients).refresh(client(with_auth(style), client_id="an id"), "", SPENT, 5)
    scheme, _, encoded = seen[0].headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(encoded).decode()) == ("Basic", pair)
    form = form_of(seen[0])
    assert form == {"grant_type": "refresh_token", "refresh_token": SPENT.reveal()}
    assert seen[0].headers["accept"] == "application/json"


async def test_posted_credentials_stand_in_the_form_only() -> None:
    clients, seen = scripted(httpx.Response(200, json=TOKENS))
    await servers(clients).refresh(client(with_auth(ClientAuth.POST)), "", SPENT, 5)
    assert "authorization" not in seen[0].headers
    assert form_of(seen[0])["client_secret"] == "s+e/c%r:et"


async def test_a_public_client_only_names_itself() -> None:
    clients, seen = scripted(httpx.Response(200, json=TOKENS))
    public = client(with_auth(ClientAuth.NONE), secrets=())
    assert isinstance(await servers(clients).refresh(public, "", SPENT, 5), TokenAnswer)
    assert "authorization" not in seen[0].headers
    assert "client_secret" not in form_of(seen[0])
    assert form_of(seen[0])["client_id"] == "flero-dev-plain"


async def test_an_app_without_a_secret_sends_nothing() -> None:
    clients, seen = scripted()
    failure = await servers(clients).refresh(client(secrets=()), "", SPENT, 5)
    assert failure == Failure(Delivery.NOT_SENT, Verdict.APP_REFUSED, "no_secret")
    assert not seen


@pytest.mark.parametrize(
    "first",
    [
        httpx.Response(400, json={"error": "invalid_grant"}),
        httpx.Response(400, json={"error": "unauthorized_client"}),
        httpx.Response(502, text="<html>"),
        httpx.ReadError("cut"),
    ],
)
async def test_other_failures_do_not_try_the_next_secret(first: httpx.Response | Exception) -> None:
    clients, seen = scripted(first)
    await servers(clients).refresh(client(None, "old", "new"), "", SPENT, 5)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("error", "delivery"),
    [
        (httpx.ConnectError("canary"), Delivery.NOT_SENT),
        (httpx.ConnectTimeout("canary"), Delivery.NOT_SENT),
        (httpx.PoolTimeout("canary"), Delivery.NOT_SENT),
        (httpx.ReadTimeout("canary"), Delivery.UNKNOWN),
        (httpx.WriteError("canary"), Delivery.UNKNOWN),
        (httpx.ReadError("canary"), Delivery.UNKNOWN),
        (httpx.RemoteProtocolError("canary"), Delivery.UNKNOWN),
        (ConnectionResetError("canary"), Delivery.UNKNOWN),
        (ValueError("canary"), Delivery.UNKNOWN),
    ],
)
async def test_what_an_exception_says_of_the_request(error: Exception, delivery: Delivery) -> None:
    clients, _ = scripted(error)
    failure = await servers(clients).refresh(client(), "", SPENT, 5)
    assert isinstance(failure, Failure)
    assert (failure.delivery, failure.verdict) == (delivery, Verdict.SERVICE_DOWN)
    assert "canary" not in repr(failure)


class Slow(httpx.AsyncBaseTransport):
    """Tells httpcore's steps, then stands still."""

    def __init__(self, *steps: str) -> None:
        self._steps = steps

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for step in self._steps:
            await request.extensions["trace"](step, {})
        await asyncio.sleep(60)
        raise AssertionError


CONNECT = "connection.connect_tcp.started"


@pytest.mark.parametrize(
    ("steps", "delivery"),
    [
        ((CONNECT,), Delivery.NOT_SENT),
        ((CONNECT, "connection.start_tls.started"), Delivery.NOT_SENT),
        ((CONNECT, "http11.send_request_headers.started"), Delivery.UNKNOWN),
        ((), Delivery.UNKNOWN),
    ],
)
async def test_the_deadline_while_connecting_spends_nothing(
    steps: tuple[str, ...], delivery: Delivery
) -> None:
    slow = servers(lambda: httpx.AsyncClient(transport=Slow(*steps)))
    failure = await slow.refresh(client(), "", SPENT, 0.05)
    assert failure == Failure(delivery, Verdict.SERVICE_DOWN, "timeout")


async def test_a_deadline_that_is_over_sends_nothing() -> None:
    clients, seen = scripted()
    failure = await servers(clients).refresh(client(), "", SPENT, 0)
    assert failure == Failure(Delivery.NOT_SENT, Verdict.SERVICE_DOWN, "timeout")
    assert not seen


async def test_redirects_are_not_followed() -> None:
    clients, seen = scripted(
        httpx.Response(307, headers={"location": "https://elsewhere.example.com/token"})
    )
    failure = await servers(clients).refresh(client(), "", SPENT, 5)
    assert failure == Failure(Delivery.UNKNOWN, Verdict.SERVICE_DOWN, "http_307")
    assert len(seen) == 1


@pytest.mark.parametrize("packed", [False, True])
async def test_endless_bodies_are_cut(packed: bool) -> None:  # noqa: FBT001
    body = b'{"access_token": "' + b"x" * (2 << 20) + b'"}'
    headers = {"content-encoding": "gzip"} if packed else {}
    clients, _ = scripted(
        httpx.Response(
            200, headers=headers, stream=httpx.ByteStream(gzip.compress(body) if packed else body)
        )
    )
    failure = await servers(clients).refresh(client(), "", SPENT, 5)
    assert failure == Failure(Delivery.UNKNOWN, Verdict.SERVICE_DOWN, "too_long")


async def test_a_packed_answer_is_read_all_the_same() -> None:
    packed = gzip.compress(b'{"access_token": "t"}')
    response = httpx.Response(
        200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(packed)
    )
    clients, _ = scripted(response)
    assert isinstance(await servers(clients).refresh(client(), "", SPENT, 5), TokenAnswer)


@pytest.mark.parametrize(
    "domain", ["", "evil.com/", "a@evil.com", "a:1", "..", "a b", "evil\\com", "A.example.com"]
)
async def test_a_connection_parameter_cannot_leave_its_place(domain: str) -> None:
    connector = plain_connector(
        connection_params={"domain": Param(description="Host", pattern=r"(?-i:[^A-Z]*)")}
    )
    templated = replace(
        connector, token=replace(connector.token, endpoint="https://{domain}/token")
    )
    clients, seen = scripted()
    failure = await servers(clients).refresh(
        client(templated, params={"domain": domain}), "", SPENT, 5
    )
    assert failure == Failure(Delivery.NOT_SENT, Verdict.APP_REFUSED, "connection_param_invalid")
    assert not seen


@pytest.mark.parametrize("url", ["http://id.example.com/token", "http://localhost:9400/token"])
async def test_plain_http_is_refused(url: str) -> None:
    connector = plain_connector()
    plain = replace(connector, token=replace(connector.token, endpoint=url))
    clients, seen = scripted()
    origins = ("http://id.example.com", "http://localhost:9400")
    failure = await servers(clients).refresh(client(plain, origins=origins), "", SPENT, 5)
    assert failure == Failure(Delivery.NOT_SENT, Verdict.SERVICE_DOWN, "insecure_url")
    assert not seen


async def test_revocation_styles() -> None:
    def revoking(style: RevocationStyle, **changes: Any) -> Client:
        endpoint = "https://id.example.com/revoke"
        return client(
            plain_connector(revocation=Revocation(style=style, endpoint=endpoint, **changes))
        )

    access = Secret("planted-access-canary")
    clients, seen = scripted(*(httpx.Response(200) for _ in range(5)))
    spoken = servers(clients)
    for style in (RevocationStyle.RFC7009, RevocationStyle.TOKEN_ONLY, RevocationStyle.BEARER):
        assert await spoken.revoke(revoking(style), access, SPENT) is ServiceRevocation.DONE
    rfc7009, token_only, bearer = seen
    assert form_of(rfc7009) == {"token": SPENT.reveal(), "token_type_hint": "refresh_token"}
    assert rfc7009.headers["authorization"].startswith("Basic ")
    assert form_of(token_only) == {"token": SPENT.reveal()}
    assert "authorization" not in token_only.headers
    assert bearer.headers["authorization"] == f"Bearer {SPENT.reveal()}"

    both = revoking(RevocationStyle.BEARER, token="both")
    assert await spoken.revoke(both, access, SPENT) is ServiceRevocation.DONE
    assert [r.headers["authorization"][7:] for r in seen[3:]] == [SPENT.reveal(), access.reveal()]
    only_access = revoking(RevocationStyle.RFC7009, token="access")
    assert await spoken.revoke(only_access, None, SPENT) is ServiceRevocation.UNSUPPORTED
    none = client(plain_connector())
    assert await spoken.revoke(none, access, SPENT) is ServiceRevocation.UNSUPPORTED


async def test_a_revocation_that_was_refused_is_not_done() -> None:
    revocation = Revocation(
        style=RevocationStyle.TOKEN_ONLY, endpoint="https://id.example.com/revoke"
    )
    made = client(plain_connector(revocation=revocation))
    clients, _ = scripted(
        httpx.Response(400, json={"error": "invalid_token"}),
        httpx.Response(503, text="busy"),
    )
    spoken = servers(clients)
    assert await spoken.revoke(made, None, SPENT) is ServiceRevocation.DONE
    assert isinstance(await spoken.revoke(made, None, SPENT), Failure)


METADATA = {
    "issuer": "https://id.example.com",
    "authorization_endpoint": "https://id.example.com/authorize",
    "token_endpoint": "https://id.example.com/token",
}
DISCOVERED = replace(
    plain_connector(),
    discovery="https://id.example.com/.well-known/openid-configuration",
    authorization=replace(plain_connector().authorization, endpoint=""),
    token=replace(plain_connector().token, endpoint=""),
    identity=Identity(source=IdentitySource.ID_TOKEN),
)


async def test_metadata_is_kept_for_an_hour_and_failures_are_not() -> None:
    clients, seen = scripted(
        httpx.Response(500),
        httpx.Response(200, json=METADATA),
        httpx.Response(200, json=METADATA),
    )
    clock = Monotonic()
    spoken = HttpServers(clock, clients=clients)
    failure = await spoken.issuer(client(DISCOVERED))
    assert isinstance(failure, Failure)
    assert failure.delivery is Delivery.NOT_SENT
    for _ in range(3):
        assert await spoken.issuer(client(DISCOVERED)) == "https://id.example.com"
    assert len(seen) == 2
    clock.now = 3601
    await spoken.issuer(client(DISCOVERED))
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("issuer", "accepted"),
    [
        ("https://id.example.com", True),
        ("https://id.example.com/", True),
        ("https://other.example.com", False),
        ("https://id.example.com/tenant", False),
        (None, False),
    ],
)
async def test_metadata_speaks_for_its_own_place_only(
    issuer: str | None,
    accepted: bool,  # noqa: FBT001
) -> None:
    clients, _ = scripted(httpx.Response(200, json={**METADATA, "issuer": issuer}))
    found = await servers(clients).issuer(client(DISCOVERED))
    if accepted:
        assert found == issuer
    else:
        assert found == Failure(Delivery.NOT_SENT, Verdict.SERVICE_DOWN, "issuer_mismatch")


async def test_rfc_8414_puts_the_path_behind() -> None:
    connector = replace(
        DISCOVERED,
        discovery="https://id.example.com/.well-known/oauth-authorization-server/tenant",
    )
    metadata = {**METADATA, "issuer": "https://id.example.com/tenant"}
    clients, _ = scripted(httpx.Response(200, json=metadata))
    assert await servers(clients).issuer(client(connector)) == "https://id.example.com/tenant"


async def test_the_form_is_used_where_basic_is_not_listed() -> None:
    metadata = {**METADATA, "token_endpoint_auth_methods_supported": ["client_secret_post"]}
    clients, seen = scripted(httpx.Response(200, json=metadata), httpx.Response(200, json=TOKENS))
    await servers(clients).refresh(client(DISCOVERED), "", SPENT, 5)
    assert "client_secret" in form_of(seen[1])


async def test_a_discovered_endpoint_elsewhere_gets_no_secret() -> None:
    metadata = {**METADATA, "token_endpoint": "https://elsewhere.example.com/token"}
    clients, seen = scripted(httpx.Response(200, json=metadata))
    failure = await servers(clients).refresh(client(DISCOVERED), "", SPENT, 5)
    assert failure == Failure(Delivery.NOT_SENT, Verdict.APP_REFUSED, "origin_not_listed")
    assert len(seen) == 1


# --- a real socket --------------------------------------------------------------------------

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(talk: Talk) -> AsyncIterator[Client]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    origin = f"http://127.0.0.1:{port}"
    connector = plain_connector()
    try:
        yield client(
            replace(connector, token=replace(connector.token, endpoint=f"{origin}/token")),
            origins=(origin,),
        )
    finally:
        server.close()


async def test_a_closed_port_was_never_sent_to() -> None:
    async def talk(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None: ...

    async with listening(talk) as made:
        pass
    failure = await servers(None, allow_loopback=True).refresh(made, "", SPENT, 5)
    assert failure == Failure(Delivery.NOT_SENT, Verdict.SERVICE_DOWN, "unreachable")


async def test_a_cut_body_leaves_the_fate_unknown() -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"access_token": "t"}')
        await writer.drain()

    async with listening(talk) as made:
        failure = await servers(None, allow_loopback=True).refresh(made, "", SPENT, 5)
    assert failure == Failure(Delivery.UNKNOWN, Verdict.SERVICE_DOWN, "cut_off")


async def test_a_body_that_trickles_meets_the_one_deadline() -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        for _unused in range(100):
            writer.write(b" ")
            await asyncio.sleep(0.02)

    async with listening(talk) as made:
        began = time.monotonic()
        failure = await servers(None, allow_loopback=True).refresh(made, "", SPENT, 0.2)
        assert time.monotonic() - began < 1
    assert failure == Failure(Delivery.UNKNOWN, Verdict.SERVICE_DOWN, "timeout")


async def test_a_whole_answer_over_a_real_socket() -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = b'{"access_token": "t", "expires_in": 60}'
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        writer.write(head + body)
        await writer.drain()

    async with listening(talk) as made:
        answer = await servers(None, allow_loopback=True).exchange(
            made, consent_of(made.connector), Secret("code"), {}
        )
    assert isinstance(answer, TokenAnswer)
