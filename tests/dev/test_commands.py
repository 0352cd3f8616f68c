"""`flero-vault dev`, `smoke` and `serve` as real processes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "flero_vault.cli"]
STOP_WITHIN_S = 30


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@dataclass(frozen=True, slots=True)
class Dev:
    """A running `flero-vault dev`."""

    process: subprocess.Popen[str]
    environment: dict[str, str]
    target: str
    web: str
    emulator: str


def environment(folder: Path) -> tuple[dict[str, str], list[int]]:
    ports = free_ports(3)
    names = ("GRPC_BIND", "WEB_BIND", "EMULATOR_BIND")
    binds = {f"FLERO_VAULT_{n}": f"127.0.0.1:{port}" for n, port in zip(names, ports, strict=True)}
    return os.environ | binds | {"FLERO_VAULT_DATA_DIR": str(folder)}, ports


@pytest.fixture(scope="module")
def dev() -> Iterator[Dev]:
    # Not tmp_path: as root the database runs as another user, who has to reach the folder.
    base = Path(tempfile.mkdtemp(prefix="flero-vault-dev-"))
    base.chmod(0o755)
    env, (grpc_port, web_port, emulator_port) = environment(base / "data")
    process = subprocess.Popen(
        [*COMMAND, "dev"], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any(line == "ready\n" for line in lines), "dev ended before it was ready"
        yield Dev(
            process,
            env,
            f"127.0.0.1:{grpc_port}",
            f"http://127.0.0.1:{web_port}",
            f"http://localhost:{emulator_port}",
        )
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=STOP_WITHIN_S)
        if process.stdout is not None:
            process.stdout.close()
        shutil.rmtree(base, ignore_errors=True)
    assert code == 0, "SIGINT must stop everything with exit code 0"


def run(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=env, capture_output=True, text=True, timeout=120, check=False
    )


def test_smoke_walks_the_whole_life_cycle(dev: Dev) -> None:
    done = run(
        dev.environment,
        *("smoke", "--target", dev.target, "--web", dev.web, "--emulator", dev.emulator),
    )

    assert done.returncode == 0, done.stdout
    assert all(line.startswith("ok ") for line in done.stdout.splitlines())
    assert "ok expired refresh token" in done.stdout


def test_a_second_dev_on_the_same_folder_says_who_holds_it(dev: Dev) -> None:
    env, _ = environment(Path(dev.environment["FLERO_VAULT_DATA_DIR"]))

    done = run(env, "dev")

    assert done.returncode == 1
    assert str(dev.process.pid) in done.stderr
    assert "FLERO_VAULT_DATA_DIR" in done.stderr


@pytest.mark.parametrize("setting", ["GRPC_BIND", "WEB_BIND", "EMULATOR_BIND"])
def test_a_taken_port_is_named_with_its_setting(dev: Dev, setting: str) -> None:
    base = Path(tempfile.mkdtemp(prefix="flero-vault-dev-"))
    base.chmod(0o755)
    name = f"FLERO_VAULT_{setting}"
    env, _ = environment(base / "data")

    done = run(env | {name: dev.environment[name]}, "dev")
    shutil.rmtree(base, ignore_errors=True)

    assert done.returncode == 1
    assert name in done.stderr


def test_smoke_says_when_nothing_answers() -> None:
    env, (port, *_) = environment(Path("unused"))

    done = run(env, "smoke", "--target", f"127.0.0.1:{port}")

    assert done.returncode == 3


def test_serve_names_what_is_missing() -> None:
    env = {key: value for key, value in os.environ.items() if not key.startswith("FLERO_VAULT_")}

    done = run(env, "serve")

    assert done.returncode == 1
    assert "FLERO_VAULT_DATABASE_URL" in done.stderr


def test_serve_refuses_an_address_that_others_can_reach() -> None:
    env, _ = environment(Path("unused"))

    done = run(env | {"FLERO_VAULT_GRPC_BIND": "0.0.0.0:50051"}, "serve")

    assert done.returncode == 1
    assert "callers are not authenticated" in done.stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_moment_of_ready_stops_everything_cleanly(sent: signal.Signals) -> None:
    base = Path(tempfile.mkdtemp(prefix="flero-vault-dev-"))
    base.chmod(0o755)
    env, _ = environment(base / "data")
    with subprocess.Popen(
        [*COMMAND, "dev"], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert "ready\n" in iter(process.stdout.readline, "")

        process.send_signal(sent)

        assert process.wait(timeout=STOP_WITHIN_S) == 0
    shutil.rmtree(base, ignore_errors=True)
