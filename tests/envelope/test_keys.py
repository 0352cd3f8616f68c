import asyncio
import gc
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from tests.envelope.fakes import FakeClock, FakeEncryption, FakeKeyStore

from flero_vault.core.errors import Reason, Unavailable
from flero_vault.core.model import Sealed, Seat
from flero_vault.core.ports import Sealer, WrappedKey
from flero_vault.core.secret import Secret
from flero_vault.envelope.format import DoesNotOpen
from flero_vault.envelope.keys import Keys, kms_unavailable
from flero_vault.envelope.local import LocalKeyring

T = TypeVar("T")
TOKEN = Secret("ya29.token")
SEAT = Seat("grant", "demo", "row")


@pytest.fixture
def store() -> FakeKeyStore:
    return FakeKeyStore()


@pytest.fixture
async def kms() -> FakeEncryption:
    return FakeEncryption()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def keys(store: FakeKeyStore, kms: FakeEncryption, clock: FakeClock) -> Keys:
    return Keys(store, kms, clock=clock)


async def sealed_token(keys: Keys, seat: Seat = SEAT) -> Sealed:
    row = await keys.seal(seat, {"token": TOKEN})
    return Sealed(row.key_id, row.fields["token"])


def without_waiting(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end in one step; fails if it gives up the event loop."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    pytest.fail("it waited")


async def test_seals_all_fields_by_one_key_and_opens_them(keys: Keys) -> None:
    sealer: Sealer = keys
    row = await sealer.seal(SEAT, {"a": Secret("one"), "b": Secret("zwei ✓")})
    opened = {
        name: await sealer.open(SEAT, name, Sealed(row.key_id, row.fields[name])) for name in "ab"
    }
    assert {name: secret.reveal() for name, secret in opened.items()} == {"a": "one", "b": "zwei ✓"}


async def test_fields_of_one_row_do_not_change_places(keys: Keys) -> None:
    row = await keys.seal(SEAT, {"a": TOKEN, "b": TOKEN})
    with pytest.raises(DoesNotOpen):
        await keys.open(SEAT, "a", Sealed(row.key_id, row.fields["b"]))


async def test_another_process_opens_it(
    keys: Keys, store: FakeKeyStore, kms: FakeEncryption
) -> None:
    sealed = await sealed_token(keys)
    assert await Keys(store, kms).open(SEAT, "token", sealed) == TOKEN


async def test_workspaces_have_keys_of_their_own(keys: Keys, store: FakeKeyStore) -> None:
    await sealed_token(keys)
    await sealed_token(keys, Seat("grant", "other", "row"))
    assert len({row.wrapped for row in store.rows.values()}) == 2


async def test_a_hot_key_is_used_without_waiting(
    keys: Keys, store: FakeKeyStore, kms: FakeEncryption
) -> None:
    sealed = await sealed_token(keys)
    await keys.fingerprint("demo", "use", TOKEN)
    store.calls.clear()
    kms.calls.clear()
    assert without_waiting(keys.open(SEAT, "token", sealed)) == TOKEN
    assert len(without_waiting(keys.fingerprint("demo", "use", TOKEN))) == 32
    without_waiting(keys.seal(SEAT, {"token": TOKEN}))
    assert not store.calls
    assert not kms.calls


# --- age and size ---------------------------------------------------------------------------


async def test_after_its_age_the_row_is_read_again_but_not_unwrapped_again(
    keys: Keys, store: FakeKeyStore, kms: FakeEncryption, clock: FakeClock
) -> None:
    sealed = await sealed_token(keys)
    store.calls.clear()
    kms.calls.clear()
    clock.time += 59.9
    await keys.open(SEAT, "token", sealed)
    assert not store.calls
    clock.time += 0.1
    await keys.open(SEAT, "token", sealed)
    await keys.open(SEAT, "token", sealed)
    assert store.calls == {"load_key": 1}
    assert not kms.calls


async def test_a_purged_workspace_stops_opening_within_the_age(
    keys: Keys, store: FakeKeyStore, clock: FakeClock
) -> None:
    sealed = await sealed_token(keys)
    store.purge("demo")
    clock.time += 60
    for _ in range(2):
        with pytest.raises(DoesNotOpen):
            await keys.open(SEAT, "token", sealed)


async def test_a_purged_key_is_forgotten_when_that_is_noticed(
    keys: Keys, store: FakeKeyStore, kms: FakeEncryption, clock: FakeClock
) -> None:
    sealed = await sealed_token(keys)
    rows = store.rows
    store.purge("demo")
    clock.time += 60
    with pytest.raises(DoesNotOpen):
        await keys.open(SEAT, "token", sealed)
    store.rows = rows
    kms.calls.clear()
    await keys.open(SEAT, "token", sealed)
    assert kms.calls == {"unwrap": 1}


async def test_a_rewrapped_key_is_unwrapped_again(
    keys: Keys, store: FakeKeyStore, kms: FakeEncryption, clock: FakeClock
) -> None:
    sealed = await sealed_token(keys)
    [(name, row)] = store.rows.items()
    store.rows[name] = replace(row, kek_id="local:gone")
    clock.time += 60
    with pytest.raises(Unavailable):
        await keys.open(SEAT, "token", sealed)
    store.rows[name] = row
    assert await keys.open(SEAT, "token", sealed) == TOKEN
    assert kms.calls["unwrap"] == 2


async def test_a_closed_key_opens_and_no_longer_seals_after_the_age(
    keys: Keys, store: FakeKeyStore, clock: FakeClock
) -> None:
    old = await sealed_token(keys)
    store.close("demo", "seal")
    assert (await sealed_token(keys)).key_id == old.key_id
    clock.time += 60
    assert (await sealed_token(keys)).key_id != old.key_id
    assert await keys.open(SEAT, "token", old) == TOKEN


async def test_only_so_many_keys_are_held_and_the_least_used_goes(
    store: FakeKeyStore, kms: FakeEncryption
) -> None:
    keys = Keys(store, kms, max_keys=2)
    a, b, c = (Seat("grant", workspace, "row") for workspace in "abc")
    in_a, in_b = await sealed_token(keys, a), await sealed_token(keys, b)
    await keys.open(a, "token", in_a)
    await sealed_token(keys, c)
    kms.calls.clear()
    await keys.open(a, "token", in_a)
    assert kms.calls["unwrap"] == 0
    await keys.open(b, "token", in_b)
    assert kms.calls["unwrap"] == 1
    await sealed_token(keys, a)
    await sealed_token(keys, c)
    assert kms.calls["unwrap"] == 2


# --- one flight -----------------------------------------------------------------------------


async def test_a_cold_key_is_read_and_unwrapped_once_for_all_who_ask(
    keys: Keys, store: FakeKeyStore, kms: FakeEncryption
) -> None:
    sealed = await sealed_token(keys)
    store.calls.clear()
    kms.calls.clear()
    cold = Keys(store, kms)
    opened = await asyncio.gather(*(cold.open(SEAT, "token", sealed) for _ in range(20)))
    assert all(secret == TOKEN for secret in opened)
    assert store.calls == {"load_key": 1}
    assert kms.calls == {"unwrap": 1}


async def test_sealing_and_opening_by_the_same_cold_key_unwrap_once(
    keys: Keys, store: FakeKeyStore, kms: FakeEncryption
) -> None:
    sealed = await sealed_token(keys)
    kms.calls.clear()
    cold = Keys(store, kms)
    await asyncio.gather(cold.open(SEAT, "token", sealed), sealed_token(cold))
    assert kms.calls == {"unwrap": 1}


async def test_a_new_workspaces_key_is_made_once_for_all_who_ask(
    keys: Keys, store: FakeKeyStore, kms: FakeEncryption
) -> None:
    made = await asyncio.gather(*(sealed_token(keys) for _ in range(20)))
    assert len({sealed.key_id for sealed in made}) == 1
    assert store.calls == {"open_key": 1, "add_key": 1}
    assert kms.calls == {"wrap": 1, "unwrap": 1}


async def test_who_gives_up_does_not_take_the_others_answer(
    keys: Keys, store: FakeKeyStore, kms: FakeEncryption
) -> None:
    sealed = await sealed_token(keys)
    cold = Keys(store, kms)
    kms.gate.clear()
    impatient = asyncio.create_task(cold.open(SEAT, "token", sealed))
    patient = asyncio.create_task(cold.open(SEAT, "token", sealed))
    await asyncio.sleep(0.01)
    impatient.cancel()
    await asyncio.sleep(0)
    kms.gate.set()
    assert await patient == TOKEN
    with pytest.raises(asyncio.CancelledError):
        await impatient


async def test_a_failure_is_not_remembered(
    keys: Keys, store: FakeKeyStore, kms: FakeEncryption
) -> None:
    sealed = await sealed_token(keys)
    cold = Keys(store, kms)
    kms.fails = kms_unavailable("The KMS is away.")
    failures = await asyncio.gather(
        *(cold.open(SEAT, "token", sealed) for _ in range(3)), return_exceptions=True
    )
    for failure in failures:
        assert isinstance(failure, Unavailable)
        assert failure.reason is Reason.VAULT_UNAVAILABLE
        assert failure.metadata == {"component": "kms"}
    kms.fails = None
    assert await cold.open(SEAT, "token", sealed) == TOKEN


async def test_a_failure_that_nobody_waited_for_is_not_logged_by_asyncio(
    keys: Keys, store: FakeKeyStore, kms: FakeEncryption
) -> None:
    sealed = await sealed_token(keys)
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        kms.fails = kms_unavailable("The KMS is away.")
        kms.gate.clear()
        only = asyncio.create_task(Keys(store, kms).open(SEAT, "token", sealed))
        await asyncio.sleep(0.01)
        only.cancel()
        with pytest.raises(asyncio.CancelledError):
            await only
        kms.gate.set()
        await asyncio.sleep(0.01)
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert not complaints


async def test_processes_that_make_a_key_at_once_use_the_winners(
    store: FakeKeyStore, kms: FakeEncryption
) -> None:
    processes = [Keys(store, kms) for _ in range(5)]
    made = await asyncio.gather(*(sealed_token(keys) for keys in processes))
    assert store.calls["add_key"] == 5
    assert len({sealed.key_id for sealed in made}) == 1
    assert len(store.rows) == 1
    for sealed in made:
        assert await processes[0].open(SEAT, "token", sealed) == TOKEN


async def test_a_key_that_does_not_come_back_seals_nothing(store: FakeKeyStore) -> None:
    class Forgetful(LocalKeyring):
        async def wrap(self, context: bytes, key: bytes) -> tuple[str, bytes]:
            return await super().wrap(context + b"?", key)

    with pytest.raises(DoesNotOpen):
        await sealed_token(Keys(store, Forgetful("local:1", {"local:1": b"k" * 32})))


# --- what somebody who can write rows might try -----------------------------------------------


async def test_another_workspaces_ciphertext_and_key_row_are_refused(
    keys: Keys, store: FakeKeyStore, kms: FakeEncryption
) -> None:
    stolen = await sealed_token(keys)
    elsewhere = Seat("grant", "mallory", "row")
    with pytest.raises(DoesNotOpen):
        await keys.open(elsewhere, "token", stolen)
    row = store.rows["demo", stolen.key_id]
    for copy in (row, replace(row, workspace="mallory")):
        store.rows["mallory", stolen.key_id] = copy
        with pytest.raises(DoesNotOpen):
            await Keys(store, kms).open(elsewhere, "token", stolen)
        store.opened["mallory", "seal"] = stolen.key_id
        with pytest.raises(DoesNotOpen):
            await sealed_token(Keys(store, kms), elsewhere)


@pytest.mark.parametrize("warm", [True, False])
async def test_a_mac_key_does_not_seal_or_open(
    store: FakeKeyStore, kms: FakeEncryption, *, warm: bool
) -> None:
    keys = Keys(store, kms)
    await keys.fingerprint("demo", "use", TOKEN)
    mac_id = store.opened["demo", "mac"]
    row = store.rows["demo", mac_id]
    asked = keys if warm else Keys(store, kms)
    for copy in (row, replace(row, purpose="seal")):
        store.rows["demo", mac_id] = copy
        store.opened["demo", "seal"] = mac_id
        with pytest.raises(DoesNotOpen):
            await sealed_token(asked)
        with pytest.raises(DoesNotOpen):
            await asked.open(SEAT, "token", Sealed(mac_id, b"\x01" + mac_id.bytes + bytes(40)))


async def test_rows_under_each_others_id_are_refused(
    keys: Keys, store: FakeKeyStore, kms: FakeEncryption, clock: FakeClock
) -> None:
    first = await sealed_token(keys)
    store.close("demo", "seal")
    clock.time += 60
    second = await sealed_token(keys)
    one, two = store.rows["demo", first.key_id], store.rows["demo", second.key_id]
    store.rows["demo", first.key_id] = two
    with pytest.raises(DoesNotOpen):
        await Keys(store, kms).open(SEAT, "token", first)
    store.rows["demo", first.key_id] = replace(two, key_id=one.key_id)
    with pytest.raises(DoesNotOpen):
        await Keys(store, kms).open(SEAT, "token", first)


async def test_the_column_and_the_header_name_the_same_key(
    keys: Keys, store: FakeKeyStore, clock: FakeClock
) -> None:
    first = await sealed_token(keys)
    store.close("demo", "seal")
    clock.time += 60
    second = await sealed_token(keys)
    with pytest.raises(DoesNotOpen):
        await keys.open(SEAT, "token", Sealed(second.key_id, first.data))


async def test_an_unknown_key_is_refused(keys: Keys) -> None:
    with pytest.raises(DoesNotOpen):
        await keys.open(SEAT, "token", Sealed(uuid4(), b""))


async def test_a_short_key_from_the_kms_is_refused(store: FakeKeyStore) -> None:
    class Short(LocalKeyring):
        async def unwrap(self, kek_id: str, context: bytes, wrapped: bytes) -> bytes:
            return (await super().unwrap(kek_id, context, wrapped))[:16]

    keys = Keys(store, Short("local:1", {"local:1": b"k" * 32}))
    with pytest.raises(DoesNotOpen):
        await sealed_token(keys)
    with pytest.raises(DoesNotOpen):
        await keys.fingerprint("demo", "use", TOKEN)


# --- fingerprints -----------------------------------------------------------------------------


async def test_fingerprints_compare_within_workspace_and_use_only(
    keys: Keys, store: FakeKeyStore, kms: FakeEncryption
) -> None:
    made = await keys.fingerprint("demo", "use", TOKEN)
    assert len(made) == 32
    assert await Keys(store, kms).fingerprint("demo", "use", TOKEN) == made
    others = [
        await keys.fingerprint("demo", "use", Secret("other")),
        await keys.fingerprint("demo", "other", TOKEN),
        await keys.fingerprint("other", "use", TOKEN),
        await keys.fingerprint("demo", "us", Secret("e" + TOKEN.reveal())),
    ]
    assert made not in others


async def test_fingerprints_survive_a_new_data_key(
    keys: Keys, store: FakeKeyStore, clock: FakeClock
) -> None:
    made = await keys.fingerprint("demo", "use", TOKEN)
    await sealed_token(keys)
    store.close("demo", "seal")
    clock.time += 60
    await sealed_token(keys)
    assert await keys.fingerprint("demo", "use", TOKEN) == made


def test_a_wrapped_key_prints_without_its_bytes() -> None:
    row = WrappedKey("demo", UUID(int=1), "seal", "local:1", b"wrapped bytes")
    assert "wrapped" not in repr(row).replace("WrappedKey", "")
