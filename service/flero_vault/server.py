"""Builds and wires everything: the only place that knows every part.

    async with running(settings, log) as server:
        print(server.port)

Leaving the block stops in this order: health says NOT_SERVING, calls under way end, refreshes and
exchanges that were sent are brought home, the process is marked ended, the database is let go.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from flero_vault.api.admin import AdminServicer
from flero_vault.api.calls import Calls
from flero_vault.api.catalog import CatalogServicer
from flero_vault.api.server import ADMIN, CATALOG, VAULT, GrpcServer
from flero_vault.api.vault import VaultServicer
from flero_vault.core.apps import Clients
from flero_vault.core.authorize import Authorize
from flero_vault.core.catalogue import Offers
from flero_vault.core.credentials import Credentials
from flero_vault.core.errors import Unavailable
from flero_vault.core.log import Log
from flero_vault.core.ports import AuthorizationServer
from flero_vault.core.refresh import Refresher, RefreshLimits
from flero_vault.core.revoke import Revoke
from flero_vault.core.tokens import Tokens
from flero_vault.envelope.keys import Keys
from flero_vault.envelope.local import open_keyring
from flero_vault.migrations import known
from flero_vault.oauth.catalogue import load as load_connectors
from flero_vault.oauth.wire import HttpServers
from flero_vault.process import SystemClock, SystemEntropy
from flero_vault.settings import Otlp, Settings
from flero_vault.store.postgres import PostgresStore

BEAT_S = 2.0
USED_FLUSH_S = 5.0
REVOCATION_S = 5.0
SWEEP_S = 600.0
PENDING_KEPT = timedelta(hours=24)
APPROVAL_KEPT = timedelta(days=30)
GRACE_S = 10.0
"""How long calls under way may take when the server stops."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens."""

    port: int
    offers: Offers


@asynccontextmanager
async def running(
    settings: Settings,
    log: Log,
    *,
    servers: AuthorizationServer | None = None,
    otlp: Otlp | None = None,
) -> AsyncIterator[Running]:
    """Serve until the block is left. `servers` stands in for the services in tests.

    `otlp` None: no telemetry.

    Raises:
        Unavailable: the database cannot be reached.
        SchemaUnknown: it has another schema than this version serves.
        ConnectorFilesInvalid: with every problem of every file.
        CannotBind: the address is taken.

    """
    clock, entropy = SystemClock(), SystemEntropy()
    process_id = entropy.uuid()
    telemetry = None
    if otlp and otlp.wanted:
        # Not at the top: who does not want it does not wait for it to be loaded, nor holds it.
        from flero_vault.telemetry import start  # noqa: PLC0415

        telemetry = start(otlp, process_id)
        log = telemetry.counted(log)
    catalogue = load_connectors(
        settings.connectors_dir, allow_loopback=settings.allow_loopback_services
    )
    kek = open_keyring(Path((settings.kek or "").removeprefix("local:")))
    store_context = PostgresStore.open(
        settings.database_url.get_secret_value(),
        prepared=settings.database_prepared == "auto",
        revision=known()[-1],
        observer=telemetry,
    )
    async with store_context as store:
        sealer = Keys(store, kek)
        servers = servers or HttpServers(clock, allow_loopback=settings.allow_loopback_services)
        if telemetry is not None:
            servers = telemetry.observed(servers)
        clients = Clients(store, sealer)
        refresher = Refresher(
            process_id=process_id,
            store=store,
            sealer=sealer,
            servers=servers,
            clients=clients,
            clock=clock,
            entropy=entropy,
            log=log,
            limits=RefreshLimits(lease=timedelta(seconds=settings.refresh_lease)),
        )
        tokens = Tokens(
            store=store, sealer=sealer, catalogue=catalogue, refresher=refresher, clock=clock
        )
        authorize = Authorize(
            process_id=process_id,
            public_url=settings.public_url,
            store=store,
            sealer=sealer,
            servers=servers,
            catalogue=catalogue,
            clients=clients,
            clock=clock,
            entropy=entropy,
            log=log,
        )
        revoke = Revoke(
            store=store,
            sealer=sealer,
            servers=servers,
            catalogue=catalogue,
            clients=clients,
            entropy=entropy,
            log=log,
        )
        credentials = Credentials(
            store=store, servers=servers, catalogue=catalogue, clients=clients, tokens=tokens
        )
        offers = Offers(
            store=store,
            sealer=sealer,
            catalogue=catalogue,
            entropy=entropy,
            allow_loopback=settings.allow_loopback_services,
        )
        server = GrpcServer(
            VaultServicer(
                authorize=authorize,
                tokens=tokens,
                credentials=credentials,
                revoke=revoke,
                calls=Calls(VAULT, log, telemetry),
            ),
            CatalogServicer(
                offers=offers, authorize=authorize, calls=Calls(CATALOG, log, telemetry)
            ),
            AdminServicer(offers=offers, calls=Calls(ADMIN, log, telemetry)),
        )
        await store.beat(process_id, ended=False)
        port = await server.start(settings.grpc_bind)
        upkeep = [
            (BEAT_S, lambda: store.beat(process_id, ended=False)),
            (USED_FLUSH_S, tokens.flush_used),
            (REVOCATION_S, revoke.deliver_due),
            (SWEEP_S, lambda: store.sweep(PENDING_KEPT, APPROVAL_KEPT)),
        ]
        tasks = [asyncio.create_task(_every(period, do, log)) for period, do in upkeep]
        log.info("server.ready", address=settings.grpc_bind, process=str(process_id))
        try:
            yield Running(port, offers)
        finally:
            try:
                await server.stop(GRACE_S)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await asyncio.gather(authorize.drain(), refresher.drain(), revoke.drain())
            with suppress(Unavailable):
                await tokens.flush_used()
                await store.beat(process_id, ended=True)
            log.info("server.stopped", process=str(process_id))
            if telemetry is not None:
                await asyncio.to_thread(telemetry.close)


async def _every(period_s: float, do: Callable[[], Awaitable[object]], log: Log) -> None:
    """Do it again and again. Trouble is logged and does not end it."""
    while True:
        try:
            await do()
        except Unavailable as error:
            log.warning("upkeep.unavailable", cause=error.reason)
        except Exception:
            log.exception("upkeep.failed")
        await asyncio.sleep(period_s)
