"""The gRPC server: services, health, reflection, and how it stops."""

from collections.abc import Sequence
from contextlib import suppress

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import (
    reflection,
    reflection_pb2,
    reflection_pb2_grpc,  # noqa: F401 - registers its descriptor
)

from flero_vault.api.admin import AdminServicer
from flero_vault.api.catalog import CatalogServicer
from flero_vault.api.vault import VaultServicer
from flero_vault_client.v1 import (
    connector_catalog_pb2,
    connector_catalog_pb2_grpc,
    credential_vault_pb2,
    credential_vault_pb2_grpc,
    vault_admin_pb2,
    vault_admin_pb2_grpc,
)

LARGEST_MESSAGE_BYTES = 1024 * 1024
LARGEST_METADATA_BYTES = 16 * 1024
SHORTEST_PING_INTERVAL_MS = 10_000
"""A client that pings more often is sent away."""
_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"

VAULT = credential_vault_pb2.DESCRIPTOR.services_by_name["CredentialVault"].full_name
CATALOG = connector_catalog_pb2.DESCRIPTOR.services_by_name["ConnectorCatalog"].full_name
ADMIN = vault_admin_pb2.DESCRIPTOR.services_by_name["VaultAdmin"].full_name
SERVICES = (VAULT, CATALOG, ADMIN)


class CannotBind(Exception):
    """The address is taken or not ours."""


class GrpcServer:
    """The listening server."""

    def __init__(
        self, vault: VaultServicer, catalog: CatalogServicer, admin: AdminServicer
    ) -> None:
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
                ("grpc.max_metadata_size", LARGEST_METADATA_BYTES),
                # Clients find a dead connection by pinging it, also while no call is under way.
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", SHORTEST_PING_INTERVAL_MS),
                # A second server on the same port would take half of the calls unnoticed.
                ("grpc.so_reuseport", 0),
            ]
        )
        credential_vault_pb2_grpc.add_CredentialVaultServicer_to_server(vault, self._server)
        connector_catalog_pb2_grpc.add_ConnectorCatalogServicer_to_server(catalog, self._server)
        vault_admin_pb2_grpc.add_VaultAdminServicer_to_server(admin, self._server)
        self._health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        _add_reflection(self._server, (*SERVICES, "grpc.health.v1.Health"))

    async def start(self, bind: str) -> int:
        """Listen; return the port.

        Raises:
            CannotBind: the address is taken or not ours.

        """
        try:
            port = self._server.add_insecure_port(bind)
        except RuntimeError as error:
            raise CannotBind(bind) from error
        await self._server.start()
        for service in ("", *SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        return port

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING first, then let calls under way end."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)


def _describe_reflection_v1() -> None:
    """Register what the library lacks: reflection v1, which is v1alpha under another name.

    Without it a client that finds the service in the list cannot describe it.
    """
    pool = descriptor_pool.Default()
    with suppress(KeyError):
        pool.FindServiceByName(_REFLECTION_V1)
        return
    described = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(described)
    text = text_format.MessageToString(described)
    for old, new in (
        ("reflection.v1alpha", "reflection.v1"),
        ("reflection/v1alpha", "reflection/v1"),
    ):
        text = text.replace(old, new)
    pool.Add(text_format.Parse(text, descriptor_pb2.FileDescriptorProto()))


def _add_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Serve reflection v1alpha and v1: the same messages under two service names."""
    _describe_reflection_v1()
    names = (*services, reflection.SERVICE_NAME, _REFLECTION_V1)
    reflection.enable_server_reflection(names, server)
    servicer = reflection.aio.ReflectionServicer(names)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_REFLECTION_V1, {"ServerReflectionInfo": handler}),)
    )
