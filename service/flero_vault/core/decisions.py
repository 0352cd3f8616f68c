"""The decisions that must never be wrong, as pure functions.

Each takes values and the present time and returns a value that says what to do; the use cases
carry it out. Nothing here reads a clock, a database or a socket.

- `need`: serve the token, refresh it, or refuse.
- `judge_callback`: is this callback ours, a repetition, or somebody's attack.
- `verdict_of`: what a refusal of the service means.
- `back_off`: how long to leave a failing service alone.
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from flero_vault.core.connector import Refresh as RefreshFacts
from flero_vault.core.connector import Verdict
from flero_vault.core.model import Attempt, Grant, Phase

MIN_TTL_DEFAULT = timedelta(seconds=60)
MIN_TTL_MAX = timedelta(hours=24)
YOUNG = timedelta(seconds=30)
"""A token younger than this is not refreshed only because it lives shorter than asked for."""
HINT_SPACING = timedelta(minutes=1)
HINT_WINDOW = timedelta(hours=1)
HINTS_PER_WINDOW = 5
BACK_OFF_FIRST = timedelta(seconds=1)
BACK_OFF_MAX = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Serve:
    """Hand out the stored token."""

    warning: str = ""


@dataclass(frozen=True, slots=True)
class Refresh:
    """Refresh first. `servable`: the old token is truly valid, so only the leader has to wait."""

    servable: bool
    hinted: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """The service was failing a moment ago; do not ask it again before `until`."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Dead:
    """Only a person can help: the grant is dead, or there is nothing to refresh it with."""


Need = Serve | Refresh | Wait | Dead


def is_valid(grant: Grant, now: datetime) -> bool:
    """Say whether the access token still lives; of unknown length counts as living."""
    return grant.access_token is not None and (grant.expire_time is None or grant.expire_time > now)


def may_hint(hinted: tuple[datetime, ...], now: datetime) -> bool:
    """Say whether a 401 hint counts: once a minute and five times an hour over all callers."""
    recent = [time for time in hinted if now - time < HINT_WINDOW]
    return len(recent) < HINTS_PER_WINDOW and all(now - time >= HINT_SPACING for time in recent)


def next_hint(hinted: tuple[datetime, ...], now: datetime) -> datetime:
    """Return when a 401 hint counts again."""
    recent = [time for time in hinted if now - time < HINT_WINDOW]
    spaced = max(recent, default=now - HINT_SPACING) + HINT_SPACING
    if len(recent) < HINTS_PER_WINDOW:
        return spaced
    return max(spaced, min(recent) + HINT_WINDOW)


def wanted_life(grant: Grant, min_ttl: timedelta, facts: RefreshFacts) -> timedelta:
    """Return the remaining life below which the token is refreshed.

    Never more than half the token's whole life (or a token that lives as long as `min_ttl` would
    be refreshed at every call), nor more than the window in which the service allows it.
    """
    bounds = [min_ttl]
    if grant.expire_time and grant.issue_time:
        bounds.append((grant.expire_time - grant.issue_time) / 2)
    if facts.window_s is not None:
        bounds.append(timedelta(seconds=facts.window_s))
    return min(bounds)


def need(
    grant: Grant, *, min_ttl: timedelta, rejected: bool, facts: RefreshFacts, now: datetime
) -> Need:
    """Decide what a call for this grant's token needs.

    `rejected`: the caller says that the service refused the very token that is stored, and
    `now` is the database's clock.
    """
    if grant.dead_time is not None:
        return Dead()
    valid = is_valid(grant, now)
    remaining = grant.expire_time - now if grant.expire_time else None
    short = remaining is not None and remaining < wanted_life(grant, min_ttl, facts)
    if grant.refresh_token is None:
        return _without_refresh(valid=valid, short=short, rejected=rejected)
    young = valid and grant.issue_time is not None and now - grant.issue_time < YOUNG
    due = short and not young
    if rejected and valid:
        return _rejected(grant, now, due=due)
    if valid and not due:
        return Serve(_warning(remaining=remaining, min_ttl=min_ttl))
    if grant.retry_time is not None and grant.retry_time > now:
        if valid:
            return Serve("The service is not answering refreshes; this token is still valid.")
        return Wait(grant.retry_time)
    return Refresh(servable=valid and not facts.kills_access_token, hinted=False)


def _rejected(grant: Grant, now: datetime, *, due: bool) -> Need:
    """Decide for a caller whose service refused the stored token, although it should live.

    `due`: it would be refreshed for everybody else too, so that needs no hint.
    """
    if grant.lease_expire_time is not None and grant.lease_expire_time > now:
        # Somebody's refresh is under way: a thousand callers with one 401 wait for that one.
        return Refresh(servable=False, hinted=False)
    if grant.retry_time is not None and grant.retry_time > now:
        return Wait(grant.retry_time)
    if may_hint(grant.hinted_times, now):
        return Refresh(servable=False, hinted=True)
    if due:
        return Refresh(servable=False, hinted=False)
    if grant.failure:
        # The hint was heard, but the refresh that it caused failed: the token is no better now.
        return Wait(next_hint(grant.hinted_times, now))
    return Serve("The service refused this token, but it was refreshed for that reason just now.")


def _without_refresh(*, valid: bool, short: bool, rejected: bool) -> Need:
    if not valid:
        return Dead()
    if rejected:
        return Serve("The service refused this token and gave no way to refresh it.")
    return Serve("This token cannot be refreshed and ends soon." if short else "")


def _warning(*, remaining: timedelta | None, min_ttl: timedelta) -> str:
    if remaining is not None and remaining < min_ttl:
        return "This token lives shorter than asked for; the service does not issue longer ones."
    return ""


class Doubt(StrEnum):
    """Why a callback is not accepted. Only the log learns which."""

    UNKNOWN = "unknown state"
    TOO_OLD = "state too old"
    REPLACED = "state replaced by a newer attempt"
    OTHER_USER = "other user"
    OTHER_BROWSER = "other browser"
    OTHER_CONNECTOR = "other connector"
    OTHER_ISSUER = "other issuer"
    OTHER_CODE = "state used with another code"


@dataclass(frozen=True, slots=True)
class Accept:
    """Ours and new: consume the state, then go on."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """Ours and seen before: give the first outcome, or wait for it."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Not ours."""

    doubt: Doubt


@dataclass(frozen=True, slots=True)
class Callback:
    """What arrived: the path it hit, in whose session and browser, and what it carries."""

    connector: str
    user: str
    binding_hash: bytes
    iss: str
    code_hash: bytes


@dataclass(frozen=True, slots=True)
class Expected:
    """What the connector of the attempt lets us expect."""

    callback_key: str
    iss_required: bool


def _other_issuer(expected: str, iss: str, *, required: bool) -> bool:
    if not iss:
        return required
    # A service that we know no issuer of may send one; there is nothing to compare it with.
    return bool(expected) and iss != expected


def judge_callback(
    attempt: Attempt | None,
    *,
    callback: Callback,
    expected: Expected,
    now: datetime,
) -> Accept | Repeat | Refuse:
    """Decide whether a callback belongs to the attempt that its state names.

    The order is fixed: who and where first, so that nobody else learns anything of an attempt;
    then the issuer, before the code goes anywhere (mix-up defence, RFC 9207, section 2.4); then
    whether it is the first time.
    """
    if attempt is None:
        return Refuse(Doubt.UNKNOWN)
    if attempt.user != callback.user:
        return Refuse(Doubt.OTHER_USER)
    if not hmac.compare_digest(attempt.binding_hash, callback.binding_hash):
        return Refuse(Doubt.OTHER_BROWSER)
    if callback.connector != expected.callback_key:
        return Refuse(Doubt.OTHER_CONNECTOR)
    if _other_issuer(attempt.issuer, callback.iss, required=expected.iss_required):
        return Refuse(Doubt.OTHER_ISSUER)
    if attempt.phase is Phase.VOID:
        return Refuse(Doubt.REPLACED)
    if attempt.phase is not Phase.OPEN:
        first = attempt.code_hash
        same = first is not None and hmac.compare_digest(first, callback.code_hash)
        return Repeat() if same else Refuse(Doubt.OTHER_CODE)
    if attempt.expire_time <= now:
        return Refuse(Doubt.TOO_OLD)
    return Accept()


_VERDICTS: Mapping[str, Verdict] = {
    # RFC 6749, section 5.2
    "invalid_grant": Verdict.RECONNECT,
    "invalid_client": Verdict.APP_REFUSED,
    "unauthorized_client": Verdict.APP_REFUSED,
    "unsupported_grant_type": Verdict.APP_REFUSED,
    "invalid_request": Verdict.APP_REFUSED,
    "invalid_scope": Verdict.SCOPE_REFUSED,
    # RFC 6749, section 4.1.2.1
    "access_denied": Verdict.CONSENT_DENIED,
    "unsupported_response_type": Verdict.APP_REFUSED,
    "server_error": Verdict.SERVICE_DOWN,
    "temporarily_unavailable": Verdict.SERVICE_DOWN,
    # RFC 8628, section 3.5, which other grants borrow
    "slow_down": Verdict.SLOW_DOWN,
    # OpenID Connect Core, section 3.1.2.6
    "interaction_required": Verdict.RECONNECT,
    "login_required": Verdict.RECONNECT,
    "consent_required": Verdict.RECONNECT,
    "account_selection_required": Verdict.RECONNECT,
}
_TOO_MANY_REQUESTS = 429


def verdict_of(
    errors: Mapping[str, Verdict], *, http_status: int, codes: tuple[str, ...]
) -> Verdict:
    """Return what a refusal means.

    `errors` are the connector's own codes, which win; `codes` are those of the answer, the most
    specific first. What nobody knows is the service's trouble, never the person's: an unknown
    code must not expire a credential.
    """
    if http_status == _TOO_MANY_REQUESTS:
        return Verdict.SLOW_DOWN
    for table in (errors, _VERDICTS):
        for code in codes:
            if code in table:
                return table[code]
    return Verdict.SERVICE_DOWN


_CODE = re.compile(r"[a-z_]{1,48}|[A-Z_]{1,48}|http_\d{3}|AADSTS\d{4,7}")


def loggable(code: str) -> str:
    """Return a service's error code for the log; `other` if it could be anything else.

    The service chooses the text: one that echoed a token there would have it logged.
    """
    return code if not code or _CODE.fullmatch(code) else "other"


def back_off(failures: int, jitter: float) -> timedelta:
    """Return how long to wait after the given number of failures in a row; `jitter` is 0 to 1."""
    longest: timedelta = min(BACK_OFF_FIRST * (1 << min(failures, 16)), BACK_OFF_MAX)
    return longest * (0.5 + jitter / 2)


def missing(requested: tuple[str, ...], granted: tuple[str, ...]) -> tuple[str, ...]:
    """Return what was asked for and not granted, compared as sets (RFC 6749, section 3.3)."""
    have = set(granted)
    return tuple(scope for scope in requested if scope not in have)
