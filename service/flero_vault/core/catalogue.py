"""Connectors as callers see them, and the OAuth apps that a deployment registered at them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from flero_vault.core.apps import SECRET_SEPARATOR, SECRETS_FIELD, own_origins
from flero_vault.core.connector import Connector
from flero_vault.core.errors import (
    InvalidField,
    NotFound,
    Precondition,
    Reason,
    Violation,
    connector_not_found,
)
from flero_vault.core.model import DEPLOYMENT, App, AppName, Sealed, Seat
from flero_vault.core.ports import Catalogue, Entropy, Sealer, Store
from flero_vault.core.secret import Secret

_ORIGIN = re.compile(r"https://(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)+(:\d{1,5})?")
_LOOPBACK = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?")


@dataclass(frozen=True, slots=True)
class Offer:
    """A connector, and whether a person can authorize it now."""

    connector: Connector
    configured: bool


class Offers:
    """Lists connectors, and keeps OAuth apps."""

    def __init__(
        self,
        *,
        store: Store,
        sealer: Sealer,
        catalogue: Catalogue,
        entropy: Entropy,
        allow_loopback: bool,
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._catalogue = catalogue
        self._entropy = entropy
        self._allow_loopback = allow_loopback

    async def list(self, workspace: str, after: str, limit: int) -> Sequence[Offer]:
        """Return connectors by key, after the one named; `workspace` empty: the deployment."""
        configured = await self._store.configured(workspace or DEPLOYMENT)
        later = [c for c in self._catalogue.all() if c.key > after]
        return [Offer(c, c.key in configured) for c in later[:limit]]

    async def get(self, key: str, workspace: str) -> Offer:
        """Return one connector.

        Raises:
            NotFound: CONNECTOR_NOT_FOUND.

        """
        connector = self._find(key)
        return Offer(connector, key in await self._store.configured(workspace or DEPLOYMENT))

    async def put_app(
        self,
        parent: str,
        key: str,
        client_id: str,
        secrets: tuple[Secret, ...],
        origins: tuple[str, ...],
    ) -> App:
        """Register an OAuth app, or replace the secrets and origins of the one with its client id.

        Raises:
            NotFound: CONNECTOR_NOT_FOUND.
            InvalidField: an origin is malformed, or none is given and the connector has none.

        """
        connector = self._find(key)
        allowed = origins or own_origins(connector)
        self._check_origins(allowed)
        while True:
            present = await self._store.find_app(parent, key, client_id)
            name = present.name if present else AppName(parent, self._entropy.uuid())
            seat = Seat("oauth_app", name.workspace, str(name.id))
            joined = Secret(SECRET_SEPARATOR.join(secret.reveal() for secret in secrets))
            row = await self._sealer.seal(seat, {SECRETS_FIELD: joined})
            now = await self._store.now()
            stored = await self._store.put_app(
                App(
                    name=name,
                    connector=key,
                    client_id=client_id,
                    origins=allowed,
                    secrets=Sealed(row.key_id, row.fields[SECRETS_FIELD]),
                    create_time=now,
                    update_time=now,
                )
            )
            if stored is not None:
                return stored
            # Somebody registered the same client id in this moment; its row is the one to use.

    async def list_apps(self, parent: str, after: UUID | None, limit: int) -> Sequence[App]:
        """Return OAuth apps by id, after the one named."""
        return await self._store.list_apps(parent, after, limit)

    async def delete_app(self, name: AppName) -> None:
        """Delete an OAuth app.

        Raises:
            NotFound: OAUTH_APP_NOT_FOUND.
            Precondition: OAUTH_APP_REJECTED, grants live on it.

        """
        deleted = await self._store.delete_app(name)
        if deleted is None:
            raise NotFound(Reason.OAUTH_APP_NOT_FOUND, "There is no such OAuth app.")
        if not deleted:
            raise Precondition(
                Reason.OAUTH_APP_REJECTED,
                "This OAuth app cannot be deleted: credentials still depend on it. "
                "Revoke or re-authenticate them first.",
                metadata={"cause": "in_use"},
            )

    def _check_origins(self, origins: tuple[str, ...]) -> None:
        if not origins:
            raise InvalidField(
                Violation("origins", "must be given: the connector has no fixed one")
            )
        wrong = [
            Violation(f"origins[{index}]", "must be https://host or https://*.domain")
            for index, origin in enumerate(origins)
            if not _ORIGIN.fullmatch(origin)
            and not (self._allow_loopback and _LOOPBACK.fullmatch(origin))
        ]
        if wrong:
            raise InvalidField(*wrong)

    def _find(self, key: str) -> Connector:
        connector = self._catalogue.find(key)
        if connector is None:
            raise connector_not_found(key)
        return connector
