"""oidc-provider, run by node with what `make interop-tools` installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tests.interop.programs import built, program, running
from tests.interop.services import TIMEOUT_S, browse
from tests.interop.vaults import callback_of

CONNECTOR = "oidc-provider"
FOUR_LINES = "oidc-provider-plain"
CLIENT_ID = "flero-vault+interop:1"
CLIENT_SECRET = "s3cret/with+every:thing%&that=Basic~has-to-encode"
ACCESS_TTL_S = 5
START_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """The running server."""

    issuer: str
    connector: str = CONNECTOR

    @property
    def connectors(self) -> dict[str, str]:
        """The connector files: all that the server can do, and the shortest that is a connector."""
        plain = (
            'display_name = "oidc-provider"\n'
            f'discovery = "{self.issuer}/.well-known/openid-configuration"\n'
            'verified = "metadata"\n'
            'verified_by = "https://openid.net/specs/openid-connect-core-1_0.html"\n'
        )
        return {
            FOUR_LINES: plain,
            CONNECTOR: plain
            + "iss_on_redirect = true\n"
            # OpenID Connect Core, section 11: without it `offline_access` is ignored.
            + 'authorization = { extra_params = { prompt = "consent" } }\n'
            + 'refresh = { reuse = "family_revoked" }\n',
        }

    async def consent(self, url: str, account: str) -> dict[str, str]:
        """Sign in and allow everything; return the parameters of the callback."""

        def fill(_page: str, hidden: dict[str, str]) -> dict[str, str]:
            if hidden["prompt"] == "login":
                return hidden | {"login": account, "password": "any"}
            return hidden

        return await browse(url, fill)

    async def accepts(self, token: str) -> bool:
        """Say whether the service honours an access token."""
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
            headers = {"Authorization": f"Bearer {token}"}
            return (await http.get(f"{self.issuer}/me", headers=headers)).is_success

    async def refreshes(self, account_id: str) -> list[str]:
        """Return the outcome of each refresh of the account's grants."""
        log = (await self.control())["log"]
        return [
            line["outcome"]
            for line in log
            if line["event"] == "refresh_token" and line["account"] == account_id
        ]

    async def living_grants(self, account_id: str) -> int:
        """Return how many grants of the account the service still honours."""
        alive = (await self.control())["alive"]
        return sum(grant["account"] == account_id for grant in alive)

    async def control(self) -> dict[str, Any]:
        """Return what the server saw and which grants live."""
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
            seen: dict[str, Any] = (await http.get(f"{self.issuer}/_control")).json()
            return seen

    async def spend(self, account_id: str) -> httpx.Response:
        """Refresh as somebody who got hold of the account's refresh token and of the app."""
        (token,) = [
            grant["refreshToken"]
            for grant in (await self.control())["alive"]
            if grant["account"] == account_id
        ]
        return await self.send_refresh(token)

    async def send_refresh(self, refresh_token: str) -> httpx.Response:
        """Send a refresh token to the token endpoint."""
        pair = tuple(str(httpx.QueryParams({"": text}))[1:] for text in (CLIENT_ID, CLIENT_SECRET))
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
            form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
            return await http.post(f"{self.issuer}/token", data=form, auth=(pair[0], pair[1]))


@contextmanager
def oidc_provider(folder: Path) -> Iterator[OidcProvider]:
    """Run the server until the block is left."""
    output = folder / "oidc-provider.log"
    found: list[str] = []

    def is_ready() -> bool:
        lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
        found[:] = [line.removeprefix("ready ") for line in lines if line.startswith("ready ")]
        return bool(found)

    redirect_uris = " ".join(callback_of(key) for key in (CONNECTOR, FOUR_LINES))
    environment = {
        "CLIENT_ID": CLIENT_ID,
        "CLIENT_SECRET": CLIENT_SECRET,
        "REDIRECT_URIS": redirect_uris,
        "ACCESS_TTL_S": str(ACCESS_TTL_S),
    }
    command = (program("node", "nodejs"), Path(__file__).with_name("server.mjs"))
    cwd = built("oidc_provider", "node_modules").parent
    with running(
        command,
        output,
        is_ready=is_ready,
        within=START_WITHIN_S,
        environment=environment,
        cwd=cwd,
    ):
        yield OidcProvider(found[0])
