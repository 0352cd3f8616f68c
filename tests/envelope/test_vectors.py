"""Examples made by another implementation (Node.js crypto): the bytes are what we say they are."""

import hmac
import json
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.envelope.fakes import FakeKeyStore

from flero_vault.core.model import Sealed, Seat
from flero_vault.core.ports import WrappedKey
from flero_vault.envelope.format import DataKey, DoesNotOpen, MacKey, seal
from flero_vault.envelope.keys import Keys, wrap_context
from flero_vault.envelope.local import LocalKeyring

VECTORS = json.loads(Path("tests/vectors/envelope.json").read_text(encoding="utf-8"))["vectors"]
ALL = {"name", "does", "outcome"}
OPEN = ALL | {"key", "key_id", "kind", "workspace", "row", "field", "sealed"}
UNWRAP = ALL | {"kek", "kek_id", "workspace", "purpose", "key_id", "wrapped"}
FINGERPRINT = ALL | {"key", "use", "secret", "fingerprint"}
KEYS = {
    ("open", "opens"): OPEN | {"plaintext"},
    ("open", "refused"): OPEN,
    ("unwrap", "opens"): UNWRAP | {"plaintext"},
    ("unwrap", "refused"): UNWRAP,
    ("fingerprint", "equals"): FINGERPRINT,
    ("fingerprint", "differs"): FINGERPRINT,
}


def test_all_kinds_of_vectors_are_there() -> None:
    assert {(v["does"], v["outcome"]) for v in VECTORS} == set(KEYS)
    assert max(Counter(v["name"] for v in VECTORS).values()) == 1


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
async def test_vector(vector: dict[str, Any]) -> None:
    assert set(vector) == KEYS[vector["does"], vector["outcome"]]
    match vector["does"]:
        case "open":
            await check_open(vector)
        case "unwrap":
            await check_unwrap(vector)
        case "fingerprint":
            mac = MacKey(UUID(int=1), bytes.fromhex(vector["key"]))
            made = mac.fingerprint(vector["use"], vector["secret"].encode())
            equal = hmac.compare_digest(made, bytes.fromhex(vector["fingerprint"]))
            assert equal == (vector["outcome"] == "equals")
        case other:
            pytest.fail(f"unknown vector: {other}")


async def check_open(vector: dict[str, Any]) -> None:
    """Open it through the sealer, as the service does."""
    key_id, key = UUID(vector["key_id"]), bytes.fromhex(vector["key"])
    seat = Seat(vector["kind"], vector["workspace"], vector["row"])
    data = bytes.fromhex(vector["sealed"])
    keyring = LocalKeyring("local:1", {"local:1": b"k" * 32})
    store = FakeKeyStore()
    context = wrap_context(seat.workspace, "seal", key_id)
    await store.add_key(
        WrappedKey(seat.workspace, key_id, "seal", *await keyring.wrap(context, key))
    )
    opening = Keys(store, keyring).open(seat, vector["field"], Sealed(key_id, data))
    if vector["outcome"] == "refused":
        with pytest.raises(DoesNotOpen):
            await opening
        return
    assert (await opening).reveal() == vector["plaintext"]
    plaintext = vector["plaintext"].encode()
    nonce = data[17:29]
    again = seal(DataKey(key_id, key), seat, vector["field"], plaintext, lambda _: nonce)
    assert again == data


async def check_unwrap(vector: dict[str, Any]) -> None:
    kek_id, kek = vector["kek_id"], bytes.fromhex(vector["kek"])
    context = wrap_context(vector["workspace"], vector["purpose"], UUID(vector["key_id"]))
    wrapped = bytes.fromhex(vector["wrapped"])
    unwrapping = LocalKeyring(kek_id, {kek_id: kek}).unwrap(kek_id, context, wrapped)
    if vector["outcome"] == "refused":
        with pytest.raises(DoesNotOpen):
            await unwrapping
        return
    key = bytes.fromhex(vector["plaintext"])
    assert await unwrapping == key
    again = LocalKeyring(kek_id, {kek_id: kek}, random=lambda _: wrapped[1:13])
    assert await again.wrap(context, key) == (kek_id, wrapped)
