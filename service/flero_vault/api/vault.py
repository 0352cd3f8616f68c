"""`service CredentialVault`: each method parses, asks a use case, and converts."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from google.protobuf.empty_pb2 import Empty

from flero_vault.api import convert, paging
from flero_vault.api.calls import BATCH_REPLY_MARGIN_S, Calls, deadline, not_served
from flero_vault.api.fields import UPDATABLE, check, check_inside
from flero_vault.api.status import to_status
from flero_vault.core.authorize import (
    Authorize,
    BeginRequest,
    Begun,
    CallbackRequest,
    ReauthenticateRequest,
)
from flero_vault.core.credentials import Change, Credentials
from flero_vault.core.decisions import MIN_TTL_DEFAULT
from flero_vault.core.errors import InvalidField, VaultError, Violation
from flero_vault.core.model import CredentialName, parse_workspace
from flero_vault.core.revoke import Revoke
from flero_vault.core.secret import Secret
from flero_vault.core.tokens import TokenRequest, Tokens
from flero_vault_client.v1 import credential_pb2, credential_vault_pb2, credential_vault_pb2_grpc

if TYPE_CHECKING:
    import grpc

    Context = grpc.aio.ServicerContext[Any, Any]

CALLER = "local"
"""Who calls, until callers are authenticated: a process of this machine."""


class VaultServicer(credential_vault_pb2_grpc.CredentialVaultServicer):
    """Serves CredentialVault."""

    def __init__(
        self,
        *,
        authorize: Authorize,
        tokens: Tokens,
        credentials: Credentials,
        revoke: Revoke,
        calls: Calls,
    ) -> None:
        self._authorize = authorize
        self._tokens = tokens
        self._credentials = credentials
        self._revoke = revoke
        self._calls = calls

    async def BeginAuthorize(  # noqa: N802 - the method's name in the protos
        self, request: credential_vault_pb2.BeginAuthorizeRequest, context: "Context"
    ) -> credential_vault_pb2.BeginAuthorizeResponse:
        """Make a PENDING credential and the URL of its consent page."""

        async def serve() -> credential_vault_pb2.BeginAuthorizeResponse:
            begun = await self._authorize.begin(
                BeginRequest(
                    workspace=parse_workspace(request.parent),
                    connector=request.connector,
                    display_name=request.display_name,
                    scope=convert.scope_of(request.credential_scope),
                    user=request.user,
                    requested_scopes=tuple(request.requested_scopes),
                    connection_params=dict(request.connection_params),
                    login_hint=request.login_hint,
                    browser_binding=Secret(request.browser_binding),
                    request_id=request.request_id,
                    caller=CALLER,
                )
            )
            return credential_vault_pb2.BeginAuthorizeResponse(
                credential=convert.credential(begun.credential),
                authorize_url=_url(begun),
                permissions=[convert.permission(p) for p in begun.permissions],
                expire_time=convert.timestamp(begun.expire_time),
            )

        return await self._calls.unary(request, context, serve)

    async def CompleteCallback(  # noqa: N802
        self, request: credential_vault_pb2.CompleteCallbackRequest, context: "Context"
    ) -> credential_vault_pb2.CompleteCallbackResponse:
        """Take what came back to the callback URL."""

        async def serve() -> credential_vault_pb2.CompleteCallbackResponse:
            if bool(request.code) == bool(request.error):
                raise InvalidField(Violation("code", "must be set, unless error is"))
            completed = await self._authorize.complete(
                CallbackRequest(
                    connector=request.connector,
                    state=Secret(request.state),
                    code=Secret(request.code) if request.code else None,
                    iss=request.iss,
                    error=request.error,
                    extra_params=dict(request.extra_params),
                    user=request.user,
                    browser_binding=Secret(request.browser_binding),
                )
            )
            return credential_vault_pb2.CompleteCallbackResponse(
                credential=convert.credential(completed.credential),
                missing_scopes=completed.missing_scopes,
            )

        return await self._calls.unary(request, context, serve)

    async def GetAccessToken(  # noqa: N802
        self, request: credential_vault_pb2.GetAccessTokenRequest, context: "Context"
    ) -> credential_vault_pb2.GetAccessTokenResponse:
        """Return a token that is valid now."""

        async def serve() -> credential_vault_pb2.GetAccessTokenResponse:
            token = await self._tokens.get(_token_request(request), deadline(context))
            return convert.access_token(token)

        return await self._calls.unary(request, context, serve)

    async def BatchGetAccessTokens(  # noqa: N802
        self, request: credential_vault_pb2.BatchGetAccessTokensRequest, context: "Context"
    ) -> credential_vault_pb2.BatchGetAccessTokensResponse:
        """Return many tokens, each with its own success or error."""

        async def serve() -> credential_vault_pb2.BatchGetAccessTokensResponse:
            workspace = parse_workspace(request.parent)
            response = credential_vault_pb2.BatchGetAccessTokensResponse()
            results = [response.results.add() for _ in request.requests]
            asked: list[TokenRequest] = []
            places: list[int] = []
            for place, each in enumerate(request.requests):
                try:
                    asked.append(_item(workspace, each, f"requests[{place}]"))
                    places.append(place)
                except InvalidField as error:
                    results[place].error.CopyFrom(to_status(error))
            outcomes = await self._tokens.get_many(
                workspace, asked, deadline(context, BATCH_REPLY_MARGIN_S)
            )
            for place, outcome in zip(places, outcomes, strict=True):
                if isinstance(outcome, VaultError):
                    results[place].error.CopyFrom(to_status(outcome))
                else:
                    convert.into_token(outcome, results[place].token)
            return response

        return await self._calls.unary(request, context, serve)

    async def Reauthenticate(  # noqa: N802
        self, request: credential_vault_pb2.ReauthenticateRequest, context: "Context"
    ) -> credential_vault_pb2.ReauthenticateResponse:
        """Start the consent again for a credential that exists."""

        async def serve() -> credential_vault_pb2.ReauthenticateResponse:
            begun = await self._authorize.reauthenticate(
                ReauthenticateRequest(
                    name=CredentialName.parse(request.name),
                    user=request.user,
                    requested_scopes=tuple(request.requested_scopes),
                    allow_account_change=request.allow_account_change,
                    login_hint=request.login_hint,
                    browser_binding=Secret(request.browser_binding),
                    request_id=request.request_id,
                    caller=CALLER,
                )
            )
            return credential_vault_pb2.ReauthenticateResponse(
                credential=convert.credential(begun.credential),
                authorize_url=_url(begun),
                permissions=[convert.permission(p) for p in begun.permissions],
                expire_time=convert.timestamp(begun.expire_time),
            )

        return await self._calls.unary(request, context, serve)

    async def Revoke(  # noqa: N802
        self, request: credential_vault_pb2.RevokeRequest, context: "Context"
    ) -> credential_vault_pb2.RevokeResponse:
        """Stop a credential."""

        async def serve() -> credential_vault_pb2.RevokeResponse:
            revoked = await self._revoke.revoke(
                CredentialName.parse(request.name),
                request.user,
                at_service=request.revoke_at_service,
            )
            return credential_vault_pb2.RevokeResponse(
                credential=convert.credential(revoked.credential),
                service_revocation=convert.revocation(revoked.service_revocation),
                manage_url=revoked.manage_url,
            )

        return await self._calls.unary(request, context, serve)

    async def GetCredential(  # noqa: N802
        self, request: credential_vault_pb2.GetCredentialRequest, context: "Context"
    ) -> credential_pb2.Credential:
        """Return one credential."""

        async def serve() -> credential_pb2.Credential:
            name = CredentialName.parse(request.name)
            return convert.credential(await self._credentials.get(name, request.user))

        return await self._calls.unary(request, context, serve)

    async def ListCredentials(  # noqa: N802
        self, request: credential_vault_pb2.ListCredentialsRequest, context: "Context"
    ) -> credential_vault_pb2.ListCredentialsResponse:
        """List what the user can see."""

        async def serve() -> credential_vault_pb2.ListCredentialsResponse:
            size = paging.page_size(request.page_size)
            found = await self._credentials.list(
                parse_workspace(request.parent),
                request.user,
                paging.parse_filter(request.filter),
                paging.time_and_id(paging.position(request, request.page_token, 2)),
                size + 1,
            )
            page = found[:size]
            token = ""
            if len(found) > size:
                last = page[-1]
                token = paging.page_token(request, last.create_time.isoformat(), str(last.name.id))
            return credential_vault_pb2.ListCredentialsResponse(
                credentials=[convert.credential(c) for c in page], next_page_token=token
            )

        return await self._calls.unary(request, context, serve)

    async def UpdateCredential(  # noqa: N802
        self, request: credential_vault_pb2.UpdateCredentialRequest, context: "Context"
    ) -> credential_pb2.Credential:
        """Change what a person may change."""

        async def serve() -> credential_pb2.Credential:
            name, change = _change(request)
            etag = request.credential.etag
            return convert.credential(
                await self._credentials.update(name, request.user, change, etag)
            )

        return await self._calls.unary(request, context, serve)

    async def DeleteCredential(  # noqa: N802
        self, request: credential_vault_pb2.DeleteCredentialRequest, context: "Context"
    ) -> Empty:
        """Delete a credential."""

        async def serve() -> Empty:
            name = CredentialName.parse(request.name)
            await self._credentials.delete(name, request.user, request.etag)
            return Empty()

        return await self._calls.unary(request, context, serve)

    async def CheckCredential(  # noqa: N802
        self, request: credential_vault_pb2.CheckCredentialRequest, context: "Context"
    ) -> credential_pb2.Credential:
        """Ask the service now."""

        async def serve() -> credential_pb2.Credential:
            name = CredentialName.parse(request.name)
            return convert.credential(
                await self._credentials.check(name, request.user, deadline(context))
            )

        return await self._calls.unary(request, context, serve)

    async def WatchCredential(  # noqa: N802
        self, request: credential_vault_pb2.WatchCredentialRequest, context: "Context"
    ) -> AsyncIterator[credential_vault_pb2.WatchCredentialResponse]:
        """Stream the credential as it changes."""

        async def serve() -> AsyncIterator[credential_vault_pb2.WatchCredentialResponse]:
            name = CredentialName.parse(request.name)
            async for credential in self._credentials.watch(name, request.user):
                yield credential_vault_pb2.WatchCredentialResponse(
                    credential=convert.credential(credential)
                )

        async for response in self._calls.stream(request, context, serve):
            yield response

    async def ListEvents(  # noqa: N802
        self, request: credential_vault_pb2.ListEventsRequest, context: "Context"
    ) -> credential_vault_pb2.ListEventsResponse:
        """Not served yet."""
        return await self._calls.unary(request, context, not_served)

    async def WatchEvents(  # noqa: N802
        self, request: credential_vault_pb2.WatchEventsRequest, context: "Context"
    ) -> AsyncIterator[credential_vault_pb2.WatchEventsResponse]:
        """Not served yet."""
        yield await self._calls.unary(request, context, not_served)


def _token_request(request: credential_vault_pb2.GetAccessTokenRequest) -> TokenRequest:
    min_ttl = MIN_TTL_DEFAULT
    if request.HasField("min_ttl"):
        wanted = request.min_ttl
        min_ttl = timedelta(seconds=wanted.seconds, microseconds=wanted.nanos / 1000)
    return TokenRequest(
        name=CredentialName.parse(request.name),
        user=request.user,
        min_ttl=min_ttl,
        rejected_token_sha256=request.rejected_token_sha256,
        required_scopes=tuple(request.required_scopes),
        slot=request.slot,
    )


def _item(
    workspace: str, request: credential_vault_pb2.GetAccessTokenRequest, place: str
) -> TokenRequest:
    """Return one request of a batch.

    Raises:
        InvalidField: with its violations, named by its place in the batch.

    """
    try:
        check(request)
    except InvalidField as error:
        raise InvalidField(
            *(Violation(f"{place}.{each.field}", each.remedy) for each in error.violations)
        ) from None
    item = _token_request(request)
    if item.name.workspace != workspace:
        raise InvalidField(Violation(f"{place}.name", "must belong to the workspace of `parent`"))
    return item


def _url(begun: Begun) -> str:
    return begun.url.reveal() if begun.url else ""


def _change(
    request: credential_vault_pb2.UpdateCredentialRequest,
) -> tuple[CredentialName, Change]:
    """Return what to change.

    Raises:
        InvalidField: the credential inside is malformed, or a field is to be emptied.

    """
    credential = request.credential
    mask = list(request.update_mask.paths) or [p for p in UPDATABLE if getattr(credential, p)]
    if not mask:
        raise InvalidField(Violation("update_mask", "must name what to change"))
    check_inside("credential", credential, required=("name", *mask), optional=("etag",))
    return CredentialName.parse(credential.name), Change(
        display_name=credential.display_name if "display_name" in mask else None,
        scope=convert.scope_of(credential.credential_scope) if "credential_scope" in mask else None,
        owner=credential.owner if "owner" in mask else None,
    )
