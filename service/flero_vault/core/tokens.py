"""GetAccessToken: a token that is valid now, refreshed first if need be.

Every answer rests on a read that began after the call did, so a call that begins after Revoke
returned never gets a token. Waiting for a refresh shares nothing but its end.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from flero_vault.core.access import visible
from flero_vault.core.connector import Connector, Verdict
from flero_vault.core.decisions import Dead, Need, Refresh, Serve, Wait, missing, need
from flero_vault.core.errors import (
    InvalidField,
    Precondition,
    Reason,
    Unavailable,
    VaultError,
    Violation,
    connector_not_found,
    credential_not_found,
)
from flero_vault.core.model import CredentialName, Grant, Status
from flero_vault.core.ports import Catalogue, Clock, Sealer, Store, TokenRead
from flero_vault.core.refresh import Refresher
from flero_vault.core.sealing import ACCESS, is_token
from flero_vault.core.secret import Secret

REFRESHES_AT_ONCE = 32
"""How many of one batch's tokens are refreshed at the same time."""
_NOT_NOW = "This token could not be refreshed just now; it is still valid."


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What a caller asks."""

    name: CredentialName
    user: str
    min_ttl: timedelta
    rejected_token_sha256: bytes
    required_scopes: tuple[str, ...]
    slot: str


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token that was valid when it was read."""

    token: Secret
    token_type: str
    expire_time: datetime | None
    scopes: tuple[str, ...]
    connection: Mapping[str, str]
    warning: str


@dataclass(frozen=True, slots=True)
class _Judged:
    """A request, what was read for it, and what it needs.

    `began` is when the read began, by the monotonic clock.
    """

    request: TokenRequest
    read: TokenRead
    grant: Grant
    connector: Connector
    decision: Need
    token: Secret | None
    began: float


class Tokens:
    """Serves access tokens."""

    def __init__(
        self,
        *,
        store: Store,
        sealer: Sealer,
        catalogue: Catalogue,
        refresher: Refresher,
        clock: Clock,
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._catalogue = catalogue
        self._refresher = refresher
        self._clock = clock
        self._used: dict[CredentialName, datetime] = {}

    async def get(self, request: TokenRequest, deadline: float | None) -> AccessToken:
        """Return a valid token, in at most `deadline` seconds (None: as long as it takes).

        Raises:
            NotFound: no such credential for this user.
            InvalidField: the connector has no such slot.
            Precondition: CREDENTIAL_PENDING, _EXPIRED, _REVOKED, SCOPES_MISSING,
                OAUTH_APP_REJECTED.
            Unavailable: no valid token at hand, and no new one now.

        """
        end = self._end(deadline)
        began = self._clock.monotonic()
        read = await self._store.read_token(request.name, request.slot)
        return await self._settle(await self._judge(request, read, began), end)

    async def get_many(
        self, workspace: str, requests: Sequence[TokenRequest], deadline: float | None
    ) -> Sequence[AccessToken | VaultError]:
        """Return for each request, in order, what `get` would return or raise.

        One statement reads them all. What has no token by then is REFRESH_PENDING; its refresh goes
        on, so that asking again soon finds it done.
        """
        end = self._end(deadline)
        began = self._clock.monotonic()
        places = {(each.name.id, each.slot): 0 for each in requests}
        places = {wanted: place for place, wanted in enumerate(places)}
        reads = await self._store.read_tokens(workspace, tuple(places))
        outcomes: dict[int, AccessToken | VaultError] = {}
        unsettled: dict[int, _Judged] = {}
        for index, request in enumerate(requests):
            read = reads[places[request.name.id, request.slot]]
            try:
                judged = await self._judge(request, read, began)
                if isinstance(judged.decision, Refresh):
                    unsettled[index] = judged
                else:
                    outcomes[index] = await self._settle(judged, end)
            except VaultError as error:
                outcomes[index] = error
        outcomes |= await self._settle_many(unsettled, end)
        return [outcomes[index] for index in range(len(requests))]

    async def _settle_many(
        self, unsettled: Mapping[int, _Judged], end: float
    ) -> dict[int, AccessToken | VaultError]:
        """Refresh what needs it, a bounded number at once, until `end`."""
        outcomes: dict[int, AccessToken | VaultError] = {}
        bound = asyncio.Semaphore(REFRESHES_AT_ONCE)

        async def settle(index: int, judged: _Judged) -> None:
            try:
                try:
                    async with asyncio.timeout(max(end - self._clock.monotonic(), 0)):
                        await bound.acquire()
                except TimeoutError:
                    # Its turn did not come.
                    outcomes[index] = await self._instead(judged, _pending())
                else:
                    try:
                        outcomes[index] = await self._settle(judged, end)
                    finally:
                        bound.release()
            except VaultError as error:
                outcomes[index] = error

        async with asyncio.TaskGroup() as group:
            for index, judged in unsettled.items():
                group.create_task(settle(index, judged))
        return outcomes

    def _end(self, deadline: float | None) -> float:
        """Return until when a call waits, by the monotonic clock."""
        patience = self._refresher.limits.longest_wait.total_seconds()
        return self._clock.monotonic() + (patience if deadline is None else min(patience, deadline))

    async def _judge(self, request: TokenRequest, read: TokenRead | None, began: float) -> _Judged:
        """Decide what a request needs by a read that began at `began`."""
        if read is None or not visible(read.scope, read.owner, request.user):
            raise credential_not_found()
        connector = self._catalogue.find(read.connector)
        if connector is None:
            raise connector_not_found(read.connector)
        grant = self._usable(read, connector, request)
        token = None
        rejected = False
        if request.rejected_token_sha256 and grant.access_token is not None:
            token = await self._sealer.open(grant.seat, ACCESS, grant.access_token)
            rejected = is_token(token, request.rejected_token_sha256)
        decision = need(
            grant,
            min_ttl=request.min_ttl,
            rejected=rejected,
            facts=connector.refresh,
            now=read.now,
        )
        return _Judged(request, read, grant, connector, decision, token, began)

    async def _settle(self, judged: _Judged, end: float) -> AccessToken:
        """Carry out what was decided, reading again after each refresh."""
        while True:
            match judged.decision:
                case Serve(warning):
                    return await self._serve(judged, warning)
                case Dead():
                    raise expired(judged.read, judged.connector, judged.grant.dead_reason)
                case Wait(until):
                    wait = until - judged.read.now
                    raise service_failing(judged.read, judged.connector, judged.grant, wait)
                case Refresh() as decision:
                    token = await self._refresh(judged, decision, end)
                    if token is not None:
                        return token
                case _:
                    assert_never(judged.decision)
            began = self._clock.monotonic()
            request = judged.request
            read = await self._store.read_token(request.name, request.slot)
            judged = await self._judge(request, read, began)

    async def _refresh(self, judged: _Judged, decision: Refresh, end: float) -> AccessToken | None:
        """Return the old token, or None when a refresh has ended and it is time to read again."""
        flight, started = self._refresher.fly(
            judged.grant, judged.connector, hinted=decision.hinted
        )
        led = started and await flight.leads(end - self._clock.monotonic())
        if decision.servable and not led and self._lives(judged):
            # Somebody else refreshes; the old token is truly valid, so this call need not wait.
            return await self._serve(judged, "")
        if not await flight.ended(end - self._clock.monotonic()):
            return await self._instead(judged, _pending())
        if flight.trouble is not None:
            return await self._instead(judged, flight.trouble)
        return None

    async def _instead(self, judged: _Judged, trouble: VaultError) -> AccessToken:
        """Serve the old token if it may be served and still lives; else raise the trouble."""
        servable = isinstance(judged.decision, Refresh) and judged.decision.servable
        if servable and self._lives(judged):
            return await self._serve(judged, _NOT_NOW)
        raise trouble

    def _lives(self, judged: _Judged) -> bool:
        """Say whether the token that was read still lives, however long ago that was."""
        grant, read = judged.grant, judged.read
        if grant.access_token is None or grant.expire_time is None:
            return grant.access_token is not None
        elapsed = timedelta(seconds=self._clock.monotonic() - judged.began)
        return read.now + elapsed < grant.expire_time

    async def _serve(self, judged: _Judged, warning: str) -> AccessToken:
        grant, read, token = judged.grant, judged.read, judged.token
        if token is None:
            if grant.access_token is None:
                raise AssertionError("unreachable: only a grant with a token is served")
            token = await self._sealer.open(grant.seat, ACCESS, grant.access_token)
        self._used[read.name] = read.now
        return AccessToken(
            token=token,
            token_type=grant.token_type,
            expire_time=grant.expire_time,
            scopes=grant.scopes,
            connection=grant.connection,
            warning=warning,
        )

    def _usable(self, read: TokenRead, connector: Connector, request: TokenRequest) -> Grant:
        """Return the grant if the credential's status and scopes allow its use."""
        if read.status is Status.PENDING:
            raise Precondition(
                Reason.CREDENTIAL_PENDING,
                f"“{read.display_name}” is not connected yet: somebody has to finish authorizing "
                f"it at {connector.display_name}.",
                metadata=_about(read),
            )
        if read.status is Status.REVOKED:
            raise Precondition(
                Reason.CREDENTIAL_REVOKED,
                f"“{read.display_name}” was revoked. Re-authenticate it to use it again.",
                metadata=_about(read),
            )
        grant = read.grant
        if grant is None:
            if connector.slot(request.slot) is None:
                slots = ", ".join(slot.name for slot in connector.slots if slot.name) or "no slots"
                raise InvalidField(Violation("slot", f"must be one of: {slots}"))
            raise _slot_not_authorized(read, request.slot)
        absent = missing(request.required_scopes, grant.scopes)
        if absent:
            raise Precondition(
                Reason.SCOPES_MISSING,
                f"“{read.display_name}” was not given all the permissions that are needed: "
                + "; ".join(connector.scopes.get(scope, scope) for scope in absent)
                + ". Re-authenticate it and allow them.",
                metadata=_about(read) | {"missing_scopes": " ".join(absent)},
            )
        return grant

    async def flush_used(self) -> None:
        """Write down which credentials were used; call it now and then."""
        used, self._used = self._used, {}
        if used:
            minutes = {
                name: time - timedelta(seconds=time.second, microseconds=time.microsecond)
                for name, time in used.items()
            }
            await self._store.mark_used(minutes)


def _pending() -> Unavailable:
    return Unavailable(
        Reason.REFRESH_PENDING,
        "A new token is being fetched. Try again in a moment.",
        retry_after=1,
    )


def _slot_not_authorized(read: TokenRead, slot: str) -> Precondition:
    return Precondition(
        Reason.SCOPES_MISSING,
        f"“{read.display_name}” was not authorized for “{slot}”. "
        "Re-authenticate it with the permissions of that kind.",
        metadata=_about(read),
    )


def _about(read: TokenRead) -> dict[str, str]:
    metadata = {
        "credential": str(read.name),
        "connector": read.connector,
        "display_name": read.display_name,
    }
    if read.reason_time is not None:
        metadata["since"] = read.reason_time.isoformat()
    return metadata


def expired(read: TokenRead, connector: Connector, cause: str) -> Precondition:
    """Return the error that a workflow's owner reads when a person has to act."""
    grant = read.grant
    since = {"since": grant.dead_time.isoformat()} if grant and grant.dead_time else {}
    return Precondition(
        Reason.CREDENTIAL_EXPIRED,
        f"{connector.display_name} no longer accepts “{read.display_name}”. "
        "Open the credential and re-authenticate it; workflows that use it then work again.",
        metadata=_about(read) | since | ({"cause": cause} if cause else {}),
        help_url=connector.manage_url,
    )


def service_failing(
    read: TokenRead, connector: Connector, grant: Grant, wait: timedelta
) -> VaultError:
    """Return the error for a service that gives no new token now, by what it said last."""
    seconds = max(wait.total_seconds(), 1.0)
    if grant.failure == Verdict.APP_REFUSED:
        return Precondition(
            Reason.OAUTH_APP_REJECTED,
            f"{connector.display_name} refuses Flero's own registration. "
            "Your platform team has to correct the OAuth app; nobody needs to re-authenticate.",
            metadata=_about(read) | {"cause": grant.failure},
            retry_after=seconds,
        )
    slow = grant.failure == Verdict.SLOW_DOWN
    return Unavailable(
        Reason.SERVICE_RATE_LIMITED if slow else Reason.SERVICE_UNAVAILABLE,
        f"{connector.display_name} asks us to slow down. Try again later."
        if slow
        else f"{connector.display_name} does not answer at the moment. Try again later.",
        metadata=_about(read),
        retry_after=seconds,
    )
