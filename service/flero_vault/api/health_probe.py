"""Asks a vault whether it serves, by the standard gRPC health service. For container probes.

    python -m flero_vault.api.health_probe [HOST:PORT]

HOST:PORT is 127.0.0.1:50051 unless given. Exit codes: 0 it serves, 1 it does not, 2 usage,
3 nothing answers there within 3 seconds.
"""

import sys
from collections.abc import Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

DEFAULT_TARGET = "127.0.0.1:50051"
DEADLINE_S = 3.0
SERVING, NOT_SERVING, USAGE, UNREACHABLE = 0, 1, 2, 3

_SILENT = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_OPTIONS = (
    # A proxy of the environment is for services elsewhere, never for the vault next door.
    ("grpc.enable_http_proxy", 0),
)


def probe(target: str, deadline_s: float = DEADLINE_S) -> int:
    """Ask once, waiting at most `deadline_s` seconds; return the exit code."""
    with grpc.insecure_channel(target, options=_OPTIONS) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=deadline_s
            )
        except grpc.RpcError as error:
            # Any other status was sent by a server, only not by one that serves a vault.
            return UNREACHABLE if error.code() in _SILENT else NOT_SERVING
    return SERVING if answer.status == health_pb2.HealthCheckResponse.SERVING else NOT_SERVING


_WORDS = {SERVING: "serving", NOT_SERVING: "not serving", UNREACHABLE: "unreachable"}


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say; print one word; return the exit code."""
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        sys.stderr.write("usage: python -m flero_vault.api.health_probe [HOST:PORT]\n")
        return USAGE
    target = arguments[0] if arguments else DEFAULT_TARGET
    host, _, port = target.rpartition(":")
    if not host or not port.isdigit():
        sys.stderr.write(f"health_probe: {target} must be HOST:PORT\n")
        return USAGE
    code = probe(target)
    sys.stdout.write(f"{_WORDS[code]}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
