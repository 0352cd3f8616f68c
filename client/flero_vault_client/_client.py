"""VaultClient: the vault's RPCs as methods that take and return values.

- The channel is made in `__aenter__`, in the loop that uses it, and serves until `__aexit__`; it
  reconnects by itself, so a client is never rebuilt because a vault was restarted.
- Every unary call has a deadline, and retries of gRPC happen within it.
- Every failure is a VaultError. Cancellation stays asyncio.CancelledError.
"""

import asyncio
import random
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import grpc
import grpc.aio

from flero_vault_client._channel import Metadata, Tls, open_channel, require_safe
from flero_vault_client._errors import VaultError, error_in, error_of
from flero_vault_client._values import (
    AccessToken,
    Begun,
    Completed,
    Connector,
    Credential,
    CredentialScope,
    Revoked,
    TokenRequest,
    scope_number,
    several,
)
from flero_vault_client.v1 import (
    connector_catalog_pb2,
    connector_catalog_pb2_grpc,
    credential_pb2,
    credential_vault_pb2,
    credential_vault_pb2_grpc,
)

if TYPE_CHECKING:
    # The stubs of a grpc.aio channel have these types for the type checker only.
    from flero_vault_client.v1.connector_catalog_pb2_grpc import ConnectorCatalogAsyncStub
    from flero_vault_client.v1.credential_vault_pb2_grpc import CredentialVaultAsyncStub

DEFAULT_TIMEOUT: Final = 30.0
CALLBACK_PATIENCE: Final = 2
"""CompleteCallback waits for a service that exchanges a code: this many usual timeouts."""
PAGE_SIZE: Final = 1000
WATCH_PAUSE_FIRST: Final = 0.2
WATCH_PAUSE_MAX: Final = 5.0

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class _Open:
    """A channel and its stubs."""

    channel: grpc.aio.Channel
    vault: "CredentialVaultAsyncStub"
    catalog: "ConnectorCatalogAsyncStub"


class VaultClient:
    """A client of the credential vault, to be used with `async with`.

    - `target`: any gRPC target: `vault:50051`, `dns:///vault:50051` (all addresses of a name, in
      turn), `ipv4:10.0.0.1:50051,10.0.0.2:50051`, `unix:/run/vault.sock`.
    - `tls`: None connects in the clear.
    - `token`: called for each RPC; what it returns proves who calls. `bearer_from` makes one.
    - `timeout`: seconds that a unary call may take if it says nothing else; CompleteCallback,
      which waits for a service, may take twice as long. Streams have no deadline.

    Every method raises VaultError; RuntimeError outside of `async with`.

    Raises:
        ValueError: `token` without `tls` for a target that is not on this machine.

    """

    def __init__(
        self,
        target: str,
        *,
        tls: Tls | None = None,
        token: Callable[[], str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        require_safe(target, tls=tls, with_token=token is not None)
        self._target = target
        self._tls = tls
        self._token = token
        self._timeout = timeout
        self._open: _Open | None = None

    def __repr__(self) -> str:
        return f"<VaultClient {self._target}>"

    async def __aenter__(self) -> Self:
        """Open the channel; nothing is sent yet.

        Raises:
            RuntimeError: the client is open already.
            OSError: a file of `tls` cannot be read.

        """
        if self._open is not None:
            raise RuntimeError("this VaultClient is open already")
        channel = open_channel(self._target, self._tls)
        self._open = _Open(
            channel,
            credential_vault_pb2_grpc.CredentialVaultStub(channel),
            connector_catalog_pb2_grpc.ConnectorCatalogStub(channel),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the channel; calls under way are cancelled."""
        stubs, self._open = self._stubs, None
        await stubs.channel.close()

    # Consent

    async def begin_authorize(
        self,
        parent: str,
        *,
        connector: str,
        display_name: str,
        credential_scope: CredentialScope,
        user: str,
        browser_binding: str,
        requested_scopes: Sequence[str] = (),
        connection_params: Mapping[str, str] | None = None,
        login_hint: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Begun:
        """Make a PENDING credential and the URL of the consent page to open in a tab.

        `browser_binding` is what only this browser's cookie holds. Give a `request_id` (UUID4)
        where a form may be sent twice; otherwise one is made for this call alone.

        Raises:
            InvalidField, ConnectorNotFound, OAuthAppNotConfigured, RequestIdReused,
            ServiceUnavailable: see each class.

        """
        request = credential_vault_pb2.BeginAuthorizeRequest(
            parent=parent,
            connector=connector,
            display_name=display_name,
            credential_scope=scope_number(credential_scope),
            user=user,
            requested_scopes=several(requested_scopes),
            connection_params=connection_params or {},
            login_hint=login_hint,
            browser_binding=browser_binding,
            request_id=_request_id(request_id),
        )
        return Begun.of(await self._call(self._stubs.vault.BeginAuthorize, request, timeout))

    async def complete_callback(
        self,
        connector: str,
        *,
        state: str,
        user: str,
        browser_binding: str,
        code: str = "",
        iss: str = "",
        error: str = "",
        error_description: str = "",
        extra_params: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Completed:
        """Take what came back to the callback URL and make the credential ACTIVE.

        `timeout` is twice the client's if not given: the service is asked within. A repetition
        with the same `state` and `code` gets the first outcome.

        Raises:
            StateInvalid, ConsentDenied, AdminApprovalRequired, AppNotVerified, AccountMismatch,
            CodeRejected, OAuthAppRejected, ServiceUnavailable, ServiceRateLimited: see each class.

        """
        request = credential_vault_pb2.CompleteCallbackRequest(
            connector=connector,
            state=state,
            code=code,
            iss=iss,
            error=error,
            error_description=error_description,
            extra_params=extra_params or {},
            user=user,
            browser_binding=browser_binding,
        )
        patience = self._timeout * CALLBACK_PATIENCE if timeout is None else timeout
        return Completed.of(await self._call(self._stubs.vault.CompleteCallback, request, patience))

    async def reauthenticate(
        self,
        name: str,
        *,
        user: str,
        browser_binding: str,
        requested_scopes: Sequence[str] = (),
        allow_account_change: bool = False,
        login_hint: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Begun:
        """Start the consent again; the old grant serves until the new one is accepted.

        Raises:
            CredentialNotFound, OAuthAppNotConfigured, RequestIdReused, ServiceUnavailable: see
            each class.

        """
        request = credential_vault_pb2.ReauthenticateRequest(
            name=name,
            user=user,
            requested_scopes=several(requested_scopes),
            allow_account_change=allow_account_change,
            login_hint=login_hint,
            browser_binding=browser_binding,
            request_id=_request_id(request_id),
        )
        return Begun.of(await self._call(self._stubs.vault.Reauthenticate, request, timeout))

    # Tokens

    async def get_access_token(
        self,
        name: str,
        *,
        user: str = "",
        min_ttl: timedelta | None = None,
        rejected_token: str | None = None,
        required_scopes: Sequence[str] = (),
        slot: str = "",
        purpose: str = "",
        timeout: float | None = None,
    ) -> AccessToken:
        """Return a token that is valid now; the vault refreshes it first if need be.

        `user` may be empty for WORKSPACE credentials. `min_ttl` is how long the token must still
        live, up to 24 hours; None: a minute. Call again with `rejected_token` if the service
        answers 401 to a token; only its hash is sent.

        Raises:
            CredentialNotFound, CredentialPending, CredentialExpired, CredentialRevoked,
            ScopesMissing, OAuthAppRejected: a person has to act first.
            ServiceUnavailable, ServiceRateLimited, RefreshPending: no valid token at hand; ask
            again later.

        """
        asked = TokenRequest(
            name=name,
            user=user,
            min_ttl=min_ttl,
            rejected_token=rejected_token,
            required_scopes=several(required_scopes),
            slot=slot,
            purpose=purpose,
        )
        return AccessToken.of(
            await self._call(self._stubs.vault.GetAccessToken, asked.to_message(), timeout)
        )

    async def batch_get_access_tokens(
        self, parent: str, requests: Sequence[TokenRequest], *, timeout: float | None = None
    ) -> list[AccessToken | VaultError]:
        """Return 1 to 1,000 tokens in the order of the requests, each one a token or its error.

        An error in the list is returned, not raised: one dead credential spoils no other.

        Raises:
            InvalidField: the batch itself is wrong.

        """
        request = credential_vault_pb2.BatchGetAccessTokensRequest(
            parent=parent, requests=[each.to_message() for each in requests]
        )
        answer = await self._call(self._stubs.vault.BatchGetAccessTokens, request, timeout)
        return [
            AccessToken.of(each.token) if each.HasField("token") else error_in(each.error)
            for each in answer.results
        ]

    # Life

    async def revoke(
        self,
        name: str,
        *,
        user: str,
        revoke_at_service: bool = False,
        timeout: float | None = None,
    ) -> Revoked:
        """Stop a credential at once, everywhere in Flero, and at the service too where asked.

        Revoking a REVOKED credential succeeds.

        Raises:
            CredentialNotFound, CallerNotAllowed: the user is not its owner.

        """
        request = credential_vault_pb2.RevokeRequest(
            name=name, user=user, revoke_at_service=revoke_at_service
        )
        return Revoked.of(await self._call(self._stubs.vault.Revoke, request, timeout))

    async def get_credential(
        self, name: str, *, user: str, timeout: float | None = None
    ) -> Credential:
        """Return one credential.

        Raises:
            CredentialNotFound: it is not there, or not for this user.

        """
        request = credential_vault_pb2.GetCredentialRequest(name=name, user=user)
        return Credential.of(await self._call(self._stubs.vault.GetCredential, request, timeout))

    async def list_credentials(
        self,
        parent: str,
        *,
        user: str,
        filter: str = "",  # noqa: A002 - the name in the contract
        page_size: int = PAGE_SIZE,
        timeout: float | None = None,
    ) -> AsyncGenerator[Credential, None]:
        """Yield every credential that the user can see, oldest first, page after page.

        `filter` joins `status`, `connector`, `owner`, `authorized_by` with `=` by AND. `timeout`
        is for each page.

        Raises:
            InvalidField: the filter is not understood.

        """
        request = credential_vault_pb2.ListCredentialsRequest(
            parent=parent, user=user, page_size=page_size, filter=filter
        )
        while True:
            page = await self._call(self._stubs.vault.ListCredentials, request, timeout)
            for each in page.credentials:
                yield Credential.of(each)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def update_credential(
        self,
        name: str,
        *,
        user: str,
        display_name: str | None = None,
        credential_scope: CredentialScope | None = None,
        owner: str | None = None,
        etag: str = "",
        timeout: float | None = None,
    ) -> Credential:
        """Change what is not None. With an `etag`, only if it is the present one.

        Not retried: if its answer was lost, look before you repeat it.

        Raises:
            CredentialNotFound, CallerNotAllowed, EtagMismatch, InvalidField: see each class.

        """
        changed = credential_pb2.Credential(name=name, etag=etag)
        request = credential_vault_pb2.UpdateCredentialRequest(credential=changed, user=user)
        if display_name is not None:
            request.credential.display_name = display_name
            request.update_mask.paths.append("display_name")
        if credential_scope is not None:
            request.credential.credential_scope = scope_number(credential_scope)
            request.update_mask.paths.append("credential_scope")
        if owner is not None:
            request.credential.owner = owner
            request.update_mask.paths.append("owner")
        return Credential.of(await self._call(self._stubs.vault.UpdateCredential, request, timeout))

    async def delete_credential(
        self, name: str, *, user: str, etag: str = "", timeout: float | None = None
    ) -> None:
        """Delete a credential with its tokens. With an `etag`, only if it is the present one.

        Not retried: CredentialNotFound after a lost answer would look like a failure.

        Raises:
            CredentialNotFound, CallerNotAllowed, EtagMismatch: see each class.

        """
        request = credential_vault_pb2.DeleteCredentialRequest(name=name, user=user, etag=etag)
        await self._call(self._stubs.vault.DeleteCredential, request, timeout)

    async def check_credential(
        self, name: str, *, user: str, timeout: float | None = None
    ) -> Credential:
        """Ask the service now whose account this is, and return what it said.

        Raises:
            CredentialExpired and the other errors of get_access_token.

        """
        request = credential_vault_pb2.CheckCredentialRequest(name=name, user=user)
        return Credential.of(await self._call(self._stubs.vault.CheckCredential, request, timeout))

    async def watch_credential(self, name: str, *, user: str) -> AsyncGenerator[Credential, None]:
        """Yield the credential as it is, then after each change, without end.

        Resumes by itself when the vault goes away and comes back, and then yields only what
        changed meanwhile. Leave it with `contextlib.aclosing`, which ends the stream at once.

        Raises:
            CredentialNotFound: it is not there for this user, or was deleted.
            VaultError: every other error that waiting does not mend.

        """
        request = credential_vault_pb2.WatchCredentialRequest(name=name, user=user)
        last: Credential | None = None
        pause = WATCH_PAUSE_FIRST
        while True:
            retry_after = None
            stream = self._stubs.vault.WatchCredential(request, metadata=self._metadata())
            try:
                async for answer in stream:
                    pause = WATCH_PAUSE_FIRST
                    # When a token was last used is no change of state, and would look like one
                    # after every reconnect.
                    seen = replace(Credential.of(answer.credential), last_used_time=None)
                    if seen != last:
                        last = seen
                        yield Credential.of(answer.credential)
            except grpc.aio.AioRpcError as error:
                failure = error_of(error)
                if not failure.retryable:
                    raise failure from error
                retry_after = failure.retry_after
            finally:
                stream.cancel()
            # Spread, or all watchers of a restarted vault would come back in the same moment.
            await asyncio.sleep(max(retry_after or 0.0, pause * random.uniform(0.5, 1)))  # noqa: S311
            pause = min(pause * 2, WATCH_PAUSE_MAX)

    # Catalogue

    async def list_connectors(
        self, parent: str = "", *, page_size: int = PAGE_SIZE, timeout: float | None = None
    ) -> AsyncGenerator[Connector, None]:
        """Yield every connector by key, page after page; `timeout` is for each page.

        `parent` is the workspace whose OAuth apps count for `configured`; empty: the deployment's.
        """
        request = connector_catalog_pb2.ListConnectorsRequest(workspace=parent, page_size=page_size)
        while True:
            page = await self._call(self._stubs.catalog.ListConnectors, request, timeout)
            for each in page.connectors:
                yield Connector.of(each)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def get_connector(
        self, name: str, *, parent: str = "", timeout: float | None = None
    ) -> Connector:
        """Return one connector, `connectors/{connector}`.

        Raises:
            ConnectorNotFound: the deployment has none of this name.

        """
        request = connector_catalog_pb2.GetConnectorRequest(name=name, workspace=parent)
        return Connector.of(await self._call(self._stubs.catalog.GetConnector, request, timeout))

    # Inside

    @property
    def _stubs(self) -> _Open:
        if self._open is None:
            raise RuntimeError("use it within `async with VaultClient(...) as vault:`")
        return self._open

    def _metadata(self) -> Metadata:
        return () if self._token is None else (("authorization", f"Bearer {self._token()}"),)

    async def _call(
        self,
        method: Callable[..., Awaitable[_Answer]],
        request: Any,  # noqa: ANN401 - its type belongs to `method`, which every caller names
        timeout: float | None,
    ) -> _Answer:
        try:
            return await method(
                request,
                timeout=self._timeout if timeout is None else timeout,
                metadata=self._metadata(),
            )
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from error


def _request_id(given: str | None) -> str:
    """Return an id that makes a retry of this very call safe."""
    return str(uuid.uuid4()) if given is None else given
