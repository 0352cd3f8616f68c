"""The probe's answers, against real servers."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from flero_vault.api.health_probe import DEFAULT_TARGET, main, probe
from flero_vault.settings import Settings

Status = health_pb2.HealthCheckResponse


@contextmanager
def server(status: int | None) -> Iterator[str]:
    """A gRPC server with this health; None: without the health service."""
    running = grpc.server(ThreadPoolExecutor(1))
    if status is not None:
        servicer = health.HealthServicer()
        servicer.set("", status)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, running)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        running.stop(0).wait()


@pytest.mark.parametrize(
    ("status", "code", "word"),
    [
        (Status.SERVING, 0, "serving"),
        (Status.NOT_SERVING, 1, "not serving"),
        (Status.UNKNOWN, 1, "not serving"),
        (None, 1, "not serving"),
    ],
)
def test_what_a_server_says(
    status: int | None, code: int, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(status) as target:
        assert main([target]) == code

    assert capsys.readouterr().out == f"{word}\n"


def test_a_port_that_nobody_listens_on_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

    assert probe(f"127.0.0.1:{port}") == 3


def test_a_server_that_does_not_answer_is_unreachable_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        code = probe(f"127.0.0.1:{silent.getsockname()[1]}", deadline_s=0.3)

    assert code == 3
    assert time.monotonic() - began < 2


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "grpc_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    with server(Status.SERVING) as target:
        assert probe(target) == 0


@pytest.mark.parametrize("arguments", [["--help"], ["a:1", "b:2"], ["nowhere"], [":1"], ["a:b"]])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2

    assert capsys.readouterr().out == ""


def test_the_default_target_is_where_the_vault_listens_by_default() -> None:
    assert Settings.model_fields["grpc_bind"].default == DEFAULT_TARGET
