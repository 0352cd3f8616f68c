"""grpcurl and `buf curl` against a server process: reflection, JSON, h2c, the details of errors."""

from collections.abc import AsyncIterator

import pytest
from tests.interop.command_line import VAULT, BufCurl, Client, Grpcurl
from tests.interop.vaults import vaults
from tests.refresh.helpers import Server, put_app
from tests.stack import BINDING, PARENT, USER, Emulator, fresh_name

SERVICES = [
    "flero.vault.v1.ConnectorCatalog",
    "flero.vault.v1.CredentialVault",
    "flero.vault.v1.VaultAdmin",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
]
CLIENTS: dict[str, type[Grpcurl | BufCurl]] = {"grpcurl": Grpcurl, "buf curl": BufCurl}


@pytest.fixture(scope="module")
async def server(
    database_url: str, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    folder = tmp_path_factory.mktemp("vaults")
    async with vaults(1, database_url=database_url, emulator=emulator, folder=folder) as started:
        await put_app(started[0].vault, "google")
        yield started[0]


@pytest.fixture(params=CLIENTS)
def client(server: Server, request: pytest.FixtureRequest) -> Client:
    return CLIENTS[request.param](server.vault.target)


@pytest.fixture
def grpcurl(server: Server) -> Grpcurl:
    return Grpcurl(server.vault.target)


async def test_grpcurl_lists_every_service(grpcurl: Grpcurl) -> None:
    said = await grpcurl.run(grpcurl.target, "list")

    assert said.out.split() == SERVICES, said.err


@pytest.mark.parametrize("service", SERVICES)
async def test_grpcurl_describes_every_service(grpcurl: Grpcurl, service: str) -> None:
    said = await grpcurl.run(grpcurl.target, "describe", service)

    assert said.out.startswith(f"{service} is a service:"), said.err


async def test_grpcurl_describes_a_request_down_to_its_fields(grpcurl: Grpcurl) -> None:
    said = await grpcurl.run(grpcurl.target, "describe", ".flero.vault.v1.GetAccessTokenRequest")

    assert "bytes rejected_token_sha256 = 4" in said.out, said.err


async def test_health_says_serving(client: Client) -> None:
    for service in ("", VAULT):
        said = await client.call("grpc.health.v1.Health/Check", service=service)
        assert said.answer == {"status": "SERVING"}


async def test_the_five_calls_in_json(client: Client, emulator: Emulator) -> None:
    begun = await client.call(
        f"{VAULT}/BeginAuthorize",
        parent=PARENT,
        connector="google",
        displayName="My Google",
        credentialScope="CREDENTIAL_SCOPE_WORKSPACE",
        user=USER,
        browserBinding=BINDING,
    )
    credential = begun.answer["credential"]
    name = credential["name"]
    assert credential["status"] == "CREDENTIAL_STATUS_PENDING"

    async def complete(authorize_url: str) -> None:
        back = await emulator.consent(authorize_url)
        known = {key: back[key] for key in ("state", "code", "iss") if key in back}
        completed = await client.call(
            f"{VAULT}/CompleteCallback",
            connector="google",
            user=USER,
            browserBinding=BINDING,
            **known,
        )
        credential = completed.answer["credential"]
        assert credential["name"] == name
        assert credential["status"] == "CREDENTIAL_STATUS_ACTIVE"
        assert credential["account"]["email"] == "ada@example.com"

    await complete(begun.answer["authorizeUrl"])
    got = await client.call(f"{VAULT}/GetAccessToken", name=name, user=USER, minTtl="300s")
    token = got.answer["accessToken"]
    assert got.answer["tokenType"] == "Bearer"
    assert await emulator.accepts("google", token)

    again = await client.call(
        f"{VAULT}/Reauthenticate", name=name, user=USER, browserBinding=BINDING
    )
    assert again.answer["credential"]["status"] == "CREDENTIAL_STATUS_ACTIVE"
    await complete(again.answer["authorizeUrl"])
    got = await client.call(f"{VAULT}/GetAccessToken", name=name, user=USER)
    assert got.answer["accessToken"] != token
    token = got.answer["accessToken"]
    assert await emulator.accepts("google", token)

    revoked = await client.call(f"{VAULT}/Revoke", name=name, user=USER, revokeAtService=True)
    assert revoked.answer["credential"]["status"] == "CREDENTIAL_STATUS_REVOKED"
    assert revoked.answer["serviceRevocation"] == "SERVICE_REVOCATION_DONE"
    assert not await emulator.accepts("google", token)

    refused = await client.call(f"{VAULT}/GetAccessToken", name=name, user=USER)
    assert refused.code != 0
    assert client.error_info(refused)["reason"] == "CREDENTIAL_REVOKED"


async def test_an_error_shows_its_reason(client: Client) -> None:
    said = await client.call(f"{VAULT}/GetAccessToken", name=fresh_name(), user=USER)

    assert said.code != 0
    info = client.error_info(said)
    assert (info["domain"], info["reason"]) == ("vault.flero.ai", "CREDENTIAL_NOT_FOUND")


async def test_grpcurl_shows_the_reason_to_a_person_too(grpcurl: Grpcurl) -> None:
    request = f'{{"name": "{fresh_name()}", "user": "{USER}"}}'

    said = await grpcurl.run("-d", request, grpcurl.target, f"{VAULT}/GetAccessToken")

    assert "Code: NotFound" in said.err
    assert "CREDENTIAL_NOT_FOUND" in said.err
    assert "Details:" in said.err
