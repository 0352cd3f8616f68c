"""`flero-vault dev` and `flero-vault smoke`.

`dev` keeps all it makes in one folder: the database, the keyring, and connector files that point
the shipped connectors at the emulated services. It starts in the order in which parts need each
other and stops in the reverse.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import uvicorn
from flero_vault.migrations import runner
from pydantic import SecretStr
from starlette.types import ASGIApp

from flero_vault.core.log import Log
from flero_vault.core.model import DEPLOYMENT
from flero_vault.core.secret import Secret
from flero_vault.server import running
from flero_vault.settings import PREFIX, Otlp, Settings, split_bind
from flero_vault_dev import embedded_postgres
from flero_vault_dev.emulator.server import create_app as create_emulator
from flero_vault_dev.smoke import smoke
from flero_vault_dev.web import create_app as create_dialog

__all__ = ["dev", "smoke"]

SHIPPED = ("google", "hubspot", "microsoft", "salesforce", "slack")
WEB_GRACE_S = 1
"""Streams to open dialogs never end by themselves."""


async def dev(
    settings: Settings,
    otlp: Otlp,
    log: Log,
    out: Callable[[str], None],
    until_stopped: Callable[[], Awaitable[object]],
) -> int:
    """Run everything until it is stopped; return the exit code."""
    emulator_host, emulator_port = split_bind(settings.emulator_bind)
    web_host, web_port = split_bind(settings.web_bind)
    # Another host name than the dialog's on purpose: cookies do not tell ports apart.
    emulator_url = f"http://localhost:{emulator_port}"
    web_url = f"http://{web_host}:{web_port}"
    try:
        async with AsyncExitStack() as stack:
            folder = settings.data_dir.absolute()
            chosen = settings.model_copy(
                update={
                    "connectors_dir": write_connectors(folder / "connectors", emulator_url),
                    "kek": f"local:{folder / 'keyring.json'}",
                    "public_url": web_url,
                    "allow_loopback_services": True,
                }
            )
            if not settings.database_url.get_secret_value():
                postgres = await asyncio.to_thread(embedded_postgres.start, folder / "postgres")
                stack.callback(postgres.stop)
                chosen = chosen.model_copy(update={"database_url": SecretStr(postgres.url)})
            database_url = chosen.database_url.get_secret_value()
            await asyncio.to_thread(runner.migrate, database_url)
            emulator = create_emulator(emulator_url)
            await stack.enter_async_context(
                _serving(emulator, emulator_host, emulator_port, "EMULATOR_BIND")
            )
            vault = await stack.enter_async_context(running(chosen, log, otlp=otlp))
            for key in (*SHIPPED, "oidc"):
                secret = Secret(f"flero-dev-secret-{key}")
                await vault.offers.put_app(
                    DEPLOYMENT, key, f"flero-dev-{key}", (secret,), (emulator_url,)
                )
            target = f"{split_bind(settings.grpc_bind)[0]}:{vault.port}"
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(target))
            dialog = create_dialog(channel)
            await stack.enter_async_context(_serving(dialog, web_host, web_port, "WEB_BIND"))
            out(_greeting(web_url, emulator_url, target))
            out("ready")
            await until_stopped()
    except embedded_postgres.DataFolderInUse as error:
        return _refuse(str(error))
    except embedded_postgres.PostgresFailed as error:
        return _refuse(f"the embedded PostgreSQL did not start: {error}")
    except AddressTakenError as error:
        return _refuse(str(error))
    return 0


def _refuse(message: str) -> int:
    sys.stderr.write(f"flero-vault: {message}\n")
    return 1


def _greeting(web_url: str, emulator_url: str, target: str) -> str:
    return (
        f"Open          {web_url}\n"
        f"Emulators     {emulator_url}\n"
        f"gRPC          {target}\n"
        f"Try           grpcurl -plaintext {target} flero.vault.v1.ConnectorCatalog/ListConnectors"
    )


def write_connectors(folder: Path, emulator_url: str) -> Path:
    """Write the files that point the connectors at the emulated services; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for key in SHIPPED:
        text = f'extends = "{key}"\norigin = "{emulator_url}/{key}"\n'
        (folder / f"{key}.toml").write_text(text, encoding="utf-8")
    (folder / "oidc.toml").write_text(
        'display_name = "Example OpenID"\n'
        f'discovery = "{emulator_url}/oidc/.well-known/openid-configuration"\n'
        'verified = "metadata"\n'
        'verified_by = "https://openid.net/specs/openid-connect-discovery-1_0.html"\n',
        encoding="utf-8",
    )
    return folder


class AddressTakenError(Exception):
    """An address of `dev` is taken."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: `dev` decides when to stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


@asynccontextmanager
async def _serving(app: ASGIApp, host: str, port: int, setting: str) -> AsyncIterator[None]:
    """Serve HTTP until the block is left.

    Raises:
        AddressTakenError: naming the setting.

    """
    try:
        listening = socket.create_server((host, port))
    except OSError:
        message = f"{host}:{port} is taken or not ours: change {PREFIX}{setting}"
        raise AddressTakenError(message) from None
    config = uvicorn.Config(
        app,
        # Callback URLs hold states and codes.
        access_log=False,
        log_level="error",
        lifespan="off",
        timeout_graceful_shutdown=WEB_GRACE_S,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield
    finally:
        server.should_exit = True
        await task
        listening.close()
