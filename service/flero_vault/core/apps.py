"""Turns an OAuth app and a connector into a client that can make requests."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from flero_vault.core.connector import Connector
from flero_vault.core.errors import Precondition, Reason
from flero_vault.core.model import App, AppName
from flero_vault.core.ports import Client, Sealer, Store
from flero_vault.core.secret import Secret

SECRETS_FIELD = "secrets"
SECRET_SEPARATOR = "\n"
"""Joins an app's secrets for sealing; the API refuses secrets with control characters."""
_LABELS = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
"""What may stand for the asterisk of an origin: no userinfo, no port, no backslash."""


def not_configured(connector: Connector) -> Precondition:
    """Return the error for a service that nobody registered Flero at."""
    return Precondition(
        Reason.OAUTH_APP_NOT_CONFIGURED,
        f"Flero is not registered at {connector.display_name} yet. "
        "Ask your platform team to register an OAuth app for it.",
        metadata={"connector": connector.key},
    )


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL, or of a URL template."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def origin_allowed(url: str, origins: tuple[str, ...]) -> bool:
    """Say whether secrets may go to this URL.

    `https://*.example.com` stands for every host below example.com, not for itself; the dot keeps
    `evil-example.com` out.
    """
    origin = origin_of(url)
    for allowed in origins:
        scheme, _, host = allowed.partition("://")
        if host.startswith("*."):
            below = origin.removeprefix(f"{scheme}://").removesuffix(host[1:])
            if origin == f"{scheme}://{below}{host[1:]}" and _LABELS.fullmatch(below):
                return True
        elif origin == allowed:
            return True
    return False


def own_origins(connector: Connector) -> tuple[str, ...]:
    """Return the origins of a connector's fixed endpoints, and those that it names itself."""
    urls = (
        connector.discovery,
        connector.token.endpoint,
        connector.revocation.endpoint,
        connector.identity.probe.endpoint,
    )
    fixed = [origin_of(url) for url in urls if url and "{" not in origin_of(url)]
    return tuple(dict.fromkeys([*fixed, *connector.app_origins]))


class Clients:
    """Makes `Client` values: the only place where an app's secrets are opened."""

    def __init__(self, store: Store, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer

    async def of(self, connector: Connector, params: Mapping[str, str], app: App) -> Client:
        """Return a client of this app."""
        sealed = await self._sealer.open(app.seat, SECRETS_FIELD, app.secrets)
        texts = sealed.reveal().split(SECRET_SEPARATOR)
        return Client(
            connector=connector,
            params=params,
            client_id=app.client_id,
            secrets=tuple(Secret(text) for text in texts if text),
            origins=app.origins,
        )

    async def load(
        self, connector: Connector, params: Mapping[str, str], name: AppName | None
    ) -> Client:
        """Return a client of the app that a grant is pinned to.

        Raises:
            Precondition: OAUTH_APP_NOT_CONFIGURED, the app is gone.

        """
        app = await self._store.load_app(name) if name else None
        if app is None:
            raise not_configured(connector)
        return await self.of(connector, params, app)
