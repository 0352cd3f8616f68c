"""PostgreSQL and PgBouncer as Debian packages them, each on a port and in a folder of its own."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from tests.interop.programs import (
    ToolMissing,
    answers_on,
    free_port,
    make_reachable,
    program,
    running,
    unprivileged,
)

PROGRAMS = Path(os.environ.get("INTEROP_POSTGRESQL", "/usr/lib/postgresql/15/bin"))
SUPERUSER = "flero"
START_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server, or a pooler in front of it, listens."""

    port: int

    def url(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/{database}"


@contextmanager
def postgresql(folder: Path) -> Iterator[Address]:
    """Run a new, empty server until the block is left."""
    if not (PROGRAMS / "postgres").exists():
        raise ToolMissing(
            "interop needs PostgreSQL 15: apt-get install postgresql-15, "
            "or set INTEROP_POSTGRESQL to the folder of another one's programs"
        )
    home = make_reachable(folder)
    data = home / "data"
    initdb = (PROGRAMS / "initdb", "-D", data, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8")
    subprocess.run(
        [*initdb, "--locale=C.UTF-8", "--no-sync"],
        check=True,
        capture_output=True,
        timeout=START_WITHIN_S,
        cwd=home,
        **unprivileged(),
    )
    port = free_port()
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": str(home),
        "fsync": "off",
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    with running(
        (PROGRAMS / "postgres", "-D", data, *options),
        folder.parent / "postgresql.log",
        is_ready=lambda: _takes_queries(Address(port)),
        within=START_WITHIN_S,
        cwd=home,
        **unprivileged(),
    ):
        yield Address(port)


@contextmanager
def pgbouncer(folder: Path, server: Address, *, connections: int) -> Iterator[Address]:
    """Run a pooler of transactions with so many connections to the server."""
    home = make_reachable(folder)
    port = free_port()
    configuration = home / "pgbouncer.ini"
    configuration.write_text(
        "[databases]\n"
        f"* = host=127.0.0.1 port={server.port} user={SUPERUSER}\n"
        "[pgbouncer]\n"
        "listen_addr = 127.0.0.1\n"
        f"listen_port = {port}\n"
        "unix_socket_dir =\n"
        "auth_type = any\n"
        "pool_mode = transaction\n"
        f"default_pool_size = {connections}\n"
        "max_client_conn = 200\n",
        encoding="utf-8",
    )
    with running(
        (program("pgbouncer", "pgbouncer"), configuration),
        folder.parent / "pgbouncer.log",
        is_ready=lambda: answers_on(port),
        within=START_WITHIN_S,
        cwd=home,
        **unprivileged(),
    ):
        yield Address(port)


def _takes_queries(address: Address) -> bool:
    try:
        asyncio.run(execute(address.url("postgres"), "SELECT 1"))
    except (OSError, asyncpg.PostgresError):
        return False
    return True


async def execute(url: str, statement: str) -> str:
    """Run one statement; return its first value as text."""
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval(statement))
    finally:
        await connection.close()
