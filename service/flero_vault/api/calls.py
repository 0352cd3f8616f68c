"""What happens around every call: checking, translating errors, keeping the deadline."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import Message

from flero_vault.api.fields import check
from flero_vault.api.status import abort, internal
from flero_vault.core.errors import NotServed, Reason, VaultError
from flero_vault.core.log import Log
from flero_vault.core.observe import Observer

if TYPE_CHECKING:
    import grpc

    Context = grpc.aio.ServicerContext[Any, Any]

REPLY_MARGIN_S = 0.05
"""What is left of a caller's deadline to bring the answer back."""
BATCH_REPLY_MARGIN_S = 0.25
"""Likewise, for an answer of up to a thousand tokens."""

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


def deadline(context: "Context", margin_s: float = REPLY_MARGIN_S) -> float | None:
    """Return how many seconds a call may take; None: for ever."""
    remaining: float | None = context.time_remaining()
    return None if remaining is None else max(remaining - margin_s, 0.0)


class Calls:
    """Serves the calls of one gRPC service."""

    def __init__(self, service: str, log: Log, observer: Observer | None) -> None:
        self._service = service
        self._log = log
        self._observer = observer

    async def unary(
        self,
        request: Request,
        context: "Context",
        serve: Callable[[], Awaitable[Response]],
    ) -> Response:
        """Serve one call: check the request, and turn what is raised into its status."""
        try:
            if self._observer is None:
                check(request)
                return await serve()
            with self._observe(self._observer, request, context):
                check(request)
                return await serve()
        except VaultError as error:
            await abort(context, error)
        except Exception:  # noqa: BLE001 - logged by its type; the caller learns nothing of it
            self._log.exception("call.failed", rpc=request.DESCRIPTOR.name)
            await abort(context, internal())
        raise AssertionError("unreachable: abort raises")

    async def stream(
        self,
        request: Request,
        context: "Context",
        serve: Callable[[], AsyncIterator[Response]],
    ) -> AsyncIterator[Response]:
        """Serve one stream, likewise. It is not observed: its length is its caller's affair."""
        try:
            check(request)
            async for response in serve():
                yield response
        except VaultError as error:
            await abort(context, error)
        except Exception:  # noqa: BLE001 - logged by its type; the caller learns nothing of it
            self._log.exception("call.failed", rpc=request.DESCRIPTOR.name)
            await abort(context, internal())

    @contextmanager
    def _observe(self, observer: Observer, request: Message, context: "Context") -> Iterator[None]:
        method = f"{self._service}/{request.DESCRIPTOR.name.removesuffix('Request')}"
        with observer.call(method, context.invocation_metadata() or ()) as call:
            try:
                yield
            except VaultError as error:
                call.outcome = error.reason
                raise


async def not_served() -> Any:  # noqa: ANN401 - it never returns, whatever the response type
    """Refuse a method of the contract that this version does not serve."""
    raise NotServed(
        Reason.METHOD_NOT_SERVED, "This version of the credential vault does not serve this yet."
    )
