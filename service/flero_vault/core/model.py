"""The nouns of the vault, as frozen values.

- A *credential* is one connection of a workspace to one account, made by one person.
- A *grant* is what the service issued: tokens, their lifetimes, a generation. A credential holds
  one grant a *slot*; credentials may share a grant.
- EXPIRED is never stored: a credential is EXPIRED while ACTIVE with a dead grant, so the two
  cannot disagree.
- An *attempt* is one trip to the consent page.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from uuid import UUID

WORKSPACE = re.compile(r"[a-z0-9-]{1,63}")
CONNECTOR = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
DEPLOYMENT = "_deployment"
"""Workspace id of what belongs to the deployment itself; no workspace can have this name."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class NameInvalid(ValueError):
    """A resource name does not have the form that its message says."""


def parse_workspace(name: str) -> str:
    """Return the workspace of `workspaces/{workspace}`.

    Raises:
        NameInvalid: it has another form.

    """
    collection, _, workspace = name.partition("/")
    if collection != "workspaces" or not WORKSPACE.fullmatch(workspace):
        raise NameInvalid("must be workspaces/{workspace} with [a-z0-9-]{1,63}")
    return workspace


def parse_parent(name: str) -> str:
    """Return the owner of OAuth apps: a workspace, or DEPLOYMENT for `deployment`.

    Raises:
        NameInvalid: it has another form.

    """
    if name == "deployment":
        return DEPLOYMENT
    try:
        return parse_workspace(name)
    except NameInvalid:
        raise NameInvalid("must be deployment, or workspaces/{workspace}") from None


@dataclass(frozen=True, slots=True)
class CredentialName:
    """`workspaces/{workspace}/credentials/{uuid}`."""

    workspace: str
    id: UUID

    @classmethod
    def parse(cls, name: str) -> "CredentialName":
        """Return the name that `name` spells.

        Raises:
            NameInvalid: it has another form.

        """
        return _credential_name(name)

    def __str__(self) -> str:
        return f"workspaces/{self.workspace}/credentials/{self.id}"


@lru_cache(maxsize=16_384)  # the same workflows ask again and again
def _credential_name(name: str) -> CredentialName:
    head, _, last = name.rpartition("/credentials/")
    try:
        workspace = parse_workspace(head)
    except NameInvalid:
        workspace = ""
    if not workspace or not _UUID.fullmatch(last):
        raise NameInvalid("must be workspaces/{workspace}/credentials/{uuid}, in lower case")
    return CredentialName(workspace, UUID(last))


@dataclass(frozen=True, slots=True)
class AppName:
    """`workspaces/{workspace}/oauthApps/{uuid}` or `deployment/oauthApps/{uuid}`."""

    workspace: str
    id: UUID

    @classmethod
    def parse(cls, name: str) -> "AppName":
        """Return the name that `name` spells.

        Raises:
            NameInvalid: it has another form.

        """
        head, _, last = name.rpartition("/oauthApps/")
        try:
            workspace = parse_parent(head)
        except NameInvalid:
            workspace = ""
        if not workspace or not _UUID.fullmatch(last):
            raise NameInvalid("must be {parent}/oauthApps/{uuid}, in lower case")
        return cls(workspace, UUID(last))

    def __str__(self) -> str:
        parent = "deployment" if self.workspace == DEPLOYMENT else f"workspaces/{self.workspace}"
        return f"{parent}/oauthApps/{self.id}"


class CredentialScope(StrEnum):
    """Who in the workspace may use a credential."""

    PERSONAL = "PERSONAL"
    WORKSPACE = "WORKSPACE"


class Status(StrEnum):
    """Where a credential stands in its life."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"


class ServiceRevocation(StrEnum):
    """What became of a grant at the service."""

    NOT_REQUESTED = "NOT_REQUESTED"
    DONE = "DONE"
    PENDING = "PENDING"
    UNSUPPORTED = "UNSUPPORTED"
    FAILED = "FAILED"


class Phase(StrEnum):
    """Where an attempt stands: waiting, its code being exchanged, ended, or replaced."""

    OPEN = "OPEN"
    EXCHANGING = "EXCHANGING"
    DONE = "DONE"
    VOID = "VOID"


@dataclass(frozen=True, slots=True)
class Account:
    """An account at the service. `id` is what a re-authentication is compared with."""

    id: str
    email: str = ""
    label: str = ""

    @property
    def known_as(self) -> str:
        """What a person recognises the account by."""
        return self.label or self.email or self.id


@dataclass(frozen=True, slots=True)
class StatusReason:
    """Why a credential stands where it stands; `reason` is the name of a Reason."""

    reason: str
    message: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Sealed:
    """A ciphertext and the data key that made it. Only a sealer makes one."""

    key_id: UUID
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Seat:
    """The place that a ciphertext belongs to. Moved to another one it does not open."""

    kind: str
    workspace: str
    row: str


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential as callers see it."""

    name: CredentialName
    connector: str
    display_name: str
    scope: CredentialScope
    status: Status
    owner: str
    authorized_by: str
    account: Account | None
    requested_scopes: tuple[str, ...]
    granted_scopes: tuple[str, ...]
    connection_params: Mapping[str, str]
    status_reason: StatusReason | None
    service_revocation: ServiceRevocation
    access_token_expire_time: datetime | None
    refresh_token_expire_time: datetime | None
    last_refresh_time: datetime | None
    last_used_time: datetime | None
    create_time: datetime
    update_time: datetime
    revision: int
    generations: int
    """Sum of the generations of its grants: changes with every refresh too."""

    @property
    def etag(self) -> str:
        """What UpdateCredential and DeleteCredential compare; a refresh does not change it."""
        return f"r{self.revision}"

    def __repr__(self) -> str:
        return f"<Credential {self.name} {self.status}>"


@dataclass(frozen=True, slots=True)
class Grant:
    """What the service issued, as the database holds it: sealed."""

    id: UUID
    workspace: str
    generation: int
    connector: str
    connection_params: Mapping[str, str]
    slot: str
    app: AppName | None
    access_token: Sealed | None
    refresh_token: Sealed | None
    refresh_fingerprint: bytes | None
    token_type: str
    scopes: tuple[str, ...]
    connection: Mapping[str, str]
    issue_time: datetime | None
    expire_time: datetime | None
    dead_reason: str
    dead_time: datetime | None
    retry_time: datetime | None
    failure: str
    failure_count: int
    hinted_times: tuple[datetime, ...]
    lease_expire_time: datetime | None

    @property
    def seat(self) -> Seat:
        """Where its tokens are sealed to."""
        return Seat("grant", self.workspace, str(self.id))

    def __repr__(self) -> str:
        return f"<Grant {self.id} generation {self.generation}>"


@dataclass(frozen=True, slots=True)
class App:
    """An OAuth app. Its secrets are sealed; `origins` are the only places they may be sent to."""

    name: AppName
    connector: str
    client_id: str
    origins: tuple[str, ...]
    secrets: Sealed
    create_time: datetime
    update_time: datetime

    @property
    def seat(self) -> Seat:
        """Where its secrets are sealed to."""
        return Seat("oauth_app", self.name.workspace, str(self.name.id))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One trip to the consent page, bound to a user, a browser and a connector."""

    workspace: str
    state_hash: bytes = field(repr=False)
    credential_id: UUID
    phase: Phase
    user: str
    binding_hash: bytes = field(repr=False)
    connector: str
    app: AppName
    redirect_uri: str
    issuer: str
    requested_scopes: tuple[str, ...]
    connection_params: Mapping[str, str]
    allow_account_change: bool
    secrets: Sealed | None
    code_hash: bytes | None = field(repr=False)
    outcome: Mapping[str, object] | None
    create_time: datetime
    expire_time: datetime
    lease_expire_time: datetime | None
    request_digest: bytes | None = field(repr=False)

    @property
    def seat(self) -> Seat:
        """Where its state, verifier and nonce are sealed to."""
        return Seat("attempt", self.workspace, self.state_hash.hex())
