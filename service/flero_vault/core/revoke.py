"""Revoke: in Flero at once and everywhere, at the service where asked.

What the service is to be told lies sealed in an outbox, so that stopping a credential never waits
for the service, and telling it survives a crash. It is tried for 24 hours.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from flero_vault.core.access import Action, allow
from flero_vault.core.apps import Clients
from flero_vault.core.connector import RevocationStyle, Verdict
from flero_vault.core.decisions import back_off, loggable
from flero_vault.core.errors import Precondition, Unavailable, credential_not_found
from flero_vault.core.log import Log
from flero_vault.core.model import (
    Credential,
    CredentialName,
    Sealed,
    Seat,
    ServiceRevocation,
)
from flero_vault.core.ports import (
    AuthorizationServer,
    Catalogue,
    DueRevocation,
    Entropy,
    Failure,
    Sealer,
    Store,
)
from flero_vault.core.sealing import ACCESS, REFRESH
from flero_vault.core.secret import Secret

TRIED_FOR = timedelta(hours=24)
HOLD = timedelta(seconds=30)
"""How long a process keeps a revocation to itself: longer than the request may take."""
PATIENCE_S = 3.0
"""How long Revoke waits for the service before it answers PENDING."""
BATCH = 20
_HOPELESS = frozenset({Verdict.APP_REFUSED, Verdict.RECONNECT, Verdict.SCOPE_REFUSED})


@dataclass(frozen=True, slots=True)
class Revoked:
    """A stopped credential, what became of it at the service, and where a person can look."""

    credential: Credential
    service_revocation: ServiceRevocation
    manage_url: str


class Revoke:
    """Stops credentials, and tells their services."""

    def __init__(
        self,
        *,
        store: Store,
        sealer: Sealer,
        servers: AuthorizationServer,
        catalogue: Catalogue,
        clients: Clients,
        entropy: Entropy,
        log: Log,
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._servers = servers
        self._catalogue = catalogue
        self._clients = clients
        self._entropy = entropy
        self._log = log
        self._deliveries: set[asyncio.Task[None]] = set()

    async def revoke(self, name: CredentialName, user: str, *, at_service: bool) -> Revoked:
        """Stop a credential. Stopping it again changes nothing.

        Raises:
            NotFound: CREDENTIAL_NOT_FOUND.
            NotAllowed: the user is not its owner.

        """
        credential = allow(Action.REVOKE, await self._store.load(name), user)
        connector = self._catalogue.find(credential.connector)
        style = connector.revocation.style if connector else RevocationStyle.NONE
        if await self._store.revoke(
            name, at_service=at_service, supported=style is not RevocationStyle.NONE
        ):
            self._log.info("credential.revoked", credential=str(name))
            await self._store.announce(name.workspace, name.id)
            if at_service:
                await self._deliver_soon()
        stopped = await self._store.load(name)
        if stopped is None:
            raise credential_not_found()
        return Revoked(
            stopped, stopped.service_revocation, connector.manage_url if connector else ""
        )

    async def _deliver_soon(self) -> None:
        """Tell the service now, but wait for it only a moment."""
        task = asyncio.create_task(self.deliver_due())
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)
        await asyncio.wait({task}, timeout=PATIENCE_S)

    async def drain(self) -> None:
        """Wait until every delivery under way has ended."""
        if self._deliveries:
            await asyncio.wait(self._deliveries)

    async def deliver_due(self) -> None:
        """Try every revocation that is due; call it now and then."""
        try:
            due = await self._store.due_revocations(HOLD, BATCH)
        except Unavailable as error:
            self._log.warning("revocation.vault_unavailable", cause=error.reason)
            return
        await asyncio.gather(*(self._deliver_apart(one) for one in due))

    async def _deliver_apart(self, due: DueRevocation) -> None:
        """Deliver one; its fault is not another tenant's. It comes up again after HOLD."""
        try:
            await self._deliver(due)
        except Exception:  # noqa: BLE001 - one row must not stop the others; the log names it
            self._log.exception("revocation.failed", workspace=due.workspace)
            if due.now - due.create_time > TRIED_FOR:
                await self._store.end_revocation(due, ServiceRevocation.FAILED)

    async def _deliver(self, due: DueRevocation) -> None:
        outcome = await self._try(due)
        if isinstance(outcome, Failure):
            given_up = due.now - due.create_time > TRIED_FOR
            self._log.warning(
                "revocation.refused",
                workspace=due.workspace,
                connector=due.connector,
                verdict=outcome.verdict,
                code=loggable(outcome.code),
                tries=due.tries,
            )
            if given_up or outcome.verdict in _HOPELESS:
                await self._store.end_revocation(due, ServiceRevocation.FAILED)
            else:
                wait = back_off(due.tries + 2, self._entropy.jitter())
                await self._store.postpone_revocation(due, wait)
            return
        await self._store.end_revocation(due, outcome)

    async def _try(self, due: DueRevocation) -> ServiceRevocation | Failure:
        connector = self._catalogue.find(due.connector)
        if connector is None:
            return ServiceRevocation.FAILED
        try:
            client = await self._clients.load(connector, due.connection_params, due.app)
        except Precondition:
            return ServiceRevocation.FAILED
        seat = Seat("grant", due.workspace, str(due.grant_id))
        return await self._servers.revoke(
            client,
            await self._opened(seat, ACCESS, due.access_token),
            await self._opened(seat, REFRESH, due.refresh_token),
        )

    async def _opened(self, seat: Seat, field: str, sealed: Sealed | None) -> Secret | None:
        return None if sealed is None else await self._sealer.open(seat, field, sealed)
