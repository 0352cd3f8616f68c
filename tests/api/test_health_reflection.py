"""Standard health and reflection, as load balancers and grpcurl ask for them."""

from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from tests.api.samples import SERVICES
from tests.stack import Vault

HEALTH = "grpc.health.v1.Health"
VERSIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
FILES = {
    "flero.vault.v1.CredentialVault": "flero/vault/v1/credential_vault.proto",
    "flero.vault.v1.ConnectorCatalog": "flero/vault/v1/connector_catalog.proto",
    "flero.vault.v1.VaultAdmin": "flero/vault/v1/vault_admin.proto",
    "flero.vault.v1.Credential": "flero/vault/v1/credential.proto",
}


async def _reflect(
    vault: Vault, version: str, **asked: str
) -> reflection_pb2.ServerReflectionResponse:
    async def requests() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(**asked)

    stream = vault.channel.stream_stream(
        f"/{version}/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )(requests(), timeout=30)
    answers = [answer async for answer in stream]
    assert len(answers) == 1
    return answers[0]


@pytest.mark.parametrize("service", ["", *(service.full_name for service in SERVICES)])
async def test_health_says_serving_overall_and_for_each_service(vault: Vault, service: str) -> None:
    health = health_pb2_grpc.HealthStub(vault.channel)

    answer = await health.Check(health_pb2.HealthCheckRequest(service=service))

    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_health_does_not_know_a_service_that_is_not_there(vault: Vault) -> None:
    health = health_pb2_grpc.HealthStub(vault.channel)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health.Check(health_pb2.HealthCheckRequest(service="flero.vault.v1.Nothing"))

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("version", VERSIONS)
async def test_reflection_lists_the_services_and_health(vault: Vault, version: str) -> None:
    answer = await _reflect(vault, version, list_services="")

    listed = {service.name for service in answer.list_services_response.service}
    assert listed - set(VERSIONS) == {HEALTH, *(service.full_name for service in SERVICES)}
    assert version in listed


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("symbol", FILES)
async def test_reflection_names_files_as_the_protos_are_named(
    vault: Vault, version: str, symbol: str
) -> None:
    answer = await _reflect(vault, version, file_containing_symbol=symbol)

    encoded = answer.file_descriptor_response.file_descriptor_proto
    names = [FileDescriptorProto.FromString(file).name for file in encoded]
    assert FILES[symbol] in names
    assert len(names) == len(set(names))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", FILES.values())
async def test_reflection_finds_each_file_and_all_that_it_imports(
    vault: Vault, version: str, name: str
) -> None:
    wanted, found = [name], set[str]()
    while wanted:
        answer = await _reflect(vault, version, file_by_filename=wanted.pop())
        for encoded in answer.file_descriptor_response.file_descriptor_proto:
            file = FileDescriptorProto.FromString(encoded)
            found.add(file.name)
            wanted += [path for path in file.dependency if path not in found]

    assert name in found


@pytest.mark.parametrize("version", VERSIONS)
async def test_reflection_says_not_found_for_a_symbol_that_is_not_there(
    vault: Vault, version: str
) -> None:
    answer = await _reflect(vault, version, file_containing_symbol="flero.vault.v1.Nothing")

    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("described", VERSIONS)
async def test_reflection_describes_itself(vault: Vault, version: str, described: str) -> None:
    answer = await _reflect(vault, version, file_containing_symbol=described)

    (encoded,) = answer.file_descriptor_response.file_descriptor_proto
    file = FileDescriptorProto.FromString(encoded)
    assert f"{file.package}.{file.service[0].name}" == described
