"""Keycloak: PKCE, refresh tokens that may be used once, offline sessions, eight-second tokens."""

from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
from tests.interop.keycloak.service import CLIENT_ID, CLIENT_SECRET, CONNECTOR, Keycloak, keycloak
from tests.interop.race import enlist, race, rounds, until
from tests.interop.services import connect
from tests.interop.vaults import register, vaults
from tests.refresh.helpers import Server
from tests.stack import BINDING, USER, Emulator, Vault, refusal_of

from flero_vault_client.v1 import credential_pb2, credential_vault_pb2

RUNNERS = tuple(f"runner-{number}" for number in range(10))
ROUNDS = 20


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keycloak]:
    with keycloak(tmp_path_factory.mktemp("keycloak"), ("ada", "grace", *RUNNERS)) as realm:
        yield realm


@pytest.fixture(scope="module")
async def pair(
    database_url: str,
    emulator: Emulator,
    realm: Keycloak,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[list[Server]]:
    async with vaults(
        2,
        database_url=database_url,
        emulator=emulator,
        folder=tmp_path_factory.mktemp("vaults"),
        connectors=realm.connectors,
    ) as started:
        await register(started[0].vault, CONNECTOR, CLIENT_ID, CLIENT_SECRET, realm.issuer)
        yield started


async def refused(vault: Vault, name: str) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await vault.token(name)
    return refusal_of(caught.value).reason


async def reauthenticate(vault: Vault, realm: Keycloak, name: str, account: str) -> None:
    again = await vault.rpc.Reauthenticate(
        credential_vault_pb2.ReauthenticateRequest(name=name, user=USER, browser_binding=BINDING)
    )
    await vault.complete(CONNECTOR, await realm.consent(again.authorize_url, account))


async def test_from_the_consent_to_the_end_of_the_grant_at_the_service(
    pair: list[Server], realm: Keycloak
) -> None:
    vault = pair[0].vault
    begun = await vault.begin(CONNECTOR)
    back = await realm.consent(begun.authorize_url, "ada")
    completed = await vault.complete(CONNECTOR, back)
    credential = completed.credential
    account = credential.account
    assert back["iss"] == realm.issuer
    assert credential.status == credential_pb2.CREDENTIAL_STATUS_ACTIVE
    assert (account.email, account.label) == ("ada@example.com", "Ada Example")
    assert not completed.missing_scopes
    # Keycloak says `"refresh_expires_in": 0` of an offline token: it does not run out.
    assert not credential.HasField("refresh_token_expire_time")

    first = await vault.token(credential.name)
    assert await realm.accepts(first.access_token)
    await until(first.expire_time)
    second = await vault.token(credential.name)
    assert second.access_token != first.access_token
    assert await realm.accepts(second.access_token)
    assert await realm.refreshes(account.id) == ["ok"]

    await reauthenticate(vault, realm, credential.name, "ada")
    third = await vault.token(credential.name)
    assert third.access_token not in {first.access_token, second.access_token}
    assert await realm.accepts(third.access_token)

    before = await realm.living_grants(account.id)
    revoked = await vault.rpc.Revoke(
        credential_vault_pb2.RevokeRequest(name=credential.name, user=USER, revoke_at_service=True)
    )
    assert revoked.service_revocation == credential_pb2.SERVICE_REVOCATION_DONE
    assert await realm.living_grants(account.id) == before - 1
    assert not await realm.accepts(third.access_token)
    assert await refused(vault, credential.name) == "CREDENTIAL_REVOKED"


async def test_a_grant_that_the_operator_ended_is_expired_until_a_consent_brings_it_back(
    pair: list[Server], realm: Keycloak
) -> None:
    vault = pair[0].vault
    credential = (await connect(vault, realm, "grace")).credential
    token = await vault.token(credential.name)
    await realm.end_grants(credential.account.id)
    await until(token.expire_time)

    reason = await refused(vault, credential.name)

    assert reason == "CREDENTIAL_EXPIRED"
    await reauthenticate(vault, realm, credential.name, "grace")
    assert await realm.accepts((await vault.token(credential.name)).access_token)


async def test_two_processes_race_for_tokens_and_lose_no_grant(
    pair: list[Server], realm: Keycloak
) -> None:
    runners = await enlist(pair, realm, list(RUNNERS))

    await race(pair, realm, runners, rounds(ROUNDS))
