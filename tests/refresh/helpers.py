"""What the tests of refreshing share: waiting with a deadline, ageing tokens, real processes."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import grpc
from tests.stack import Emulator, Vault, vault_on

from flero_vault_client.v1 import vault_admin_pb2

DOOMED = str(Path(__file__).with_name("doomed_server.py"))
START_WITHIN_S = 30.0
T = TypeVar("T")


async def eventually(read: Callable[[], Awaitable[T]], *, within: float = 15.0) -> T:
    """Read again and again until something true is read; return it."""
    async with asyncio.timeout(within):
        while True:
            value = await read()
            if value:
                return value
            await asyncio.sleep(0.02)


async def refresh_calls(emulator: Emulator, connector: str) -> int:
    """Return how many refreshes have arrived at the service."""
    calls: int = (await emulator.counters(connector))["refresh_calls"]
    return calls


async def until_refused(emulator: Emulator, connector: str, token: str) -> None:
    """Wait until the service no longer honours an access token."""

    async def refused() -> bool:
        return not await emulator.accepts(connector, token)

    await eventually(refused)


async def just_expired(vault: Vault, connector: str) -> tuple[Any, str]:
    """Connect; return the credential and its token, over by now. The next one lives an hour."""
    await vault.emulator.control(connector, access_ttl_s=1)
    credential = await vault.connect(connector)
    old = (await vault.token(credential.name)).access_token
    await vault.emulator.control(connector, access_ttl_s=3600)
    await until_refused(vault.emulator, connector, old)
    return credential, old


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one credential, as another program at the same database sees and moves them."""

    database_url: str

    async def run(self, statement: str, *arguments: object) -> list[Any]:
        """Execute one statement; return its rows."""
        connection = await asyncpg.connect(self.database_url)
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    async def grant(self, name: str, slot: str | None = None) -> Any:
        """Return the grant of a credential."""
        (row,) = await self.run(
            "SELECT g.* FROM grants g JOIN credential_slots s USING (workspace_id, grant_id)"
            " WHERE s.credential_id = $1::text::uuid AND ($2::text IS NULL OR s.slot = $2)",
            name.rpartition("/")[2],
            slot,
        )
        return row

    async def age(self, name: str, *, had: float, left: float, slot: str | None = None) -> None:
        """Let a token have been issued `had` seconds ago and have `left` seconds to live."""
        moved = await self.run(
            "UPDATE grants g SET issue_time = clock_timestamp() - make_interval(secs => $2),"
            " expire_time = clock_timestamp() + make_interval(secs => $3)"
            " FROM credential_slots s"
            " WHERE s.workspace_id = g.workspace_id AND s.grant_id = g.grant_id"
            " AND s.credential_id = $1::text::uuid AND ($4::text IS NULL OR s.slot = $4)"
            " RETURNING g.grant_id",
            name.rpartition("/")[2],
            had,
            left,
            slot,
        )
        assert moved

    async def hinted(self, name: str, *seconds_ago: float) -> None:
        """Let refreshes have been asked for by rejected tokens at these times."""
        await self.run(
            "UPDATE grants g SET hinted_times = ARRAY("
            "  SELECT clock_timestamp() - make_interval(secs => ago)"
            "  FROM unnest($2::float8[]) AS ago ORDER BY ago DESC)"
            " FROM credential_slots s"
            " WHERE s.workspace_id = g.workspace_id AND s.grant_id = g.grant_id"
            " AND s.credential_id = $1::text::uuid",
            name.rpartition("/")[2],
            list(seconds_ago),
        )


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Server:
    """A server process, and a vault's stubs that talk to it."""

    process: Process
    vault: Vault
    output: Path


@asynccontextmanager
async def serving(
    command: tuple[str, ...], settings: dict[str, str], emulator: Emulator, output: Path
) -> AsyncIterator[Server]:
    """Run a server process until the block is left; all it prints goes to `output`."""
    target = f"127.0.0.1:{free_port()}"
    outside = {k: v for k, v in os.environ.items() if not k.startswith("FLERO_VAULT_")}
    environment = outside | settings | {"FLERO_VAULT_GRPC_BIND": target}
    with output.open("ab") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, env=environment, stdout=PIPE, stderr=file
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_WITHIN_S):
                line = await process.stdout.readline()
            file.write(line)
            file.flush()
            assert line == b"ready\n", f"see {output}"
            async with grpc.aio.insecure_channel(target) as channel:
                yield Server(process, vault_on(channel, target, emulator), output)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            rest = await process.stdout.read()
            await process.wait()
            file.write(rest)


SERVE = ("-m", "flero_vault.cli", "serve")


async def put_app(vault: Vault, connector: str, *secrets: str) -> Any:
    """Register the emulator's OAuth app for the deployment."""
    return await vault.admin.PutOAuthApp(
        vault_admin_pb2.PutOAuthAppRequest(
            parent="deployment",
            connector=connector,
            client_id=f"flero-dev-{connector}",
            client_secrets=secrets or (f"flero-dev-secret-{connector}",),
            origins=[vault.emulator.origin],
        )
    )
