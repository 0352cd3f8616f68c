import base64
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from flero_vault.core.errors import Reason, Unavailable
from flero_vault.envelope.format import DoesNotOpen
from flero_vault.envelope.local import KeyringRefused, LocalKeyring, open_keyring

KEY = b"d" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyring.json"


async def test_makes_a_keyring_that_survives_a_restart(path: Path) -> None:
    kek_id, wrapped = await open_keyring(path).wrap(b"context", KEY)
    assert await open_keyring(path).unwrap(kek_id, b"context", wrapped) == KEY


def test_opening_again_changes_nothing_and_leaves_nothing_behind(path: Path) -> None:
    open_keyring(path)
    before = path.read_bytes()
    open_keyring(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_file_is_its_owners_only_and_has_the_documented_form(path: Path) -> None:
    open_keyring(path)
    assert path.stat().st_mode & 0o777 == 0o600
    content = json.loads(path.read_text())
    assert set(content) == {"primary", "keys"}
    assert set(content["keys"]) == {content["primary"]}
    assert content["primary"].startswith("local:")
    assert len(base64.b64decode(content["keys"][content["primary"]])) == 32


def test_two_keyrings_differ(tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        open_keyring(tmp_path / name)
        contents.append(json.loads((tmp_path / name).read_text()))
    assert contents[0]["primary"] != contents[1]["primary"]
    assert not set(contents[0]["keys"].values()) & set(contents[1]["keys"].values())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o666])
def test_a_file_open_to_others_is_refused_with_the_remedy(path: Path, mode: int) -> None:
    open_keyring(path)
    path.chmod(mode)
    with pytest.raises(KeyringRefused, match=f"chmod 600 {path}"):
        open_keyring(path)
    path.chmod(0o600)
    open_keyring(path)


GOOD = base64.b64encode(KEY).decode()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"keys": {}}',
        json.dumps({"primary": "a", "keys": {}}),
        json.dumps({"primary": "a", "keys": {"b": GOOD}}),
        json.dumps({"primary": ["a"], "keys": {"a": GOOD}}),
        json.dumps({"primary": "a", "keys": {"a": GOOD[4:]}}),
        json.dumps({"primary": "a", "keys": {"a": GOOD + "!"}}),
        json.dumps({"primary": "a", "keys": {"a": 1}}),
        json.dumps({"primary": "a", "keys": ["a"]}),
    ],
)
def test_a_damaged_file_is_refused_kept_and_not_quoted(path: Path, content: str) -> None:
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(KeyringRefused, match="damaged") as refusal:
        open_keyring(path)
    assert str(path) in str(refusal.value)
    assert GOOD[4:20] not in str(refusal.value)
    assert refusal.value.__context__ is None
    assert path.read_text() == content


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyringRefused, match=str(tmp_path / "none" / "keyring")):
        open_keyring(tmp_path / "none" / "keyring")


OPENER = """
import asyncio, pathlib, sys
from flero_vault.envelope.local import open_keyring
folder = pathlib.Path(sys.argv[1])
(folder / f"ready-{sys.argv[2]}").touch()
while not (folder / "go").exists():
    pass
print(repr(open_keyring(folder / "keyring.json")))
"""


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    for turn in range(3):
        folder = tmp_path / str(turn)
        folder.mkdir()
        openers = [
            subprocess.Popen(
                [sys.executable, "-c", OPENER, str(folder), str(n)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for n in range(2)
        ]
        while len(list(folder.glob("ready-*"))) < len(openers):
            assert all(opener.poll() is None for opener in openers)
        (folder / "go").touch()
        said = {opener.communicate(timeout=60)[0] for opener in openers}
        assert said == {f"{open_keyring(folder / 'keyring.json')!r}\n"}
        assert not list(folder.glob(".*"))


def test_who_comes_second_takes_the_first_ones_keyring(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: list[bytes] = []
    link = os.link

    def beaten(source: Path, target: Path) -> None:
        """Let another process finish between the look and the link."""
        monkeypatch.setattr(os, "link", link)
        open_keyring(path)
        first.append(path.read_bytes())
        link(source, target)

    monkeypatch.setattr(os, "link", beaten)
    late = open_keyring(path)
    assert first == [path.read_bytes()]
    assert repr(late) == repr(open_keyring(path))
    assert list(path.parent.iterdir()) == [path]


async def test_a_new_primary_wraps_and_the_old_key_still_unwraps() -> None:
    old = LocalKeyring("local:1", {"local:1": b"1" * 32})
    both = LocalKeyring("local:2", {"local:1": b"1" * 32, "local:2": b"2" * 32})
    kek_id, wrapped = await old.wrap(b"context", KEY)
    assert await both.unwrap(kek_id, b"context", wrapped) == KEY
    assert (await both.wrap(b"context", KEY))[0] == "local:2"


async def test_a_key_that_the_keyring_lacks_is_unavailable() -> None:
    keyring = LocalKeyring("local:1", {"local:1": b"1" * 32})
    with pytest.raises(Unavailable) as refusal:
        await keyring.unwrap("local:2", b"context", b"")
    assert refusal.value.reason is Reason.VAULT_UNAVAILABLE
    assert refusal.value.metadata == {"component": "kms"}


async def test_wrapped_keys_open_only_as_they_were_wrapped() -> None:
    # The two ids name the same key: only the associated data tells them apart.
    keyring = LocalKeyring("local:1", {"local:1": b"1" * 32, "local:2": b"1" * 32})
    kek_id, wrapped = await keyring.wrap(b"context", KEY)
    for claimed, context in (("local:2", b"context"), (kek_id, b"other"), (kek_id, b"")):
        with pytest.raises(DoesNotOpen):
            await keyring.unwrap(claimed, context, wrapped)
    for at, bit in product(range(len(wrapped)), range(8)):
        flipped = bytearray(wrapped)
        flipped[at] ^= 1 << bit
        with pytest.raises(DoesNotOpen):
            await keyring.unwrap(kek_id, b"context", bytes(flipped))
    for end in range(len(wrapped)):
        with pytest.raises(DoesNotOpen):
            await keyring.unwrap(kek_id, b"context", wrapped[:end])


def test_a_keyring_prints_no_key() -> None:
    assert repr(LocalKeyring("local:1", {"local:1": b"1" * 32})) == "<LocalKeyring local:1>"
