"""Every way in which a call to the vault fails.

    VaultError
    ├── InvalidField            the request is wrong; nothing was changed
    ├── NotFound                CREDENTIAL_, CONNECTOR_, OAUTH_APP_NOT_FOUND
    ├── Precondition            the call is fine, the state of things is not
    │   └── CallbackRefused     what a callback can end with; remembered for its repetition
    ├── Conflict                ETAG_MISMATCH, REQUEST_ID_REUSED
    ├── NotAllowed              CALLER_NOT_ALLOWED
    ├── Unavailable             try again: the service, a refresh under way, or the vault
    └── NotServed               not in this version

Each error holds a `Reason`, a sentence for a person (`message`) and metadata whose keys are in
the contract. None holds a secret. The API turns them into `google.rpc.Status`; use cases raise
them and nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from flero_vault.core.model import Credential


class Reason(StrEnum):
    """The machine-readable reason; the same names as the proto's ErrorReason."""

    INVALID_FIELD = "INVALID_FIELD"
    CREDENTIAL_NOT_FOUND = "CREDENTIAL_NOT_FOUND"
    CONNECTOR_NOT_FOUND = "CONNECTOR_NOT_FOUND"
    OAUTH_APP_NOT_FOUND = "OAUTH_APP_NOT_FOUND"
    CREDENTIAL_PENDING = "CREDENTIAL_PENDING"
    CREDENTIAL_EXPIRED = "CREDENTIAL_EXPIRED"
    CREDENTIAL_REVOKED = "CREDENTIAL_REVOKED"
    STATE_INVALID = "STATE_INVALID"
    CONSENT_DENIED = "CONSENT_DENIED"
    ADMIN_APPROVAL_REQUIRED = "ADMIN_APPROVAL_REQUIRED"
    APP_NOT_VERIFIED = "APP_NOT_VERIFIED"
    ACCOUNT_MISMATCH = "ACCOUNT_MISMATCH"
    CODE_REJECTED = "CODE_REJECTED"
    SCOPES_MISSING = "SCOPES_MISSING"
    OAUTH_APP_NOT_CONFIGURED = "OAUTH_APP_NOT_CONFIGURED"
    OAUTH_APP_REJECTED = "OAUTH_APP_REJECTED"
    ETAG_MISMATCH = "ETAG_MISMATCH"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"
    SERVICE_RATE_LIMITED = "SERVICE_RATE_LIMITED"
    REFRESH_PENDING = "REFRESH_PENDING"
    VAULT_UNAVAILABLE = "VAULT_UNAVAILABLE"
    VAULT_OVERLOADED = "VAULT_OVERLOADED"
    CALLER_UNAUTHENTICATED = "CALLER_UNAUTHENTICATED"
    CALLER_NOT_ALLOWED = "CALLER_NOT_ALLOWED"
    METHOD_NOT_SERVED = "METHOD_NOT_SERVED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Violation:
    """A field that is wrong: its path in the request, and the remedy."""

    field: str
    remedy: str


class VaultError(Exception):
    """A call failed. Catch this to handle every failure; read `reason` to tell them apart."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        help_url: str = "",
        retry_after: float | None = None,
    ) -> None:
        """Take `retry_after` in seconds: when it is worth trying again, if ever."""
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.help_url = help_url
        self.retry_after = retry_after


class InvalidField(VaultError):
    """Fields are missing, malformed or too long. Change what `violations` say."""

    def __init__(self, *violations: Violation) -> None:
        named = "; ".join(f"{v.field} {v.remedy}" for v in violations)
        super().__init__(Reason.INVALID_FIELD, f"The request is not valid: {named}.")
        self.violations: Sequence[Violation] = violations


class NotFound(VaultError):
    """It is not there, or not for this caller: the two cannot be told apart."""


class Precondition(VaultError):
    """The request is fine, but not now: a person or an administrator has to act first."""


class CallbackRefused(Precondition):
    """A trip to the consent page ended without a grant. Start another one."""


class Conflict(VaultError):
    """Somebody else was faster, or a request_id came twice. Read again, then decide."""


class NotAllowed(VaultError):
    """The user may see this credential but not do this to it."""


class Unavailable(VaultError):
    """Nothing is wrong with the request: repeat it after `retry_after` seconds."""


class NotServed(VaultError):
    """This version of the vault does not serve the method."""


def credential_not_found() -> NotFound:
    """Return the one answer for unknown, deleted, foreign and another's PERSONAL credential."""
    return NotFound(
        Reason.CREDENTIAL_NOT_FOUND,
        "This credential does not exist, or you cannot use it.",
    )


def connector_not_found(key: str) -> NotFound:
    """Return the error for a connector that no file describes."""
    return NotFound(
        Reason.CONNECTOR_NOT_FOUND,
        f"There is no connector “{key}” in this deployment.",
        metadata={"connector": key},
    )


def about(credential: Credential, **more: str) -> dict[str, str]:
    """Return the metadata that names a credential, for errors that a workflow's owner reads."""
    named = {
        "credential": str(credential.name),
        "connector": credential.connector,
        "display_name": credential.display_name,
    }
    return named | more
