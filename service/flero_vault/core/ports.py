"""What the core needs from outside, as Protocols.

- `Store`: the database. Every change is one statement or one transaction, conditional on what it
  was decided upon; no connection is held while another call is under way.
- `Sealer`: encryption bound to a place. `AuthorizationServer`: the services. `Catalogue`: what is
  known about them. `Clock` and `Entropy`: time and chance, so that tests decide about both.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, Protocol
from uuid import UUID

from flero_vault.core.connector import Connector, Verdict
from flero_vault.core.model import (
    Account,
    App,
    AppName,
    Attempt,
    Credential,
    CredentialName,
    CredentialScope,
    Grant,
    Sealed,
    Seat,
    ServiceRevocation,
    Status,
)
from flero_vault.core.secret import Secret


class Clock(Protocol):
    """Monotonic seconds, for waits and deadlines. Validity is judged by the database's clock."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start."""


class Entropy(Protocol):
    """Chance: unguessable texts, identifiers, jitter."""

    def token(self) -> str:
        """Return 256 bits, base64url without padding: 43 characters."""

    def uuid(self) -> UUID:
        """Return a random UUID (version 4)."""

    def jitter(self) -> float:
        """Return a number from 0 up to 1."""


@dataclass(frozen=True, slots=True)
class SealedRow:
    """Several fields of one row, sealed by the same data key."""

    key_id: UUID
    fields: Mapping[str, bytes] = field(repr=False)


Purpose = Literal["seal", "mac"]
"""What a data key is for: ciphertexts, or the keyed hashes that rows are compared by."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A row of data_keys. Of no use without the KEK."""

    workspace: str
    key_id: UUID
    purpose: Purpose
    kek_id: str
    wrapped: bytes = field(repr=False)


class Sealer(Protocol):
    """Envelope encryption. A ciphertext opens only in the seat and field that it was made for.

    Raises everywhere: Unavailable with component `kms` or `database`.
    """

    async def seal(self, seat: Seat, fields: Mapping[str, Secret]) -> SealedRow:
        """Seal the fields of one row with the workspace's open data key, making one if need be."""

    async def open(self, seat: Seat, name: str, sealed: Sealed) -> Secret:
        """Open one field."""

    async def warm(self, workspace: str) -> None:
        """Have the keys in memory that sealing needs, before something is spent for the answer."""

    async def fingerprint(self, workspace: str, use: str, secret: Secret) -> bytes:
        """Return a keyed hash, comparable within the workspace and use; 32 bytes."""


# --- the database ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TokenRead:
    """What one read for GetAccessToken saw, and the database's time of that read.

    The grant's refresh token is there or not, but not its bytes: who spends it reads it by a lease.
    """

    name: CredentialName
    connector: str
    display_name: str
    scope: CredentialScope
    status: Status
    reason_time: datetime | None
    owner: str
    grant: Grant | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to spend a grant's refresh token for one generation."""

    grant: Grant
    now: datetime


@dataclass(frozen=True, slots=True)
class NewTokens:
    """What a grant holds from now on. Times are lengths: the database adds them to its own clock.

    `age`: seconds since just before the request was sent, which is what `expires_in` counts from.
    """

    slot: str
    tokens: SealedRow
    refresh_fingerprint: bytes | None
    token_type: str
    scopes: tuple[str, ...]
    connection: Mapping[str, str]
    expires_in: float | None
    refresh_expires_in: float | None
    age: float
    rotated: bool
    kept_from: int | None = None
    """The generation whose refresh token is kept; it must still be that, with no lease open."""


@dataclass(frozen=True, slots=True)
class Activation:
    """What an accepted consent changes, in one transaction."""

    attempt: Attempt
    account: Account | None
    grants: Sequence[tuple[UUID, NewTokens]]
    outcome: Mapping[str, object]


class Activated(StrEnum):
    """How storing a consent ended."""

    DONE = "done"
    GONE = "gone"
    """Voided, deleted, or no longer this user's to authorize."""
    CHANGED = "changed"
    """A refresh came between: look again at what is kept, then try again."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What ListCredentials looks for; None: anything."""

    status: Status | None = None
    connector: str | None = None
    owner: str | None = None
    authorized_by: str | None = None


@dataclass(frozen=True, slots=True)
class DueRevocation:
    """A grant to be revoked at its service, taken for one try."""

    workspace: str
    id: UUID
    credential_id: UUID
    grant_id: UUID
    connector: str
    slot: str
    connection_params: Mapping[str, str]
    connection: Mapping[str, str]
    app: AppName | None
    access_token: Sealed | None
    refresh_token: Sealed | None
    tries: int
    create_time: datetime
    now: datetime


class Store(Protocol):
    """The database. Raises Unavailable with component `database` when it is away."""

    async def now(self) -> datetime:
        """Return the database's time."""

    # OAuth apps

    async def put_app(self, app: App) -> App | None:
        """Store the app, or its secrets and origins anew.

        Returns None if its client id belongs to an app of another id.
        """

    async def find_app(self, workspace: str, connector: str, client_id: str) -> App | None:
        """Return the app of this client id."""

    async def load_app(self, name: AppName) -> App | None:
        """Return an app by name."""

    async def current_app(self, workspace: str, connector: str) -> App | None:
        """Return the app for new consents: the workspace's own, else the deployment's."""

    async def configured(self, workspace: str) -> frozenset[str]:
        """Return the connectors that have an app for this workspace."""

    async def list_apps(self, workspace: str, after: UUID | None, limit: int) -> Sequence[App]:
        """Return apps by id, after the one named."""

    async def delete_app(self, name: AppName) -> bool | None:
        """Delete the app: True; False while something needs it; None if there is none."""

    # credentials

    async def load(self, name: CredentialName) -> Credential | None:
        """Return a credential."""

    async def list(
        self,
        workspace: str,
        user: str,
        wanted: Filter,
        after: tuple[datetime, UUID] | None,
        limit: int,
    ) -> Sequence[Credential]:
        """Return what the user can see, oldest first."""

    async def update(self, credential: Credential, revision: int) -> bool:
        """Store display name, scope and owner if the revision is still this one."""

    async def delete(self, name: CredentialName, revision: int) -> bool:
        """Delete it with attempts and unshared grants if the revision is still this one."""

    async def revoke(self, name: CredentialName, *, at_service: bool, supported: bool) -> bool:
        """Stop it in one transaction: status, generation, leases, ciphertexts, outbox.

        Returns False if it is stopped already, or gone.
        """

    async def remember_account(self, name: CredentialName, revision: int, account: Account) -> None:
        """Store what the service says now, if the credential is still as it was when asked."""

    async def mark_used(self, minutes: Mapping[CredentialName, datetime]) -> None:
        """Store when credentials were last used, to the minute."""

    # attempts

    async def begin(
        self, attempt: Attempt, request_key: bytes | None, new: Credential | None
    ) -> Attempt | None:
        """Store an attempt, void the older ones, make the credential if there is none.

        Returns None if the request key is taken: somebody else's same request was faster.
        """

    async def attempt_by_request(self, workspace: str, request_key: bytes) -> Attempt | None:
        """Return the attempt of a request that came within ten minutes."""

    async def attempt(self, workspace: str, state_hash: bytes) -> tuple[Attempt | None, datetime]:
        """Return the attempt of a state, and the database's time."""

    async def consume(
        self, attempt: Attempt, code_hash: bytes, process_id: UUID, lease: timedelta
    ) -> bool:
        """Take an OPEN attempt for exchange. True for exactly one caller."""

    async def finish(
        self, attempt: Attempt, outcome: Mapping[str, object], reason: str, message: str
    ) -> None:
        """End an attempt without a grant, and say why on the credential."""

    async def activate(self, activation: Activation) -> Activated:
        """End an attempt with a grant, in one transaction."""

    # tokens

    async def read_token(self, name: CredentialName, slot: str) -> TokenRead | None:
        """Return what GetAccessToken needs, in one read by primary key."""

    async def read_tokens(
        self, workspace: str, wanted: Sequence[tuple[UUID, str]]
    ) -> Sequence[TokenRead | None]:
        """Return the same for credentials and slots of one workspace, in the same order."""

    async def grants_of(self, name: CredentialName) -> Sequence[Grant]:
        """Return the grants of a credential, the first slot first."""

    async def read_grant(self, workspace: str, grant_id: UUID) -> tuple[Grant, datetime] | None:
        """Return a grant and the database's time."""

    async def lease(
        self, grant: Grant, process_id: UUID, length: timedelta, *, hinted: bool
    ) -> Lease | None:
        """Take the lease of this generation if it is free, in one statement."""

    async def release(self, grant: Grant, process_id: UUID, failure: str, retry: timedelta) -> None:
        """Give the lease back after a failure, and leave the service alone for a while."""

    async def renew(self, grant: Grant, tokens: NewTokens) -> bool:
        """Store a refresh's answer if generation and spent refresh token are still those."""

    async def bury(self, grant: Grant, reason: str) -> bool:
        """Mark the grant dead if generation and refresh token are still those."""

    # revocations

    async def outbox(self, grant: Grant, tokens: SealedRow, revocation_id: UUID) -> None:
        """Queue tokens that arrived late, if the grant's own tokens were queued before."""

    async def due_revocations(self, hold: timedelta, limit: int) -> Sequence[DueRevocation]:
        """Take revocations that are due, each for one process for as long as `hold`."""

    async def end_revocation(self, due: DueRevocation, outcome: ServiceRevocation) -> None:
        """Record the outcome and forget the tokens."""

    async def postpone_revocation(self, due: DueRevocation, wait: timedelta) -> None:
        """Try again later."""

    # upkeep

    async def beat(self, process_id: UUID, *, ended: bool) -> None:
        """Write this process's heartbeat."""

    async def sweep(self, pending: timedelta, awaiting_approval: timedelta) -> None:
        """Delete old attempts, and PENDING credentials that nobody finished."""

    # hints

    async def announce(self, workspace: str, row: UUID) -> None:
        """Tell the other processes that this credential or grant changed. Best effort."""

    def listen(self, workspace: str, row: UUID) -> AbstractContextManager[asyncio.Event]:
        """Give an event that is set when a change is announced. Only a hint: poll as well."""


# --- the services ---------------------------------------------------------------------------


class Delivery(StrEnum):
    """What is known about a request that brought no token."""

    NOT_SENT = "not sent"
    ANSWERED = "answered"
    UNKNOWN = "unknown"
    """It may have reached the service, and a single-use token may be spent."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that brought no token. `code` is the service's error code: short, no secret."""

    delivery: Delivery
    verdict: Verdict
    code: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class SlotTokens:
    """One grant of a token answer (RFC 6749, section 5.1). Absent means not said, not none."""

    slot: str
    access_token: Secret
    refresh_token: Secret | None
    token_type: str
    scopes: tuple[str, ...] | None
    expires_in: float | None
    refresh_expires_in: float | None


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """A whole token answer. `connection` is what those who use the token need to know."""

    slots: tuple[SlotTokens, ...]
    connection: Mapping[str, str]
    identity: Mapping[str, object] = field(repr=False)
    """Fields of the answer and claims of the verified ID token that may name the account."""


@dataclass(frozen=True, slots=True)
class Client:
    """Our registration at a service, as far as a request needs it."""

    connector: Connector
    params: Mapping[str, str]
    client_id: str
    secrets: tuple[Secret, ...]
    origins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Consent:
    """What an authorization request says."""

    redirect_uri: str
    state: Secret
    nonce: Secret
    verifier: Secret
    scopes: tuple[str, ...]
    login_hint: str


class AuthorizationServer(Protocol):
    """The services, by the wire of RFC 6749. Returns failures as values; raises nothing."""

    async def authorize_url(self, client: Client, consent: Consent) -> Secret | Failure:
        """Return the URL of the consent page."""

    async def issuer(self, client: Client) -> str | Failure:
        """Return the issuer to compare `iss` with; empty if unknown."""

    async def exchange(
        self, client: Client, consent: Consent, code: Secret, redirect_params: Mapping[str, str]
    ) -> TokenAnswer | Failure:
        """Exchange a code, once."""

    async def refresh(
        self, client: Client, slot: str, refresh_token: Secret, deadline: float
    ) -> TokenAnswer | Failure:
        """Spend a refresh token, once, within `deadline` seconds altogether."""

    async def identify(self, client: Client, answer: TokenAnswer) -> Account | Failure | None:
        """Return whose account a consent was for; None if the connector has no way to know."""

    async def probe(self, client: Client, access_token: Secret) -> Account | Failure | None:
        """Ask the service now; None if it works, but does not say whose it is."""

    async def revoke(
        self, client: Client, access_token: Secret | None, refresh_token: Secret | None
    ) -> ServiceRevocation | Failure:
        """End the grant at the service."""


class Catalogue(Protocol):
    """The connectors of this deployment."""

    def find(self, key: str) -> Connector | None:
        """Return the connector of this key."""

    def all(self) -> Sequence[Connector]:
        """Return every connector by key."""
