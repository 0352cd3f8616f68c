"""What the Dockerfile promises without being run."""

import re
from pathlib import Path

import pytest
from tests.install.dockerfile import ROOT, Ignored, dockerfile, instructions, sent

from flero_vault.api.health_probe import DEADLINE_S

FIRST, LAST = dockerfile()
IGNORED = Ignored((ROOT / ".dockerignore").read_text(encoding="utf-8"))
STEPS = list(instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")))


def test_both_stages_stand_on_one_base_pinned_by_version() -> None:
    assert FIRST.base == LAST.base
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", FIRST.base)


def test_only_what_is_locked_with_hashes_is_downloaded() -> None:
    parts = [part for step in FIRST.all("RUN") for part in re.split(r"&&|;", step.rest)]
    commands = [part for part in parts if re.search(r"\bpip\b.* (install|wheel|download) ", part)]
    assert commands

    for command in commands:
        hashed = "--require-hashes" in command and "--only-binary :all:" in command
        local = "--no-deps" in command and (
            "--no-index" in command or "--no-build-isolation" in command
        )
        assert hashed or local, command


@pytest.mark.parametrize("name", ["service/requirements.txt", "service/build-requirements.txt"])
def test_every_locked_requirement_has_a_hash_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")

    requirements = re.split(r"\n(?=\w)", text)
    pinned = [r for r in requirements if re.match(r"[\w.-]+==", r)]
    assert pinned
    assert all("--hash=sha256:" in r for r in pinned)
    assert "://" not in text


def test_what_runs_has_neither_pip_nor_compiler() -> None:
    made = " ".join(step.rest for step in LAST.all("RUN"))

    assert "pip uninstall" in made
    assert "ensurepip" in made
    assert not re.search(r"pip install|apt-get|gcc|build-essential", made)
    assert LAST.only("COPY").rest == "--from=build /opt/vault /opt/vault"


def test_it_runs_as_a_fixed_user_who_is_not_root() -> None:
    made = " ".join(step.rest for step in LAST.all("RUN"))

    user = LAST.only("USER").rest
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    uid, _, gid = user.partition(":")
    assert f"--uid {uid} --gid {gid}" in made
    # Nothing after it could be done as root again.
    words = [step.word for step in LAST.steps]
    assert "RUN" not in words[words.index("USER") :]


def test_its_volumes_are_its_own_and_nobody_elses() -> None:
    made = " ".join(step.rest for step in LAST.all("RUN"))

    volumes = LAST.only("VOLUME").rest
    assert volumes.split() == ["/var/lib/flero-vault", "/var/spool/flero-vault"]
    assert f"install -d -m 0700 -o vault -g vault {volumes}" in made


def test_it_is_stopped_by_the_signal_that_it_stops_for() -> None:
    assert LAST.only("STOPSIGNAL").rest == "SIGTERM"
    assert LAST.only("ENTRYPOINT").texts == ["flero-vault"]


def test_docker_waits_for_the_probe_longer_than_the_probe_for_the_vault() -> None:
    timeout = re.search(r"--timeout=(\d+)s", LAST.only("HEALTHCHECK").rest)

    assert timeout is not None
    assert int(timeout[1]) > DEADLINE_S


def test_no_layer_can_hold_a_secret() -> None:
    given = " ".join(step.rest for step in STEPS if step.word in {"ARG", "ENV"})

    assert not re.search(r"TOKEN|SECRET|PASSW|KEY|CRED|FLERO_VAULT", given, re.IGNORECASE)


@pytest.mark.parametrize(
    "path",
    [
        ".flero-vault/keyring.json",
        ".env",
        ".git/config",
        ".venv/bin/python",
        "tests/conftest.py",
        "keyring.json",
        "service/.env",
        "service/flero_vault/__pycache__/cli.cpython-312.pyc",
        "service/flero_vault.egg-info/PKG-INFO",
        "client/build/lib/flero_vault_client/__init__.py",
    ],
)
def test_what_the_image_does_not_need_stays_out_of_the_context(path: str) -> None:
    assert IGNORED(path)


@pytest.mark.parametrize(
    "path",
    [
        "service/requirements.txt",
        "service/flero_vault/connectors/google.toml",
        "service/flero_vault/store/queries/tokens.sql",
        "migrations/versions/0001_initial.sql",
        "client/flero_vault_client/web/static/result.css",
    ],
)
def test_what_the_image_needs_is_in_the_context(path: str) -> None:
    assert not IGNORED(path)


def test_a_copy_takes_what_it_names_and_nothing_ignored(tmp_path: Path) -> None:
    for name in ("client/a.py", "client/.env", "client/web/b.css", "other/c.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    taken = [name for _, name in sent(["client"], IGNORED, tmp_path)]

    assert taken == ["a.py", "web/b.css"]
