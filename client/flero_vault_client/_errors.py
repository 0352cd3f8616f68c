"""Every way in which a call ends without an answer.

    VaultError                      catch this to handle them all
    ├── InvalidField                change what `violations` say
    ├── CredentialNotFound          not there, or not for this user: the two cannot be told apart
    ├── CredentialPending           a person has to finish at the consent page
    ├── CredentialExpired           a person has to re-authenticate
    ├── CredentialRevoked           likewise, if it is to be used again
    ├── …                           one class a reason, all in ERRORS
    └── VaultUnavailable            a part of the vault is away; wait, then ask again
        ├── VaultUnreachable        nobody answered
        └── DeadlineExceeded        nobody answered in time

- Which class it is says the vault's reason, never the gRPC code and never a text.
- A reason of a newer vault is a plain VaultError with that reason.
- `retryable` says that the same call may succeed later; `retry_after` when, if the vault knows.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import grpc
import grpc.aio
from google.rpc import status_pb2

from flero_vault_client._refusal import Refusal, refusal_in, refusal_of

_PASSING: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        # A server that shuts down cancels what it has not finished. What the caller cancels
        # itself is an asyncio.CancelledError and never gets here.
        grpc.StatusCode.CANCELLED,
    }
)


class VaultError(Exception):
    """A call failed.

    - `reason`: the name of an ErrorReason; empty if something other than the vault refused.
    - `user_message`: a sentence that can be shown to a person as it is; never empty.
    - `retryable`: whether the same call may succeed later.
    - `retry_after`: in how many seconds, or None if nobody knows.
    - `help_url`: where a person can do something about it, or empty.
    - `credential`: the resource name of the credential it is about, or empty.
    - `metadata`: what else the vault says, by the keys that its contract lists.
    - `violations`: pairs of a field and what to change in it.
    - `code`: the gRPC status.
    """

    def __init__(
        self,
        user_message: str,
        *,
        reason: str = "",
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        retry_after: float | None = None,
        help_url: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Take `retry_after` in seconds."""
        super().__init__(f"{reason or code.name}: {user_message}")
        self.reason = reason
        self.user_message = user_message
        self.code = code
        self.retry_after = retry_after
        self.help_url = help_url
        self.metadata: Mapping[str, str] = MappingProxyType(dict(metadata or {}))
        self.credential = self.metadata.get("credential", "")
        self.violations = violations
        # Shed load is RESOURCE_EXHAUSTED, and so is a message that is too large for ever: only
        # the first comes from the vault.
        shed = code is grpc.StatusCode.RESOURCE_EXHAUSTED and bool(reason)
        self.retryable = code in _PASSING or shed

    def __reduce__(self) -> tuple[Any, ...]:
        """Go with a failed job from process to process: an error holds no secret."""
        return _rebuilt, (
            type(self),
            self.user_message,
            {
                "reason": self.reason,
                "code": self.code,
                "retry_after": self.retry_after,
                "help_url": self.help_url,
                "metadata": dict(self.metadata),
                "violations": self.violations,
            },
        )


class InvalidField(VaultError):
    """The request is wrong and nothing was changed. Change what `violations` say."""


class CredentialNotFound(VaultError):
    """There is no such credential for this user; it may be somebody else's."""


class ConnectorNotFound(VaultError):
    """The deployment has no connector of this key."""


class CredentialPending(VaultError):
    """Nobody has finished authorizing this credential. A person has to, at the consent page."""


class CredentialExpired(VaultError):
    """The service no longer honours the grant. A person has to re-authenticate."""


class CredentialRevoked(VaultError):
    """Somebody stopped this credential. Re-authenticating starts it again."""


class StateInvalid(VaultError):
    """The callback is not, or no longer, this person's in this browser. Start again."""


class ConsentDenied(VaultError):
    """The person declined on the consent page."""


class AdminApprovalRequired(VaultError):
    """An administrator at the service has to approve first; `help_url` is to be forwarded."""


class AppNotVerified(VaultError):
    """The service has not verified Flero's OAuth app for this person."""


class AccountMismatch(VaultError):
    """Another account was chosen than the credential belongs to. Nothing was changed."""


class CodeRejected(VaultError):
    """The service refused the authorization code. Start again."""


class ScopesMissing(VaultError):
    """The token lacks permissions: metadata `missing_scopes`. Re-authenticate and allow them."""


class OAuthAppNotConfigured(VaultError):
    """No OAuth app is registered for this connector. The platform team has to register one."""


class OAuthAppRejected(VaultError):
    """The service refuses Flero's own registration. The platform team has to correct it."""


class EtagMismatch(VaultError):
    """It was changed meanwhile. Read again, then decide."""


class RequestIdReused(VaultError):
    """The request_id was used a moment ago with other fields. Use a new one."""


class ServiceUnavailable(VaultError):
    """The service does not answer and no valid token is at hand. Ask again later."""


class ServiceRateLimited(VaultError):
    """The service asks to slow down. Ask again after `retry_after` seconds."""


class RefreshPending(VaultError):
    """A refresh is under way. Ask again in a moment."""


class VaultUnavailable(VaultError):
    """A part of the vault is away. Ask again later."""


class VaultUnreachable(VaultUnavailable):
    """The vault did not answer: it is away, or something on the way is."""


class DeadlineExceeded(VaultUnavailable):
    """The vault did not answer within `timeout`. It may have done what was asked."""


class VaultOverloaded(VaultError):
    """The vault sheds load. Ask again after `retry_after` seconds."""


class CallerUnauthenticated(VaultError):
    """The calling service did not prove who it is."""


class CallerNotAllowed(VaultError):
    """The calling service, or this user, may not do this."""


class OAuthAppNotFound(VaultError):
    """There is no such OAuth app."""


class MethodNotServed(VaultError):
    """This version of the vault does not serve the method yet."""


class VaultInternal(VaultError):
    """A fault of the vault itself; its log of that moment names it."""


ERRORS: Final[Mapping[str, type[VaultError]]] = MappingProxyType(
    {
        "INVALID_FIELD": InvalidField,
        "CREDENTIAL_NOT_FOUND": CredentialNotFound,
        "CONNECTOR_NOT_FOUND": ConnectorNotFound,
        "CREDENTIAL_PENDING": CredentialPending,
        "CREDENTIAL_EXPIRED": CredentialExpired,
        "CREDENTIAL_REVOKED": CredentialRevoked,
        "STATE_INVALID": StateInvalid,
        "CONSENT_DENIED": ConsentDenied,
        "ADMIN_APPROVAL_REQUIRED": AdminApprovalRequired,
        "APP_NOT_VERIFIED": AppNotVerified,
        "ACCOUNT_MISMATCH": AccountMismatch,
        "CODE_REJECTED": CodeRejected,
        "SCOPES_MISSING": ScopesMissing,
        "OAUTH_APP_NOT_CONFIGURED": OAuthAppNotConfigured,
        "OAUTH_APP_REJECTED": OAuthAppRejected,
        "ETAG_MISMATCH": EtagMismatch,
        "REQUEST_ID_REUSED": RequestIdReused,
        "SERVICE_UNAVAILABLE": ServiceUnavailable,
        "SERVICE_RATE_LIMITED": ServiceRateLimited,
        "REFRESH_PENDING": RefreshPending,
        "VAULT_UNAVAILABLE": VaultUnavailable,
        "VAULT_OVERLOADED": VaultOverloaded,
        "CALLER_UNAUTHENTICATED": CallerUnauthenticated,
        "CALLER_NOT_ALLOWED": CallerNotAllowed,
        "OAUTH_APP_NOT_FOUND": OAuthAppNotFound,
        "METHOD_NOT_SERVED": MethodNotServed,
        "INTERNAL": VaultInternal,
    }
)
"""The class of each reason of `error_reason.proto`."""

_AWAY: Final = "The credential vault cannot be reached at the moment. Try again in a moment."
_SLOW: Final = "The credential vault did not answer in time. Try again in a moment."
_STRANGE: Final = "Something went wrong on the way to the credential vault. Try again later."


def error_of(error: grpc.aio.AioRpcError) -> VaultError:
    """Return a failed call as what happened."""
    return _error(refusal_of(error))


def error_in(status: status_pb2.Status) -> VaultError:
    """Return a status in an answer as what happened."""
    return _error(refusal_in(status))


def _error(refusal: Refusal) -> VaultError:
    if not refusal.reason:
        return _without_details(refusal.code)
    return ERRORS.get(refusal.reason, VaultError)(
        refusal.sentence or _STRANGE,
        reason=refusal.reason,
        code=refusal.code,
        retry_after=refusal.retry_after,
        help_url=refusal.help_url,
        metadata=refusal.metadata,
        violations=refusal.fields,
    )


def _without_details(code: grpc.StatusCode) -> VaultError:
    """Return the error for an answer that is not the vault's."""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(_SLOW, reason="VAULT_UNAVAILABLE", code=code)
    if code in _PASSING:
        return VaultUnreachable(_AWAY, reason="VAULT_UNAVAILABLE", code=code)
    return VaultError(_STRANGE, code=code)


def _rebuilt(kind: type[VaultError], user_message: str, parts: Mapping[str, Any]) -> VaultError:
    return kind(user_message, **parts)
