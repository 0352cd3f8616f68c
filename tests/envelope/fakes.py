"""A key store and a KEK provider in memory, which count and can be held up."""

import asyncio
from collections import Counter
from uuid import UUID

from flero_vault.core.ports import Purpose, WrappedKey
from flero_vault.envelope.keys import KeyEncryption
from flero_vault.envelope.local import LocalKeyring


class FakeClock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class FakeKeyStore:
    """data_keys with its unique index: one open key a workspace and purpose."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, UUID], WrappedKey] = {}
        self.opened: dict[tuple[str, Purpose], UUID] = {}
        self.calls: Counter[str] = Counter()

    async def open_key(self, workspace: str, purpose: Purpose) -> WrappedKey | None:
        self.calls["open_key"] += 1
        await asyncio.sleep(0)
        key_id = self.opened.get((workspace, purpose))
        return self.rows[workspace, key_id] if key_id else None

    async def load_key(self, workspace: str, key_id: UUID) -> WrappedKey | None:
        self.calls["load_key"] += 1
        await asyncio.sleep(0)
        return self.rows.get((workspace, key_id))

    async def add_key(self, key: WrappedKey) -> WrappedKey:
        self.calls["add_key"] += 1
        await asyncio.sleep(0)
        winner = self.opened.setdefault((key.workspace, key.purpose), key.key_id)
        if winner == key.key_id:
            self.rows[key.workspace, key.key_id] = key
        return self.rows[key.workspace, winner]

    def close(self, workspace: str, purpose: Purpose) -> None:
        del self.opened[workspace, purpose]

    def purge(self, workspace: str) -> None:
        self.rows = {name: row for name, row in self.rows.items() if name[0] != workspace}
        self.opened = {name: key for name, key in self.opened.items() if name[0] != workspace}


class FakeEncryption:
    """A keyring that counts its calls, and waits in `unwrap` while `gate` is closed."""

    def __init__(self, inner: KeyEncryption | None = None) -> None:
        self.inner = inner or LocalKeyring("local:1", {"local:1": b"k" * 32})
        self.calls: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails: Exception | None = None

    async def wrap(self, context: bytes, key: bytes) -> tuple[str, bytes]:
        self.calls["wrap"] += 1
        await asyncio.sleep(0)
        return await self.inner.wrap(context, key)

    async def unwrap(self, kek_id: str, context: bytes, wrapped: bytes) -> bytes:
        self.calls["unwrap"] += 1
        await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        return await self.inner.unwrap(kek_id, context, wrapped)
