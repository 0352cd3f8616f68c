"""The measure of everything else: the vault's kind of server with one RPC that does nothing.

    python bench/noop_server.py 127.0.0.1:50052

No interceptor, no database, an empty message in and an empty message out. What is left is gRPC in
Python on this machine in this minute.
"""

import asyncio
import signal
import sys
from typing import Any
from unittest import mock

import grpc
from google.protobuf.empty_pb2 import Empty

from flero_vault.api.server import GrpcServer

SERVICE = "flero.bench.Noop"
METHOD = "Do"


def vault_options() -> dict[str, Any]:
    """Return what the vault makes its server with, apart from interceptors.

    Listened to and not copied: with an option that only one of them has, the two would no longer be
    the same kind of server.
    """
    with mock.patch.object(grpc.aio, "server") as made:
        GrpcServer(mock.Mock(), mock.Mock(), mock.Mock())
    options = dict(made.call_args.kwargs)
    options.pop("interceptors", None)
    return options


async def _do(request: Empty, context: object) -> Empty:
    del request, context
    return Empty()


async def serve(bind: str) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    server = grpc.aio.server(**vault_options())
    handler = grpc.unary_unary_rpc_method_handler(
        _do, request_deserializer=Empty.FromString, response_serializer=Empty.SerializeToString
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),)
    )
    server.add_insecure_port(bind)
    await server.start()
    print("ready", flush=True)
    await stopped.wait()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
