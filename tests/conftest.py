"""Fixtures: one PostgreSQL a session, one migrated database a test module, one vault a module."""

import asyncio
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from flero_vault.migrations import runner
from tests.stack import Emulator, Vault, running_vault

from flero_vault_dev.embedded_postgres import EmbeddedPostgres, running


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL of our own, with the durability that tests do not need switched off."""
    # Not tmp_path: as root the server runs as another user, who has to reach the folder.
    base = Path(tempfile.mkdtemp(prefix="flero-vault-tests-"))
    base.chmod(0o755)
    try:
        with running(base / "postgres", {"fsync": "off", "max_connections": "200"}) as server:
            yield server
    finally:
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session")
def template(postgres: EmbeddedPostgres) -> str:
    """A migrated database that others are copied from."""
    asyncio.run(_execute(postgres.url, 'CREATE DATABASE "template_vault"'))
    runner.migrate(postgres.url_for("template_vault"))
    return "template_vault"


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def _copied(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    await _execute(postgres.url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield postgres.url_for(name)
    await _execute(postgres.url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(scope="module")
async def database_url(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[str]:
    """A migrated database, empty when the module's tests begin."""
    async with _copied(postgres, template) as url:
        yield url


@pytest.fixture
async def fresh_database_url(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[str]:
    """A migrated, empty database for one test."""
    async with _copied(postgres, template) as url:
        yield url


@pytest.fixture(scope="module")
async def emulator() -> AsyncIterator[Emulator]:
    """Emulated services on a free port."""
    async with Emulator.running() as emulator:
        yield emulator


@pytest.fixture(scope="module")
async def vault(database_url: str, emulator: Emulator) -> AsyncIterator[Vault]:
    """A vault that talks to the emulator."""
    async with running_vault(database_url, emulator) as vault:
        yield vault


@pytest.fixture
async def reset(emulator: Emulator) -> None:
    """Have every emulated service forget everything, before the test."""
    for connector in ("slack", "google", "microsoft", "salesforce", "hubspot", "oidc"):
        await emulator.control(connector, reset=True)
