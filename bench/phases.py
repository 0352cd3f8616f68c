"""The phases: the message of each, and what must come back."""

import secrets
from collections.abc import Sequence
from typing import Any

import grpc
from bench.load import Phase, Void
from bench.noop_server import METHOD, SERVICE
from bench.processes import Server
from bench.seed import TOKEN_BYTES, USER, Seeded

from flero_vault_client.v1.credential_vault_pb2 import (
    BatchGetAccessTokensRequest,
    BatchGetAccessTokensResponse,
    GetAccessTokenRequest,
    GetAccessTokenResponse,
)

BATCH = 100
CHECK_WITHIN_S = 10.0
_VAULT = "/flero.vault.v1.CredentialVault/"
_PREFIX_BYTES = 5
"""What gRPC puts before each message."""
_CHANCE = secrets.SystemRandom()


class Phases:
    """Makes phases of two servers, each time with other credentials."""

    def __init__(
        self,
        noop: tuple[Server, grpc.aio.Channel],
        vault: tuple[Server, grpc.aio.Channel],
        seeded: Sequence[Seeded],
    ) -> None:
        """Take each server with a channel to it, which only checks answers."""
        self._noop, self._noop_channel = noop
        self._vault, self._vault_channel = vault
        self._seeded = seeded

    def noop(self, concurrency: int) -> Phase:
        """Return the phase that the others are measured against."""
        title, path = f"no-op, {concurrency} at once", f"/{SERVICE}/{METHOD}"

        async def check() -> None:
            answer = await _ask(self._noop_channel, title, path, b"")
            if answer:
                raise Void(f"{title}: an answer is not empty")

        return Phase(title, self._noop, path, b"", concurrency, _PREFIX_BYTES, check)

    def get(self, concurrency: int) -> Phase:
        """Return a phase that asks for one token."""
        title, path = f"GetAccessToken, {concurrency} at once", f"{_VAULT}GetAccessToken"
        pressed = _CHANCE.choice(self._seeded)
        message = _request(pressed).SerializeToString()

        async def check() -> None:
            # The one that is asked for all the time, and one that nobody has asked for yet.
            for each in (pressed, _CHANCE.choice(self._seeded)):
                request = _request(each).SerializeToString()
                answer = await _ask(self._vault_channel, title, path, request)
                _compare(title, each, GetAccessTokenResponse.FromString(answer))

        least = _PREFIX_BYTES + TOKEN_BYTES
        return Phase(title, self._vault, path, message, concurrency, least, check)

    def batch(self, concurrency: int) -> Phase:
        """Return a phase that asks for many tokens of one workspace."""
        title = f"BatchGetAccessTokens of {BATCH}, {concurrency} at once"
        path = f"{_VAULT}BatchGetAccessTokens"
        workspace = _CHANCE.choice(self._seeded).name.workspace
        pressed = _CHANCE.sample([s for s in self._seeded if s.name.workspace == workspace], BATCH)
        message = BatchGetAccessTokensRequest(
            parent=f"workspaces/{workspace}", requests=[_request(each) for each in pressed]
        ).SerializeToString()

        async def check() -> None:
            answer = await _ask(self._vault_channel, title, path, message)
            results = BatchGetAccessTokensResponse.FromString(answer).results
            if len(results) != BATCH:
                raise Void(f"{title}: {len(results)} results")
            for each, result in zip(pressed, results, strict=True):
                if not result.HasField("token"):
                    raise Void(f"{title}: {each.name}: {result.error.message}")
                _compare(title, each, result.token)

        least = _PREFIX_BYTES + BATCH * TOKEN_BYTES
        return Phase(title, self._vault, path, message, concurrency, least, check)


def _request(seeded: Seeded) -> GetAccessTokenRequest:
    return GetAccessTokenRequest(name=str(seeded.name), user=USER)


def _compare(title: str, seeded: Seeded, answer: GetAccessTokenResponse) -> None:
    if answer.access_token != seeded.token:
        raise Void(f"{title}: {seeded.name} was answered with another token")
    if answer.warning:
        raise Void(f"{title}: {seeded.name}: {answer.warning}")


async def _ask(channel: grpc.aio.Channel, title: str, path: str, message: bytes) -> bytes:
    """Send a message as it is; return the answer as it is."""
    call: Any = channel.unary_unary(path, request_serializer=None, response_deserializer=None)
    try:
        answer: bytes = await call(message, timeout=CHECK_WITHIN_S)
    except grpc.aio.AioRpcError as error:
        raise Void(f"{title}: {error.code().name}: {error.details()}") from None
    return answer
