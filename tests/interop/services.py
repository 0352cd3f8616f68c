"""What the suites ask of an authorization server, and a person who consents there."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any, Protocol
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
from tests.interop.vaults import PUBLIC_URL
from tests.stack import Vault

STEPS = 12
"""More redirects and pages than any consent takes."""
TIMEOUT_S = 30.0


class Service(Protocol):
    """A foreign authorization server, seen by who owns an account and by its operator."""

    @property
    def connector(self) -> str:
        """The key of its connector."""

    async def consent(self, url: str, account: str) -> dict[str, str]:
        """Sign in and allow everything; return the parameters of the callback."""

    async def accepts(self, token: str) -> bool:
        """Say whether the service honours an access token."""

    async def refreshes(self, account_id: str) -> list[str]:
        """Return the outcome of each refresh of the account's grants: `ok`, or what was wrong."""

    async def living_grants(self, account_id: str) -> int:
        """Return how many grants of the account the service still honours."""


async def browse(url: str, fill: Callable[[str, dict[str, str]], dict[str, str]]) -> dict[str, str]:
    """Open a page and submit its form, again and again, until the callback is reached.

    `fill` gets a page and the hidden fields of its form and returns what to submit. Each call is a
    browser of its own, which nobody is signed in with.
    """
    async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
        answer = await http.get(url)
        for _ in range(STEPS):
            for cookie in http.cookies.jar:
                # As in browsers: this machine counts as secure, so it gets these cookies back.
                cookie.secure = False
            if answer.is_redirect:
                target = urljoin(str(answer.url), answer.headers["location"])
                if target.startswith(PUBLIC_URL):
                    query = parse_qs(urlsplit(target).query)
                    return {name: values[0] for name, values in query.items()}
                answer = await http.get(target)
                continue
            assert answer.status_code == 200, f"{answer.status_code} {answer.text[:2000]}"
            action, hidden = _form(answer.text)
            answer = await http.post(
                urljoin(str(answer.url), action), data=fill(answer.text, hidden)
            )
    raise AssertionError(f"the consent does not come to an end: {answer.url}")


def _form(page: str) -> tuple[str, dict[str, str]]:
    action = re.search(r'<form[^>]*\saction="([^"]+)"', page)
    assert action is not None, page[:2000]
    hidden = {}
    for element in re.findall(r"<input[^>]*>", page):
        kind, name, value = (
            re.search(rf'\s{attribute}="([^"]*)"', element)
            for attribute in ("type", "name", "value")
        )
        if kind and kind[1] == "hidden" and name:
            hidden[unescape(name[1])] = unescape(value[1]) if value else ""
    return unescape(action[1]), hidden


async def connect(vault: Vault, service: Service, account: str) -> Any:
    """Go the whole way at a foreign service; return the answer to the callback."""
    begun = await vault.begin(service.connector, display_name=f"{account} at {service.connector}")
    back = await service.consent(begun.authorize_url, account)
    return await vault.complete(service.connector, back)
