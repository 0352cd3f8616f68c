"""The client installs by itself, and brings nothing that could open the vault."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.install.dockerfile import ROOT, SYSTEM_PATH, machine

CANNOT_HAVE = {
    "asyncpg", "click", "cryptography", "flero-vault", "httpx", "pydantic", "pydantic-settings",
    "sqlalchemy", "starlette",
}  # fmt: skip
WITH_EVERY_VENV = {"pip", "setuptools"}
LIST = """
import importlib.metadata as m, json
print(json.dumps({d.name.lower().replace("_", "-"): d.version for d in m.distributions()}))
"""


def locked() -> dict[str, str]:
    text = (ROOT / "service/requirements.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


@dataclass(frozen=True, slots=True)
class Venv:
    folder: Path

    def python(self, *arguments: str) -> str:
        return self._run([str(self.folder / "bin/python"), *arguments])

    def _run(self, command: Sequence[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={"PATH": SYSTEM_PATH, "HOME": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def installed(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.python("-c", LIST))
        return {name: of for name, of in found.items() if name not in WITH_EVERY_VENV}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """A fresh environment with the client and what it asks for, in the locked versions."""
    folder = tmp_path_factory.mktemp("client")
    env = machine(folder / "machine")
    # A copy: building writes into the folder that it builds.
    shutil.copytree(
        ROOT / "client",
        folder / "client",
        ignore=shutil.ignore_patterns("*.egg-info", "build", "__pycache__"),
    )
    pins = "".join(f"{name}=={version}\n" for name, version in locked().items())
    (folder / "constraints.txt").write_text(pins, encoding="utf-8")
    for command in (
        ["python", "-m", "venv", "venv"],
        ["venv/bin/pip", "install", "-q", "-c", "constraints.txt", "./client"],
    ):
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    return Venv(folder / "venv")


def test_the_stubs_import(client: Venv) -> None:
    modules = [
        path.stem for path in sorted((ROOT / "client/flero_vault_client/v1").glob("*_pb2*.py"))
    ]
    assert modules

    client.python(
        "-c", f"import flero_vault_client\nfrom flero_vault_client.v1 import {', '.join(modules)}"
    )


def test_it_brings_nothing_that_could_open_the_vault(client: Venv) -> None:
    installed = client.installed()

    assert "flero-vault-client" in installed
    assert CANNOT_HAVE & installed.keys() == set()


def test_what_it_needs_is_locked(client: Venv) -> None:
    needed = {name: of for name, of in client.installed().items() if name != "flero-vault-client"}

    assert needed
    assert needed.items() <= locked().items()


def test_every_file_of_it_is_in_the_wheel(client: Venv) -> None:
    source = ROOT / "client/flero_vault_client"
    (installed,) = (client.folder / "lib").glob("python3.*/site-packages/flero_vault_client")

    files = [p.relative_to(source) for p in source.rglob("*") if p.is_file()]
    missing = [
        str(path)
        for path in files
        if "__pycache__" not in path.parts and not (installed / path).is_file()
    ]

    assert missing == []
