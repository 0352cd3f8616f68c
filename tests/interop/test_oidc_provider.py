"""oidc-provider: PKCE, rotation, reuse ends the grant, RFC 9207's `iss`, five-second tokens."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from tests.interop.oidc_provider.service import (
    CLIENT_ID,
    CLIENT_SECRET,
    CONNECTOR,
    FOUR_LINES,
    OidcProvider,
    oidc_provider,
)
from tests.interop.race import enlist, race, rounds, until
from tests.interop.services import connect
from tests.interop.vaults import register, vaults
from tests.refresh.helpers import Server
from tests.stack import BINDING, USER, Emulator, Vault, refusal_of

from flero_vault_client.v1 import credential_pb2, credential_vault_pb2

RUNNERS = 10
ROUNDS = 100


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    with oidc_provider(tmp_path_factory.mktemp("oidc_provider")) as provider:
        yield provider


@pytest.fixture(scope="module")
async def pair(
    database_url: str,
    emulator: Emulator,
    provider: OidcProvider,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[list[Server]]:
    async with vaults(
        2,
        database_url=database_url,
        emulator=emulator,
        folder=tmp_path_factory.mktemp("vaults"),
        connectors=provider.connectors,
    ) as started:
        for connector in provider.connectors:
            await register(started[0].vault, connector, CLIENT_ID, CLIENT_SECRET, provider.issuer)
        yield started


async def reauthenticate(vault: Vault, provider: OidcProvider, name: str, account: str) -> Any:
    again = await vault.rpc.Reauthenticate(
        credential_vault_pb2.ReauthenticateRequest(name=name, user=USER, browser_binding=BINDING)
    )
    return await vault.complete(CONNECTOR, await provider.consent(again.authorize_url, account))


async def refused(vault: Vault, name: str) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await vault.token(name)
    return refusal_of(caught.value).reason


async def test_from_the_consent_to_the_end_of_the_grant_at_the_service(
    pair: list[Server], provider: OidcProvider
) -> None:
    vault = pair[0].vault
    begun = await vault.begin(CONNECTOR)
    back = await provider.consent(begun.authorize_url, "ada")
    completed = await vault.complete(CONNECTOR, back)
    name = completed.credential.name
    assert back["iss"] == provider.issuer
    assert completed.credential.status == credential_pb2.CREDENTIAL_STATUS_ACTIVE
    assert completed.credential.account.id == "ada"
    assert not completed.missing_scopes

    first = await vault.token(name)
    assert await provider.accepts(first.access_token)
    await until(first.expire_time)
    second = await vault.token(name)
    assert second.access_token != first.access_token
    assert await provider.accepts(second.access_token)
    assert await provider.refreshes("ada") == ["ok"]

    await reauthenticate(vault, provider, name, "ada")
    third = await vault.token(name)
    assert third.access_token not in {first.access_token, second.access_token}
    assert await provider.accepts(third.access_token)

    before = await provider.living_grants("ada")
    revoked = await vault.rpc.Revoke(
        credential_vault_pb2.RevokeRequest(name=name, user=USER, revoke_at_service=True)
    )
    assert revoked.service_revocation == credential_pb2.SERVICE_REVOCATION_DONE
    assert await provider.living_grants("ada") == before - 1
    assert not await provider.accepts(third.access_token)
    assert await refused(vault, name) == "CREDENTIAL_REVOKED"


async def test_the_account_gets_its_name_when_the_service_is_asked(
    pair: list[Server], provider: OidcProvider
) -> None:
    # Where there is an access token, its ID token holds `sub` alone (OpenID Connect Core, 5.4).
    credential = (await connect(pair[0].vault, provider, "grace")).credential

    checked = await pair[0].vault.rpc.CheckCredential(
        credential_vault_pb2.CheckCredentialRequest(name=credential.name, user=USER)
    )

    assert credential.account.id == checked.account.id == "grace"
    assert checked.account.email == "grace@example.com"
    assert checked.account.label == "Person grace"


async def test_a_stolen_refresh_token_ends_the_grant_and_a_consent_brings_it_back(
    pair: list[Server], provider: OidcProvider
) -> None:
    vault = pair[0].vault
    credential = (await connect(vault, provider, "mallory")).credential
    token = await vault.token(credential.name)
    stolen = await provider.spend("mallory")
    assert stolen.is_success, stolen.text

    await until(token.expire_time)
    reason = await refused(vault, credential.name)

    assert reason == "CREDENTIAL_EXPIRED"
    assert (await provider.refreshes("mallory"))[-1] == "refresh token already used"
    assert await provider.living_grants("mallory") == 0
    assert not await provider.accepts(stolen.json()["access_token"])
    await reauthenticate(vault, provider, credential.name, "mallory")
    assert await provider.accepts((await vault.token(credential.name)).access_token)


@pytest.mark.parametrize("iss", ["", "https://somebody.else.example"])
async def test_a_callback_that_does_not_name_the_issuer_spends_no_code(
    pair: list[Server], provider: OidcProvider, iss: str
) -> None:
    vault = pair[0].vault
    begun = await vault.begin(CONNECTOR)
    back = await provider.consent(begun.authorize_url, "eve")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await vault.complete(CONNECTOR, back | {"iss": iss})

    assert refusal_of(caught.value).reason == "STATE_INVALID"
    # The code is not spent: with the issuer it is still good.
    assert (await vault.complete(CONNECTOR, back)).credential.account.id == "eve"


async def test_without_prompt_consent_there_is_no_offline_access_and_the_vault_says_so(
    pair: list[Server], provider: OidcProvider
) -> None:
    vault = pair[0].vault
    begun = await vault.begin(FOUR_LINES)
    back = await provider.consent(begun.authorize_url, "linus")

    completed = await vault.complete(FOUR_LINES, back)

    assert completed.missing_scopes == ["offline_access"]
    token = await vault.token(completed.credential.name)
    assert await provider.accepts(token.access_token)
    await until(token.expire_time)
    assert await refused(vault, completed.credential.name) == "CREDENTIAL_EXPIRED"


async def test_two_processes_race_for_five_second_tokens_and_lose_no_grant(
    pair: list[Server], provider: OidcProvider
) -> None:
    runners = await enlist(pair, provider, [f"runner-{number}" for number in range(RUNNERS)])

    await race(pair, provider, runners, rounds(ROUNDS))
