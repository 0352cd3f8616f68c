"""The bytes of a ciphertext and of a fingerprint. Pure: nothing here waits or remembers.

    offset  0   version, 1
            1   id of the data key, 16 bytes
           17   nonce, 12 bytes
           29   AES-256-GCM ciphertext, then its tag of 16 bytes

- The associated data is version, key id, kind, workspace, row and field, each with its length in
  front. Whoever can write to the database can copy a ciphertext into another row, column or
  workspace; there it does not open.
- A new version is a new layout and a new branch in `open_sealed`; no version is ever reused.
- tests/vectors/envelope.json holds examples made by another implementation.
"""

import hashlib
import hmac
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from flero_vault.core.model import Seat

Random = Callable[[int], bytes]
"""Gives that many unpredictable bytes."""

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_VERSION: Final = b"\x01"
_NONCE_AT: Final = 1 + 16
_CIPHERTEXT_AT: Final = _NONCE_AT + NONCE_BYTES


class DoesNotOpen(Exception):  # named like the core's errors: what happened
    """A ciphertext or wrapped key is damaged, or not from here.

    It never says which: somebody who tries ciphertexts must not learn what was wrong with one.
    """

    def __init__(self) -> None:
        super().__init__("The ciphertext does not open.")


class DataKey:
    """A workspace's key that seals. Prints as its id."""

    __slots__ = ("_aead", "header", "id")

    def __init__(self, key_id: UUID, key: bytes) -> None:
        self.id = key_id
        self.header = _VERSION + key_id.bytes
        """What each of its ciphertexts begins with, and is bound to."""
        # Once a key and not once a ciphertext: expanding the key costs more than opening a token.
        self._aead = aead(key)

    def encrypt(self, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
        """Return ciphertext and tag."""
        return self._aead.encrypt(nonce, plaintext, associated)

    def decrypt(self, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
        """Return the plaintext.

        Raises:
            DoesNotOpen: anything differs from what was encrypted.

        """
        return decrypt(self._aead, nonce, ciphertext, associated)

    def __repr__(self) -> str:
        return f"<DataKey {self.id}>"


class MacKey:
    """A workspace's key that makes fingerprints. Prints as its id."""

    __slots__ = ("_mac", "id")

    def __init__(self, key_id: UUID, key: bytes) -> None:
        self.id = key_id
        self._mac = hmac.new(key, digestmod=hashlib.sha256)

    def fingerprint(self, use: str, secret: bytes) -> bytes:
        """Return the HMAC-SHA256 of use and secret.

        The use is in it so that a fingerprint copied from one column means nothing in another.
        """
        mac = self._mac.copy()
        mac.update(joined(use.encode(), secret))
        return mac.digest()

    def __repr__(self) -> str:
        return f"<MacKey {self.id}>"


def seal(
    key: DataKey, seat: Seat, field: str, plaintext: bytes, random: Random = os.urandom
) -> bytes:
    """Return `plaintext` sealed to this field of this seat."""
    nonce = fresh_nonce(random)
    ciphertext = key.encrypt(nonce, plaintext, _associated(key, seat, field))
    return key.header + nonce + ciphertext


def open_sealed(key: DataKey, seat: Seat, field: str, sealed: bytes) -> bytes:
    """Return the plaintext.

    Raises:
        DoesNotOpen: it was not made by this key for this field of this seat.

    """
    # The header is compared although the associated data would give a difference away: the
    # associated data is built from what we expect, never from what the ciphertext claims.
    if sealed[:_NONCE_AT] != key.header:
        raise DoesNotOpen
    nonce = sealed[_NONCE_AT:_CIPHERTEXT_AT]
    return key.decrypt(nonce, sealed[_CIPHERTEXT_AT:], _associated(key, seat, field))


def joined(*parts: bytes) -> bytes:
    """Return the parts, each after its length in four bytes.

    Without lengths, row `ab` with field `c` and row `a` with field `bc` would be the same place.
    """
    return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


def aead(key: bytes) -> AESGCM:
    """Return AES-256-GCM under a key, and never AES-128 because a key came out short."""
    if len(key) != KEY_BYTES:
        raise DoesNotOpen
    return AESGCM(key)


def fresh_nonce(random: Random) -> bytes:
    """Return a nonce. One that comes twice under a key gives away the key of the tag."""
    nonce = random(NONCE_BYTES)
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"the source of chance gave {len(nonce)} bytes, not {NONCE_BYTES}")
    return nonce


def decrypt(cipher: AESGCM, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
    """Return the plaintext.

    Raises:
        DoesNotOpen: anything differs from what was encrypted, or is too short to be compared.

    """
    try:
        return cipher.decrypt(nonce, ciphertext, associated)
    except (InvalidTag, ValueError):
        # ValueError: a truncated nonce.
        raise DoesNotOpen from None


def _associated(key: DataKey, seat: Seat, field: str) -> bytes:
    place = _place(key.header, seat.kind, seat.workspace)
    return place + joined(seat.row.encode(), field.encode())


@lru_cache(maxsize=1024)  # the same for every row of a workspace
def _place(header: bytes, kind: str, workspace: str) -> bytes:
    version, key_id = header[:1], header[1:]
    return joined(version, key_id, kind.encode(), workspace.encode())
