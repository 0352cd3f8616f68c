"""Debian's PostgreSQL 15, by itself and behind PgBouncer with transaction pooling."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from flero_vault.migrations import runner
from tests.interop.postgresql import Address, execute, pgbouncer, postgresql
from tests.interop.vaults import vaults
from tests.refresh.helpers import Server, just_expired, put_app, refresh_calls
from tests.stack import BINDING, USER, Emulator, Vault, refusal_of

from flero_vault_client.v1 import credential_pb2, credential_vault_pb2

CALLS = 200
CONNECTIONS = 4
"""Of the pooler to the server: fewer than the vaults hold to the pooler, so that they share."""
pytestmark = pytest.mark.usefixtures("reset")


@pytest.fixture(scope="module")
def reachable() -> Iterator[Path]:
    # Not tmp_path: as root the servers run as another user, who has to reach the folder.
    folder = Path(tempfile.mkdtemp(prefix="flero-vault-interop-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def server(reachable: Path) -> Iterator[Address]:
    with postgresql(reachable / "postgresql") as server:
        yield server


@pytest.fixture(scope="module")
def pooler(reachable: Path, server: Address) -> Iterator[Address]:
    with pgbouncer(reachable / "pgbouncer", server, connections=CONNECTIONS) as pooler:
        yield pooler


async def migrated(server: Address, database: str) -> None:
    await execute(server.url("postgres"), f'CREATE DATABASE "{database}"')
    await asyncio.to_thread(runner.migrate, server.url(database))


@pytest.fixture(scope="module")
async def direct(
    server: Address, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[Server]]:
    await migrated(server, "direct")
    folder = tmp_path_factory.mktemp("direct")
    url = server.url("direct")
    async with vaults(2, database_url=url, emulator=emulator, folder=folder) as started:
        await put_app(started[0].vault, "oidc")
        yield started


@pytest.fixture(scope="module")
async def pooled(
    server: Address, pooler: Address, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[Server]]:
    await migrated(server, "pooled")
    async with vaults(
        2,
        database_url=pooler.url("pooled"),
        emulator=emulator,
        folder=tmp_path_factory.mktemp("pooled"),
        more={"FLERO_VAULT_DATABASE_PREPARED": "off"},
    ) as started:
        await put_app(started[0].vault, "oidc")
        yield started


async def walk(vault: Vault, emulator: Emulator) -> None:
    """Go from the consent to the end."""
    credential = await vault.connect("oidc")
    token = (await vault.token(credential.name)).access_token
    assert await emulator.accepts("oidc", token)
    again = await vault.rpc.Reauthenticate(
        credential_vault_pb2.ReauthenticateRequest(
            name=credential.name, user=USER, browser_binding=BINDING
        )
    )
    await vault.complete("oidc", await emulator.consent(again.authorize_url))
    token = (await vault.token(credential.name)).access_token
    assert await emulator.accepts("oidc", token)
    revoked = await vault.rpc.Revoke(
        credential_vault_pb2.RevokeRequest(name=credential.name, user=USER, revoke_at_service=True)
    )
    assert revoked.service_revocation == credential_pb2.SERVICE_REVOCATION_DONE
    assert not await emulator.accepts("oidc", token)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await vault.token(credential.name)
    assert refusal_of(caught.value).reason == "CREDENTIAL_REVOKED"


async def one_refresh_serves_all(pair: list[Server], emulator: Emulator) -> None:
    """Ask two processes at once for a token that has run out."""
    credential, old = await just_expired(pair[0].vault, "oidc")
    before = await refresh_calls(emulator, "oidc")
    # So slow that the second process cannot be too late for a refresh of its own.
    await emulator.control("oidc", hang_s=1)

    answers = await asyncio.gather(
        *(pair[number % 2].vault.token(credential.name) for number in range(CALLS))
    )

    (token,) = {answer.access_token for answer in answers}
    assert token != old
    assert await emulator.accepts("oidc", token)
    assert await refresh_calls(emulator, "oidc") == before + 1


async def test_it_is_another_postgresql_than_the_embedded_one(
    server: Address, direct: list[Server]
) -> None:
    assert direct
    assert (await execute(server.url("direct"), "SHOW server_version")).startswith("15.")


async def test_from_the_consent_to_the_end(direct: list[Server], emulator: Emulator) -> None:
    await walk(direct[0].vault, emulator)


async def test_two_processes_refresh_once(direct: list[Server], emulator: Emulator) -> None:
    await one_refresh_serves_all(direct, emulator)


async def test_from_the_consent_to_the_end_behind_a_pooler(
    pooled: list[Server], emulator: Emulator
) -> None:
    await walk(pooled[0].vault, emulator)


async def test_two_processes_refresh_once_behind_a_pooler(
    pooled: list[Server], emulator: Emulator
) -> None:
    # Announcements do not come through: LISTEN belongs to a connection. Polling does it.
    await one_refresh_serves_all(pooled, emulator)


async def test_many_calls_at_once_behind_a_pooler(pooled: list[Server], emulator: Emulator) -> None:
    credential = await pooled[0].vault.connect("oidc")

    answers = await asyncio.gather(
        *(pooled[number % 2].vault.token(credential.name) for number in range(CALLS))
    )

    (token,) = {answer.access_token for answer in answers}
    assert await emulator.accepts("oidc", token)
