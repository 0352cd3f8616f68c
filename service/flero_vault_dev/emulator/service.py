"""What all emulated services share: the two legs of the code flow, and the doors of a dialect.

A dialect is a subclass. It says where its endpoints are (`routes`), what it reads from an
authorization request (`requested`, `remembered`), how it words an answer (`code_answer`,
`refresh_answer`) and a refusal (`refusals`), and overrides what it does in its own way.

- A request that names no app or no acceptable redirect URI gets a page, never a redirect
  (RFC 6749, section 4.1.2.1).
- A call to the token endpoint is counted, then hangs, then meets its fault or is performed.
- Calls are counted on arrival, before anything can go wrong with them.
- Nothing that is a secret is logged: no code, no token, no state, no query.
"""

import asyncio
import base64
import binascii
import hmac
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final
from urllib.parse import parse_qsl, unquote_plus, urlencode

from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from flero_vault_dev.emulator import faults, pages
from flero_vault_dev.emulator.accounts import ACCOUNTS, Account, hinted
from flero_vault_dev.emulator.control import Control, Settings
from flero_vault_dev.emulator.keys import Signer
from flero_vault_dev.emulator.state import (
    AccessToken,
    Approval,
    Ask,
    Cause,
    Challenge,
    Issued,
    Ledger,
    Mint,
    RefusedError,
    Traits,
)

Form = ImmutableMultiDict[str, str]
Query = Mapping[str, str]
Endpoint = Callable[[Request], Awaitable[Response]]

CODE: Final = "authorization_code"
REFRESH: Final = "refresh_token"
SLOT: Final = ""  # the one slot of a service that hands out one grant a consent
NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}  # RFC 6749, section 5.1


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What every service is given: its address, the time and a key to sign with."""

    origin: str
    clock: Callable[[], float]
    signer: Signer


@dataclass(frozen=True, slots=True)
class Wording:
    """How a dialect says no at its token endpoint."""

    status: int
    error: str
    description: str


class UnanswerableError(Exception):
    """An authorization request that ends on a page of the service."""


class SentBackError(Exception):
    """An authorization request that is answered with an error on the redirect."""

    def __init__(self, redirect_uri: str, params: Mapping[str, str]) -> None:
        super().__init__()
        self.redirect_uri = redirect_uri
        self.params = params


class Service(ABC):
    """One emulated service."""

    name: ClassVar[str]
    title: ClassVar[str]
    defaults: ClassVar[Settings]
    traits: ClassVar[Traits] = Traits()
    takes_basic: ClassVar[bool] = False
    needs_response_type: ClassVar[bool] = True
    challenge_methods: ClassVar[frozenset[str]] = frozenset({"S256"})
    slot_names: ClassVar[Mapping[str, str]] = {SLOT: "What it may do"}
    remembered: ClassVar[tuple[str, ...]] = ()
    refusals: ClassVar[Mapping[Cause, Wording]]

    def __init__(self, world: World) -> None:
        self.world = world
        self.base = f"{world.origin}/{self.name}"
        self.client_id = f"flero-dev-{self.name}"
        self.client_secret = f"flero-dev-secret-{self.name}"
        self.ledger = Ledger(self.traits)
        self.control = Control(self.defaults)

    # What a dialect says

    @abstractmethod
    def routes(self) -> list[Route]:
        """Return the endpoints, at the paths of the real service below this one's prefix."""

    @abstractmethod
    def mint(self, slot: str) -> Mint:
        """Say what tokens look like."""

    @abstractmethod
    def code_answer(self, approval: Approval, issued: Mapping[str, Issued]) -> Mapping[str, object]:
        """Word the answer to a code exchange."""

    @abstractmethod
    def refresh_answer(self, issued: Issued) -> Mapping[str, object]:
        """Word the answer to a refresh."""

    def requested(self, query: Query) -> Mapping[str, tuple[str, ...]]:
        """Return the scopes asked for, by slot."""
        return {SLOT: split_scopes(query.get("scope"))}

    def tickable(self, ask: Ask) -> frozenset[str]:  # noqa: ARG002  # for those who allow it
        """Return the scopes that a person may leave out."""
        return frozenset()

    def granted(
        self,
        ask: Ask,
        account: Account,  # noqa: ARG002  # for those who remember earlier consents
        ticked: frozenset[str],
    ) -> Mapping[str, tuple[str, ...]]:
        """Return what the consent amounts to, by slot."""
        free = self.tickable(ask)
        return {
            slot: tuple(scope for scope in scopes if scope not in free or scope in ticked)
            for slot, scopes in ask.scopes.items()
        }

    def brings_refresh_token(self, approval: Approval, slot: str) -> bool:  # noqa: ARG002
        """Tell whether the exchange brings a refresh token."""
        return True

    def redirect_extras(self, ask: Ask, account: Account) -> Mapping[str, str]:  # noqa: ARG002
        """Return what the redirect carries beside code and state."""
        return {}

    def denial(self) -> Mapping[str, str]:
        """Word the redirect after Cancel (RFC 6749, section 4.1.2.1)."""
        return {"error": "access_denied"}

    def overload(self) -> Mapping[str, object]:
        """Word the body of a 429."""
        return {"error": "rate_limit_exceeded", "error_description": "Too many requests."}

    def refusal(self, cause: Cause) -> Response:
        """Word a refusal of the token endpoint (RFC 6749, section 5.2)."""
        wording = self.refusals[cause]
        return JSONResponse(
            {"error": wording.error, "error_description": wording.description},
            wording.status,
            headers=NO_STORE,
        )

    def forget(self) -> None:
        """Be as new."""
        self.ledger.forget()
        self.control.restore()

    # The first leg: a person's browser

    async def authorize(self, request: Request) -> Response:
        """Show the consent page."""
        query = request.query_params
        try:
            ask = self.read_ask(query, request.path_params)
        except UnanswerableError as exc:
            return pages.problem(self.title, str(exc))
        except SentBackError as exc:
            return _redirect(exc.redirect_uri, exc.params, query.get("state"))
        return pages.consent(
            connector=self.name,
            title=self.title,
            ask=ask,
            request_id=self.ledger.park(ask, self.now()),
            preselected=hinted(query.get("login_hint")),
            tickable=self.tickable(ask),
            slot_names=self.slot_names,
        )

    def read_ask(self, query: Query, path: Mapping[str, str]) -> Ask:
        """Check an authorization request.

        Raises: UnanswerableError, SentBackError.
        """
        if query.get("client_id") != self.client_id:
            raise UnanswerableError(f"{self.title} does not know the app that sent you here.")
        redirect_uri = query.get("redirect_uri")
        if redirect_uri is None or pages.callback_origin(redirect_uri, self.name) is None:
            raise UnanswerableError("The app asked to be answered at an address it may not use.")
        if self.needs_response_type and query.get("response_type") != "code":
            raise UnanswerableError("The app did not ask for a code (response_type).")
        scopes = self.requested(query)
        if not any(scopes.values()):
            raise UnanswerableError("The app did not say what it wants to do (scope).")
        return Ask(
            client_id=self.client_id,
            redirect_uri=redirect_uri,
            state=query.get("state"),
            scopes=scopes,
            challenge=self._read_challenge(query),
            nonce=query.get("nonce"),
            extra={**{key: query[key] for key in self.remembered if key in query}, **path},
        )

    def _read_challenge(self, query: Query) -> Challenge | None:
        value = query.get("code_challenge")
        if not value:
            return None
        method = query.get("code_challenge_method", "plain")  # RFC 7636, section 4.3
        if method not in self.challenge_methods:
            raise UnanswerableError(f"{self.title} does not take this code_challenge_method.")
        return Challenge(value=value, method=method)

    async def consent(self, request: Request) -> Response:
        """Take the person's answer back to the app."""
        form = await read_form(request)
        account = ACCOUNTS.get(form.get("account", ""))
        decision = form.get("decision")
        if decision not in {"allow", "deny"} or (decision == "allow" and account is None):
            return pages.problem(self.title, "The form was not filled in as this page made it.")
        try:
            ask = self.ledger.take(form.get("request", ""), self.now())
        except RefusedError:
            return pages.problem(self.title, "This request was answered before, or is too old.")
        if decision == "deny" or account is None:
            return self._deny(ask)
        scopes = self.granted(ask, account, frozenset(form.getlist("scope")))
        if not any(scopes.values()):  # everything was unticked
            return self._deny(ask)
        code = self.ledger.approve(ask, account, scopes, self.now())
        params = {"code": code, **self.redirect_extras(ask, account)}
        return _redirect(ask.redirect_uri, params, ask.state)

    def _deny(self, ask: Ask) -> Response:
        self.ledger.note("consent.denied", self.now())
        return _redirect(ask.redirect_uri, self.denial(), ask.state)

    # The second leg: the app's server

    async def token(self, request: Request) -> Response:
        """Answer the token endpoint, or go wrong as the control interface says."""
        self.control.counters.token_calls += 1
        form = await read_form(request)
        grant_type = self.grant_type(form)
        self._count(grant_type, form)
        await asyncio.sleep(self.control.settings.hang_s)
        fault = self.control.take_fault(grant_type)
        if fault is not None:
            self.ledger.note(f"fault.{fault}", self.now())
        match fault:
            case "invalid_client":
                return self.refusal(Cause.CLIENT_SECRET_WRONG)
            case "invalid_grant":
                return self.refusal(
                    Cause.CODE_UNKNOWN if grant_type == CODE else Cause.REFRESH_REVOKED
                )
            case "rate_limited_429":
                retry = {"Retry-After": str(faults.RETRY_AFTER_S)}
                return JSONResponse(self.overload(), 429, headers=retry)
            case "truncated":
                return faults.Truncated(self._answer(request, form, grant_type))
            case "reset":
                self._answer(request, form, grant_type)
                return faults.Dropped()
            case None:
                return self._answer(request, form, grant_type)
            case _:
                return faults.BEFORE[fault]()

    def grant_type(self, form: Form) -> str | None:
        """Return what kind of call this is, or None for none that the service knows."""
        given = form.get("grant_type")
        return given if given in {CODE, REFRESH} else None

    def _count(self, grant_type: str | None, form: Form) -> None:
        if grant_type == CODE:
            self.control.counters.code_calls += 1
            self.ledger.note("code.received", self.now())
        if grant_type == REFRESH:
            self.control.counters.refresh_calls += 1
            token = self.ledger.refresh_token(form.get("refresh_token", ""))
            self.ledger.note("refresh.received", self.now(), token)

    def _answer(self, request: Request, form: Form, grant_type: str | None) -> Response:
        try:
            self.authenticate(request, form)
            body = self._perform(form, grant_type, request.path_params)
        except RefusedError as exc:
            return self.refusal(exc.cause)
        return JSONResponse(body, headers=NO_STORE)

    def _perform(
        self, form: Form, grant_type: str | None, path: Mapping[str, str]
    ) -> Mapping[str, object]:
        if grant_type == CODE:
            return self.exchange(form, path)
        if grant_type == REFRESH:
            return self.renew(form)
        raise RefusedError(Cause.GRANT_TYPE_UNSUPPORTED)

    def authenticate(self, request: Request, form: Form) -> None:
        """Check the client's credentials (RFC 6749, section 2.3.1)."""
        basic = _basic(request) if self.takes_basic else None
        client_id, secret = basic or (form.get("client_id"), form.get("client_secret"))
        if not client_id:
            raise RefusedError(Cause.CLIENT_MISSING)
        if client_id != self.client_id:
            raise RefusedError(Cause.CLIENT_UNKNOWN)
        if not secret:
            raise RefusedError(Cause.CLIENT_SECRET_MISSING)
        if not hmac.compare_digest(secret.encode(), self.client_secret.encode()):
            raise RefusedError(Cause.CLIENT_SECRET_WRONG)

    def exchange(self, form: Form, path: Mapping[str, str]) -> Mapping[str, object]:  # noqa: ARG002
        """Redeem a code and open a grant for each slot that was allowed."""
        if not form.get("code"):
            raise RefusedError(Cause.PARAMETER_MISSING)
        approval = self.ledger.redeem(
            form["code"],
            client_id=self.client_id,
            redirect_uri=form.get("redirect_uri"),
            verifier=form.get("code_verifier"),
            now=self.now(),
        )
        issued = {
            slot: self.ledger.open_grant(
                approval,
                slot,
                rules=self.control.settings,
                mint=self.mint(slot),
                refresh=self.brings_refresh_token(approval, slot),
                now=self.now(),
            )
            for slot, scopes in approval.scopes.items()
            if scopes
        }
        return self.code_answer(approval, issued)

    def renew(self, form: Form) -> Mapping[str, object]:
        """Answer a refresh."""
        if not form.get("refresh_token"):
            raise RefusedError(Cause.PARAMETER_MISSING)
        issued = self.ledger.renew(
            form["refresh_token"],
            client_id=self.client_id,
            rules=self.control.settings,
            mint=lambda grant: self.mint(grant.slot),
            scopes=self.narrowed(form),
            now=self.now(),
        )
        return self.refresh_answer(issued)

    def narrowed(self, form: Form) -> tuple[str, ...] | None:  # noqa: ARG002
        """Return the scopes that a refresh asks for, or None for all (RFC 6749, section 6)."""
        return None

    # Everything else

    def now(self) -> float:
        """Return the emulator's time in seconds."""
        return self.world.clock()

    def expires_in(self, issued: Issued) -> dict[str, object]:
        """Return the field that says how long the access token lives, if it is sent at all."""
        life = issued.access_life_s
        if life is None or not self.control.settings.send_expires_in:
            return {}
        return {"expires_in": life}

    def holder(self, request: Request) -> AccessToken:
        """Return the live access token that the request bears, or raise RefusedError."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return self.ledger.access(token if scheme.lower() == "bearer" else None, self.now())

    async def whoami(self, request: Request) -> Response:
        """Tell whose the bearer token is and what it may do; not part of any real service."""
        try:
            token = self.holder(request)
        except RefusedError:
            return JSONResponse({"error": "invalid_token"}, 401)
        return JSONResponse({"account": token.grant.account.key, "scope": list(token.scopes)})

    def identity(self, answer: Endpoint) -> Endpoint:
        """Make an endpoint that says who somebody is: counted, and broken when told so."""

        async def endpoint(request: Request) -> Response:
            self.control.counters.identity_calls += 1
            if self.control.settings.identity_fail:
                return JSONResponse({"error": "server_error"}, 500)
            return await answer(request)

        return endpoint

    def revocation(self, answer: Endpoint) -> Endpoint:
        """Make an endpoint that revokes: counted."""

        async def endpoint(request: Request) -> Response:
            self.control.counters.revoke_calls += 1
            return await answer(request)

        return endpoint

    def own_routes(self) -> list[Route]:
        """Return the routes that no real service has."""
        return [
            Route(f"/{self.name}/_consent", self.consent, methods=["POST"]),
            Route(f"/{self.name}/_api/whoami", self.whoami, methods=["GET"]),
        ]


async def read_form(request: Request) -> Form:
    """Read a form body; any other body is an empty form."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        return ImmutableMultiDict()
    body = await request.body()
    return ImmutableMultiDict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))


def split_scopes(value: str | None, separators: str = r"\s") -> tuple[str, ...]:
    """Split a list of scopes, each once, in the order given."""
    return tuple(dict.fromkeys(filter(None, re.split(f"[{separators}]+", value or ""))))


def person_claims(account: Account, scopes: frozenset[str]) -> dict[str, object]:
    """Return the standard claims that the scopes bring (OpenID Connect Core, section 5.4)."""
    claims: dict[str, object] = {}
    if "email" in scopes:
        claims |= {"email": account.email, "email_verified": True}
    if "profile" in scopes:
        claims |= {
            "name": account.name,
            "given_name": account.given_name,
            "family_name": account.family_name,
        }
    return claims


def _redirect(redirect_uri: str, params: Mapping[str, str], state: str | None) -> Response:
    echoed = {**params, **({} if state is None else {"state": state})}
    glue = "&" if "?" in redirect_uri else "?"
    return RedirectResponse(
        f"{redirect_uri}{glue}{urlencode(echoed)}", 303, headers={"Cache-Control": "no-store"}
    )


def _basic(request: Request) -> tuple[str, str] | None:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise RefusedError(Cause.CLIENT_UNKNOWN) from None
    # RFC 6749, section 2.3.1: both halves are form-encoded before they are joined.
    return unquote_plus(client_id), unquote_plus(secret)
