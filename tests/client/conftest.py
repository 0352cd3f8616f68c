"""Two vaults behind one client: the fake one and the real one, which must not be told apart."""

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from tests.stack import Vault

from flero_vault_client import (
    Begun,
    Completed,
    Credential,
    CredentialExpired,
    CredentialScope,
    VaultClient,
)
from flero_vault_client.testing import FakeVault

BINDING = "browser-binding-of-a-test-0123456789"
USER = "ada"
CALLBACK = ("state", "code", "iss", "error")


class Backend(Protocol):
    """What a test does beside calling the vault."""

    @property
    def target(self) -> str: ...

    async def consent(self, url: str, account: str, decision: str) -> Mapping[str, str]: ...

    async def kill_grant(self, name: str) -> None: ...

    async def accepts(self, connector: str, token: str) -> bool: ...

    def trouble(self) -> AbstractAsyncContextManager[None]:
        """Have Google ask for a pause at the next refresh."""
        ...


@dataclass(frozen=True, slots=True)
class FakeBackend:
    fake: FakeVault

    @property
    def target(self) -> str:
        return self.fake.target

    async def consent(self, url: str, account: str, decision: str) -> Mapping[str, str]:
        return await self.fake.consent(url, account=account, decision=decision)

    async def kill_grant(self, name: str) -> None:
        self.fake.expire(name)

    async def accepts(self, connector: str, token: str) -> bool:
        del connector
        return self.fake.accepts(token)

    @asynccontextmanager
    async def trouble(self) -> AsyncIterator[None]:
        self.fake.fail_next("SERVICE_RATE_LIMITED", retry_after=30)
        yield


@dataclass(frozen=True, slots=True)
class RealBackend:
    vault: Vault

    @property
    def target(self) -> str:
        return self.vault.target

    async def consent(self, url: str, account: str, decision: str) -> Mapping[str, str]:
        return await self.vault.emulator.consent(url, account=account, decision=decision)

    async def kill_grant(self, name: str) -> None:
        await self.vault.emulator.control(
            "google", kill_refresh_tokens=True, kill_access_tokens=True
        )
        async with VaultClient(self.target) as client:
            token = await client.get_access_token(name, user=USER)
            with pytest.raises(CredentialExpired):
                await client.get_access_token(name, user=USER, rejected_token=token.access_token)

    async def accepts(self, connector: str, token: str) -> bool:
        return await self.vault.emulator.accepts(connector, token)

    @asynccontextmanager
    async def trouble(self) -> AsyncIterator[None]:
        await self.vault.emulator.control("google", fail="rate_limited_429")
        try:
            yield
        finally:
            await self.vault.emulator.control("google", fail=None)


@dataclass(frozen=True, slots=True)
class World:
    """A workspace of its own in a vault, and a client of that vault."""

    vault: VaultClient
    backend: Backend
    parent: str

    async def begin(self, connector: str = "google", **fields: Any) -> Begun:
        asked = {
            "display_name": f"My {connector}",
            "credential_scope": CredentialScope.PERSONAL,
            "user": USER,
            "browser_binding": BINDING,
            **fields,
        }
        return await self.vault.begin_authorize(self.parent, connector=connector, **asked)

    async def consent(
        self, begun: Begun, *, account: str = "ada", decision: str = "allow"
    ) -> dict[str, str]:
        """Return what the person brings back, as arguments of `complete_callback`."""
        back = await self.backend.consent(begun.authorize_url, account, decision)
        return {key: back[key] for key in CALLBACK if key in back}

    async def complete(self, back: Mapping[str, str], **fields: Any) -> Completed:
        asked: dict[str, Any] = {"connector": "google", "user": USER, "browser_binding": BINDING}
        return await self.vault.complete_callback(**asked | dict(back) | fields)

    async def connect(self, connector: str = "google", **fields: Any) -> Credential:
        begun = await self.begin(connector, **fields)
        back = await self.consent(begun)
        user = fields.get("user", USER)
        return (await self.complete(back, connector=connector, user=user)).credential


@pytest.fixture(scope="module")
async def fake_backend() -> AsyncIterator[Backend]:
    async with FakeVault() as fake:
        yield FakeBackend(fake)


@pytest.fixture(scope="module")
async def real_backend(vault: Vault) -> Backend:
    return RealBackend(vault)


@pytest.fixture(params=["fake", "real"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """The same tests run against both."""
    found: Backend = request.getfixturevalue(f"{request.param}_backend")
    return found


@pytest.fixture
async def world(backend: Backend) -> AsyncIterator[World]:
    async with VaultClient(backend.target) as client:
        yield World(client, backend, f"workspaces/w-{uuid.uuid4().hex}")


@pytest.fixture
async def fake() -> AsyncIterator[FakeVault]:
    async with FakeVault() as fake:
        yield fake
