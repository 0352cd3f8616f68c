"""`Keys`: the core's `Sealer`, with one open data key a workspace and purpose.

    Keys ── _Ring "seal" ──┬── KeyStore        rows of data_keys: wrapped keys
         └─ _Ring "mac"  ──┴── KeyEncryption   wraps and unwraps them

- An unwrapped key is used for at most `max_age` seconds (60) after its row was read. Then the row
  is read again, so a purged workspace stops opening everywhere within that time. A row that did not
  change is not unwrapped again: a short outage of the KMS is not an outage of hot workspaces.
- At most `max_keys` unwrapped keys a purpose are held; the one not used for longest goes first.
- Tasks that ask for the same cold key wait for one read and one unwrapping.
- With a key at hand, `open`, `seal` and `fingerprint` never give up the event loop.
- A wrapped key is unwrapped for the workspace, purpose and id that were asked for, never for those
  that its row claims: whoever can write rows could otherwise give one workspace another's key.
- A key is unwrapped from its stored row before its first use, even by the process that made it: if
  it does not come back, nothing has been sealed by it.
"""

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from flero_vault.core.errors import Reason, Unavailable
from flero_vault.core.model import Sealed, Seat
from flero_vault.core.ports import Purpose, SealedRow, WrappedKey
from flero_vault.core.secret import Secret
from flero_vault.envelope.format import (
    KEY_BYTES,
    DataKey,
    DoesNotOpen,
    MacKey,
    Random,
    joined,
    open_sealed,
    seal,
)

_Key = TypeVar("_Key", bound=DataKey | MacKey)
_Value = TypeVar("_Value")


class KeyStore(Protocol):
    """Where wrapped keys are kept. Raises Unavailable with component `database`."""

    async def open_key(self, workspace: str, purpose: Purpose) -> WrappedKey | None:
        """Return the key that new ciphertexts or fingerprints are made with."""

    async def load_key(self, workspace: str, key_id: UUID) -> WrappedKey | None:
        """Return a key, open or closed."""

    async def add_key(self, key: WrappedKey) -> WrappedKey:
        """Store an open key. If another process was faster, return its row and store nothing."""


class KeyEncryption(Protocol):
    """A KEK provider.

    A wrapped key opens only with the context and KEK that it was made with. Raises Unavailable with
    component `kms` if the KEK cannot be reached or used.
    """

    async def wrap(self, context: bytes, key: bytes) -> tuple[str, bytes]:
        """Return the id of the KEK now in use, and `key` wrapped by it."""

    async def unwrap(self, kek_id: str, context: bytes, wrapped: bytes) -> bytes:
        """Return the key.

        Raises:
            DoesNotOpen: it was not wrapped like this.

        """


def kms_unavailable(message: str) -> Unavailable:
    """Return the error for a KEK that cannot be reached or used."""
    return Unavailable(Reason.VAULT_UNAVAILABLE, message, metadata={"component": "kms"})


def wrap_context(workspace: str, purpose: Purpose, key_id: UUID) -> bytes:
    """Return what a wrapped key is bound to, besides its KEK, which the provider binds."""
    return joined(b"flero-vault data key 1", workspace.encode(), purpose.encode(), key_id.bytes)


class Keys:
    """Seals and opens with the data keys of workspaces. One a process, on one event loop."""

    def __init__(
        self,
        store: KeyStore,
        encryption: KeyEncryption,
        *,
        clock: Callable[[], float] = time.monotonic,
        random: Random = os.urandom,
        max_keys: int = 10_000,
        max_age: float = 60.0,
    ) -> None:
        """Take `max_keys` for each purpose, and `max_age` in seconds of the monotonic clock."""
        source = _Source(store, encryption, random)
        self._random = random
        limits = _Limits(clock, max_keys, max_age)
        self._seal = _Ring("seal", DataKey, source, limits)
        self._mac = _Ring("mac", MacKey, source, limits)

    async def seal(self, seat: Seat, fields: Mapping[str, Secret]) -> SealedRow:
        """Seal the fields of one row with the workspace's open data key, making one if need be."""
        key = await self._seal.current(seat.workspace)
        sealed = {
            name: seal(key, seat, name, secret.encode(), self._random)
            for name, secret in fields.items()
        }
        return SealedRow(key.id, sealed)

    async def warm(self, workspace: str) -> None:
        """Have the open keys of a workspace in memory."""
        await self._seal.current(workspace)
        await self._mac.current(workspace)

    async def open(self, seat: Seat, name: str, sealed: Sealed) -> Secret:
        """Open one field.

        Raises:
            DoesNotOpen: it was not sealed to this place, or its key is gone.
            Unavailable: the key is not at hand, and the KEK or the database is away.

        """
        key = await self._seal.by_id(seat.workspace, sealed.key_id)
        try:
            return Secret.decoded(open_sealed(key, seat, name, sealed.data))
        except ValueError:
            raise DoesNotOpen from None

    async def fingerprint(self, workspace: str, use: str, secret: Secret) -> bytes:
        """Return a keyed hash, comparable within the workspace and use; 32 bytes."""
        key = await self._mac.current(workspace)
        return key.fingerprint(use, secret.encode())


@dataclass(frozen=True, slots=True)
class _Source:
    """Where keys come from."""

    store: KeyStore
    encryption: KeyEncryption
    random: Random


@dataclass(frozen=True, slots=True)
class _Limits:
    """How much is remembered and for how long, and the clock that says so."""

    now: Callable[[], float]
    max_size: int
    max_age: float


@dataclass(frozen=True, slots=True)
class _Held(Generic[_Key]):
    """An unwrapped key, and the row that it was unwrapped from."""

    row: WrappedKey
    key: _Key


class _Ring(Generic[_Key]):
    """The keys of one purpose. Each has its own cache, so that none serves the other purpose."""

    def __init__(
        self,
        purpose: Purpose,
        make: Callable[[UUID, bytes], _Key],
        source: _Source,
        limits: _Limits,
    ) -> None:
        self._purpose: Purpose = purpose
        self._make = make
        self._source = source
        self._now = limits.now
        self._held: _Cache[_Held[_Key]] = _Cache(limits)
        self._current: _Cache[UUID] = _Cache(limits)
        self._reads: _Flights[_Key] = _Flights()
        self._unwrappings: _Flights[_Key] = _Flights()

    async def current(self, workspace: str) -> _Key:
        """Return the workspace's open key, making one if there is none."""
        key_id = self._current.fresh(workspace)
        held = self._held.fresh((workspace, key_id)) if key_id else None
        if held is not None:
            return held.key
        return await self._reads.join(workspace, partial(self._read_current, workspace))

    async def by_id(self, workspace: str, key_id: UUID) -> _Key:
        """Return a key of the workspace.

        Raises:
            DoesNotOpen: it has no such key.

        """
        held = self._held.fresh((workspace, key_id))
        if held is not None:
            return held.key
        return await self._reads.join((workspace, key_id), partial(self._read, workspace, key_id))

    async def _read_current(self, workspace: str) -> _Key:
        began = self._now()
        row = await self._source.store.open_key(workspace, self._purpose)
        if row is None:
            row = await self._add(workspace)
        key = await self._unwrapped(workspace, row, began)
        self._current.put(workspace, key.id, began)
        return key

    async def _read(self, workspace: str, key_id: UUID) -> _Key:
        began = self._now()
        row = await self._source.store.load_key(workspace, key_id)
        if row is None or row.key_id != key_id:
            # Repeating would not help: rows reference their key, so it went with its workspace, or
            # the ciphertext was brought here from another one.
            self._held.drop((workspace, key_id))
            raise DoesNotOpen
        return await self._unwrapped(workspace, row, began)

    async def _add(self, workspace: str) -> WrappedKey:
        key_id = UUID(bytes=self._source.random(16), version=4)
        kek_id, wrapped = await self._source.encryption.wrap(
            wrap_context(workspace, self._purpose, key_id), self._source.random(KEY_BYTES)
        )
        return await self._source.store.add_key(
            WrappedKey(workspace, key_id, self._purpose, kek_id, wrapped)
        )

    async def _unwrapped(self, workspace: str, row: WrappedKey, began: float) -> _Key:
        """Return the row's key. Its age counts from `began`, before the row was read."""
        held = self._held.of_any_age((workspace, row.key_id))
        if held is not None and held.row == row:
            key = held.key
        else:
            key = await self._unwrappings.join(
                (workspace, row), partial(self._unwrap, workspace, row)
            )
        self._held.put((workspace, row.key_id), _Held(row, key), began)
        return key

    async def _unwrap(self, workspace: str, row: WrappedKey) -> _Key:
        context = wrap_context(workspace, self._purpose, row.key_id)
        key = await self._source.encryption.unwrap(row.kek_id, context, row.wrapped)
        if len(key) != KEY_BYTES:
            raise DoesNotOpen
        return self._make(row.key_id, key)


class _Cache(Generic[_Value]):
    """Values with the time from which their age counts; the least used one makes room."""

    def __init__(self, limits: _Limits) -> None:
        self._limits = limits
        self._entries: OrderedDict[Hashable, tuple[_Value, float]] = OrderedDict()

    def fresh(self, name: Hashable) -> _Value | None:
        """Return a value that may still be used."""
        entry = self._entries.get(name)
        if entry is None or self._limits.now() - entry[1] >= self._limits.max_age:
            return None
        self._entries.move_to_end(name)
        return entry[0]

    def of_any_age(self, name: Hashable) -> _Value | None:
        """Return a value that may be used again once its row was seen unchanged."""
        entry = self._entries.get(name)
        return entry[0] if entry else None

    def put(self, name: Hashable, value: _Value, began: float) -> None:
        """Keep a value, and drop others if there are too many."""
        self._entries[name] = (value, began)
        self._entries.move_to_end(name)
        while len(self._entries) > self._limits.max_size:
            self._entries.popitem(last=False)

    def drop(self, name: Hashable) -> None:
        """Forget a value."""
        self._entries.pop(name, None)


class _Flights(Generic[_Value]):
    """Work under way, by name: who asks for the same waits for the same.

    The work is its own task. A caller who gives up does not take the others' answer away.
    """

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[_Value]] = {}

    async def join(
        self, name: Hashable, start: Callable[[], Coroutine[Any, Any, _Value]]
    ) -> _Value:
        """Return what the work of this name returns, starting it if nobody has."""
        task = self._tasks.get(name)
        if task is None:
            task = asyncio.create_task(start())
            self._tasks[name] = task
            task.add_done_callback(partial(self._land, name))
        return await asyncio.shield(task)

    def _land(self, name: Hashable, task: asyncio.Task[_Value]) -> None:
        del self._tasks[name]
        if not task.cancelled():
            # Looked at, so that asyncio does not log it when every caller has given up.
            task.exception()
