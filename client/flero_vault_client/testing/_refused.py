"""Errors as the vault sends them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from flero_vault_client._refusal import DOMAIN

_CODES: Final[Mapping[str, grpc.StatusCode]] = {
    "INVALID_FIELD": grpc.StatusCode.INVALID_ARGUMENT,
    "CREDENTIAL_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "CONNECTOR_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "OAUTH_APP_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "ETAG_MISMATCH": grpc.StatusCode.ABORTED,
    "REQUEST_ID_REUSED": grpc.StatusCode.ALREADY_EXISTS,
    "SERVICE_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "SERVICE_RATE_LIMITED": grpc.StatusCode.UNAVAILABLE,
    "REFRESH_PENDING": grpc.StatusCode.UNAVAILABLE,
    "VAULT_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "VAULT_OVERLOADED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "CALLER_UNAUTHENTICATED": grpc.StatusCode.UNAUTHENTICATED,
    "CALLER_NOT_ALLOWED": grpc.StatusCode.PERMISSION_DENIED,
    "METHOD_NOT_SERVED": grpc.StatusCode.UNIMPLEMENTED,
    "INTERNAL": grpc.StatusCode.INTERNAL,
}
"""Every other reason is a FAILED_PRECONDITION."""


class Refused(Exception):
    """The call ends with this reason."""

    def __init__(
        self,
        reason: str,
        sentence: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[tuple[str, str]] = (),
        retry_after: float | None = None,
        help_url: str = "",
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sentence = sentence
        self.metadata = dict(metadata or {})
        self.violations = violations
        self.retry_after = retry_after
        self.help_url = help_url

    def status(self) -> status_pb2.Status:
        """Return it as the vault sends it."""
        details: list[Message] = [
            error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata),
            error_details_pb2.LocalizedMessage(locale="en-US", message=self.sentence),
        ]
        if self.retry_after is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromMilliseconds(int(self.retry_after * 1000))
            details.append(retry)
        if self.help_url:
            link = error_details_pb2.Help.Link(description="What to do", url=self.help_url)
            details.append(error_details_pb2.Help(links=[link]))
        if self.violations:
            found = [
                error_details_pb2.BadRequest.FieldViolation(field=field, description=remedy)
                for field, remedy in self.violations
            ]
            details.append(error_details_pb2.BadRequest(field_violations=found))
        code = _CODES.get(self.reason, grpc.StatusCode.FAILED_PRECONDITION)
        # The sentence stands in the details: trailers are small, and twice may be too much.
        status = status_pb2.Status(code=code.value[0], message=self.reason)
        for detail in details:
            status.details.add().Pack(detail)
        return status

    async def end(self, context: grpc.aio.ServicerContext[Any, Any]) -> NoReturn:
        """End the call with it, and keep the client's gRPC from hiding it by a retry."""
        status = rpc_status.to_status(self.status())
        await context.abort(
            status.code,
            status.details,
            (*status.trailing_metadata, ("grpc-retry-pushback-ms", "-1")),
        )


def invalid(*violations: tuple[str, str]) -> Refused:
    """Return the error for fields and what to change in them."""
    named = "; ".join(f"{field} {remedy}" for field, remedy in violations)
    return Refused("INVALID_FIELD", f"The request is not valid: {named}.", violations=violations)
