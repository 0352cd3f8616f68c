"""The one reader of the details that the vault sends with an error.

Only `ErrorInfo` of the vault's own domain counts: a proxy in between may answer with details too,
and its reasons mean something else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN: Final = "vault.flero.ai"

_CODES: Final[Mapping[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error of the vault in parts. `reason` is empty if it was not the vault that answered.

    `sentence` can be shown to a person as it is; it is empty only together with `reason`.
    `retry_after` is in seconds, None if the vault does not say.
    """

    code: grpc.StatusCode
    reason: str = ""
    sentence: str = ""
    help_url: str = ""
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    fields: tuple[tuple[str, str], ...] = ()
    retry_after: float | None = None


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """Take a gRPC error apart. Never raises: an error without details is a refusal without them."""
    try:
        status = rpc_status.from_call(error)
    except ValueError:
        # Somebody on the way changed code or message: then the details are not to be believed.
        status = None
    return Refusal(code=error.code()) if status is None else refusal_in(status)


def refusal_in(status: status_pb2.Status) -> Refusal:
    """Take a status apart, such as one in the answer to a batch. Never raises."""
    # A number of a newer protocol is an error that nobody here knows.
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    info = error_details_pb2.ErrorInfo()
    said = error_details_pb2.LocalizedMessage()
    help_ = error_details_pb2.Help()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        for message in (info, said, help_, bad_request, retry):
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
    if info.domain != DOMAIN:
        return Refusal(code=code)
    return Refusal(
        code=code,
        reason=info.reason,
        sentence=said.message,
        help_url=next((link.url for link in help_.links), ""),
        metadata=MappingProxyType(dict(info.metadata)),
        fields=tuple((each.field, each.description) for each in bad_request.field_violations),
        retry_after=retry.retry_delay.ToTimedelta().total_seconds()
        if retry.HasField("retry_delay")
        else None,
    )
