"""What other teams' tests do with FakeVault beside calling it."""

import grpc.aio
import pytest

from flero_vault_client import (
    CredentialExpired,
    CredentialScope,
    MethodNotServed,
    ServiceUnavailable,
    StateInvalid,
    VaultClient,
    VaultUnreachable,
)
from flero_vault_client._errors import error_of
from flero_vault_client.testing import FakeVault
from flero_vault_client.v1 import credential_vault_pb2, credential_vault_pb2_grpc


async def test_its_own_introduction_is_true() -> None:
    async with FakeVault() as fake, VaultClient(fake.target) as vault:
        credential = await fake.connect("google", user="ada", display_name="My Google")
        first = await vault.get_access_token(credential.name, user="ada")
        assert fake.accepts(first.access_token)

        fake.advance(3600)
        assert not fake.accepts(first.access_token)
        second = await vault.get_access_token(credential.name, user="ada")
        assert second.access_token != first.access_token
        assert fake.accepts(second.access_token)

        fake.expire(credential.name)
        with pytest.raises(CredentialExpired):
            await vault.get_access_token(credential.name, user="ada")
        assert fake.credential(credential.name).status == "EXPIRED"


async def test_a_token_that_still_lives_is_served_again(fake: FakeVault) -> None:
    credential = await fake.connect(user="ada")

    async with VaultClient(fake.target) as vault:
        first = await vault.get_access_token(credential.name, user="ada")
        fake.advance(3600 - 61)
        second = await vault.get_access_token(credential.name, user="ada")
        fake.advance(2)
        third = await vault.get_access_token(credential.name, user="ada")

    assert first.access_token == second.access_token != third.access_token


async def test_a_consent_grows_old(fake: FakeVault) -> None:
    async with VaultClient(fake.target) as vault:
        begun = await vault.begin_authorize(
            "workspaces/demo",
            connector="slack",
            display_name="Slack",
            credential_scope=CredentialScope.WORKSPACE,
            user="ada",
            browser_binding="b" * 22,
        )
        back = await fake.consent(begun.authorize_url, scopes=["chat:write"])
        fake.advance(600)
        with pytest.raises(StateInvalid):
            await vault.complete_callback("slack", user="ada", browser_binding="b" * 22, **back)  # type: ignore[arg-type]  # the keys are its own


async def test_what_a_person_does_not_tick_is_missing(fake: FakeVault) -> None:
    async with VaultClient(fake.target) as vault:
        begun = await vault.begin_authorize(
            "workspaces/demo",
            connector="slack",
            display_name="Slack",
            credential_scope=CredentialScope.WORKSPACE,
            user="ada",
            browser_binding="b" * 22,
        )
        back = await fake.consent(begun.authorize_url, scopes=["chat:write"])
        completed = await vault.complete_callback(
            "slack",
            state=back["state"],
            code=back["code"],
            iss=back["iss"],
            user="ada",
            browser_binding="b" * 22,
        )

    assert completed.missing_scopes == ("channels:read",)
    assert completed.credential.granted_scopes == ("chat:write",)


async def test_one_call_fails_and_the_next_does_not(fake: FakeVault) -> None:
    credential = await fake.connect(user="ada")
    fake.fail_next("SERVICE_UNAVAILABLE", retry_after=30)

    async with VaultClient(fake.target) as vault:
        with pytest.raises(ServiceUnavailable) as failed:
            await vault.get_access_token(credential.name, user="ada")
        await vault.get_access_token(credential.name, user="ada")

    assert failed.value.retry_after == 30
    assert [each.method for each in fake.calls] == ["GetAccessToken"] * 2
    assert fake.calls[0].request.name == credential.name


async def test_an_outage_forgets_nothing(fake: FakeVault) -> None:
    credential = await fake.connect(user="ada")
    target = fake.target

    await fake.stop()
    async with VaultClient(target) as vault:
        with pytest.raises(VaultUnreachable):
            await vault.get_credential(credential.name, user="ada")
    await fake.start()
    async with VaultClient(target) as vault:
        found = await vault.get_credential(credential.name, user="ada")

    assert fake.target == target
    assert found == credential


async def test_it_listens_once(fake: FakeVault) -> None:
    with pytest.raises(RuntimeError, match="running already"):
        await fake.start()


async def test_what_it_cannot_make_is_refused(fake: FakeVault) -> None:
    with pytest.raises(ValueError, match="There is no connector"):
        await fake.connect("nobody", user="ada")
    with pytest.raises(ValueError, match="user must be set"):
        await fake.connect(user="")
    with pytest.raises(ValueError, match="no authorize_url"):
        await fake.consent("https://service.example/google/authorize?state=x")


async def test_what_never_happens_is_not_waited_for_in_vain(fake: FakeVault) -> None:
    with pytest.raises(TimeoutError):
        await fake.until(lambda: False, timeout=0.01)


async def test_its_watchers_do_not_hear_of_use(fake: FakeVault) -> None:
    credential = await fake.connect(user="ada", display_name="Old")

    async with grpc.aio.insecure_channel(fake.target) as channel, VaultClient(fake.target) as vault:
        stub = credential_vault_pb2_grpc.CredentialVaultStub(channel)
        request = credential_vault_pb2.WatchCredentialRequest(name=credential.name, user="ada")
        stream = aiter(stub.WatchCredential(request))
        first = await anext(stream)
        await vault.get_access_token(credential.name, user="ada")
        await vault.update_credential(credential.name, user="ada", display_name="New")
        second = await anext(stream)

    assert [each.credential.display_name for each in (first, second)] == ["Old", "New"]


async def test_a_method_that_it_does_not_serve_says_so(fake: FakeVault) -> None:
    async with grpc.aio.insecure_channel(fake.target) as channel:
        stub = credential_vault_pb2_grpc.CredentialVaultStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.ListEvents(credential_vault_pb2.ListEventsRequest(parent="workspaces/demo"))
        watch = stub.WatchEvents(credential_vault_pb2.WatchEventsRequest(parent="workspaces/demo"))
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            async for _ in watch:
                pass

    assert isinstance(error_of(failed.value), MethodNotServed)
    assert isinstance(error_of(ended.value), MethodNotServed)
