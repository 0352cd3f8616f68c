"""Refreshing a grant: once, however many callers and replicas ask at the same moment.

The numbers are those of the design's section 4.

- 3 *Single flight.* A process flies once for a grant. What callers share is only that the flight
  ended; each then reads again and checks for itself.
- 4 *Lease.* The flight takes the lease of one generation in one statement. It sends only while
  under a quarter of the lease is gone, and gives the service at most a third of it.
- 5 *Durable before answered.* The answer is sealed and committed before anybody gets it, under
  the condition of the generation and of the refresh token that was spent, not of the lease. The
  flight is a task of its own: a caller that hangs up cancels nothing.
- 6, 7 *Unknown outcomes, spool, takeover.* Not here yet: an unknown outcome backs off like a
  service that is down, and an abandoned lease is taken over when it has run out.
- 8 *Verdicts.* Only a refusal of the refresh token itself ends a grant, and only if the grant is
  still the one that was sent.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from flero_vault.core.apps import Clients
from flero_vault.core.connector import Connector, Verdict
from flero_vault.core.decisions import back_off, loggable
from flero_vault.core.errors import Precondition, Unavailable
from flero_vault.core.log import Log
from flero_vault.core.model import Grant
from flero_vault.core.persist import Persistence
from flero_vault.core.ports import (
    AuthorizationServer,
    Client,
    Clock,
    Delivery,
    Entropy,
    Failure,
    Lease,
    Sealer,
    Store,
    TokenAnswer,
)
from flero_vault.core.sealing import REFRESH, seal_tokens
from flero_vault.core.secret import Secret

ENDS_A_GRANT = frozenset({Verdict.RECONNECT, Verdict.ADMIN_APPROVAL, Verdict.CONSENT_DENIED})
"""The verdicts after which only a person can help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshLimits:
    """How long things may take."""

    lease: timedelta = timedelta(seconds=24)
    longest_wait: timedelta = timedelta(seconds=30)
    """For those who wait for another's refresh."""
    poll: timedelta = timedelta(milliseconds=200)
    """How often a process looks whether another's refresh has ended, when no hint comes."""

    @property
    def send_before(self) -> timedelta:
        """How much of the lease may be gone when the request is written."""
        return self.lease / 4

    @property
    def call(self) -> timedelta:
        """The total deadline of the request."""
        return self.lease / 3


class Flight:
    """A refresh under way in this process."""

    def __init__(self) -> None:
        self.led: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Whether this process got the lease; resolved before anything is sent."""
        self.task: asyncio.Task[None] | None = None
        self.trouble: Unavailable | None = None
        """What is wrong with the vault itself; callers end with it instead of trying again."""

    async def leads(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds; return whether this process got the lease."""
        done, _ = await asyncio.wait({self.led}, timeout=timeout)
        return bool(done) and self.led.result()

    async def ended(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds; return whether the flight has ended."""
        if self.task is None:
            return True
        done, _ = await asyncio.wait({self.task}, timeout=timeout)
        return bool(done)


class Refresher:
    """Refreshes grants. One for a process."""

    def __init__(
        self,
        *,
        process_id: UUID,
        store: Store,
        sealer: Sealer,
        servers: AuthorizationServer,
        clients: Clients,
        clock: Clock,
        entropy: Entropy,
        log: Log,
        limits: RefreshLimits,
    ) -> None:
        self._process_id = process_id
        self._store = store
        self._sealer = sealer
        self._servers = servers
        self._clients = clients
        self._clock = clock
        self._entropy = entropy
        self._log = log
        self.limits = limits
        self._persistence = Persistence(clock, log)
        self._flights: dict[tuple[str, UUID], Flight] = {}

    def fly(self, grant: Grant, connector: Connector, *, hinted: bool) -> tuple[Flight, bool]:
        """Return the flight for this grant, and whether this call started it."""
        key = (grant.workspace, grant.id)
        flight = self._flights.get(key)
        if flight is not None:
            return flight, False
        flight = Flight()
        self._flights[key] = flight
        flight.task = asyncio.create_task(self._fly(flight, grant, connector, hinted=hinted))
        return flight, True

    async def drain(self) -> None:
        """Wait until every flight has ended, so that no answer is lost at a shutdown."""
        while self._flights:
            await asyncio.wait([f.task for f in self._flights.values() if f.task])

    async def _fly(
        self, flight: Flight, grant: Grant, connector: Connector, *, hinted: bool
    ) -> None:
        try:
            began = self._clock.monotonic()
            lease = await self._store.lease(
                grant, self._process_id, self.limits.lease, hinted=hinted
            )
            flight.led.set_result(lease is not None)
            if lease is None:
                await self._wait_for_other(grant)
            else:
                await self._lead(flight, lease, connector, began)
        except Unavailable as error:
            flight.trouble = error
            self._log.warning("refresh.vault_unavailable", grant=str(grant.id), cause=error.reason)
        except Exception:  # noqa: BLE001 - nobody awaits the flight; the log names its fault
            self._log.exception("refresh.failed", grant=str(grant.id))
        finally:
            if not flight.led.done():
                flight.led.set_result(False)
            del self._flights[grant.workspace, grant.id]

    async def _wait_for_other(self, grant: Grant) -> None:
        """Wait until the holder of the lease has ended, or the lease has run out."""
        end = self._clock.monotonic() + self.limits.longest_wait.total_seconds()
        with self._store.listen(grant.workspace, grant.id) as changed:
            while self._clock.monotonic() < end:
                read = await self._store.read_grant(grant.workspace, grant.id)
                if read is None:
                    return
                now_grant, now = read
                leased = now_grant.lease_expire_time
                if now_grant.generation != grant.generation or leased is None or leased <= now:
                    return
                changed.clear()
                try:
                    async with asyncio.timeout(self.limits.poll.total_seconds()):
                        await changed.wait()
                except TimeoutError:
                    continue

    async def _lead(self, flight: Flight, lease: Lease, connector: Connector, began: float) -> None:
        grant = lease.grant
        try:
            prepared = await self._prepare(grant, connector)
        except Unavailable as error:
            # Of the vault, not of the service: nothing was sent, and nothing is held against it.
            flight.trouble = error
            await self._store.release(grant, self._process_id, "", timedelta(0))
            return
        except Precondition:
            await self._fail(grant, Failure(Delivery.NOT_SENT, Verdict.APP_REFUSED, "no_app"))
            return
        except Exception:
            await self._fail(grant, Failure(Delivery.NOT_SENT, Verdict.SERVICE_DOWN, "vault_fault"))
            raise
        client, spent = prepared
        sent = self._clock.monotonic()
        if sent - began >= self.limits.send_before.total_seconds():
            # Too late to be sure of being alone when the answer comes: nothing was sent.
            await self._store.release(grant, self._process_id, "", timedelta(0))
            return
        answer = await self._servers.refresh(
            client, grant.slot, spent, self.limits.call.total_seconds()
        )
        if isinstance(answer, Failure):
            await self._fail(grant, answer)
            return
        await self._persistence.store(lambda: self._commit(grant, answer, spent, sent))
        await self._store.announce(grant.workspace, grant.id)

    async def _prepare(self, grant: Grant, connector: Connector) -> tuple[Client, Secret]:
        """Have everything in memory that the answer will need, before the token is spent."""
        if grant.refresh_token is None:
            raise AssertionError("unreachable: a lease is for a grant with a refresh token")
        client = await self._clients.load(connector, grant.connection_params, grant.app)
        spent = await self._sealer.open(grant.seat, REFRESH, grant.refresh_token)
        await self._sealer.warm(grant.workspace)
        return client, spent

    async def _commit(self, grant: Grant, answer: TokenAnswer, spent: Secret, sent: float) -> None:
        """Seal and store the answer, or queue it for revocation if nobody may use it."""
        tokens = await seal_tokens(
            self._sealer,
            grant.seat,
            answer.slots[0],
            kept_refresh_token=spent,
            kept_from=None,
            scopes=grant.scopes,
            # A refresh may say anew what users of the token need to know (Salesforce).
            connection={**grant.connection, **answer.connection},
            # Its life counts from before the request was sent, however long it is held here.
            age=self._clock.monotonic() - sent,
        )
        stored = await self._store.renew(grant, tokens)
        if not stored:
            # Revoked, deleted or re-authenticated meanwhile: this answer serves nobody, but the
            # service may have to be told.
            await self._store.outbox(grant, tokens.tokens, self._entropy.uuid())
        self._log.info(
            "refresh.done",
            workspace=grant.workspace,
            grant=str(grant.id),
            generation=grant.generation,
            stored=stored,
        )

    async def _fail(self, grant: Grant, failure: Failure) -> None:
        """Record that no token came: dead, or to be tried again later."""
        self._log.warning(
            "refresh.refused",
            workspace=grant.workspace,
            grant=str(grant.id),
            generation=grant.generation,
            verdict=failure.verdict,
            delivery=failure.delivery,
            code=loggable(failure.code),
        )
        if failure.delivery is Delivery.ANSWERED and failure.verdict in ENDS_A_GRANT:
            # Conditional on generation and refresh token: if somebody refreshed meanwhile, the
            # refusal was about a token that nobody needs any more.
            await self._store.bury(grant, failure.verdict)
        else:
            wait = back_off(grant.failure_count, self._entropy.jitter())
            if failure.retry_after is not None:
                wait = max(wait, timedelta(seconds=failure.retry_after))
            await self._store.release(grant, self._process_id, failure.verdict, wait)
        await self._store.announce(grant.workspace, grant.id)
