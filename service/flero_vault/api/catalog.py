"""`service ConnectorCatalog`."""

from typing import TYPE_CHECKING, Any

from flero_vault.api import convert, paging
from flero_vault.api.calls import Calls
from flero_vault.core.authorize import Authorize
from flero_vault.core.catalogue import Offer, Offers
from flero_vault.core.model import parse_workspace
from flero_vault_client.v1 import connector_catalog_pb2, connector_catalog_pb2_grpc

if TYPE_CHECKING:
    import grpc

    Context = grpc.aio.ServicerContext[Any, Any]


class CatalogServicer(connector_catalog_pb2_grpc.ConnectorCatalogServicer):
    """Serves ConnectorCatalog."""

    def __init__(self, *, offers: Offers, authorize: Authorize, calls: Calls) -> None:
        self._offers = offers
        self._authorize = authorize
        self._calls = calls

    def _message(self, offer: Offer) -> connector_catalog_pb2.Connector:
        return convert.connector(offer, self._authorize.redirect_uri(offer.connector))

    async def ListConnectors(  # noqa: N802 - the method's name in the protos
        self, request: connector_catalog_pb2.ListConnectorsRequest, context: "Context"
    ) -> connector_catalog_pb2.ListConnectorsResponse:
        """List the connectors by key."""

        async def serve() -> connector_catalog_pb2.ListConnectorsResponse:
            size = paging.page_size(request.page_size)
            after = paging.position(request, request.page_token, 1)
            found = await self._offers.list(
                _workspace(request.workspace), after[0] if after else "", size + 1
            )
            page = found[:size]
            more = len(found) > size
            return connector_catalog_pb2.ListConnectorsResponse(
                connectors=[self._message(offer) for offer in page],
                next_page_token=paging.page_token(request, page[-1].connector.key) if more else "",
            )

        return await self._calls.unary(request, context, serve)

    async def GetConnector(  # noqa: N802
        self, request: connector_catalog_pb2.GetConnectorRequest, context: "Context"
    ) -> connector_catalog_pb2.Connector:
        """Return one connector."""

        async def serve() -> connector_catalog_pb2.Connector:
            key = request.name.removeprefix("connectors/")
            return self._message(await self._offers.get(key, _workspace(request.workspace)))

        return await self._calls.unary(request, context, serve)


def _workspace(name: str) -> str:
    return parse_workspace(name) if name else ""
