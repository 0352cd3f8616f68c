"""A KEK provider for one machine: a keyring file.

    {"primary": "local:0a1b2c3d", "keys": {"local:0a1b2c3d": "<32 bytes in base64>"}}

- The primary key wraps; every key unwraps. To rotate: add a key to the file of every process and
  restart them, then make it primary and restart again.
- The file is made on first run. Of processes that start at once one makes it and all use it.
- A file that others than its owner can read or write is refused: its keys may be known already.
- Whoever has this file and the database has every token. Losing it loses them all. A deployment of
  more than one machine uses a KMS.
- A wrapped key: version 1 in a byte, nonce of 12 bytes, AES-256-GCM ciphertext and tag; associated
  data is the context and the KEK's id.
"""

import base64
import binascii
import json
import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from flero_vault.envelope.format import (
    KEY_BYTES,
    NONCE_BYTES,
    DoesNotOpen,
    Random,
    aead,
    decrypt,
    fresh_nonce,
    joined,
)
from flero_vault.envelope.keys import kms_unavailable

_VERSION: Final = b"\x01"
_OWNER_ONLY: Final = 0o600


class KeyringRefused(Exception):  # named like the core's errors: what happened
    """The keyring file cannot be used. The message is for the operator: it names the remedy."""


class LocalKeyring:
    """Key-encryption keys in memory. `open_keyring` reads them from a file."""

    def __init__(
        self, primary: str, keys: Mapping[str, bytes], *, random: Random = os.urandom
    ) -> None:
        """Take the id of the key that wraps, which is one of `keys`."""
        self._primary = primary
        self._ciphers = {kek_id: aead(key) for kek_id, key in keys.items()}
        self._random = random

    async def wrap(self, context: bytes, key: bytes) -> tuple[str, bytes]:
        """Return the primary key's id, and `key` wrapped by it."""
        nonce = fresh_nonce(self._random)
        cipher = self._ciphers[self._primary]
        ciphertext = cipher.encrypt(nonce, key, joined(context, self._primary.encode()))
        return self._primary, _VERSION + nonce + ciphertext

    async def unwrap(self, kek_id: str, context: bytes, wrapped: bytes) -> bytes:
        """Return the key.

        Raises:
            DoesNotOpen: it was not wrapped by this KEK with this context.
            Unavailable: the keyring has no such KEK.

        """
        cipher = self._ciphers.get(kek_id)
        if cipher is None:
            raise kms_unavailable("The vault's keyring lacks a key that it needs.")
        if wrapped[:1] != _VERSION:
            raise DoesNotOpen
        nonce, ciphertext = wrapped[1 : 1 + NONCE_BYTES], wrapped[1 + NONCE_BYTES :]
        return decrypt(cipher, nonce, ciphertext, joined(context, kek_id.encode()))

    def __repr__(self) -> str:
        return f"<LocalKeyring {self._primary}>"


def open_keyring(path: Path) -> LocalKeyring:
    """Read the keyring file, making it if there is none. Blocks: for the start of a process.

    Raises:
        KeyringRefused: it cannot be read, written or trusted.

    """
    try:
        if not path.exists():
            _create(path)
        mode, content = _read(path)
    except OSError as error:
        raise KeyringRefused(
            f"The keyring {path} cannot be read or made: {error.strerror}. Its folder must exist,"
            " belong to the user that the vault runs as, and lie on a file system with hard links."
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyringRefused(
            f"The keyring {path} is open to other users (mode {mode:04o}). Run: chmod 600 {path}"
            " — and if somebody else may have read it, replace its keys."
        )
    keyring = _parse(content)
    if keyring is None:
        raise KeyringRefused(
            f"The keyring {path} is damaged. Restore it from a backup. Do not delete it: without"
            " its keys nothing in the database can be opened."
        )
    return keyring


def _create(path: Path) -> None:
    """Make a keyring with one key, unless another process is faster.

    The file gets its name by a link, and complete: no process reads half of it, and a link never
    replaces a file. A rename would, and the keys wrapped by the loser's keyring would be lost.
    """
    kek_id = f"local:{secrets.token_hex(4)}"
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    content = json.dumps({"primary": kek_id, "keys": {kek_id: key}}, indent=2) + "\n"
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        # O_EXCL: follows no link that somebody put there to receive the key.
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    # The loser does it too: a key that wrapped something must still be there after a power cut.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> tuple[int, bytes]:
    """Return mode and content of the same file, even if the path is swapped meanwhile."""
    with path.open("rb") as file:
        return stat.S_IMODE(os.fstat(file.fileno()).st_mode), file.read()


def _parse(content: bytes) -> LocalKeyring | None:
    """Return the keyring, or None. The decoder's own error would carry the keys into a log."""
    try:
        parsed = json.loads(content)
        keys = {
            kek_id: base64.b64decode(key, validate=True) for kek_id, key in parsed["keys"].items()
        }
        primary = parsed["primary"]
        return LocalKeyring(primary, keys) if primary in keys else None
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, DoesNotOpen):
        return None
