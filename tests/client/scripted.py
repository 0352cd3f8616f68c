"""A server that does what a test says, and counts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf import empty_pb2

from flero_vault_client.v1 import (
    credential_pb2,
    credential_vault_pb2,
    credential_vault_pb2_grpc,
)

Trouble = tuple[grpc.StatusCode, tuple[tuple[str, str], ...]]
AWAY: Trouble = (grpc.StatusCode.UNAVAILABLE, ())


@dataclass(kw_only=True)
class Scripted(credential_vault_pb2_grpc.CredentialVaultServicer):
    """Ends the next calls with `troubles`, then answers; never, if it `hangs`."""

    target: str = ""
    server: grpc.aio.Server | None = None
    troubles: list[Trouble] = field(default_factory=list)
    hangs: bool = False
    requests: list[Any] = field(default_factory=list)
    remaining: list[float] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    batch: credential_vault_pb2.BatchGetAccessTokensResponse | None = None

    async def _take(self, request: Any, context: Any) -> None:
        self.requests.append(request)
        self.remaining.append(context.time_remaining())
        self.arrived.set()
        if self.hangs:
            await asyncio.Event().wait()
        if self.troubles:
            code, metadata = self.troubles.pop(0)
            await context.abort(code, "as the test says", metadata)

    async def GetCredential(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._take(request, context)
        return credential_pb2.Credential(name=request.name)

    async def UpdateCredential(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._take(request, context)
        return request.credential

    async def DeleteCredential(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._take(request, context)
        return empty_pb2.Empty()

    async def BeginAuthorize(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._take(request, context)
        return credential_vault_pb2.BeginAuthorizeResponse()

    async def CompleteCallback(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._take(request, context)
        return credential_vault_pb2.CompleteCallbackResponse()

    async def BatchGetAccessTokens(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._take(request, context)
        return self.batch


@asynccontextmanager
async def scripted(**how: Any) -> AsyncIterator[Scripted]:
    servicer = Scripted(**how)  # type: ignore[abstract]  # no test calls the rest
    server = servicer.server = grpc.aio.server()
    credential_vault_pb2_grpc.add_CredentialVaultServicer_to_server(servicer, server)
    servicer.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield servicer
    finally:
        await server.stop(grace=None)
