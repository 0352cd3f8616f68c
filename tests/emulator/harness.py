"""Plays the browser and the app against the emulator, so that a test reads as a story."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import httpx

ORIGIN: Final = "http://localhost:9400"
STATE: Final = "planted-state-canary"
VERIFIER: Final = "planted-verifier-canary-of-at-least-43-characters"

AUTHORIZE: Final = {
    "slack": "/slack/oauth/v2/authorize",
    "google": "/google/o/oauth2/v2/auth",
    "microsoft": "/microsoft/common/oauth2/v2.0/authorize",
    "salesforce": "/salesforce/services/oauth2/authorize",
    "hubspot": "/hubspot/oauth/authorize",
    "oidc": "/oidc/authorize",
}
TOKEN: Final = {
    "slack": "/slack/api/oauth.v2.access",
    "google": "/google/token",
    "microsoft": "/microsoft/common/oauth2/v2.0/token",
    "salesforce": "/salesforce/services/oauth2/token",
    "hubspot": "/hubspot/oauth/v3/token",
    "oidc": "/oidc/token",
}
ASKS: Final[Mapping[str, Mapping[str, str]]] = {
    "slack": {"scope": "chat:write,channels:read", "user_scope": "search:read"},
    "google": {
        "scope": "openid email https://www.googleapis.com/auth/drive.readonly",
        "access_type": "offline",
        "nonce": "nonce-1",
    },
    "microsoft": {"scope": "openid profile offline_access Mail.Read", "nonce": "nonce-1"},
    "salesforce": {"scope": "api refresh_token id"},
    "hubspot": {"scope": "oauth crm.objects.contacts.read"},
    "oidc": {"scope": "openid email profile offline_access", "nonce": "nonce-1"},
}


class FakeClock:
    """Time that only moves when a test says so."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class App:
    """One registered app at one emulated service, with its person's browser."""

    http: httpx.AsyncClient
    connector: str

    @property
    def redirect_uri(self) -> str:
        return f"http://127.0.0.1:8080/oauth/callback/{self.connector}"

    @property
    def client(self) -> dict[str, str]:
        return {
            "client_id": f"flero-dev-{self.connector}",
            "client_secret": f"flero-dev-secret-{self.connector}",
        }

    def authorization(self, **changes: str) -> dict[str, str]:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest())
        return {
            "client_id": f"flero-dev-{self.connector}",
            "redirect_uri": self.redirect_uri,
            "response_type": "code",
            "state": STATE,
            "code_challenge": challenge.rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            **ASKS[self.connector],
            **changes,
        }

    async def page(self, **changes: str) -> httpx.Response:
        return await self.http.get(AUTHORIZE[self.connector], params=self.authorization(**changes))

    async def answer(
        self, page: httpx.Response, *, scopes: Sequence[str] | None = None, **changes: str
    ) -> httpx.Response:
        form = {"request": request_id(page), "account": "ada", "decision": "allow", **changes}
        ticked = page_scopes(page) if scopes is None else scopes
        return await self.http.post(
            f"/{self.connector}/_consent", data={**form, "scope": list(ticked)}
        )

    async def code(self, *, account: str = "ada", **changes: str) -> str:
        redirect = await self.answer(await self.page(**changes), account=account)
        return redirect_params(redirect)["code"]

    async def exchange(self, code: str, **changes: str) -> httpx.Response:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": VERIFIER,
            **self.client,
            **changes,
        }
        return await self.http.post(TOKEN[self.connector], data=form)

    async def connect(self, **changes: str) -> dict[str, Any]:
        answer: dict[str, Any] = (await self.exchange(await self.code(**changes))).json()
        return answer

    async def refresh(self, refresh_token: str, **changes: str) -> httpx.Response:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
            **self.client,
            **changes,
        }
        return await self.http.post(TOKEN[self.connector], data=form)

    async def whoami(self, access_token: str) -> httpx.Response:
        return await self.http.get(f"/{self.connector}/_api/whoami", headers=bearer(access_token))

    async def control(self, **settings: object) -> httpx.Response:
        return await self.http.post(f"/_control/{self.connector}", json=settings)

    async def console(self) -> dict[str, Any]:
        shown: dict[str, Any] = (await self.http.get(f"/_control/{self.connector}")).json()
        return shown


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def request_id(page: httpx.Response) -> str:
    found = re.search(r'name="request" value="([^"]+)"', page.text)
    assert found, page.text
    return unescape(found[1])


def page_scopes(page: httpx.Response) -> list[str]:
    return [unescape(scope) for scope in re.findall(r'name="scope" value="([^"]+)"', page.text)]


def redirect_params(response: httpx.Response) -> dict[str, str]:
    assert response.status_code == 303, response.text
    return dict(parse_qsl(urlsplit(response.headers["location"]).query, keep_blank_values=True))
