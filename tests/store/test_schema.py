"""Migrations, what a server does with a schema that is not its own, and the named queries."""

import ast
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from flero_vault.migrations import FOLDER, known

import flero_vault.store.postgres
from flero_vault.store.postgres import PostgresStore, SchemaUnknown
from flero_vault.store.queries import load
from flero_vault_dev.embedded_postgres import EmbeddedPostgres

MIGRATE = "import sys; from flero_vault.migrations import runner; runner.migrate(sys.argv[1])"
QUERIES = load()


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
async def empty(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """A database without a schema."""
    name = f"empty_{uuid.uuid4().hex}"
    await execute(postgres.url, f'CREATE DATABASE "{name}"')
    yield postgres.url_for(name)
    await execute(postgres.url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def opened(url: str, revision: str) -> None:
    async with PostgresStore.open(url, prepared=True, revision=revision):
        pass


async def test_replicas_that_migrate_in_the_same_moment_all_succeed(empty: str) -> None:
    command = [sys.executable, "-c", MIGRATE, empty]
    started = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: ASYNC220 - started together
        for _ in range(3)
    ]
    ends = [(process.communicate(timeout=60)[1], process.returncode) for process in started]
    assert [code for _, code in ends] == [0, 0, 0], ends
    connection = await asyncpg.connect(empty)
    heads = await connection.fetch("SELECT version_num FROM alembic_version")
    await connection.close()
    assert [head["version_num"] for head in heads] == [known()[-1]]
    await opened(empty, known()[-1])


async def test_a_server_refuses_a_database_without_a_schema(empty: str) -> None:
    with pytest.raises(SchemaUnknown, match="no schema"):
        await opened(empty, known()[-1])


async def test_a_server_refuses_a_schema_that_it_does_not_know(empty: str) -> None:
    await execute(
        empty,
        "CREATE TABLE alembic_version (version_num text)",
        "INSERT INTO alembic_version VALUES ('9999')",
    )
    with pytest.raises(SchemaUnknown, match="9999"):
        await opened(empty, known()[-1])


async def test_a_server_refuses_a_migration_that_has_not_begun(empty: str) -> None:
    await execute(empty, "CREATE TABLE alembic_version (version_num text)")
    with pytest.raises(SchemaUnknown, match="no schema"):
        await opened(empty, known()[-1])


def test_the_known_revisions_are_those_of_alembic() -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    script = ScriptDirectory.from_config(config)
    assert len(script.get_heads()) == 1
    walked = [revision.revision for revision in script.walk_revisions()]
    assert tuple(reversed(walked)) == known()


def test_every_named_query_is_used_and_every_used_one_is_named() -> None:
    tree = ast.parse(Path(flero_vault.store.postgres.__file__).read_text(encoding="utf-8"))
    used = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"row", "rows", "_row", "_rows", "_read"}
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    used |= {
        node.slice.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "_sql"
        and isinstance(node.slice, ast.Constant)
    }
    assert used == set(QUERIES)


@pytest.mark.parametrize("name", sorted(QUERIES))
async def test_a_query_fits_the_schema(name: str, connection: asyncpg.Connection) -> None:
    await connection.prepare(QUERIES[name])


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_a_query_says_what_it_is_for(name: str) -> None:
    assert QUERIES[name].startswith("-- ")
