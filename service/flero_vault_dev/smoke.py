"""The whole life of a credential against a running `flero-vault dev`, without a browser.

    status = await smoke("127.0.0.1:50051", "http://127.0.0.1:8080", "http://localhost:9400", print)

- One line a step: `ok <step>` or `FAIL <step>: <why>`. A step that fails does not hide the others;
  one that builds on it says `needs <step>`.
- Status 0: all is well. 1: a step failed. 3: something cannot be reached, and nothing was done.
- No line holds a token, a code, a state or an address that carries one: what is said of an error is
  put together from the names of reasons and codes, never from texts that came in.
- Two credentials at Google carry the walk: the *main* one of Ada, and the *second* one of Grace,
  which expires and is revoked. They are two people because a service's revocation may end
  everything that one person has allowed.
- It deletes what it made and sets the emulator's token lifetime back. All of Google's emulated
  refresh tokens are dead afterwards, also those of credentials that somebody else made.
"""

import asyncio
import hashlib
import logging
import re
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import parse_qsl, urljoin, urlsplit

import grpc
import grpc.aio
import httpx

from flero_vault_client.v1 import (
    credential_pb2,
    credential_vault_pb2,
    credential_vault_pb2_grpc,
)
from flero_vault_client.web import Refusal, refusal_of

if TYPE_CHECKING:
    # The stub of a grpc.aio channel has this type for the type checker only.
    from flero_vault_client.v1.credential_vault_pb2_grpc import CredentialVaultAsyncStub

OK: Final = 0
FAILED: Final = 1
UNREACHABLE: Final = 3

PARENT: Final = "workspaces/demo"
USER: Final = "demo"
SOMEBODY_ELSE: Final = "somebody-else"
MAIN: Final = "google"
OTHERS: Final = ("slack", "microsoft", "salesforce", "hubspot", "oidc")
ADA: Final = "ada"
GRACE: Final = "grace"

REACH_TIMEOUT_S: Final = 5.0
CALL_TIMEOUT_S: Final = 30.0
SHORT_TTL_S: Final = 2
PATIENCE_S: Final = 15.0
POLL_S: Final = 0.2

BROWSER_COOKIE: Final = "flero-browser"  # its name on plain http at a loopback host
CLOSE_THIS_TAB: Final = "You can close this tab"

_NAMED_PARAMETERS: Final = ("state", "code", "iss", "error", "error_description")
_REASON: Final = re.compile(r"[A-Z][A-Z_]*")
_PAGE_REASON: Final = re.compile(r'data-reason="([A-Z_]+)"')
_FIELD: Final = re.compile(r"[a-z_.]+")
_T = TypeVar("_T")

Begun = credential_vault_pb2.BeginAuthorizeResponse | credential_vault_pb2.ReauthenticateResponse


class StepFailedError(Exception):
    """What a step found wrong; its text goes to the report and holds no secret."""


class Report:
    """Prints a line a step and remembers whether all was well."""

    def __init__(self, out: Callable[[str], None]) -> None:
        self._out = out
        self.status = OK

    def ok(self, step: str) -> None:
        """Say that the step went well."""
        self._out(f"ok {step}")

    def fail(self, step: str, why: str) -> None:
        """Say why the step did not."""
        self.status = FAILED
        self._out(f"FAIL {step}: {why}")

    async def run(self, step: str, work: Awaitable[None]) -> None:
        """Do a step and report it; no failure of it gets out."""
        try:
            await work
        except Exception as error:  # noqa: BLE001  # one step must not hide the others
            self.fail(step, why_of(error))
        else:
            self.ok(step)


def why_of(error: Exception) -> str:
    """Word an error without the text that came with it, which may quote an address or a token."""
    if isinstance(error, StepFailedError):
        return str(error)
    if isinstance(error, grpc.aio.AioRpcError):
        return f"the vault answered {_name_of(refusal_of(error))}"
    return f"unexpected {type(error).__name__}"


@dataclass(kw_only=True)
class Walk:
    """The clients, and what the steps so far have found."""

    vault: "CredentialVaultAsyncStub"
    emulated: httpx.AsyncClient
    web: str
    emulator: str
    binding: str = field(repr=False)
    run: str
    made: list[str] = field(default_factory=list)

    begun: credential_vault_pb2.BeginAuthorizeResponse | None = field(default=None, repr=False)
    callback_url: str | None = field(default=None, repr=False)
    main: credential_pb2.Credential | None = None
    second: credential_pb2.Credential | None = None
    expired: bool = False

    # The vault

    async def begin(self, connector: str) -> credential_vault_pb2.BeginAuthorizeResponse:
        """Call BeginAuthorize and remember to clean up after it."""
        begun = await self.vault.BeginAuthorize(
            credential_vault_pb2.BeginAuthorizeRequest(
                parent=PARENT,
                connector=connector,
                display_name=f"Smoke {connector} {self.run}",
                credential_scope=credential_pb2.CREDENTIAL_SCOPE_PERSONAL,
                user=USER,
                browser_binding=self.binding,
                request_id=str(uuid.uuid4()),
            ),
            timeout=CALL_TIMEOUT_S,
        )
        self.made.append(begun.credential.name)
        return begun

    async def reauthenticate(self, name: str) -> credential_vault_pb2.ReauthenticateResponse:
        """Call Reauthenticate."""
        return await self.vault.Reauthenticate(
            credential_vault_pb2.ReauthenticateRequest(
                name=name, user=USER, browser_binding=self.binding, request_id=str(uuid.uuid4())
            ),
            timeout=CALL_TIMEOUT_S,
        )

    async def complete(
        self, connector: str, callback_url: str, *, binding: str = ""
    ) -> credential_pb2.Credential:
        """Call CompleteCallback with what stands in a callback URL; return the credential."""
        params = dict(parse_qsl(urlsplit(callback_url).query))
        answer = await self.vault.CompleteCallback(
            credential_vault_pb2.CompleteCallbackRequest(
                connector=connector,
                **{name: params.pop(name, "") for name in _NAMED_PARAMETERS},
                extra_params=params,
                user=USER,
                browser_binding=binding or self.binding,
            ),
            timeout=CALL_TIMEOUT_S,
        )
        return answer.credential

    async def connect(self, connector: str, account: str) -> credential_pb2.Credential:
        """Go from nothing to an ACTIVE credential, the short way."""
        begun = await self.begin(connector)
        credential = await self.complete(connector, await self.consent(connector, begun, account))
        _check_status(credential, credential_pb2.CREDENTIAL_STATUS_ACTIVE)
        return credential

    async def token(
        self, name: str, *, rejected: bytes = b"", user: str = USER
    ) -> credential_vault_pb2.GetAccessTokenResponse:
        """Call GetAccessToken."""
        return await self.vault.GetAccessToken(
            credential_vault_pb2.GetAccessTokenRequest(
                name=name, user=user, rejected_token_sha256=rejected, purpose="smoke"
            ),
            timeout=CALL_TIMEOUT_S,
        )

    async def credential(self, name: str, *, user: str = USER) -> credential_pb2.Credential:
        """Call GetCredential."""
        return await self.vault.GetCredential(
            credential_vault_pb2.GetCredentialRequest(name=name, user=user),
            timeout=CALL_TIMEOUT_S,
        )

    async def delete(self, name: str) -> None:
        """Call DeleteCredential."""
        await self.vault.DeleteCredential(
            credential_vault_pb2.DeleteCredentialRequest(name=name, user=USER),
            timeout=CALL_TIMEOUT_S,
        )

    # The emulated services

    async def consent(
        self, connector: str, begun: Begun, account: str, decision: str = "allow"
    ) -> str:
        """Fill in the consent page; return the callback URL that it leads to."""
        if not begun.authorize_url.startswith(f"{self.emulator}/"):
            raise StepFailedError("authorize_url does not lead to --emulator")
        page = await self.emulated.get(begun.authorize_url)
        form = _ConsentForm()
        form.feed(page.text)
        if page.status_code != HTTPStatus.OK or form.action is None:
            raise StepFailedError(f"HTTP {page.status_code} instead of a consent page")
        answer = await self.emulated.post(
            urljoin(self.emulator, form.action),
            data={**form.fields, "account": account, "decision": decision},
        )
        callback_url = answer.headers.get("location", "")
        if answer.status_code != HTTPStatus.SEE_OTHER or not callback_url:
            raise StepFailedError(f"HTTP {answer.status_code} instead of the way back")
        if not callback_url.startswith(f"{self.web}/oauth/callback/{connector}?"):
            raise StepFailedError("the way back does not lead to the callback page at --web")
        return str(callback_url)

    async def account_of(self, connector: str, token: str) -> str | None:
        """Use a token at the service: whose is it? None if the service refuses it."""
        answer = await self.emulated.get(
            f"{self.emulator}/{connector}/_api/whoami", headers={"Authorization": f"Bearer {token}"}
        )
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            return None
        if answer.status_code != HTTPStatus.OK:
            raise StepFailedError(f"the service answered HTTP {answer.status_code} to the token")
        return str(answer.json()["account"])

    async def control(self, **changes: object) -> dict[str, object]:
        """Change the emulated Google, or only look; return its counters and settings."""
        url = f"{self.emulator}/_control/{MAIN}"
        answer = await (
            self.emulated.post(url, json=changes) if changes else self.emulated.get(url)
        )
        if answer.status_code != HTTPStatus.OK:
            raise StepFailedError(f"the emulator's control answered HTTP {answer.status_code}")
        return dict(answer.json())

    @asynccontextmanager
    async def short_tokens(self) -> AsyncIterator[None]:
        """Let tokens that Google issues meanwhile live for two seconds."""
        settings = (await self.control())["settings"]
        if not isinstance(settings, dict):
            raise StepFailedError("the emulator's control does not say its settings")
        await self.control(access_ttl_s=SHORT_TTL_S)
        try:
            yield
        finally:
            await self.control(access_ttl_s=settings["access_ttl_s"])

    # The callback page

    async def visit(self, callback_url: str) -> str:
        """Come back from the service as the browser does; return the page that it ends on."""
        params = dict(parse_qsl(urlsplit(callback_url).query))
        # A jar of its own: the binding goes to the frontend and to nobody else.
        async with _http_client({BROWSER_COOKIE: self.binding}) as browser:
            answer = await browser.get(callback_url)
            if answer.status_code != HTTPStatus.SEE_OTHER:
                raise StepFailedError(f"the callback page answered HTTP {answer.status_code}")
            page_url = urljoin(callback_url, answer.headers.get("location", ""))
            page = await browser.get(page_url)
        for name in ("state", "code"):
            value = params.get(name, "")
            if value and value in f"{page.url} {page_url} {page.text}":
                raise StepFailedError(f"the {name} is in the result page or its address")
        return page.text


# The steps


async def _begin(walk: Walk) -> None:
    begun = await walk.begin(MAIN)
    _check_status(begun.credential, credential_pb2.CREDENTIAL_STATUS_PENDING)
    _check(
        begun.credential.name.startswith(f"{PARENT}/credentials/"), "the name is of another parent"
    )
    _check(bool(begun.permissions), "no permissions are described")
    _check(begun.expire_time.seconds > time.time(), "the attempt is over already")
    walk.begun = begun


async def _consent(walk: Walk) -> None:
    walk.callback_url = await walk.consent(MAIN, _needed(walk.begun, "begin"), ADA)


async def _callback(walk: Walk) -> None:
    begun = _needed(walk.begun, "begin")
    _check_connected(await walk.visit(_needed(walk.callback_url, "consent")))
    credential = await walk.credential(begun.credential.name)
    _check_status(credential, credential_pb2.CREDENTIAL_STATUS_ACTIVE)
    _check(bool(credential.account.id), "the account is not known")
    walk.main = credential


async def _token(walk: Walk) -> None:
    answer = await walk.token(_needed(walk.main, "callback").name)
    _check(answer.HasField("expire_time"), "the token has no expire_time")
    _check(await walk.account_of(MAIN, answer.access_token) == ADA, "the token is not Ada's")


async def _rejected_token(walk: Walk) -> None:
    name = _needed(walk.main, "callback").name
    first = (await walk.token(name)).access_token
    same = (await walk.token(name, rejected=_sha256("unrelated"))).access_token
    _check(same == first, "the hash of another token caused a refresh")
    fresh = (await walk.token(name, rejected=_sha256(first))).access_token
    _check(fresh != first, "the refused token was served again")
    _check(await walk.account_of(MAIN, fresh) == ADA, "the fresh token does not work")


async def _wrong_state(walk: Walk) -> None:
    query = f"state=demo.{secrets.token_urlsafe(32)}&code={secrets.token_urlsafe(32)}"
    await _refused(walk.complete(MAIN, f"{walk.web}/?{query}"), "STATE_INVALID")


async def _other_browser(walk: Walk) -> None:
    begun = await walk.begin(MAIN)
    url = await walk.consent(MAIN, begun, ADA)
    other = secrets.token_urlsafe(32)
    await _refused(walk.complete(MAIN, url, binding=other), "STATE_INVALID")
    credential = await walk.complete(MAIN, url)
    _check_status(credential, credential_pb2.CREDENTIAL_STATUS_ACTIVE)


async def _cancel(walk: Walk) -> None:
    begun = await walk.begin(MAIN)
    url = await walk.consent(MAIN, begun, ADA, decision="deny")
    await _refused(walk.complete(MAIN, url), "CONSENT_DENIED")
    credential = await walk.credential(begun.credential.name)
    _check_status(credential, credential_pb2.CREDENTIAL_STATUS_PENDING)


async def _reauthenticate(walk: Walk) -> None:
    before = _needed(walk.main, "callback")
    old = (await walk.token(before.name)).access_token
    url = await walk.consent(MAIN, await walk.reauthenticate(before.name), ADA)
    meanwhile = (await walk.token(before.name)).access_token
    _check(meanwhile == old, "the old grant stopped serving before the new one was accepted")
    _check_connected(await walk.visit(url))
    after = await walk.credential(before.name)
    _check_status(after, credential_pb2.CREDENTIAL_STATUS_ACTIVE)
    for kept in ("name", "display_name", "credential_scope", "owner"):
        _check(getattr(after, kept) == getattr(before, kept), f"{kept} has changed")
    new = (await walk.token(before.name)).access_token
    _check(new != old, "the token is still that of the old grant")
    _check(await walk.account_of(MAIN, new) == ADA, "the new token does not work")


async def _another_account(walk: Walk) -> None:
    name = _needed(walk.main, "callback").name
    url = await walk.consent(MAIN, await walk.reauthenticate(name), GRACE)
    await _refused(walk.complete(MAIN, url), "ACCOUNT_MISMATCH")
    token = (await walk.token(name)).access_token
    _check(await walk.account_of(MAIN, token) == ADA, "the old grant does not serve any more")


async def _another_person(walk: Walk) -> None:
    name = _needed(walk.main, "callback").name
    await _refused(walk.credential(name, user=SOMEBODY_ELSE), "CREDENTIAL_NOT_FOUND")
    await _refused(walk.token(name, user=SOMEBODY_ELSE), "CREDENTIAL_NOT_FOUND")


async def _refresh(walk: Walk) -> None:
    async with walk.short_tokens():
        walk.second = await walk.connect(MAIN, GRACE)
        name = walk.second.name
        calls = _count(await walk.control(), "refresh_calls")
        first = fresh = (await walk.token(name)).access_token
        end = time.monotonic() + PATIENCE_S
        while fresh == first:
            _check(time.monotonic() < end, f"the same token after {PATIENCE_S:.0f} s")
            await asyncio.sleep(POLL_S)
            fresh = (await walk.token(name)).access_token
        made = _count(await walk.control(), "refresh_calls") - calls
    _check(made == 1, f"{made} refreshes at the service instead of 1")
    _check(await walk.account_of(MAIN, fresh) == GRACE, "the refreshed token does not work")


async def _expired(walk: Walk) -> None:
    second = _needed(walk.second, "refresh at expiry")
    async with walk.short_tokens():
        token = await walk.token(second.name)
        await walk.control(kill_refresh_tokens=True, kill_access_tokens=True)
    # A vault that refreshes ahead of need may have a longer-lived one: then say that it is refused.
    far = token.expire_time.seconds > time.time() + PATIENCE_S
    refusal = await _refusal_in_time(
        lambda: walk.token(second.name, rejected=_sha256(token.access_token) if far else b"")
    )
    _check_reason(refusal, "CREDENTIAL_EXPIRED")
    _check(second.display_name in refusal.sentence, "its sentence does not name the credential")
    credential = await walk.credential(second.name)
    _check_status(credential, credential_pb2.CREDENTIAL_STATUS_EXPIRED)
    walk.expired = True


async def _back_again(walk: Walk) -> None:
    second = _needed(walk.second, "refresh at expiry")
    _check(walk.expired, "needs expired refresh token")
    url = await walk.consent(MAIN, await walk.reauthenticate(second.name), GRACE)
    credential = await walk.complete(MAIN, url)
    _check_status(credential, credential_pb2.CREDENTIAL_STATUS_ACTIVE)
    token = (await walk.token(second.name)).access_token
    _check(await walk.account_of(MAIN, token) == GRACE, "the new token does not work")


async def _revoke(walk: Walk) -> None:
    name = _needed(walk.second, "refresh at expiry").name
    token = (await walk.token(name)).access_token
    answer = await walk.vault.Revoke(
        credential_vault_pb2.RevokeRequest(name=name, user=USER, revoke_at_service=True),
        timeout=CALL_TIMEOUT_S,
    )
    await _refused(walk.token(name), "CREDENTIAL_REVOKED")
    _check_status(answer.credential, credential_pb2.CREDENTIAL_STATUS_REVOKED)
    outcome = credential_pb2.ServiceRevocation.Name(answer.service_revocation)
    _check(
        answer.service_revocation == credential_pb2.SERVICE_REVOCATION_DONE,
        f"service_revocation is {outcome}",
    )
    _check(await walk.account_of(MAIN, token) is None, "the token still works at the service")


async def _delete(walk: Walk) -> None:
    name = _needed(walk.second, "refresh at expiry").name
    await walk.delete(name)
    await _refused(walk.credential(name), "CREDENTIAL_NOT_FOUND")
    await _refused(walk.token(name), "CREDENTIAL_NOT_FOUND")


async def _connect(walk: Walk, connector: str) -> None:
    credential = await walk.connect(connector, ADA)
    token = (await walk.token(credential.name)).access_token
    _check(await walk.account_of(connector, token) == ADA, "the token is not Ada's")


async def _clean_up(walk: Walk) -> None:
    kept = []
    for name in walk.made:
        try:
            await walk.delete(name)
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of(error)
            if refusal.reason != "CREDENTIAL_NOT_FOUND":
                kept.append(_name_of(refusal))
    _check(not kept, f"{len(kept)} not deleted: {', '.join(sorted(set(kept)))}")


STEPS: Final[tuple[tuple[str, Callable[[Walk], Awaitable[None]]], ...]] = (
    ("begin", _begin),
    ("consent", _consent),
    ("callback", _callback),
    ("token", _token),
    ("401 hint", _rejected_token),
    ("wrong state", _wrong_state),
    ("other browser", _other_browser),
    ("cancel", _cancel),
    ("re-authenticate", _reauthenticate),
    ("another account", _another_account),
    ("another person", _another_person),
    ("refresh at expiry", _refresh),
    ("expired refresh token", _expired),
    ("re-authenticate after expiry", _back_again),
    ("revoke", _revoke),
    ("delete", _delete),
)


async def smoke(target: str, web: str, emulator: str, out: Callable[[str], None]) -> int:
    """Walk through the life of a credential and report each step; return the exit status.

    `target` is the vault's gRPC address; `web` and `emulator` are the origins of the frontend and
    of the emulated services.
    """
    for chatty in ("httpx", "httpcore"):  # they log addresses
        logging.getLogger(chatty).setLevel(logging.WARNING)
    web, emulator = web.rstrip("/"), emulator.rstrip("/")
    report = Report(out)
    options = [("grpc.enable_http_proxy", 0)]
    async with (
        grpc.aio.insecure_channel(target, options=options) as channel,
        _http_client() as emulated,
    ):
        reached = (
            await _reach_vault(channel, target, report),
            await _reach_http(emulated, f"{web}/", "--web", report),
            await _reach_http(emulated, f"{emulator}/_control/{MAIN}", "--emulator", report),
        )
        if not all(reached):
            return UNREACHABLE
        walk = Walk(
            vault=credential_vault_pb2_grpc.CredentialVaultStub(channel),
            emulated=emulated,
            web=web,
            emulator=emulator,
            binding=secrets.token_urlsafe(32),
            run=secrets.token_hex(3),
        )
        try:
            for step, work in STEPS:
                await report.run(step, work(walk))
            for connector in OTHERS:
                await report.run(f"connect {connector}", _connect(walk, connector))
        finally:
            await report.run("clean up", _clean_up(walk))
    return report.status


async def _reach_vault(channel: grpc.aio.Channel, target: str, report: Report) -> bool:
    try:
        async with asyncio.timeout(REACH_TIMEOUT_S):
            await channel.channel_ready()
    except TimeoutError:
        report.fail("reach", f"nothing answers at --target {target}")
        return False
    return True


async def _reach_http(client: httpx.AsyncClient, url: str, flag: str, report: Report) -> bool:
    try:
        await client.get(url, timeout=REACH_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL):
        report.fail("reach", f"nothing answers at {flag}")
        return False
    return True


def _http_client(cookies: dict[str, str] | None = None) -> httpx.AsyncClient:
    # Everything is on this machine: no proxy of the environment, and no redirect unseen.
    return httpx.AsyncClient(
        cookies=cookies, follow_redirects=False, timeout=CALL_TIMEOUT_S, trust_env=False
    )


class _ConsentForm(HTMLParser):
    """What a browser would send of the consent page, but for the account and the button."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Read the form and its fields."""
        given = dict(attrs)
        if tag == "form":
            self.action = given.get("action")
        ticked = given.get("type") == "checkbox" and "checked" in given and "disabled" not in given
        if tag == "input" and (given.get("type") == "hidden" or ticked):
            self.fields.setdefault(given.get("name") or "", []).append(given.get("value") or "")


async def _refused(call: Awaitable[object], reason: str) -> None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        _check_reason(refusal_of(error), reason)
    else:
        raise StepFailedError(f"accepted instead of refused with {reason}")


async def _refusal_in_time(call: Callable[[], Awaitable[object]]) -> Refusal:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            await call()
        except grpc.aio.AioRpcError as error:
            return refusal_of(error)
        await asyncio.sleep(POLL_S)
    raise StepFailedError(f"still served after {PATIENCE_S:.0f} s")


def _check(holds: bool, otherwise: str) -> None:  # noqa: FBT001  # reads as a sentence
    if not holds:
        raise StepFailedError(otherwise)


def _check_status(
    credential: credential_pb2.Credential, status: "credential_pb2.CredentialStatus.ValueType"
) -> None:
    names = credential_pb2.CredentialStatus
    _check(
        credential.status == status,
        f"the credential is {names.Name(credential.status)}, not {names.Name(status)}",
    )


def _check_reason(refusal: Refusal, reason: str) -> None:
    _check(refusal.reason == reason, f"the vault answered {_name_of(refusal)}, not {reason}")
    _check(bool(refusal.sentence), f"{reason} comes without a sentence for a person")


def _check_connected(page: str) -> None:
    said = _PAGE_REASON.search(page)
    reason = f", but {said[1]}" if said else ""
    _check(CLOSE_THIS_TAB in page, f"the page does not say “{CLOSE_THIS_TAB}”{reason}")
    _check('data-connected="true"' in page, "the page does not say that it is connected")


def _needed(value: _T | None, step: str) -> _T:
    if value is None:
        raise StepFailedError(f"needs {step}")
    return value


def _name_of(refusal: Refusal) -> str:
    """Name a refusal by its reason and fields, as far as they look like names."""
    reason = refusal.reason if _REASON.fullmatch(refusal.reason) else refusal.code.name
    fields = [name for name, _ in refusal.fields if _FIELD.fullmatch(name)]
    return f"{reason} ({', '.join(fields)})" if fields else reason


def _count(snapshot: dict[str, object], counter: str) -> int:
    value = snapshot[counter]
    if not isinstance(value, int):
        raise StepFailedError(f"the emulator does not count {counter}")
    return value


def _sha256(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
