"""Keycloak, run by java with what `make interop-tools` installed, its database in memory."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.interop.programs import built, free_port, program, running
from tests.interop.services import TIMEOUT_S, browse

CONNECTOR = "keycloak"
START_WITHIN_S = 180.0
"""The first start in a folder builds; a later one takes twenty seconds."""
REALM = json.loads(Path(__file__).with_name("realm.json").read_text(encoding="utf-8"))
(CLIENT,) = REALM["clients"]
CLIENT_ID: str = CLIENT["clientId"]
CLIENT_SECRET: str = CLIENT["secret"]
PASSWORD = "correct horse battery staple"
ADMIN = "admin"
OPERATOR = {
    "grant_type": "password",
    "client_id": "admin-cli",
    "username": ADMIN,
    "password": PASSWORD,
}
ADMIN_TOKEN_S = 30.0
"""The operator's own token lives a minute."""


@dataclass(slots=True)
class Keycloak:
    """The running server and its operator."""

    origin: str
    connector: str = CONNECTOR
    _token: str = field(default="", repr=False)
    _token_until: float = 0.0

    @property
    def issuer(self) -> str:
        """The issuer of the realm."""
        return f"{self.origin}/realms/{REALM['realm']}"

    @property
    def connectors(self) -> dict[str, str]:
        """The connector file: four lines."""
        text = (
            'display_name = "Keycloak"\n'
            f'discovery = "{self.issuer}/.well-known/openid-configuration"\n'
            'verified = "metadata"\n'
            'verified_by = "https://www.keycloak.org/securing-apps/oidc-layers"\n'
        )
        return {CONNECTOR: text}

    async def consent(self, url: str, account: str) -> dict[str, str]:
        """Sign in; return the parameters of the callback."""

        def fill(page: str, hidden: dict[str, str]) -> dict[str, str]:
            assert 'id="kc-form-login"' in page, page[:2000]
            return hidden | {"username": account, "password": PASSWORD}

        return await browse(url, fill)

    async def accepts(self, token: str) -> bool:
        """Say whether the service honours an access token."""
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
            headers = {"Authorization": f"Bearer {token}"}
            url = f"{self.issuer}/protocol/openid-connect/userinfo"
            return (await http.get(url, headers=headers)).is_success

    async def refreshes(self, account_id: str) -> list[str]:
        """Return the outcome of each refresh of the account's grants."""
        kinds = ["REFRESH_TOKEN", "REFRESH_TOKEN_ERROR"]
        events = await self._read("/events", {"type": kinds, "user": account_id, "max": 1000})
        return [event.get("error", "ok") for event in sorted(events, key=lambda e: e["time"])]

    async def living_grants(self, account_id: str) -> int:
        """Return how many grants of the account the service still honours."""
        sessions = f"/users/{account_id}/offline-sessions/{CLIENT['id']}"
        return len(await self._read(sessions, {}))

    async def end_grants(self, account_id: str) -> None:
        """End what the account granted, as the realm's operator can."""
        for session in await self._read(f"/users/{account_id}/offline-sessions/{CLIENT['id']}", {}):
            await self._ask("DELETE", f"/sessions/{session['id']}", {"isOffline": "true"})

    async def _read(self, path: str, query: dict[str, Any]) -> Any:
        return (await self._ask("GET", path, query)).json()

    async def _ask(self, method: str, path: str, query: dict[str, Any]) -> httpx.Response:
        url = f"{self.origin}/admin/realms/{REALM['realm']}{path}"
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
            if time.monotonic() > self._token_until:
                self._token = _token_of(await http.post(_token_url(self.origin), data=OPERATOR))
                self._token_until = time.monotonic() + ADMIN_TOKEN_S
            headers = {"Authorization": f"Bearer {self._token}"}
            answer = await http.request(method, url, params=query, headers=headers)
            assert answer.is_success, answer.text
            return answer


def _token_url(origin: str) -> str:
    return f"{origin}/realms/master/protocol/openid-connect/token"


def _token_of(answer: httpx.Response) -> str:
    assert answer.is_success, answer.text
    token: str = answer.json()["access_token"]
    return token


@contextmanager
def keycloak(folder: Path, accounts: Sequence[str]) -> Iterator[Keycloak]:
    """Run the server until the block is left, with the realm of `realm.json` and these people."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    program("java", "default-jre-headless")
    command = (
        program("sh", "dash"),
        built("keycloak", "bin", "kc.sh"),
        "start-dev",
        "--db=dev-mem",
        "--cache=local",
        "--http-host=127.0.0.1",
        f"--http-port={port}",
    )

    def is_ready() -> bool:
        try:
            return httpx.get(f"{origin}/realms/master", timeout=TIMEOUT_S).is_success
        except httpx.TransportError:
            return False

    environment = {
        "KC_BOOTSTRAP_ADMIN_USERNAME": ADMIN,
        "KC_BOOTSTRAP_ADMIN_PASSWORD": PASSWORD,
        "JAVA_OPTS_KC_HEAP": "-Xms256m -Xmx1g",
        # It lives for minutes: what the second compiler would win is less than what it costs.
        "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1",
    }
    with running(
        command,
        folder / "keycloak.log",
        is_ready=is_ready,
        within=START_WITHIN_S,
        environment=environment,
    ):
        token = _token_of(httpx.post(_token_url(origin), data=OPERATOR, timeout=TIMEOUT_S))
        made = httpx.post(
            f"{origin}/admin/realms",
            json=REALM | {"users": [_person(account) for account in accounts]},
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
        )
        assert made.is_success, made.text
        yield Keycloak(origin)


def _person(account: str) -> dict[str, Any]:
    return {
        "username": account,
        "enabled": True,
        "email": f"{account}@example.com",
        "emailVerified": True,
        "firstName": account.capitalize(),
        "lastName": "Example",
        # What is imported gets no roles by itself, and this one allows offline access.
        "realmRoles": [f"default-roles-{REALM['realm']}"],
        "credentials": [{"type": "password", "value": PASSWORD, "temporary": False}],
    }
