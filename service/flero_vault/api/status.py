"""Errors to google.rpc.Status: the canonical code, ErrorInfo, a sentence, and what helps."""

from collections.abc import Mapping

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from flero_vault.core.errors import InvalidField, Reason, VaultError

DOMAIN = "vault.flero.ai"
LOCALE = "en-US"
LONGEST_TEXT = 800
"""Characters. Details travel in trailers, and clients refuse trailers above 8 KiB."""
LONGEST_MESSAGE = 200
"""Characters of the status itself, whose every letter beyond ASCII travels as nine."""

CODES: Mapping[Reason, int] = {
    Reason.INVALID_FIELD: code_pb2.INVALID_ARGUMENT,
    Reason.CREDENTIAL_NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.CONNECTOR_NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.OAUTH_APP_NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.CREDENTIAL_PENDING: code_pb2.FAILED_PRECONDITION,
    Reason.CREDENTIAL_EXPIRED: code_pb2.FAILED_PRECONDITION,
    Reason.CREDENTIAL_REVOKED: code_pb2.FAILED_PRECONDITION,
    Reason.STATE_INVALID: code_pb2.FAILED_PRECONDITION,
    Reason.CONSENT_DENIED: code_pb2.FAILED_PRECONDITION,
    Reason.ADMIN_APPROVAL_REQUIRED: code_pb2.FAILED_PRECONDITION,
    Reason.APP_NOT_VERIFIED: code_pb2.FAILED_PRECONDITION,
    Reason.ACCOUNT_MISMATCH: code_pb2.FAILED_PRECONDITION,
    Reason.CODE_REJECTED: code_pb2.FAILED_PRECONDITION,
    Reason.SCOPES_MISSING: code_pb2.FAILED_PRECONDITION,
    Reason.OAUTH_APP_NOT_CONFIGURED: code_pb2.FAILED_PRECONDITION,
    Reason.OAUTH_APP_REJECTED: code_pb2.FAILED_PRECONDITION,
    Reason.ETAG_MISMATCH: code_pb2.ABORTED,
    Reason.REQUEST_ID_REUSED: code_pb2.ALREADY_EXISTS,
    Reason.SERVICE_UNAVAILABLE: code_pb2.UNAVAILABLE,
    Reason.SERVICE_RATE_LIMITED: code_pb2.UNAVAILABLE,
    Reason.REFRESH_PENDING: code_pb2.UNAVAILABLE,
    Reason.VAULT_UNAVAILABLE: code_pb2.UNAVAILABLE,
    Reason.VAULT_OVERLOADED: code_pb2.RESOURCE_EXHAUSTED,
    Reason.CALLER_UNAUTHENTICATED: code_pb2.UNAUTHENTICATED,
    Reason.CALLER_NOT_ALLOWED: code_pb2.PERMISSION_DENIED,
    Reason.METHOD_NOT_SERVED: code_pb2.UNIMPLEMENTED,
    Reason.INTERNAL: code_pb2.INTERNAL,
}


def internal() -> VaultError:
    """Return the error for a fault of ours: the log names it, the caller learns nothing."""
    return VaultError(
        Reason.INTERNAL, "Something went wrong in the credential vault. It has been logged."
    )


def _short(text: str, longest: int = LONGEST_TEXT) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def to_status(error: VaultError) -> status_pb2.Status:
    """Return the error as google.rpc.Status with its details."""
    message = _short(error.message)
    metadata = {key: _short(value) for key, value in error.metadata.items()}
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata),
        error_details_pb2.LocalizedMessage(locale=LOCALE, message=message),
    ]
    if error.retry_after is not None:
        delay = Duration()
        delay.FromMilliseconds(int(error.retry_after * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if error.help_url:
        link = error_details_pb2.Help.Link(description="What to do", url=error.help_url)
        details.append(error_details_pb2.Help(links=[link]))
    if isinstance(error, InvalidField):
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.remedy)
                    for v in error.violations
                ]
            )
        )
    status = status_pb2.Status(
        code=CODES[error.reason], message=_short(error.message, LONGEST_MESSAGE)
    )
    for detail in details:
        status.details.add().Pack(detail)
    return status


_PUSHBACK = "grpc-retry-pushback-ms"
_RETRIED_WITHIN_S = 2.0
"""Whose trouble lasts longer, the caller has to decide about: its channel shall not retry."""


async def abort(context: "grpc.aio.ServicerContext[Message, Message]", error: VaultError) -> None:
    """End the call with this error, and tell gRPC's own retries when to come back (gRFC A6)."""
    status = rpc_status.to_status(to_status(error))
    trailing = list(status.trailing_metadata)
    if error.retry_after is not None:
        soon = error.retry_after <= _RETRIED_WITHIN_S
        trailing.append((_PUSHBACK, str(int(error.retry_after * 1000)) if soon else "-1"))
    await context.abort(status.code, status.details, tuple(trailing))
