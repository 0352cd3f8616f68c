"""Server processes of the vault, on the database and with the connectors that a test is about."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.refresh.helpers import SERVE, Server, serving
from tests.stack import Emulator, Vault

from flero_vault_client.v1 import vault_admin_pb2
from flero_vault_dev.commands import write_connectors

PUBLIC_URL = "http://127.0.0.1:8080"
"""Nobody listens there: what a browser would bring to it, the tests carry to the vault."""


def callback_of(connector: str) -> str:
    """Return the redirect URI to register at a service."""
    return f"{PUBLIC_URL}/oauth/callback/{connector}"


@asynccontextmanager
async def vaults(
    count: int,
    *,
    database_url: str,
    emulator: Emulator,
    folder: Path,
    connectors: Mapping[str, str] | None = None,
    more: Mapping[str, str] | None = None,
) -> AsyncIterator[list[Server]]:
    """Run server processes on one database; `connectors` are files beside the emulator's."""
    own = write_connectors(folder / "connectors", emulator.origin)
    for key, text in (connectors or {}).items():
        (own / f"{key}.toml").write_text(text, encoding="utf-8")
    settings = {
        "FLERO_VAULT_DATABASE_URL": database_url,
        "FLERO_VAULT_KEK": f"local:{folder / 'keyring.json'}",
        "FLERO_VAULT_CONNECTORS_DIR": str(own),
        "FLERO_VAULT_ALLOW_LOOPBACK_SERVICES": "true",
        "FLERO_VAULT_PUBLIC_URL": PUBLIC_URL,
        **(more or {}),
    }
    async with AsyncExitStack() as stack:
        started: list[Server] = []
        for number in range(count):
            output = folder / f"{number}.log"
            started.append(
                await stack.enter_async_context(serving(SERVE, settings, emulator, output))
            )
        yield started


async def register(vault: Vault, connector: str, client_id: str, secret: str, url: str) -> None:
    """Register an OAuth app whose secret may go to the origin of `url`."""
    parts = urlsplit(url)
    await vault.admin.PutOAuthApp(
        vault_admin_pb2.PutOAuthAppRequest(
            parent="deployment",
            connector=connector,
            client_id=client_id,
            client_secrets=[secret],
            origins=[f"{parts.scheme}://{parts.netloc}"],
        )
    )
