"""Get, List, Update, Delete, Check and Watch: credentials as people see them."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from flero_vault.core.access import Action, allow
from flero_vault.core.apps import Clients
from flero_vault.core.connector import Verdict
from flero_vault.core.errors import (
    Conflict,
    NotAllowed,
    Reason,
    about,
    connector_not_found,
    credential_not_found,
)
from flero_vault.core.model import Credential, CredentialName, CredentialScope
from flero_vault.core.ports import AuthorizationServer, Catalogue, Failure, Filter, Store
from flero_vault.core.tokens import TokenRequest, Tokens, expired, service_failing

WATCH_POLL_S = 1.0
"""How often a watcher looks when no hint comes."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a person changes; None: leave it."""

    display_name: str | None
    scope: CredentialScope | None
    owner: str | None


class Credentials:
    """Shows and changes credentials."""

    def __init__(
        self,
        *,
        store: Store,
        servers: AuthorizationServer,
        catalogue: Catalogue,
        clients: Clients,
        tokens: Tokens,
    ) -> None:
        self._store = store
        self._servers = servers
        self._catalogue = catalogue
        self._clients = clients
        self._tokens = tokens

    async def get(self, name: CredentialName, user: str) -> Credential:
        """Return a credential.

        Raises:
            NotFound: CREDENTIAL_NOT_FOUND.

        """
        return allow(Action.LOOK, await self._store.load(name), user)

    async def list(
        self,
        workspace: str,
        user: str,
        wanted: Filter,
        after: tuple[datetime, UUID] | None,
        limit: int,
    ) -> Sequence[Credential]:
        """Return what the user can see, oldest first."""
        return await self._store.list(workspace, user, wanted, after, limit)

    async def update(
        self, name: CredentialName, user: str, change: Change, etag: str
    ) -> Credential:
        """Change display name, scope or owner.

        Raises:
            NotFound: CREDENTIAL_NOT_FOUND.
            NotAllowed: the user is not its owner, or hands over a PERSONAL credential.
            Conflict: ETAG_MISMATCH.

        """
        present = allow(Action.UPDATE, await self._store.load(name), user)
        _check_etag(present, etag)
        wanted = replace(
            present,
            display_name=change.display_name or present.display_name,
            scope=change.scope or present.scope,
            owner=change.owner or present.owner,
        )
        if wanted.owner != present.owner and CredentialScope.PERSONAL in (
            present.scope,
            wanted.scope,
        ):
            raise NotAllowed(
                Reason.CALLER_NOT_ALLOWED,
                f"“{present.display_name}” is personal and stays with its owner.",
                metadata=about(present),
            )
        if not await self._store.update(wanted, present.revision):
            raise _etag_mismatch(present)
        await self._store.announce(name.workspace, name.id)
        updated = await self._store.load(name)
        if updated is None:
            raise credential_not_found()
        return updated

    async def delete(self, name: CredentialName, user: str, etag: str) -> None:
        """Delete a credential with its tokens.

        Raises:
            NotFound: CREDENTIAL_NOT_FOUND.
            NotAllowed: the user is not its owner.
            Conflict: ETAG_MISMATCH.

        """
        present = allow(Action.DELETE, await self._store.load(name), user)
        _check_etag(present, etag)
        while not await self._store.delete(name, present.revision):
            again = await self._store.load(name)
            if again is None:
                return
            if etag:
                raise _etag_mismatch(present)
            # Without an etag the person wants it gone, whatever changed in this moment.
            present = allow(Action.DELETE, again, user)
        await self._store.announce(name.workspace, name.id)

    async def check(self, name: CredentialName, user: str, deadline: float | None) -> Credential:
        """Ask the service now whose account this is, and record what it says.

        Raises:
            NotFound: CREDENTIAL_NOT_FOUND.
            VaultError: as GetAccessToken.

        """
        credential = allow(Action.TEST, await self._store.load(name), user)
        connector = self._catalogue.find(credential.connector)
        if connector is None:
            raise connector_not_found(credential.connector)
        request = TokenRequest(
            name=name,
            user=user,
            min_ttl=timedelta(0),
            rejected_token_sha256=b"",
            required_scopes=(),
            slot="",
        )
        token = await self._tokens.get(request, deadline)
        grants = await self._store.grants_of(name)
        if not grants:
            raise credential_not_found()
        grant = grants[0]
        client = await self._clients.load(connector, grant.connection_params, grant.app)
        said = await self._servers.probe(client, token.token)
        if isinstance(said, Failure) and said.verdict is Verdict.RECONNECT:
            # The service refuses this token: a fresh one tells a stale token from a dead grant.
            refused = hashlib.sha256(token.token.encode()).digest()
            token = await self._tokens.get(
                replace(request, rejected_token_sha256=refused), deadline
            )
            said = await self._servers.probe(client, token.token)
        if isinstance(said, Failure):
            read = await self._store.read_token(name, "")
            if read is None:
                raise credential_not_found()
            if said.verdict is Verdict.RECONNECT:
                raise expired(read, connector, said.verdict)
            raise service_failing(
                read, connector, replace(grant, failure=said.verdict), timedelta(seconds=5)
            )
        if said is not None:
            await self._store.remember_account(name, credential.revision, said)
        checked = await self._store.load(name)
        if checked is None:
            raise credential_not_found()
        return checked

    async def watch(self, name: CredentialName, user: str) -> AsyncIterator[Credential]:
        """Yield the credential as it is, then after each change.

        Raises:
            NotFound: CREDENTIAL_NOT_FOUND, at first or when it is deleted.

        """
        seen: tuple[object, ...] = ()
        with self._store.listen(name.workspace, name.id) as changed:
            while True:
                changed.clear()
                credential = allow(Action.LOOK, await self._store.load(name), user)
                now = (credential.revision, credential.generations, credential.status_reason)
                if now != seen:
                    seen = now
                    yield credential
                try:
                    async with asyncio.timeout(WATCH_POLL_S):
                        await changed.wait()
                except TimeoutError:
                    continue


def _etag_mismatch(credential: Credential) -> Conflict:
    return Conflict(
        Reason.ETAG_MISMATCH,
        f"“{credential.display_name}” was changed meanwhile. Look at it again, then decide.",
        metadata=about(credential),
    )


def _check_etag(credential: Credential, etag: str) -> None:
    if etag and etag != credential.etag:
        raise _etag_mismatch(credential)
