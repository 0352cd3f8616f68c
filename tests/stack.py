"""The parts that tests run against, all real: PostgreSQL, the vault's server, emulated services.

async with Emulator.running() as emulator, running_vault(database_url, emulator) as vault:
    credential = await vault.connect("google")
    token = await vault.token(credential.name)
"""

import asyncio
import re
import socket
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
import httpx
import uvicorn
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from pydantic import SecretStr
from starlette.types import ASGIApp

from flero_vault import logs
from flero_vault.core.ports import AuthorizationServer
from flero_vault.core.secret import Secret
from flero_vault.server import running
from flero_vault.settings import Otlp, Settings
from flero_vault_client.v1 import (
    connector_catalog_pb2_grpc,
    credential_pb2,
    credential_vault_pb2,
    credential_vault_pb2_grpc,
    vault_admin_pb2_grpc,
)
from flero_vault_dev.commands import SHIPPED, write_connectors
from flero_vault_dev.emulator.server import create_app

BINDING = "browser-binding-of-a-test-0123456789"
PARENT = "workspaces/acme"
USER = "ada"
DEPLOYMENT = "_deployment"


class _Quiet(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving_http(make: Callable[[str], ASGIApp]) -> AsyncIterator[str]:
    """Serve an app, made for its origin, on a free port; give the origin."""
    listening = socket.create_server(("127.0.0.1", 0))
    origin = f"http://localhost:{listening.getsockname()[1]}"
    config = uvicorn.Config(
        make(origin),
        access_log=False,
        log_level="error",
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = _Quiet(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield origin
    finally:
        server.should_exit = True
        await task
        listening.close()


@dataclass(frozen=True, slots=True)
class Emulator:
    """Emulated services on a real port, and their control interface."""

    origin: str
    http: httpx.AsyncClient

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator["Emulator"]:
        async with (
            serving_http(create_app) as origin,
            httpx.AsyncClient(base_url=origin, timeout=30) as http,
        ):
            yield cls(origin, http)

    async def control(self, connector: str, **settings: object) -> None:
        answer = await self.http.post(f"/_control/{connector}", json=settings)
        assert answer.status_code == 200, answer.text

    async def counters(self, connector: str) -> dict[str, Any]:
        counters: dict[str, Any] = (await self.http.get(f"/_control/{connector}")).json()
        return counters

    async def consent(
        self, url: str, *, account: str = "ada", decision: str = "allow"
    ) -> dict[str, str]:
        """Do what a person does at the consent page; return the callback's parameters."""
        page = await self.http.get(url)
        assert page.status_code == 200, page.text
        action = re.search(r'action="([^"]+)"', page.text)
        request = re.search(r'name="request" value="([^"]+)"', page.text)
        assert action is not None
        assert request is not None
        scopes = re.findall(r'name="scope" value="([^"]+)"', page.text)
        form = {
            "request": request[1],
            "account": account,
            "decision": decision,
            "scope": [unescape(scope) for scope in scopes],
        }
        answer = await self.http.post(unescape(action[1]), data=form)
        assert answer.status_code == 303, answer.text
        query = parse_qs(urlsplit(answer.headers["location"]).query)
        return {key: values[0] for key, values in query.items()}

    async def accepts(self, connector: str, token: str) -> bool:
        """Say whether the service honours an access token."""
        headers = {"Authorization": f"Bearer {token}"}
        return (await self.http.get(f"/{connector}/_api/whoami", headers=headers)).is_success


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a failed call says."""

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: dict[str, str]
    fields: tuple[str, ...]
    retry_after: float | None
    help_url: str


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """Return the details of a failed call."""
    status = rpc_status.from_call(error)
    assert status is not None, error
    details: dict[str, Any] = {}
    for any_detail in status.details:
        detail: AnyMessage = any_detail
        for kind in ("ErrorInfo", "LocalizedMessage", "BadRequest", "RetryInfo", "Help"):
            message = getattr(error_details_pb2, kind)()
            if detail.Unpack(message):
                details[kind] = message
    info = details["ErrorInfo"]
    assert info.domain == "vault.flero.ai"
    bad = details.get("BadRequest")
    retry = details.get("RetryInfo")
    help_detail = details.get("Help")
    return Refusal(
        code=error.code(),
        reason=info.reason,
        message=details["LocalizedMessage"].message,
        metadata=dict(info.metadata),
        fields=tuple(v.field for v in bad.field_violations) if bad else (),
        retry_after=retry.retry_delay.ToMilliseconds() / 1000 if retry else None,
        help_url=help_detail.links[0].url if help_detail else "",
    )


@dataclass(frozen=True, slots=True)
class Vault:
    """A running vault and its stubs."""

    target: str
    emulator: Emulator
    channel: grpc.aio.Channel
    rpc: Any  # CredentialVaultAsyncStub; the stubs' types know it only as a base class
    catalog: Any
    admin: Any

    async def begin(self, connector: str = "google", **fields: Any) -> Any:
        """Begin an authorization with sensible fields."""
        request = {
            "parent": PARENT,
            "connector": connector,
            "display_name": f"My {connector}",
            "credential_scope": credential_pb2.CREDENTIAL_SCOPE_PERSONAL,
            "user": USER,
            "browser_binding": BINDING,
            **fields,
        }
        return await self.rpc.BeginAuthorize(credential_vault_pb2.BeginAuthorizeRequest(**request))

    async def complete(self, connector: str, back: dict[str, str], **fields: Any) -> Any:
        """Bring a callback's parameters to the vault."""
        known = {key: back[key] for key in ("state", "code", "iss", "error") if key in back}
        request: dict[str, Any] = {"connector": connector, "user": USER, "browser_binding": BINDING}
        request |= known | fields
        return await self.rpc.CompleteCallback(
            credential_vault_pb2.CompleteCallbackRequest(**request)
        )

    async def connect(
        self, connector: str = "google", *, account: str = "ada", **fields: Any
    ) -> Any:
        """Go the whole way; return the credential."""
        begun = await self.begin(connector, **fields)
        back = await self.emulator.consent(begun.authorize_url, account=account)
        user = fields.get("user", USER)
        return (await self.complete(connector, back, user=user)).credential

    async def token(self, name: str, **fields: Any) -> Any:
        """Get an access token."""
        request = {"name": name, "user": USER, **fields}
        return await self.rpc.GetAccessToken(
            credential_vault_pb2.GetAccessTokenRequest(**request), timeout=60
        )


def vault_on(channel: grpc.aio.Channel, target: str, emulator: Emulator) -> Vault:
    """Return a Vault over a channel."""
    return Vault(
        target=target,
        emulator=emulator,
        channel=channel,
        rpc=credential_vault_pb2_grpc.CredentialVaultStub(channel),
        catalog=connector_catalog_pb2_grpc.ConnectorCatalogStub(channel),
        admin=vault_admin_pb2_grpc.VaultAdminStub(channel),
    )


def settings_for(database_url: str, emulator: Emulator, folder: Path, **more: Any) -> Settings:
    """Return settings of a vault that talks to the emulator."""
    return Settings(
        database_url=SecretStr(database_url),
        kek=f"local:{folder / 'keyring.json'}",
        connectors_dir=write_connectors(folder / "connectors", emulator.origin),
        allow_loopback_services=True,
        grpc_bind="127.0.0.1:0",
        **more,
    )


@asynccontextmanager
async def running_vault(
    database_url: str,
    emulator: Emulator,
    *,
    servers: AuthorizationServer | None = None,
    otlp: Otlp | None = None,
    **more: Any,
) -> AsyncIterator[Vault]:
    """Run a vault in this process on a free port, with an OAuth app for each connector."""
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_for(database_url, emulator, Path(folder), **more)
        log = logs.configure(json=True)
        async with running(settings, log, servers=servers, otlp=otlp) as server:
            for key in (*SHIPPED, "oidc"):
                await server.offers.put_app(
                    DEPLOYMENT,
                    key,
                    f"flero-dev-{key}",
                    (Secret(f"flero-dev-secret-{key}"),),
                    (emulator.origin,),
                )
            target = f"127.0.0.1:{server.port}"
            async with grpc.aio.insecure_channel(target) as channel:
                yield vault_on(channel, target, emulator)


def fresh_name(parent: str = PARENT) -> str:
    """Return the name of a credential that does not exist."""
    return f"{parent}/credentials/{uuid.uuid4()}"
