"""The life of a credential over gRPC, with the emulated services."""

import asyncio
import hashlib

import grpc
import pytest
from tests.stack import PARENT, USER, Vault, refusal_of

from flero_vault_client.v1 import credential_pb2, credential_vault_pb2

SERVICES = ("slack", "google", "microsoft", "salesforce", "hubspot", "oidc")


@pytest.mark.parametrize("connector", SERVICES)
async def test_a_consent_makes_a_credential_whose_token_the_service_accepts(
    vault: Vault, connector: str
) -> None:
    credential = await vault.connect(connector)

    token = await vault.token(credential.name)

    assert credential.status == credential_pb2.CREDENTIAL_STATUS_ACTIVE
    assert credential.account.id
    assert await vault.emulator.accepts(connector, token.access_token)


async def test_revoke_stops_the_very_next_call_and_the_service(vault: Vault) -> None:
    credential = await vault.connect("google")
    token = await vault.token(credential.name)

    revoked = await vault.rpc.Revoke(
        credential_vault_pb2.RevokeRequest(name=credential.name, user=USER, revoke_at_service=True)
    )

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await vault.token(credential.name)
    assert refusal_of(caught.value).reason == "CREDENTIAL_REVOKED"
    assert revoked.service_revocation == credential_pb2.SERVICE_REVOCATION_DONE
    assert not await vault.emulator.accepts("google", token.access_token)


async def test_a_rejected_token_is_replaced_once_however_many_report_it(vault: Vault) -> None:
    credential = await vault.connect("oidc")
    old = (await vault.token(credential.name)).access_token
    before = (await vault.emulator.counters("oidc"))["refresh_calls"]
    rejected = hashlib.sha256(old.encode()).digest()

    answers = await asyncio.gather(
        *(vault.token(credential.name, rejected_token_sha256=rejected) for _ in range(100))
    )

    after = (await vault.emulator.counters("oidc"))["refresh_calls"]
    assert after == before + 1
    assert {answer.access_token for answer in answers}.isdisjoint({old})


async def test_personal_credentials_do_not_exist_for_others(vault: Vault) -> None:
    credential = await vault.connect("google")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await vault.token(credential.name, user="grace")

    assert refusal_of(caught.value).reason == "CREDENTIAL_NOT_FOUND"


async def test_a_workspace_credential_serves_any_user_and_none(vault: Vault) -> None:
    credential = await vault.connect(
        "google", credential_scope=credential_pb2.CREDENTIAL_SCOPE_WORKSPACE
    )

    for user in ("grace", ""):
        assert (await vault.token(credential.name, user=user)).access_token


async def test_a_watcher_sees_each_change_until_the_credential_is_gone(vault: Vault) -> None:
    begun = await vault.begin("google")
    name = begun.credential.name
    stream = vault.rpc.WatchCredential(
        credential_vault_pb2.WatchCredentialRequest(name=name, user=USER)
    )
    pending = await stream.read()

    back = await vault.emulator.consent(begun.authorize_url)
    await vault.complete("google", back)
    active = await stream.read()
    await vault.rpc.DeleteCredential(
        credential_vault_pb2.DeleteCredentialRequest(name=name, user=USER)
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()

    assert pending.credential.status == credential_pb2.CREDENTIAL_STATUS_PENDING
    assert active.credential.status == credential_pb2.CREDENTIAL_STATUS_ACTIVE
    assert refusal_of(caught.value).reason == "CREDENTIAL_NOT_FOUND"


async def test_pages_of_a_list_hold_every_credential_once(vault: Vault) -> None:
    made = {(await vault.begin("slack", user="lister")).credential.name for _ in range(5)}

    seen: list[str] = []
    token = ""
    while True:
        page = await vault.rpc.ListCredentials(
            credential_vault_pb2.ListCredentialsRequest(
                parent=PARENT,
                user="lister",
                page_size=2,
                page_token=token,
                filter='owner = "lister" AND status = PENDING',
            )
        )
        seen += [credential.name for credential in page.credentials]
        token = page.next_page_token
        if not token:
            break

    assert sorted(seen) == sorted(made)
