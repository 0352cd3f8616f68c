"""A fake vault behind gRPC, and clients that look at the page like a browser with a cookie jar."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc.aio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.web.fake_vault import FakeVault, running_fake_vault

from flero_vault_client.v1 import credential_pb2, credential_vault_pb2, credential_vault_pb2_grpc
from flero_vault_client.web import browser_binding, callback_routes
from flero_vault_dev.web import create_app


@dataclass(kw_only=True)
class Frontend:
    """A frontend as another team would write one: its session, its dialog's begin, our routes."""

    client: httpx.AsyncClient
    vault: FakeVault
    session: dict[str, str | None] = field(default_factory=lambda: {"user": "demo"})

    async def begin(self) -> str:
        """Begin an authorization; returns the state."""
        await self.client.post("/begin")
        return next(reversed(self.vault.attempts))

    async def callback(self, query: str) -> httpx.Response:
        return await self.client.get(f"/oauth/callback/acme?{query}")


@pytest.fixture
async def vault() -> AsyncIterator[FakeVault]:
    async with running_fake_vault() as fake:
        yield fake


@pytest.fixture
async def channel(vault: FakeVault) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(vault.target) as channel:
        yield channel


@pytest.fixture(params=["https://flero.example"])
async def frontend(
    vault: FakeVault, channel: grpc.aio.Channel, request: pytest.FixtureRequest
) -> AsyncIterator[Frontend]:
    session: dict[str, str | None] = {"user": "demo"}
    stub = credential_vault_pb2_grpc.CredentialVaultStub(channel)

    async def user_of(_request: Request) -> str | None:
        return session["user"]

    async def begin(request: Request) -> Response:
        binding = browser_binding(request)
        await stub.BeginAuthorize(
            credential_vault_pb2.BeginAuthorizeRequest(
                parent="workspaces/demo",
                connector="acme",
                display_name="Team chat",
                credential_scope=credential_pb2.CREDENTIAL_SCOPE_PERSONAL,
                user="demo",
                browser_binding=binding.value,
            )
        )
        response = JSONResponse({})
        binding.set_cookie(response)
        return response

    app = Starlette(
        routes=[*callback_routes(stub, user_of=user_of), Route("/begin", begin, methods=["POST"])]
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=request.param) as client:
        yield Frontend(client=client, vault=vault, session=session)


@pytest.fixture
async def dialog(channel: grpc.aio.Channel) -> AsyncIterator[httpx.AsyncClient]:
    """The dialog's server, asked by its own page."""
    base_url = "http://127.0.0.1:8080"
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(channel)),
        base_url=base_url,
        headers={"Origin": base_url, "Sec-Fetch-Site": "same-origin"},
    ) as client:
        yield client
