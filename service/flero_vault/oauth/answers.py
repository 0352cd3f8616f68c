"""Reads what token endpoints answer, as the real world sends it. Pure; never raises.

- `parse`: a token answer, in JSON or form encoding, nested or flat, or the failure it means.
- `refusal`: the failure that any answer means, or None; shared by all endpoints.
- `id_token`, `pick`, `dig`, `learn`: single things out of an answer.

A body's text never leaves but as an access token, a refresh token, a scope, an identity or
connection field that the connector names, or an error code of a strict alphabet.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import parse_qsl

from flero_vault.core.connector import Connector, IdentitySource, Slot, Verdict
from flero_vault.core.decisions import verdict_of
from flero_vault.core.ports import Delivery, Failure, SlotTokens, TokenAnswer
from flero_vault.core.secret import Secret

UNREADABLE: Final = "unreadable"
RETRY_AFTER_MAX_S: Final = 3600.0
LIFE_MAX_S: Final = 10 * 365 * 24 * 3600.0
"""A longer life is taken for milliseconds, a time stamp or a joke: unknown."""
OFFLINE_ACCESS: Final = "offline_access"

_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TOKEN: Final = re.compile(r"[\x20-\x7e]+")  # RFC 6749, appendix A.12: 1*VSCHAR
_FORM: Final = re.compile(r"[A-Za-z0-9_.~%+-]+=[^\s<>{}\"]*")
_SCOPE_ENDS: Final = re.compile(r"[\s,]+")
_OK, _CREATED_END = 200, 300
_TOO_MANY_REQUESTS, _SERVER_ERROR, _UNAVAILABLE = 429, 500, 503
_FINE_STATUSES: Final = frozenset({"ok", "success"})
_CODE_KEYS: Final = ("code", "errorCode", "errorType", "type", "status", "error")


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole HTTP answer. `retry_after` is in seconds, capped."""

    status: int
    body: bytes = field(repr=False)
    retry_after: float | None = None


def retry_after(value: str | None, now: float) -> float | None:
    """Read a Retry-After header: seconds or a date (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None:
        try:
            date = parsedate_to_datetime(value)
            # "-0000" gives a time without a zone; such dates are UTC (RFC 9110, section 5.6.7).
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_S)


def parse(
    connector: Connector,
    answer: HttpAnswer,
    *,
    refreshed: str | None = None,
    redirect: Mapping[str, str] | None = None,
) -> TokenAnswer | Failure:
    """Read the answer to a code, or to the refresh of the slot `refreshed`.

    An error comes before any token, whatever the status: several services refuse with 200. An
    answer that is neither may have cost us the code or the refresh token, so its fate is unknown.
    """
    failure = refusal(connector, answer)
    if failure is not None:
        return failure
    body = read_object(answer.body)
    if body is None:
        return _unreadable()
    slots = tuple(_slots(connector, body, refreshed))
    if not slots:
        return _unreadable()
    return TokenAnswer(
        slots=slots,
        connection=learn(connector, body, redirect or {}),
        identity=pick(connector, body)
        if connector.identity.source is IdentitySource.TOKEN_ANSWER
        else {},
    )


def refusal(connector: Connector, answer: HttpAnswer) -> Failure | None:
    """Return what an answer refuses, or None if it is a success."""
    body = read_object(answer.body)
    codes = _codes(connector, body) if body is not None else ()
    if answer.status >= _SERVER_ERROR and codes == (UNREADABLE,):
        codes = ()  # a framework's page for its own crash, not an OAuth answer
    told = answer.status == _UNAVAILABLE and answer.retry_after is not None
    if codes or answer.status == _TOO_MANY_REQUESTS:
        # A server that broke down may have spent a single-use token first, whatever its body says.
        broke = answer.status >= _SERVER_ERROR and not told
        verdict = verdict_of(connector.token.errors, http_status=answer.status, codes=codes)
        code = codes[0] if codes else f"http_{answer.status}"
        delivery = Delivery.UNKNOWN if broke else Delivery.ANSWERED
        return Failure(delivery, verdict, code, answer.retry_after)
    if _OK <= answer.status < _CREATED_END:
        return None
    return Failure(
        Delivery.ANSWERED if told else Delivery.UNKNOWN,
        Verdict.SERVICE_DOWN,
        f"http_{answer.status}",
        answer.retry_after,
    )


def read_object(body: bytes) -> dict[str, object] | None:
    """Read a JSON object or a form. The shape decides: content types are wrong too often."""
    try:
        text = body.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        text = body.decode("latin-1").strip()
    if text.startswith(("{", "[")):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if isinstance(value, list):  # Salesforce's API wraps its errors
            value = value[0] if value else None
        return value if isinstance(value, dict) else None
    if _FORM.fullmatch(text):
        return dict(parse_qsl(text, keep_blank_values=True))
    return None


def dig(body: Mapping[str, object], path: str) -> object:
    """Return what stands at a dotted path; a key that itself holds dots comes first."""
    if path in body:
        return body[path]
    value: object = body
    for name in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def text_at(body: Mapping[str, object], path: str) -> str | None:
    """Return the text or whole number at a path, as text; None if there is none."""
    if not path:
        return None
    value = dig(body, path)
    if isinstance(value, str):
        return value if value and value.isprintable() else None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return str(value)
    return None


def pick(connector: Connector, body: Mapping[str, object]) -> dict[str, object]:
    """Return only the fields that name the account, by their paths: the rest may be secret."""
    identity = connector.identity
    paths = (*identity.id, identity.email, identity.label)
    return {path: text for path in paths if (text := text_at(body, path)) is not None}


def learn(
    connector: Connector, body: Mapping[str, object], redirect: Mapping[str, str]
) -> dict[str, str]:
    """Return the connection values that the answer or the redirect brings.

    A URL among them will be followed by others with the token in hand, so one that matches no
    pattern is dropped.
    """
    found: dict[str, str] = {}
    for name, learned in connector.connection.items():
        value = text_at(body, learned.path) or text_at(redirect, learned.path)
        if value is None:
            continue
        matches = re.fullmatch(learned.pattern, value) if learned.pattern else "://" not in value
        if matches:
            found[name] = value
    return found


def id_token(answer: HttpAnswer) -> str | None:
    """Return the ID token as it stands, not verified."""
    value = (read_object(answer.body) or {}).get("id_token")
    return value if isinstance(value, str) and value else None


def _unreadable() -> Failure:
    return Failure(Delivery.UNKNOWN, Verdict.SERVICE_DOWN, UNREADABLE)


# --- errors ---------------------------------------------------------------------------------


def _codes(connector: Connector, body: Mapping[str, object]) -> tuple[str, ...]:
    """Return the error codes of a body, the most specific first; empty if it is no error."""
    found = list(_raw_codes(connector, body))
    if not found:
        return ()
    readable = [code for code in found if _CODE.fullmatch(code)]
    return tuple(dict.fromkeys(readable)) or (UNREADABLE,)


def _raw_codes(connector: Connector, body: Mapping[str, object]) -> Iterator[str]:
    error = dig(body, connector.token.error_path) or body.get("error")
    if error or body.get("ok") is False:
        yield from _microsoft_codes(body.get("error_codes"))
        for name in ("suberror", "error_subtype"):  # Microsoft, Google
            yield from _texts(body.get(name))
        yield from _codes_of_error(error)
        yield ""  # an error without any code is an error all the same
    elif "access_token" not in body:
        yield from _frameless_codes(body)


def _codes_of_error(error: object) -> Iterator[str]:
    if isinstance(error, dict):
        for name in _CODE_KEYS:
            yield from _texts(error.get(name))
    else:
        yield from _texts(error)


def _frameless_codes(body: Mapping[str, object]) -> Iterator[str]:
    """Yield the codes of bodies that have no `error`: HubSpot, Fitbit, Salesforce's API."""
    errors = body.get("errors")
    if isinstance(errors, list) and errors:
        yield from _codes_of_error(errors[0])
        yield ""
    status = body.get("status")
    if (
        isinstance(status, str)
        and status.lower() not in _FINE_STATUSES
        and ("message" in body or "category" in body)
    ):
        if status != "error":
            yield status
        yield from _texts(body.get("category"))
        yield ""
    elif "category" in body and "message" in body:
        yield from _texts(body.get("category"))
        yield ""
    yield from _texts(body.get("errorCode"))


def _microsoft_codes(numbers: object) -> Iterator[str]:
    if isinstance(numbers, list):
        for number in numbers[:8]:
            for text in _texts(number):
                yield f"AADSTS{text}"


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        yield str(value)


# --- tokens ---------------------------------------------------------------------------------


def _slots(
    connector: Connector, body: Mapping[str, object], refreshed: str | None
) -> Iterator[SlotTokens]:
    if refreshed is not None:
        # The answer to a refresh is flat and belongs to the slot that was refreshed.
        slot = connector.slot(refreshed)
        tokens = slot and _tokens(connector, slot, body, refreshing=True)
        if tokens:
            yield tokens
        return
    for slot in connector.slots:
        fields = dig(body, slot.path) if slot.path else body
        tokens = (
            _tokens(connector, slot, fields, refreshing=False) if isinstance(fields, dict) else None
        )
        if tokens:
            yield tokens


def _tokens(
    connector: Connector, slot: Slot, fields: Mapping[str, object], *, refreshing: bool
) -> SlotTokens | None:
    access = _token(fields.get("access_token"))
    if access is None:
        return None
    kind = fields.get("token_type")
    flat = refreshing or not slot.path
    if flat and slot.token_type and kind and kind != slot.token_type:
        return None
    refresh = _token(fields.get("refresh_token"))
    return SlotTokens(
        slot=slot.name,
        access_token=access,
        refresh_token=refresh,
        token_type=kind if isinstance(kind, str) and _TOKEN.fullmatch(kind) else "Bearer",
        scopes=_scopes(
            connector, fields, keeps=refreshing or refresh is not None, new=not refreshing
        ),
        expires_in=_life(fields, "expires_in", default=connector.lifetimes.access_token_s),
        refresh_expires_in=_life(fields, "refresh_token_expires_in", "refresh_expires_in"),
    )


def _token(value: object) -> Secret | None:
    """Return a token; an empty one is none, and one outside of VSCHAR could not be sent again."""
    return Secret(value) if isinstance(value, str) and _TOKEN.fullmatch(value) else None


def _scopes(
    connector: Connector, fields: Mapping[str, object], *, keeps: bool, new: bool
) -> tuple[str, ...] | None:
    """Return the granted scopes; None: as requested (RFC 6749, section 5.1)."""
    value = fields.get("scope")
    if value is None:
        value = fields.get("scopes")
    if isinstance(value, str):
        separator = connector.authorization.scope_separator
        if not separator.isspace():
            value = value.replace(separator, " ")
        found = [scope for scope in _SCOPE_ENDS.split(value) if scope]
    elif isinstance(value, list):
        found = [scope for scope in value if isinstance(scope, str) and scope]
    else:
        return None
    if not found and not new:
        return None  # a refresh that says nothing takes nothing away
    if keeps and OFFLINE_ACCESS in connector.scopes:
        # Microsoft grants it and never says so; the refresh token is the proof.
        found.append(OFFLINE_ACCESS)
    return tuple(dict.fromkeys(found))


def _life(fields: Mapping[str, object], *names: str, default: float | None = None) -> float | None:
    """Return a length in seconds. 0 means for ever (Mailchimp), which is as good as unknown."""
    for name in names:
        value = fields.get(name)
        if value is not None and value != "":
            seconds = _number(value)
            return seconds if seconds is not None and 0 < seconds <= LIFE_MAX_S else None
    return default


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
