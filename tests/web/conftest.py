"""A fake vault behind gRPC, and clients that look at the page like a browser with a cookie jar."""

import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import httpx
import pytest
from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flero_vault_client import ConnectionParam, Connector, Permission
from flero_vault_client.testing import Call, FakeVault
from flero_vault_client.testing._memory import Attempt, Consent, Memory
from flero_vault_client.v1 import credential_pb2, credential_vault_pb2, credential_vault_pb2_grpc
from flero_vault_client.web import browser_binding, callback_routes
from flero_vault_dev.web import create_app

ACCOUNTS = {"ada": "Ada Lovelace", "grace": "Grace Hopper"}
CONNECTORS = (
    Connector(
        name="connectors/acme",
        display_name="Acme Chat",
        permissions=(
            Permission(scope="chat:write", description="Post messages as you"),
            Permission(scope="users:read", description="See who is in the team"),
        ),
        default_scopes=("chat:write", "users:read"),
        connection_params=(ConnectionParam(key="domain", default_value="acme.example"),),
        manage_url="https://acme.example/apps",
    ),
    Connector(
        name="connectors/salesfarce",
        display_name="Salesfarce",
        default_scopes=("api",),
        permissions=(Permission(scope="api", description="Read and change records"),),
        connection_params=(
            ConnectionParam(
                key="domain",
                description="The host that you sign in at.",
                pattern=r"[a-z0-9-]+\.salesfarce\.example",
                default_value="login.salesfarce.example",
                example="acme.my.salesfarce.example",
            ),
        ),
        admin_approval="An administrator may have to allow Flero first.",
    ),
    Connector(name="connectors/unset", display_name="Unset", configured=False),
)


@dataclass(slots=True, kw_only=True)
class OpenService(Memory):
    """Its service takes the codes `code-ada` and `code-grace` for every state."""

    granted: tuple[str, ...] | None = None

    def redeem(self, state: str, code: str) -> Consent | None:
        account = code.partition("-")[2]
        if account not in ACCOUNTS:
            return None
        return Consent(
            account=credential_pb2.Account(id=account, label=ACCOUNTS[account]),
            scopes=self.attempts[state].scopes if self.granted is None else self.granted,
        )


class WebVault(FakeVault):
    """A fake vault as the tests of a frontend need it.

    Its lists have pages of one, so that nobody forgets to turn them. `away`: every call is
    UNAVAILABLE, as if nothing listened. `told`: what watchers were sent.
    """

    def __init__(self) -> None:
        super().__init__(connectors=CONNECTORS, largest_page=1)
        present = {each.name: getattr(self._memory, each.name) for each in _fields(Memory)}
        self._memory: OpenService = OpenService(**present)
        self.away = False
        self.told: list[Message] = []

    @property
    def begun(self) -> list[credential_vault_pb2.BeginAuthorizeRequest]:
        return [each.request for each in self.calls if each.method == "BeginAuthorize"]

    @property
    def callbacks(self) -> list[credential_vault_pb2.CompleteCallbackRequest]:
        return [each.request for each in self.calls if each.method == "CompleteCallback"]

    @property
    def attempts(self) -> dict[str, Attempt]:
        under_way = self._memory.attempts.items()
        return {state: each for state, each in under_way if not each.void and each.outcome is None}

    def grant(self, *scopes: str) -> None:
        self._memory.granted = scopes

    def the_credential(self) -> credential_pb2.Credential:
        (only,) = self._memory.credentials.values()
        return only

    async def _admit(self, call: Call, context: Any) -> None:
        if self.away:
            self.calls.append(call)
            self._tell()
            await context.abort(grpc.StatusCode.UNAVAILABLE, "nothing listens")
        await super()._admit(call, context)

    async def _watch(self, call: Call, context: Any) -> AsyncGenerator[Message, None]:
        async with aclosing(super()._watch(call, context)) as responses:
            async for response in responses:
                yield response
                self.told.append(response)
                self._tell()


def _fields(kind: type[Memory]) -> list[dataclasses.Field[Any]]:
    return [each for each in dataclasses.fields(kind) if each.init]


@dataclass(kw_only=True)
class Frontend:
    """A frontend as another team would write one: its session, its dialog's begin, our routes."""

    client: httpx.AsyncClient
    vault: WebVault
    session: dict[str, str | None] = field(default_factory=lambda: {"user": "demo"})

    async def begin(self) -> str:
        """Begin an authorization; returns the state."""
        await self.client.post("/begin")
        return next(reversed(self.vault.attempts))

    async def callback(self, query: str) -> httpx.Response:
        return await self.client.get(f"/oauth/callback/acme?{query}")


@pytest.fixture
async def vault() -> AsyncIterator[WebVault]:
    async with WebVault() as fake:
        yield fake


@pytest.fixture
async def channel(vault: WebVault) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(vault.target) as channel:
        yield channel


@pytest.fixture(params=["https://flero.example"])
async def frontend(
    vault: WebVault, channel: grpc.aio.Channel, request: pytest.FixtureRequest
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
