"""A vault in memory behind real gRPC, for the tests of what stands in front of it.

It has the behaviour that a frontend can see: attempts are single use and bound to user and
browser; refusals come with the details that the real one sends; whoever watches a credential hears
of each change. It takes the codes `code-ada` and `code-grace` and rejects every other. Bend it with
`fake.say_no(...)` (the next CompleteCallback is refused), `fake.away` (every call is UNAVAILABLE,
as if nothing listened) and `fake.grants` (which scopes are granted); wait with `fake.until(...)`.

    async with running_fake_vault() as fake, grpc.aio.insecure_channel(fake.target) as channel:
        ...
        assert fake.callbacks[0].user == "demo"
"""

# ruff: noqa: N802  # the names of RPCs are the protocol's

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf import any_pb2, empty_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from flero_vault_client.v1 import (
    connector_catalog_pb2,
    connector_catalog_pb2_grpc,
    credential_pb2,
    credential_vault_pb2,
    credential_vault_pb2_grpc,
)

Context = grpc.aio.ServicerContext[Any, Any]

ACCOUNTS = {"ada": "Ada Lovelace", "grace": "Grace Hopper"}
SCOPES = ("chat:write", "users:read")

CONNECTORS = (
    connector_catalog_pb2.Connector(
        name="connectors/acme",
        display_name="Acme Chat",
        permissions=[
            credential_pb2.Permission(scope="chat:write", description="Post messages as you"),
            credential_pb2.Permission(scope="users:read", description="See who is in the team"),
        ],
        default_scopes=SCOPES,
        manage_url="https://acme.example/apps",
        configured=True,
    ),
    connector_catalog_pb2.Connector(
        name="connectors/salesfarce",
        display_name="Salesfarce",
        default_scopes=["api"],
        permissions=[credential_pb2.Permission(scope="api", description="Read and change records")],
        connection_params=[
            connector_catalog_pb2.ConnectionParam(
                key="domain",
                description="The host that you sign in at.",
                pattern=r"[a-z0-9-]+\.salesfarce\.example",
                default_value="login.salesfarce.example",
                example="acme.my.salesfarce.example",
            )
        ],
        admin_approval="An administrator may have to allow Flero first.",
        configured=True,
    ),
    connector_catalog_pb2.Connector(
        name="connectors/unset", display_name="Unset", configured=False
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    credential: str
    user: str
    binding: str
    allow_account_change: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class No:
    code: grpc.StatusCode
    reason: str
    sentence: str
    metadata: dict[str, str]
    help_url: str = ""
    fields: Sequence[tuple[str, str]] = ()


class FakeVault(
    credential_vault_pb2_grpc.CredentialVaultServicer,
    connector_catalog_pb2_grpc.ConnectorCatalogServicer,
):
    def __init__(self) -> None:
        self.target = ""
        self.consent_url = "https://service.example"
        self.away = False
        self.grants: Sequence[str] = SCOPES
        self.begun: list[credential_vault_pb2.BeginAuthorizeRequest] = []
        self.callbacks: list[credential_vault_pb2.CompleteCallbackRequest] = []
        self.attempts: dict[str, Attempt] = {}
        self.watchers = 0
        self.told: list[credential_vault_pb2.WatchCredentialResponse] = []
        self._credentials: dict[str, credential_pb2.Credential] = {}
        self._no: No | None = None
        self._changed = asyncio.Condition()

    def say_no(
        self,
        reason: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.FAILED_PRECONDITION,
        sentence: str = "",
        help_url: str = "",
    ) -> None:
        self._no = No(code=code, reason=reason, sentence=sentence, help_url=help_url, metadata={})

    def the_credential(self) -> credential_pb2.Credential:
        (only,) = self._credentials.values()
        return only

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(happened)

    async def change(self, name: str, **fields: Any) -> credential_pb2.Credential:
        credential = self._credentials[name]
        credential.MergeFrom(credential_pb2.Credential(**fields))
        credential.update_time.GetCurrentTime()
        credential.etag = secrets.token_hex(4)
        await self._tell()
        return credential

    # Consent

    async def BeginAuthorize(
        self, request: credential_vault_pb2.BeginAuthorizeRequest, context: Context
    ) -> credential_vault_pb2.BeginAuthorizeResponse:
        await self._here(context)
        self.begun.append(request)
        if not request.credential_scope:
            await _abort(
                context,
                No(
                    code=grpc.StatusCode.INVALID_ARGUMENT,
                    reason="INVALID_FIELD",
                    sentence="Choose who may use the credential.",
                    metadata={},
                    fields=[("credential_scope", "is required")],
                ),
            )
        credential = credential_pb2.Credential(
            name=f"{request.parent}/credentials/{uuid.uuid4()}",
            connector=request.connector,
            display_name=request.display_name,
            credential_scope=request.credential_scope,
            status=credential_pb2.CREDENTIAL_STATUS_PENDING,
            owner=request.user,
            requested_scopes=SCOPES,
            etag="first",
        )
        self._credentials[credential.name] = credential
        answer = credential_vault_pb2.BeginAuthorizeResponse(
            credential=credential,
            authorize_url=self._attempt(credential, request.user, request.browser_binding),
        )
        _in_ten_minutes(answer)
        return answer

    async def Reauthenticate(
        self, request: credential_vault_pb2.ReauthenticateRequest, context: Context
    ) -> credential_vault_pb2.ReauthenticateResponse:
        credential = await self._find(request.name, context)
        answer = credential_vault_pb2.ReauthenticateResponse(
            credential=credential,
            authorize_url=self._attempt(
                credential,
                request.user,
                request.browser_binding,
                allow_account_change=request.allow_account_change,
            ),
        )
        _in_ten_minutes(answer)
        return answer

    async def CompleteCallback(
        self, request: credential_vault_pb2.CompleteCallbackRequest, context: Context
    ) -> credential_vault_pb2.CompleteCallbackResponse:
        self.callbacks.append(request)
        await self._tell()
        await self._here(context)
        if self._no:
            no, self._no = self._no, None
            await _abort(context, no)
        attempt = self.attempts.pop(request.state, None)
        if (
            attempt is None
            or attempt.user != request.user
            or attempt.binding != request.browser_binding
        ):
            await self._refuse(
                context, None, "STATE_INVALID", "This authorization is no longer valid."
            )
        credential = self._credentials[attempt.credential]
        if request.error:
            await self._refuse(
                context,
                credential,
                "CONSENT_DENIED",
                f"You did not allow Flero to use {credential.connector}.",
            )
        account = request.code.partition("-")[2]
        if account not in ACCOUNTS:
            await self._refuse(context, credential, "CODE_REJECTED", "The code was refused.")
        if credential.account.id not in {"", account} and not attempt.allow_account_change:
            await self._refuse(
                context,
                credential,
                "ACCOUNT_MISMATCH",
                f"You signed in as {ACCOUNTS[account]}, not as {credential.account.label}.",
            )
        credential.ClearField("status_reason")
        credential.ClearField("granted_scopes")
        await self.change(
            credential.name,
            status=credential_pb2.CREDENTIAL_STATUS_ACTIVE,
            account=credential_pb2.Account(id=account, label=ACCOUNTS[account]),
            granted_scopes=self.grants,
            authorized_by=request.user,
        )
        return credential_vault_pb2.CompleteCallbackResponse(
            credential=credential,
            missing_scopes=[each for each in SCOPES if each not in self.grants],
        )

    # Life

    async def GetCredential(
        self, request: credential_vault_pb2.GetCredentialRequest, context: Context
    ) -> credential_pb2.Credential:
        return await self._find(request.name, context)

    async def ListCredentials(
        self, _request: credential_vault_pb2.ListCredentialsRequest, context: Context
    ) -> credential_vault_pb2.ListCredentialsResponse:
        await self._here(context)
        return credential_vault_pb2.ListCredentialsResponse(credentials=self._credentials.values())

    async def UpdateCredential(
        self, request: credential_vault_pb2.UpdateCredentialRequest, context: Context
    ) -> credential_pb2.Credential:
        credential = await self._find(request.credential.name, context)
        if request.credential.etag not in {"", credential.etag}:
            await _abort(
                context,
                No(
                    code=grpc.StatusCode.ABORTED,
                    reason="ETAG_MISMATCH",
                    sentence="Somebody changed it meanwhile.",
                    metadata={},
                ),
            )
        changes = {path: getattr(request.credential, path) for path in request.update_mask.paths}
        return await self.change(credential.name, **changes)

    async def DeleteCredential(
        self, request: credential_vault_pb2.DeleteCredentialRequest, context: Context
    ) -> empty_pb2.Empty:
        await self._find(request.name, context)
        del self._credentials[request.name]
        self.attempts = {
            state: attempt
            for state, attempt in self.attempts.items()
            if attempt.credential != request.name
        }
        await self._tell()
        return empty_pb2.Empty()

    async def CheckCredential(
        self, request: credential_vault_pb2.CheckCredentialRequest, context: Context
    ) -> credential_pb2.Credential:
        return await self._find(request.name, context)

    async def Revoke(
        self, request: credential_vault_pb2.RevokeRequest, context: Context
    ) -> credential_vault_pb2.RevokeResponse:
        await self._find(request.name, context)
        credential = await self.change(
            request.name, status=credential_pb2.CREDENTIAL_STATUS_REVOKED
        )
        return credential_vault_pb2.RevokeResponse(
            credential=credential,
            service_revocation=credential_pb2.SERVICE_REVOCATION_DONE
            if request.revoke_at_service
            else credential_pb2.SERVICE_REVOCATION_NOT_REQUESTED,
        )

    async def WatchCredential(
        self, request: credential_vault_pb2.WatchCredentialRequest, context: Context
    ) -> AsyncIterator[credential_vault_pb2.WatchCredentialResponse]:
        self.watchers += 1
        await self._tell()
        try:
            while True:
                credential = await self._find(request.name, context)
                seen = credential.etag
                answer = credential_vault_pb2.WatchCredentialResponse(credential=credential)
                yield answer
                self.told.append(answer)
                await self._tell()
                async with self._changed:
                    while self._etag(request.name) == seen:
                        await self._changed.wait()
        finally:
            self.watchers -= 1
            await self._tell()

    # Catalogue

    async def ListConnectors(
        self, request: connector_catalog_pb2.ListConnectorsRequest, context: Context
    ) -> connector_catalog_pb2.ListConnectorsResponse:
        """One connector a page, so that nobody forgets to turn it."""
        await self._here(context)
        place = int(request.page_token or 0)
        following = str(place + 1) if place + 1 < len(CONNECTORS) else ""
        return connector_catalog_pb2.ListConnectorsResponse(
            connectors=[CONNECTORS[place]], next_page_token=following
        )

    # No frontend calls the rest.

    def GetConnector(
        self, _request: connector_catalog_pb2.GetConnectorRequest, _context: Context
    ) -> connector_catalog_pb2.Connector:
        raise NotImplementedError

    def GetAccessToken(
        self, _request: credential_vault_pb2.GetAccessTokenRequest, _context: Context
    ) -> credential_vault_pb2.GetAccessTokenResponse:
        raise NotImplementedError

    def BatchGetAccessTokens(
        self, _request: credential_vault_pb2.BatchGetAccessTokensRequest, _context: Context
    ) -> credential_vault_pb2.BatchGetAccessTokensResponse:
        raise NotImplementedError

    def ListEvents(
        self, _request: credential_vault_pb2.ListEventsRequest, _context: Context
    ) -> credential_vault_pb2.ListEventsResponse:
        raise NotImplementedError

    def WatchEvents(
        self, _request: credential_vault_pb2.WatchEventsRequest, _context: Context
    ) -> AsyncIterator[credential_vault_pb2.WatchEventsResponse]:
        raise NotImplementedError

    # Inside

    def _attempt(
        self,
        credential: credential_pb2.Credential,
        user: str,
        binding: str,
        *,
        allow_account_change: bool = False,
    ) -> str:
        state = f"demo.{secrets.token_urlsafe(24)}"
        self.attempts[state] = Attempt(
            credential=credential.name,
            user=user,
            binding=binding,
            allow_account_change=allow_account_change,
        )
        return f"{self.consent_url}/{credential.connector}/authorize?state={state}"

    def _etag(self, name: str) -> str:
        return self._credentials[name].etag if name in self._credentials else "gone"

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _here(self, context: Context) -> None:
        if self.away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "nothing listens")

    async def _find(self, name: str, context: Context) -> credential_pb2.Credential:
        await self._here(context)
        if name not in self._credentials:
            await _abort(
                context,
                No(
                    code=grpc.StatusCode.NOT_FOUND,
                    reason="CREDENTIAL_NOT_FOUND",
                    sentence="There is no such credential.",
                    metadata={"credential": name},
                ),
            )
        return self._credentials[name]

    async def _refuse(
        self,
        context: Context,
        credential: credential_pb2.Credential | None,
        reason: str,
        sentence: str,
    ) -> NoReturn:
        metadata = {}
        if credential is not None:
            metadata["credential"] = credential.name
            why = credential_pb2.StatusReason(reason=reason, message=sentence)
            why.time.GetCurrentTime()
            await self.change(credential.name, status_reason=why)
        await _abort(
            context,
            No(
                code=grpc.StatusCode.FAILED_PRECONDITION,
                reason=reason,
                sentence=sentence,
                metadata=metadata,
            ),
        )


@asynccontextmanager
async def running_fake_vault(fake: FakeVault | None = None) -> AsyncIterator[FakeVault]:
    fake = fake or FakeVault()
    server = grpc.aio.server()
    credential_vault_pb2_grpc.add_CredentialVaultServicer_to_server(fake, server)
    connector_catalog_pb2_grpc.add_ConnectorCatalogServicer_to_server(fake, server)
    fake.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield fake
    finally:
        await server.stop(grace=None)


async def _abort(context: Context, no: No) -> NoReturn:
    details: list[Message] = [
        error_details_pb2.ErrorInfo(
            reason=no.reason, domain="vault.flero.ai", metadata=no.metadata
        ),
        error_details_pb2.LocalizedMessage(locale="en", message=no.sentence),
    ]
    if no.help_url:
        link = error_details_pb2.Help.Link(url=no.help_url)
        details.append(error_details_pb2.Help(links=[link]))
    if no.fields:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
            for field, description in no.fields
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    status = status_pb2.Status(code=no.code.value[0], message=no.reason)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    await context.abort_with_status(rpc_status.to_status(status))


def _in_ten_minutes(
    answer: credential_vault_pb2.BeginAuthorizeResponse
    | credential_vault_pb2.ReauthenticateResponse,
) -> None:
    answer.expire_time.GetCurrentTime()
    answer.expire_time.seconds += 600
