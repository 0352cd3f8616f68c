"""`service VaultAdmin`."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from google.protobuf.empty_pb2 import Empty

from flero_vault.api import convert, paging
from flero_vault.api.calls import Calls, not_served
from flero_vault.core.catalogue import Offers
from flero_vault.core.model import AppName, parse_parent
from flero_vault.core.secret import Secret
from flero_vault_client.v1 import vault_admin_pb2, vault_admin_pb2_grpc

if TYPE_CHECKING:
    import grpc

    Context = grpc.aio.ServicerContext[Any, Any]


class AdminServicer(vault_admin_pb2_grpc.VaultAdminServicer):
    """Serves VaultAdmin."""

    def __init__(self, *, offers: Offers, calls: Calls) -> None:
        self._offers = offers
        self._calls = calls

    async def PutOAuthApp(  # noqa: N802 - the method's name in the protos
        self, request: vault_admin_pb2.PutOAuthAppRequest, context: "Context"
    ) -> vault_admin_pb2.OAuthApp:
        """Register an OAuth app."""

        async def serve() -> vault_admin_pb2.OAuthApp:
            app = await self._offers.put_app(
                parse_parent(request.parent),
                request.connector,
                request.client_id,
                tuple(Secret(text) for text in request.client_secrets),
                tuple(request.origins),
            )
            return convert.oauth_app(app)

        return await self._calls.unary(request, context, serve)

    async def ListOAuthApps(  # noqa: N802
        self, request: vault_admin_pb2.ListOAuthAppsRequest, context: "Context"
    ) -> vault_admin_pb2.ListOAuthAppsResponse:
        """List the OAuth apps of a parent."""

        async def serve() -> vault_admin_pb2.ListOAuthAppsResponse:
            size = paging.page_size(request.page_size)
            after = paging.only_id(paging.position(request, request.page_token, 1))
            found = await self._offers.list_apps(parse_parent(request.parent), after, size + 1)
            page = found[:size]
            more = len(found) > size
            return vault_admin_pb2.ListOAuthAppsResponse(
                oauth_apps=[convert.oauth_app(app) for app in page],
                next_page_token=paging.page_token(request, str(page[-1].name.id)) if more else "",
            )

        return await self._calls.unary(request, context, serve)

    async def DeleteOAuthApp(  # noqa: N802
        self, request: vault_admin_pb2.DeleteOAuthAppRequest, context: "Context"
    ) -> Empty:
        """Delete an OAuth app."""

        async def serve() -> Empty:
            await self._offers.delete_app(AppName.parse(request.name))
            return Empty()

        return await self._calls.unary(request, context, serve)

    async def TransferCredentials(  # noqa: N802
        self, request: vault_admin_pb2.TransferCredentialsRequest, context: "Context"
    ) -> vault_admin_pb2.TransferCredentialsResponse:
        """Not served yet."""
        return await self._calls.unary(request, context, not_served)

    async def RevokeCredentials(  # noqa: N802
        self, request: vault_admin_pb2.RevokeCredentialsRequest, context: "Context"
    ) -> vault_admin_pb2.RevokeCredentialsResponse:
        """Not served yet."""
        return await self._calls.unary(request, context, not_served)

    async def ImportCredentials(  # noqa: N802
        self,
        request_iterator: AsyncIterator[vault_admin_pb2.ImportCredentialsRequest],
        context: "Context",
    ) -> vault_admin_pb2.ImportCredentialsResponse:
        """Not served yet."""
        first = vault_admin_pb2.ImportCredentialsRequest()
        async for request in request_iterator:
            first = request
            break
        return await self._calls.unary(first, context, not_served)

    async def ListAuditEvents(  # noqa: N802
        self, request: vault_admin_pb2.ListAuditEventsRequest, context: "Context"
    ) -> vault_admin_pb2.ListAuditEventsResponse:
        """Not served yet."""
        return await self._calls.unary(request, context, not_served)

    async def DeleteWorkspace(  # noqa: N802
        self, request: vault_admin_pb2.DeleteWorkspaceRequest, context: "Context"
    ) -> Empty:
        """Not served yet."""
        return await self._calls.unary(request, context, not_served)
