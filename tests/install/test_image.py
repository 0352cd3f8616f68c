"""What the Dockerfile builds runs with nothing around it but what the Dockerfile gives it."""

import asyncio
import signal
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from tests.install.dockerfile import Image

from flero_vault import __version__
from flero_vault_dev.embedded_postgres import EmbeddedPostgres

PACKAGES = {
    "flero_vault": "service/flero_vault",
    "flero_vault_dev": "service/flero_vault_dev",
    "flero_vault/migrations": "migrations",
    "flero_vault_client": "client/flero_vault_client",
}
NOT_NEEDED = ("pip", "setuptools", "pytest", "grpc_tools", "starlette", "uvicorn", "mypy")
PROBE = ("python", "-m", "flero_vault.api.health_probe")
READY_WITHIN_S = 60


@pytest.fixture(scope="module")
def empty_database(postgres: EmbeddedPostgres) -> Iterator[str]:
    name = f"image_{uuid.uuid4().hex}"

    async def execute(statement: str) -> None:
        connection = await asyncpg.connect(postgres.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(execute(f'CREATE DATABASE "{name}"'))
    yield postgres.url_for(name)
    asyncio.run(execute(f'DROP DATABASE "{name}" WITH (FORCE)'))


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"127.0.0.1:{listening.getsockname()[1]}"


def test_it_says_its_version(image: Image) -> None:
    done = image.vault("--version")

    assert done.returncode == 0, done.stderr
    assert __version__ in done.stdout


def test_serving_without_settings_names_them(image: Image) -> None:
    done = image.vault(*image.command)

    assert done.returncode == 1
    assert "FLERO_VAULT_DATABASE_URL" in done.stderr

    done = image.vault(
        *image.command, FLERO_VAULT_DATABASE_URL="postgresql://vault@127.0.0.1:1/vault"
    )

    assert done.returncode == 1
    assert "FLERO_VAULT_KEK" in done.stderr


def test_migrating_without_settings_names_them(image: Image) -> None:
    done = image.vault("migrate")

    assert done.returncode == 1
    assert "FLERO_VAULT_DATABASE_URL" in done.stderr


def test_it_migrates_serves_answers_probes_and_stops(
    image: Image, empty_database: str, tmp_path: Path
) -> None:
    address = free_address()
    settings = {
        "FLERO_VAULT_DATABASE_URL": empty_database,
        "FLERO_VAULT_KEK": f"local:{tmp_path / 'keyring.json'}",
        "FLERO_VAULT_GRPC_BIND": address,
    }
    migrated = image.vault("migrate", **settings)
    assert migrated.returncode == 0, migrated.stderr
    assert image.healthcheck(**settings) == 1, "nothing serves yet"

    with image.start([*image.entrypoint, *image.command], settings) as process:
        late = threading.Timer(READY_WITHIN_S, process.kill)
        late.start()
        try:
            assert process.stdout is not None
            assert "ready\n" in iter(process.stdout.readline, "")
            late.cancel()

            asked = image.run(*PROBE, address)
            assert (asked.returncode, asked.stdout) == (0, "serving\n"), asked.stderr
            assert image.healthcheck(**settings) == 0

            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=30)
            assert process.returncode == 0, log
        finally:
            late.cancel()
            process.kill()

    asked = image.run(*PROBE, address)
    assert (asked.returncode, asked.stdout) == (3, "unreachable\n")
    assert image.healthcheck(**settings) == 1


@pytest.mark.parametrize(("package", "source"), PACKAGES.items())
def test_every_file_of_a_package_is_in_its_wheel(image: Image, package: str, source: str) -> None:
    folder = image.root / "src" / source
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files

    missing = [
        path.relative_to(folder).as_posix()
        for path in files
        if not (image.site_packages / package / path.relative_to(folder)).is_file()
    ]

    assert missing == []


@pytest.mark.parametrize("module", NOT_NEEDED)
def test_nothing_is_installed_that_serving_does_not_need(image: Image, module: str) -> None:
    done = image.run("python", "-c", f"import {module}")

    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_what_runs_does_not_come_from_this_tree(image: Image) -> None:
    source = "import flero_vault, flero_vault_client as c; print(flero_vault.__file__, c.__file__)"

    done = image.run("python", "-c", source)

    assert done.returncode == 0, done.stderr
    assert all(file.startswith(str(image.root / "opt/vault")) for file in done.stdout.split())
