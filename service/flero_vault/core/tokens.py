"""GetAccessToken: a token that is valid now, refreshed first if need be.

Every answer rests on a read that began after the call did, so a call that begins after Revoke
returned never gets a token. Waiting for a refresh shares nothing but its end.
"""

from collections.abc import Mapping
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
from flero_vault.core.sealing import ACCESS, is_token, open_token
from flero_vault.core.secret import Secret

_NOT_NOW = "This token could not be refreshed just now; it is still valid."


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What a caller asks. `deadline` is how many seconds it will wait, None if for ever."""

    name: CredentialName
    user: str
    min_ttl: timedelta
    rejected_token_sha256: bytes
    required_scopes: tuple[str, ...]
    slot: str
    deadline: float | None


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token that was valid when it was read."""

    token: Secret
    token_type: str
    expire_time: datetime | None
    scopes: tuple[str, ...]
    connection: Mapping[str, str]
    warning: str


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

    async def get(self, request: TokenRequest) -> AccessToken:
        """Return a valid token.

        Raises:
            NotFound: no such credential for this user.
            InvalidField: the connector has no such slot.
            Precondition: CREDENTIAL_PENDING, _EXPIRED, _REVOKED, SCOPES_MISSING,
                OAUTH_APP_REJECTED.
            Unavailable: no valid token at hand, and no new one now.

        """
        patience = self._refresher.limits.longest_wait.total_seconds()
        if request.deadline is not None:
            patience = min(patience, request.deadline)
        end = self._clock.monotonic() + patience
        while True:
            read = await self._store.read_token(request.name, request.slot)
            if read is None or not visible(read.scope, read.owner, request.user):
                raise credential_not_found()
            connector = self._catalogue.find(read.connector)
            if connector is None:
                raise connector_not_found(read.connector)
            grant = self._usable(read, connector, request)
            token = None
            rejected = False
            if request.rejected_token_sha256 and grant.access_token is not None:
                token = await open_token(self._sealer, grant, grant.access_token, ACCESS)
                rejected = is_token(token, request.rejected_token_sha256)
            decision = need(
                grant,
                min_ttl=request.min_ttl,
                rejected=rejected,
                facts=connector.refresh,
                now=read.now,
            )
            warning = await self._carry_out(decision, read, grant, connector, end)
            if warning is not None:
                return await self._serve(read, grant, token, warning)

    async def _carry_out(
        self, decision: Need, read: TokenRead, grant: Grant, connector: Connector, end: float
    ) -> str | None:
        """Return a warning (empty: none) to serve with, or None to read again."""
        match decision:
            case Serve(warning):
                return warning
            case Dead():
                raise expired(read, connector, grant.dead_reason)
            case Wait(until):
                raise service_failing(read, connector, grant, until - read.now)
            case Refresh(servable, hinted):
                return await self._refresh(
                    grant, connector, servable=servable, hinted=hinted, end=end
                )
        assert_never(decision)

    async def _refresh(
        self, grant: Grant, connector: Connector, *, servable: bool, hinted: bool, end: float
    ) -> str | None:
        flight, started = self._refresher.fly(grant, connector, hinted=hinted)
        if servable and not (started and await flight.leads(end - self._clock.monotonic())):
            # Somebody else refreshes; the old token is truly valid, so this call need not wait.
            return ""
        if await flight.ended(end - self._clock.monotonic()):
            if flight.trouble is not None and not servable:
                raise flight.trouble
            return None if flight.trouble is None else _NOT_NOW
        if servable:
            return _NOT_NOW
        raise Unavailable(
            Reason.REFRESH_PENDING,
            "A new token is being fetched. Try again in a moment.",
            retry_after=1,
        )

    async def _serve(
        self, read: TokenRead, grant: Grant, token: Secret | None, warning: str
    ) -> AccessToken:
        if token is None:
            if grant.access_token is None:
                raise AssertionError("unreachable: only a grant with a token is served")
            token = await open_token(self._sealer, grant, grant.access_token, ACCESS)
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
