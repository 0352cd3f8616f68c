"""Two gRPC clients for the command line, which know only what reflection tells."""

import asyncio
import base64
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from google.protobuf.json_format import MessageToDict
from google.rpc.error_details_pb2 import ErrorInfo
from tests.interop.programs import ToolMissing, built

VAULT = "flero.vault.v1.CredentialVault"
CALL_WITHIN_S = 30


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        """The answer as JSON, if there is one."""
        assert self.code == 0, self.err
        answer: dict[str, Any] = _in_camel_case(json.loads(self.out))
        return answer


class Client(Protocol):
    """A client that calls any method with JSON."""

    async def call(self, method: str, **request: object) -> Said:
        """Call a method, named `package.Service/Method`."""

    def error_info(self, said: Said) -> dict[str, Any]:
        """Return the ErrorInfo of a failed call as the client prints it."""


@dataclass(frozen=True, slots=True)
class Grpcurl:
    """grpcurl, built by `make interop-tools`."""

    target: str

    async def run(self, *arguments: str) -> Said:
        """Run it with its own arguments."""
        program = built("grpcurl", "grpcurl")
        return await run(program, "-plaintext", "-max-time", str(CALL_WITHIN_S), *arguments)

    async def call(self, method: str, **request: object) -> Said:
        """Call a method; a failure has its details as JSON on stderr."""
        data = json.dumps(request)
        return await self.run("-format-error", "-d", data, self.target, method)

    def error_info(self, said: Said) -> dict[str, Any]:
        """Return the ErrorInfo of a failed call."""
        status = json.loads(said.err)
        details: list[dict[str, Any]] = status["details"]
        (info,) = (each for each in details if each["@type"].endswith("google.rpc.ErrorInfo"))
        return info


@dataclass(frozen=True, slots=True)
class BufCurl:
    """`buf curl`, which pip installs."""

    target: str

    async def call(self, method: str, **request: object) -> Said:
        """Call a method over HTTP/2 without TLS."""
        program = Path(sys.executable).with_name("buf")
        if not program.exists():
            raise ToolMissing("interop needs buf: pip install buf-bin")
        how = ("--protocol", "grpc", "--http2-prior-knowledge", "--reflect")
        data = json.dumps(request)
        return await run(program, "curl", *how, "-d", data, f"http://{self.target}/{method}")

    def error_info(self, said: Said) -> dict[str, Any]:
        """Return the ErrorInfo of a failed call."""
        status = json.loads(said.err)
        details: list[dict[str, Any]] = status["details"]
        (detail,) = (each for each in details if each["type"] == "google.rpc.ErrorInfo")
        # In base64 without its padding; more of it does no harm.
        info = ErrorInfo.FromString(base64.b64decode(detail["value"] + "=="))
        return MessageToDict(info)


def _in_camel_case(value: Any) -> Any:
    """Name fields as JSON does. Python's descriptors say no JSON names, which grpcurl would use."""
    if isinstance(value, dict):
        return {_camel(name): _in_camel_case(inner) for name, inner in value.items()}
    return [_in_camel_case(inner) for inner in value] if isinstance(value, list) else value


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


async def run(program: Path, *arguments: str) -> Said:
    """Run a command to its end."""
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    try:
        async with asyncio.timeout(2 * CALL_WITHIN_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Said(process.returncode or 0, out.decode(), err.decode())
