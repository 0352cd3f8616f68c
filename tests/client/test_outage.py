"""A vault that goes away under its client and comes back."""

import asyncio
from contextlib import aclosing

import pytest
from tests.client.scripted import scripted

from flero_vault_client import (
    CallerNotAllowed,
    Credential,
    CredentialNotFound,
    CredentialScope,
    VaultClient,
    VaultError,
    VaultUnavailable,
    VaultUnreachable,
)
from flero_vault_client.testing import FakeVault

NAME = "workspaces/demo/credentials/6f1c2f4e-9f43-4b1e-8d51-0a4b8f3f2c11"
BACK_WITHIN_S = 10


async def test_the_same_client_works_again_when_the_vault_is_back(fake: FakeVault) -> None:
    credential = await fake.connect(user="ada")

    async with VaultClient(fake.target) as vault:
        before = await vault.get_access_token(credential.name, user="ada")
        await fake.stop()
        with pytest.raises(VaultUnreachable) as failed:
            await vault.get_access_token(credential.name, user="ada")
        await fake.start()
        async with asyncio.timeout(BACK_WITHIN_S):
            after = None
            while after is None:
                try:
                    after = await vault.get_access_token(credential.name, user="ada")
                except VaultUnreachable:
                    continue

    assert failed.value.retryable
    assert isinstance(failed.value, VaultUnavailable)
    assert failed.value.user_message == (
        "The credential vault cannot be reached at the moment. Try again in a moment."
    )
    assert after.access_token == before.access_token


async def test_a_call_under_way_ends_as_unreachable() -> None:
    async with scripted(hangs=True) as server, VaultClient(server.target) as vault:
        call = asyncio.create_task(vault.update_credential(NAME, user="ada", display_name="x"))
        await server.arrived.wait()
        assert server.server is not None
        await server.server.stop(grace=None)
        with pytest.raises(VaultUnreachable) as failed:
            await call

    assert failed.value.retryable


async def test_a_call_survives_a_short_outage(fake: FakeVault) -> None:
    credential = await fake.connect(user="ada")

    async with VaultClient(fake.target) as vault:
        await vault.get_credential(credential.name, user="ada")
        await fake.stop()
        call = asyncio.create_task(vault.get_credential(credential.name, user="ada"))
        await asyncio.sleep(0)
        await fake.start()
        found = await call

    assert found == credential


async def test_a_watcher_resumes_and_hears_only_what_changed(fake: FakeVault) -> None:
    credential = await fake.connect(user="ada", display_name="Old")
    seen: list[Credential] = []

    async def watch(vault: VaultClient) -> None:
        async for each in vault.watch_credential(credential.name, user="ada"):
            seen.append(each)  # noqa: PERF401 - what came before the end counts

    async with VaultClient(fake.target) as vault, VaultClient(fake.target) as other:
        watching = asyncio.create_task(watch(vault))
        await fake.until(lambda: fake.watchers == 1)
        for _ in range(2):
            await fake.stop()
            await fake.until(lambda: fake.watchers == 0)
            await fake.start()
            await fake.until(lambda: fake.watchers == 1, timeout=BACK_WITHIN_S)
        await fake.stop()
        await fake.until(lambda: fake.watchers == 0)
        await fake.start()
        async with asyncio.timeout(BACK_WITHIN_S):
            changed = None
            while changed is None:
                try:
                    changed = await other.update_credential(
                        credential.name, user="ada", display_name="New"
                    )
                except VaultUnreachable:
                    continue
        await fake.until(lambda: fake.watchers == 1, timeout=BACK_WITHIN_S)
        await other.delete_credential(credential.name, user="ada")
        with pytest.raises(CredentialNotFound):
            await watching

    assert [each.display_name for each in seen] == ["Old", "New"]


async def test_a_watcher_does_not_take_use_for_change(fake: FakeVault) -> None:
    credential = await fake.connect(user="ada")
    seen: list[Credential] = []

    async def watch(vault: VaultClient) -> None:
        async for each in vault.watch_credential(credential.name, user="ada"):
            seen.append(each)  # noqa: PERF401 - what came before the end counts

    async with VaultClient(fake.target) as vault, VaultClient(fake.target) as other:
        watching = asyncio.create_task(watch(vault))
        await fake.until(lambda: fake.watchers == 1)
        await other.get_access_token(credential.name, user="ada")
        await fake.stop()
        await fake.until(lambda: fake.watchers == 0)
        await fake.start()
        await fake.until(lambda: fake.watchers == 1, timeout=BACK_WITHIN_S)
        async with asyncio.timeout(BACK_WITHIN_S):
            gone = False
            while not gone:
                try:
                    await other.delete_credential(credential.name, user="ada")
                    gone = True
                except VaultUnreachable:
                    continue
        with pytest.raises(CredentialNotFound):
            await watching

    assert len(seen) == 1


@pytest.mark.parametrize("reason", ["VAULT_UNAVAILABLE", "VAULT_OVERLOADED", "REFRESH_PENDING"])
async def test_a_watcher_waits_for_a_vault_in_trouble(fake: FakeVault, reason: str) -> None:
    credential = await fake.connect(user="ada")
    fake.fail_next(reason, retry_after=0.01)

    async with VaultClient(fake.target) as vault:
        changes = vault.watch_credential(credential.name, user="ada")
        async with aclosing(changes):
            assert await anext(changes) == credential

    assert len(fake.calls) == 2


async def test_a_watcher_waits_as_long_as_the_vault_asks(fake: FakeVault) -> None:
    credential = await fake.connect(user="ada")
    fake.fail_next("VAULT_OVERLOADED", retry_after=60)

    async with VaultClient(fake.target) as vault:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await anext(vault.watch_credential(credential.name, user="ada"))

    assert len(fake.calls) == 1


async def test_a_watcher_ends_with_what_waiting_does_not_mend(fake: FakeVault) -> None:
    fake.fail_next("CALLER_NOT_ALLOWED")

    async with VaultClient(fake.target) as vault:
        with pytest.raises(CallerNotAllowed):
            await anext(vault.watch_credential(NAME, user="ada"))
        with pytest.raises(VaultError):
            await anext(vault.watch_credential("no name", user="ada"))


async def test_who_stops_watching_leaves_no_stream_behind(fake: FakeVault) -> None:
    async with VaultClient(fake.target) as vault:
        begun = await vault.begin_authorize(
            "workspaces/demo",
            connector="google",
            display_name="x",
            credential_scope=CredentialScope.PERSONAL,
            user="ada",
            browser_binding="b" * 22,
        )
        async with aclosing(vault.watch_credential(begun.credential.name, user="ada")) as changes:
            async for _ in changes:
                break
        await fake.until(lambda: fake.watchers == 0)
