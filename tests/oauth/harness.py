"""Builds clients, consents and servers for tests, and plays the browser at the emulator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import httpx
from tests.emulator.harness import ORIGIN, FakeClock, page_scopes, redirect_params, request_id

from flero_vault.core.connector import Connector, Verified
from flero_vault.core.ports import Client, Consent, Failure, TokenAnswer
from flero_vault.core.secret import Secret
from flero_vault.oauth.wire import HttpServers
from flero_vault_dev.emulator.server import create_app

VERIFIER: Final = "planted-verifier-canary-of-at-least-43-characters"
OIDC_FILE: Final = f"""
display_name = "Example ID"
discovery = "{ORIGIN}/oidc/.well-known/openid-configuration"
verified = "metadata"
verified_by = "https://example.com"
app_origins = ["{ORIGIN}"]
"""


class Monotonic:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@dataclass
class World:
    """The emulator, reached in process, and servers that talk to it."""

    clock: FakeClock = field(default_factory=FakeClock)
    monotonic: Monotonic = field(default_factory=Monotonic)

    def __post_init__(self) -> None:
        self.app = create_app(ORIGIN, self.clock)
        self.servers = self.make_servers()

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=ORIGIN)

    def make_servers(self, **changes: Any) -> HttpServers:
        settings = {"allow_loopback": True, "clients": self.http, "wall": self.clock, **changes}
        return HttpServers(self.monotonic, **settings)

    async def control(self, connector: str, **settings: object) -> None:
        async with self.http() as http:
            (await http.post(f"/_control/{connector}", json=settings)).raise_for_status()

    async def counters(self, connector: str) -> Mapping[str, Any]:
        async with self.http() as http:
            shown: dict[str, Any] = (await http.get(f"/_control/{connector}")).json()
            return shown

    async def consent(
        self, client: Client, consent: Consent, account: str = "ada"
    ) -> dict[str, str]:
        """Go to the consent page, allow everything, and return what the redirect carries."""
        url = await self.servers.authorize_url(client, consent)
        assert isinstance(url, Secret), url
        async with self.http() as http:
            page = await http.get(url.reveal())
            redirect = await http.post(
                f"/{client.connector.key}/_consent",
                data={
                    "request": request_id(page),
                    "account": account,
                    "decision": "allow",
                    "scope": page_scopes(page),
                },
            )
        return redirect_params(redirect)

    async def connect(
        self, client: Client, consent: Consent, account: str = "ada"
    ) -> TokenAnswer | Failure:
        params = await self.consent(client, consent, account)
        code = Secret(params.pop("code"))
        return await self.servers.exchange(client, consent, code, params)

    async def whoami(self, connector: str, token: Secret) -> int:
        async with self.http() as http:
            bearer = {"Authorization": f"Bearer {token.reveal()}"}
            return (await http.get(f"/{connector}/_api/whoami", headers=bearer)).status_code


def client_of(connector: Connector, *secrets: str, **changes: Any) -> Client:
    made = Client(
        connector=connector,
        params={},
        client_id=f"flero-dev-{connector.key}",
        secrets=tuple(Secret(s) for s in secrets or (f"flero-dev-secret-{connector.key}",)),
        origins=(ORIGIN,),
    )
    return replace(made, **changes)


def consent_of(connector: Connector, **changes: Any) -> Consent:
    made = Consent(
        redirect_uri=f"http://127.0.0.1:8080/oauth/callback/{connector.key}",
        state=Secret("acme.planted-state-canary"),
        nonce=Secret("planted-nonce-canary"),
        verifier=Secret(VERIFIER),
        scopes=connector.default_scopes,
        login_hint="",
    )
    return replace(made, **changes)


def plain_connector(**changes: Any) -> Connector:
    """A connector without quirks; endpoints at https://id.example.com."""
    base = Connector(
        key="plain", display_name="Plain", verified=Verified.VENDOR, verified_by="https://x.example"
    )
    return replace(
        base,
        authorization=replace(base.authorization, endpoint="https://id.example.com/authorize"),
        token=replace(base.token, endpoint="https://id.example.com/token"),
        **changes,
    )


def scripted(
    *answers: httpx.Response | Exception,
) -> tuple[Callable[[], httpx.AsyncClient], list[httpx.Request]]:
    """Return a client factory that gives these answers in turn, and the requests it saw."""
    seen: list[httpx.Request] = []
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        given = left.pop(0)
        if isinstance(given, Exception):
            raise given
        return unread(given)

    return lambda: httpx.AsyncClient(transport=httpx.MockTransport(answer)), seen


def unread(response: httpx.Response) -> httpx.Response:
    """Make a ready response one that still has to be read, as it is on the wire."""
    if not response.is_stream_consumed:
        return response
    stream = httpx.ByteStream(response.content)
    return httpx.Response(response.status_code, headers=response.headers, stream=stream)


def form_of(request: httpx.Request) -> dict[str, str]:
    return dict(parse_qsl(request.content.decode(), keep_blank_values=True))


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
