from itertools import permutations, product
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flero_vault.core.model import Seat
from flero_vault.envelope.format import DataKey, DoesNotOpen, MacKey, joined, open_sealed, seal

ID, OTHER_ID = UUID(int=1), UUID(int=2)
KEY = DataKey(ID, b"a" * 32)
SEAT = Seat("grant", "demo", "row")

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
places = st.tuples(names, names, names, names)
Place = tuple[str, str, str, str]


def seal_to(place: Place, plaintext: bytes, key: DataKey = KEY) -> bytes:
    kind, workspace, row, field = place
    return seal(key, Seat(kind, workspace, row), field, plaintext)


def open_at(place: Place, sealed: bytes, key: DataKey = KEY) -> bytes:
    kind, workspace, row, field = place
    return open_sealed(key, Seat(kind, workspace, row), field, sealed)


@given(places, st.binary(max_size=200))
def test_opens_where_it_was_sealed(place: Place, plaintext: bytes) -> None:
    assert open_at(place, seal_to(place, plaintext)) == plaintext


@given(places, places)
def test_is_refused_anywhere_else(place: Place, other: Place) -> None:
    assume(place != other)
    with pytest.raises(DoesNotOpen):
        open_at(other, seal_to(place, b"token"))


@given(places, st.integers(0, 3), names)
def test_is_refused_where_a_single_name_differs(place: Place, which: int, name: str) -> None:
    assume(place[which] != name)
    names_there = list(place)
    names_there[which] = name
    kind, workspace, row, field = names_there
    with pytest.raises(DoesNotOpen):
        open_at((kind, workspace, row, field), seal_to(place, b"token"))


@given(st.lists(names, min_size=4, max_size=4), st.integers(0, 2))
def test_is_refused_where_a_boundary_between_names_moved(parts: list[str], at: int) -> None:
    assume(parts[at + 1])
    moved = [*parts]
    moved[at], moved[at + 1] = parts[at] + parts[at + 1][0], parts[at + 1][1:]
    with pytest.raises(DoesNotOpen):
        open_at(
            (moved[0], moved[1], moved[2], moved[3]),
            seal_to((parts[0], parts[1], parts[2], parts[3]), b"token"),
        )


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_lengths_make_the_encoding_unambiguous(a: list[bytes], b: list[bytes]) -> None:
    assert (joined(*a) == joined(*b)) == (a == b)


def test_every_ciphertext_in_every_other_place_is_refused() -> None:
    grid: list[Place] = list(
        product(
            ("grant", "attempt", "oauth_app"),
            ("a", "ab", "_deployment"),
            ("1", "b1", "11"),
            ("access_token", "refresh_token"),
        )
    )
    keys = [KEY, DataKey(OTHER_ID, b"b" * 32)]
    places_and_keys = list(product(grid, keys))
    sealed = {(place, key.id): seal_to(place, b"token", key) for place, key in places_and_keys}
    for place, key in places_and_keys:
        assert open_at(place, sealed[place, key.id], key) == b"token"
    tried = 0
    for (place, key), (other, other_key) in permutations(places_and_keys, 2):
        with pytest.raises(DoesNotOpen):
            open_at(other, sealed[place, key.id], other_key)
        tried += 1
    assert tried == 108 * 107


@pytest.mark.parametrize(
    "key",
    [DataKey(ID, b"b" * 32), DataKey(OTHER_ID, b"a" * 32)],
    ids=["same id, other key", "same key, other id"],
)
def test_another_key_is_refused(key: DataKey) -> None:
    with pytest.raises(DoesNotOpen):
        open_sealed(key, SEAT, "field", seal(KEY, SEAT, "field", b"token"))


def test_every_flipped_bit_is_refused() -> None:
    sealed = seal(KEY, SEAT, "field", b"token")
    for at, bit in product(range(len(sealed)), range(8)):
        flipped = bytearray(sealed)
        flipped[at] ^= 1 << bit
        with pytest.raises(DoesNotOpen):
            open_sealed(KEY, SEAT, "field", bytes(flipped))


def test_every_truncation_and_extension_is_refused() -> None:
    sealed = seal(KEY, SEAT, "field", b"token")
    for cut in [*(sealed[:end] for end in range(len(sealed))), sealed[1:], sealed + b"\0"]:
        with pytest.raises(DoesNotOpen):
            open_sealed(KEY, SEAT, "field", cut)


@pytest.mark.parametrize("version", [v for v in range(256) if v != 1])
def test_unknown_versions_are_refused(version: int) -> None:
    sealed = seal(KEY, SEAT, "field", b"token")
    with pytest.raises(DoesNotOpen):
        open_sealed(KEY, SEAT, "field", bytes([version]) + sealed[1:])


@given(st.binary(max_size=80))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(DoesNotOpen):
        open_sealed(KEY, SEAT, "field", noise)


def test_refusals_say_nothing_that_differs() -> None:
    sealed = seal(KEY, SEAT, "field", b"token")
    refusals = set()
    for data in (sealed[:-1], b"\x02" + sealed[1:], b"", sealed[:20]):
        with pytest.raises(DoesNotOpen) as refusal:
            open_sealed(KEY, SEAT, "field", data)
        refusals.add((str(refusal.value), refusal.value.args, refusal.value.__cause__))
    assert len(refusals) == 1


def test_a_nonce_is_asked_for_each_time() -> None:
    nonces = iter([b"n" * 12, b"m" * 12])
    first = seal(KEY, SEAT, "field", b"token", lambda _: next(nonces))
    second = seal(KEY, SEAT, "field", b"token", lambda _: next(nonces))
    assert (first[17:29], second[17:29]) == (b"n" * 12, b"m" * 12)
    assert first[29:] != second[29:]


@pytest.mark.parametrize("nonce", [b"", b"n" * 11, b"n" * 16])
def test_a_nonce_of_another_length_is_a_fault(nonce: bytes) -> None:
    with pytest.raises(ValueError, match="source of chance"):
        seal(KEY, SEAT, "field", b"token", lambda _: nonce)


@pytest.mark.parametrize("length", [0, 16, 24, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(DoesNotOpen):
        DataKey(ID, b"a" * length)


def test_keys_print_as_their_id() -> None:
    assert repr(KEY) == f"<DataKey {ID}>"
    assert repr(MacKey(ID, b"m" * 32)) == f"<MacKey {ID}>"
