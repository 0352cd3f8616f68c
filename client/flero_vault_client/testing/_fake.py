"""FakeVault: the memory behind a gRPC server, and what a test may do to it."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from flero_vault_client._values import Connector, Credential, CredentialScope, Permission
from flero_vault_client._values import scope_number as number_of
from flero_vault_client.testing._checks import check
from flero_vault_client.testing._memory import Consent, Memory, issuer
from flero_vault_client.testing._refused import Refused
from flero_vault_client.v1 import connector_catalog_pb2, credential_pb2, credential_vault_pb2

PATIENCE: Final = 5.0
BINDING: Final = "browser-binding-of-the-fake-vault"

CONNECTORS: Final = (
    Connector(
        name="connectors/google",
        display_name="Google",
        default_scopes=("openid", "https://www.googleapis.com/auth/userinfo.email"),
        permissions=(
            Permission(scope="openid", description="Know which Google account is connected"),
            Permission(
                scope="https://www.googleapis.com/auth/userinfo.email",
                description="See the account's email address",
            ),
        ),
        manage_url="https://myaccount.google.com/connections",
        access_token_lifetime=timedelta(hours=1),
    ),
    Connector(
        name="connectors/slack",
        display_name="Slack",
        default_scopes=("chat:write", "channels:read"),
        permissions=(
            Permission(scope="chat:write", description="Post messages as the app"),
            Permission(
                scope="channels:read", description="See the names and topics of public channels"
            ),
        ),
        slots=("bot", "user"),
    ),
)

Context = grpc.aio.ServicerContext[Any, Any]
_SERVICES: Final = (
    credential_vault_pb2.DESCRIPTOR.services_by_name["CredentialVault"],
    connector_catalog_pb2.DESCRIPTOR.services_by_name["ConnectorCatalog"],
)


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it arrived: the RPC's name, its message, and its metadata."""

    method: str
    request: Any = field(repr=False)
    metadata: Mapping[str, str | bytes] = field(repr=False)


class FakeVault:
    """A vault in memory on a free port of 127.0.0.1, to be used with `async with`.

    - `target`: what a client connects to; the same after `stop` and `start`.
    - `calls`: every call that arrived, in order.
    - `watchers`: how many WatchCredential streams are open.
    - `now`: the vault's time; it stands still until `advance`.

    `token_lifetime` is how long the service's tokens live; `largest_page` caps the pages of lists,
    so that a test can see them turned; with `credentials` it speaks TLS.
    """

    def __init__(
        self,
        *,
        connectors: Sequence[Connector] = CONNECTORS,
        token_lifetime: timedelta = timedelta(hours=1),
        largest_page: int = 1000,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self.calls: list[Call] = []
        self.watchers = 0
        self._memory = Memory(
            now=datetime.now(UTC).replace(microsecond=0),
            connectors={each.key: each for each in connectors},
            token_lifetime=token_lifetime,
            largest_page=largest_page,
        )
        self._credentials = credentials
        self._failures: list[Refused] = []
        self._changed = asyncio.Event()
        self._server: grpc.aio.Server | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        await self.stop()

    @property
    def target(self) -> str:
        """What a client connects to."""
        return f"127.0.0.1:{self._port}"

    @property
    def now(self) -> datetime:
        """The vault's time."""
        return self._memory.now

    async def start(self) -> None:
        """Listen; after `stop` on the same port, with everything as it was.

        Raises:
            RuntimeError: it listens already, or somebody else took the port.

        """
        if self._server is not None:
            raise RuntimeError("this FakeVault is running already")
        server = grpc.aio.server(
            options=[
                # A server that is still stopping must not share the port.
                ("grpc.so_reuseport", 0),
                # Clients of the vault keep idle connections alive.
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 5000),
            ]
        )
        server.add_generic_rpc_handlers([self._handlers(service) for service in _SERVICES])
        address = f"127.0.0.1:{self._port}"
        if self._credentials is None:
            self._port = server.add_insecure_port(address)
        else:
            self._port = server.add_secure_port(address, self._credentials)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Play an outage: break every call and refuse connections. Nothing is forgotten."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace=None)

    # What a person and a service do

    async def consent(
        self,
        authorize_url: str,
        *,
        account: str = "ada",
        decision: str = "allow",
        scopes: Sequence[str] | None = None,
    ) -> dict[str, str]:
        """Do what a person does at the consent page; return the callback's parameters.

        `decision` is `allow` or anything else; `scopes` are those that the person ticks, None: all.

        Raises:
            ValueError: the URL is none that this vault gave.

        """
        state = parse_qs(urlsplit(authorize_url).query).get("state", [""])[0]
        attempt = self._memory.attempts.get(state)
        if attempt is None:
            raise ValueError("this is no authorize_url of this vault")
        params = {"state": state, "iss": issuer(attempt.connector)}
        if decision != "allow":
            return params | {"error": "access_denied"}
        code = secrets.token_urlsafe(16)
        self._memory.codes[state, code] = Consent(
            account=credential_pb2.Account(
                id=account, email=f"{account}@example.com", label=account.title()
            ),
            scopes=attempt.scopes if scopes is None else tuple(scopes),
        )
        return params | {"code": code}

    async def connect(
        self,
        connector: str = "google",
        *,
        user: str,
        parent: str = "workspaces/demo",
        display_name: str = "A credential",
        credential_scope: CredentialScope = CredentialScope.PERSONAL,
        account: str = "ada",
    ) -> Credential:
        """Make an ACTIVE credential without going through the RPCs.

        Raises:
            ValueError: the vault would refuse it.

        """
        begin = credential_vault_pb2.BeginAuthorizeRequest(
            parent=parent,
            connector=connector,
            display_name=display_name,
            credential_scope=number_of(credential_scope),
            user=user,
            browser_binding=BINDING,
        )
        try:
            check(begin)
            begun = self._memory.begin_authorize(begin)
        except Refused as refused:
            raise ValueError(refused.sentence) from None
        back = await self.consent(begun.authorize_url, account=account)
        callback = credential_vault_pb2.CompleteCallbackRequest(
            connector=connector,
            user=user,
            browser_binding=BINDING,
            state=back["state"],
            code=back["code"],
        )
        completed = self._memory.complete_callback(callback)
        self._tell()
        return Credential.of(completed.credential)

    def advance(self, seconds: float) -> None:
        """Let time pass; tokens, consents and idempotency keys grow old."""
        self._memory.now += timedelta(seconds=seconds)

    def expire(self, name: str) -> None:
        """Have the service no longer honour a credential's grant: it becomes EXPIRED.

        Raises:
            KeyError: there is no such credential.

        """
        self._memory.expire(name)
        self._tell()

    def accepts(self, token: str) -> bool:
        """Say whether the service honours an access token now."""
        return self._memory.accepts(token)

    def credential(self, name: str) -> Credential:
        """Return a credential, whoever may see it.

        Raises:
            KeyError: there is no such credential.

        """
        return Credential.of(self._memory.credentials[name])

    # Trouble

    def fail_next(
        self,
        reason: str,
        *,
        retry_after: float | None = None,
        user_message: str = "The fake vault was told to fail.",
        help_url: str = "",
    ) -> None:
        """Have the next call end with this reason of `error_reason.proto`.

        Several of these wait for one call each. `retry_after` is in seconds.
        """
        self._failures.append(
            Refused(reason, user_message, retry_after=retry_after, help_url=help_url)
        )

    async def until(self, happened: Callable[[], bool], *, timeout: float = PATIENCE) -> None:
        """Wait until something is so; asked again after each call and change.

        Raises:
            TimeoutError: it was not so for `timeout` seconds.

        """
        async with asyncio.timeout(timeout):
            while not happened():
                await self._changed.wait()

    # Inside

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _admit(self, call: Call, context: Context) -> None:
        """Let a call in, or end it."""
        del context
        self.calls.append(call)
        self._tell()
        if self._failures:
            raise self._failures.pop(0)
        check(call.request)

    def _handlers(self, service: ServiceDescriptor) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            service.full_name, {method.name: self._handler(method) for method in service.methods}
        )

    def _handler(self, method: MethodDescriptor) -> "grpc.RpcMethodHandler[Any, Any]":
        parse = GetMessageClass(method.input_type).FromString
        pack = GetMessageClass(method.output_type).SerializeToString
        name = method.name
        if method.server_streaming:

            async def stream(request: Message, context: Context) -> AsyncIterator[Message]:
                watch = self._watch(_call(name, request, context), context)
                try:
                    # Closed here and now, so that `watchers` is right when a call has ended.
                    async with aclosing(watch):
                        async for response in watch:
                            yield response
                except Refused as refused:
                    await refused.end(context)

            return grpc.unary_stream_rpc_method_handler(
                stream, request_deserializer=parse, response_serializer=pack
            )

        async def unary(request: Message, context: Context) -> Message:
            try:
                return await self._serve(_call(name, request, context), context)
            except Refused as refused:
                await refused.end(context)

        return grpc.unary_unary_rpc_method_handler(
            unary, request_deserializer=parse, response_serializer=pack
        )

    async def _serve(self, call: Call, context: Context) -> Message:
        await self._admit(call, context)
        name = "".join(f"_{c.lower()}" if c.isupper() else c for c in call.method).lstrip("_")
        serve: Callable[[Any], Message] | None = getattr(self._memory, name, None)
        if serve is None:
            raise _not_served()
        try:
            return serve(call.request)
        finally:
            # A refusal changes things too: it is written down at the credential.
            self._tell()

    async def _watch(self, call: Call, context: Context) -> AsyncGenerator[Message, None]:
        await self._admit(call, context)
        if call.method != "WatchCredential":
            raise _not_served()
        self.watchers += 1
        self._tell()
        seen = None
        try:
            while True:
                credential = self._memory.find(call.request.name, call.request.user)
                now = _visible_state(credential)
                if now == seen:
                    await self._changed.wait()
                    continue
                seen = now
                response = credential_vault_pb2.WatchCredentialResponse()
                response.credential.CopyFrom(credential)
                yield response
        finally:
            self.watchers -= 1
            self._tell()


def _call(method: str, request: Message, context: Context) -> Call:
    return Call(method, request, dict(context.invocation_metadata() or ()))


def _visible_state(credential: credential_pb2.Credential) -> bytes:
    """Return what a watcher hears of: everything but when a token was last used."""
    copy = credential_pb2.Credential()
    copy.CopyFrom(credential)
    copy.ClearField("last_used_time")
    return copy.SerializeToString(deterministic=True)


def _not_served() -> Refused:
    return Refused(
        "METHOD_NOT_SERVED",
        "This version of the credential vault does not serve this yet.",
    )
