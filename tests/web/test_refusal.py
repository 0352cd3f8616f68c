"""An error of the vault, and errors that only look like one."""

import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from flero_vault_client.web import Refusal, refusal_of

EXPIRED = "Google no longer accepts this connection."


def error(*, domain: str = "vault.flero.ai", said_code: int = 9) -> grpc.aio.AioRpcError:
    status = status_pb2.Status(code=said_code, message="expired")
    for detail in (
        error_details_pb2.ErrorInfo(
            reason="CREDENTIAL_EXPIRED", domain=domain, metadata={"connector": "google"}
        ),
        error_details_pb2.LocalizedMessage(locale="en", message=EXPIRED),
    ):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return grpc.aio.AioRpcError(
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString())),
        details="expired",
    )


NOTHING = Refusal(code=grpc.StatusCode.FAILED_PRECONDITION)


def test_the_vaults_own_details_are_read() -> None:
    refusal = refusal_of(error())

    assert refusal.reason == "CREDENTIAL_EXPIRED"
    assert refusal.sentence == EXPIRED
    assert refusal.metadata == {"connector": "google"}


def test_details_of_another_domain_say_nothing() -> None:
    assert refusal_of(error(domain="proxy.example")) == NOTHING


def test_details_that_contradict_the_code_say_nothing() -> None:
    assert refusal_of(error(said_code=5)) == NOTHING
