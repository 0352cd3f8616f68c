"""What `flero-vault smoke` prints and returns; what it does needs a running `flero-vault dev`."""

import socket

import grpc
import grpc.aio
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from flero_vault_dev.smoke import (
    FAILED,
    OK,
    UNREACHABLE,
    Report,
    StepFailedError,
    smoke,
    why_of,
)

PLANTED = "ya29.planted-token"


async def work(error: Exception | None = None) -> None:
    if error is not None:
        raise error


def rpc_error(reason: str, *, domain: str = "vault.flero.ai") -> grpc.aio.AioRpcError:
    status = status_pb2.Status(
        code=grpc.StatusCode.FAILED_PRECONDITION.value[0], message=f"no: {PLANTED}"
    )
    for detail in (
        error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata={"cause": PLANTED}),
        error_details_pb2.LocalizedMessage(locale="en", message=PLANTED),
    ):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return grpc.aio.AioRpcError(
        code=grpc.StatusCode.FAILED_PRECONDITION,
        initial_metadata=grpc.aio.Metadata(),
        trailing_metadata=grpc.aio.Metadata(
            ("grpc-status-details-bin", status.SerializeToString())
        ),
        details=status.message,
    )


async def test_says_ok_for_each_step_and_returns_0_when_all_went_well() -> None:
    lines: list[str] = []
    report = Report(lines.append)
    await report.run("begin", work())
    await report.run("401 hint", work())
    assert lines == ["ok begin", "ok 401 hint"]
    assert report.status == OK


async def test_a_failed_step_is_said_and_remembered_and_does_not_stop_the_next() -> None:
    lines: list[str] = []
    report = Report(lines.append)
    await report.run("begin", work(StepFailedError("no permissions are described")))
    await report.run("wrong state", work())
    assert lines == ["FAIL begin: no permissions are described", "ok wrong state"]
    assert report.status == FAILED


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (rpc_error("CREDENTIAL_EXPIRED"), "the vault answered CREDENTIAL_EXPIRED"),
        (rpc_error(PLANTED), "the vault answered FAILED_PRECONDITION"),
        (rpc_error("SECRET", domain="proxy"), "the vault answered FAILED_PRECONDITION"),
        (ValueError(f"GET /?code={PLANTED}"), "unexpected ValueError"),
    ],
)
def test_an_error_is_worded_without_the_texts_that_came_with_it(error: Exception, why: str) -> None:
    assert why_of(error) == why


async def test_returns_3_and_names_what_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flero_vault_dev.smoke.REACH_TIMEOUT_S", 0.2)
    with socket.socket() as bound:  # bound, but nobody listens
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        lines: list[str] = []
        status = await smoke(address, f"http://{address}", f"http://{address}", lines.append)
    assert status == UNREACHABLE
    assert lines == [
        f"FAIL reach: nothing answers at --target {address}",
        "FAIL reach: nothing answers at --web",
        "FAIL reach: nothing answers at --emulator",
    ]
