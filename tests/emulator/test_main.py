import asyncio
import signal
import socket
import sys

import pytest

COMMAND = (sys.executable, "-m", "flero_vault_dev.emulator", "--bind")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_says_when_it_is_ready_and_ends_well(number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "127.0.0.1:0",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    first_line = await asyncio.wait_for(process.stdout.readline(), 30)

    process.send_signal(number)
    _, complaints = await asyncio.wait_for(process.communicate(), 30)

    assert first_line == b"ready\n"
    assert process.returncode == 0
    assert complaints == b""


async def test_a_taken_address_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = await asyncio.create_subprocess_exec(
            *COMMAND, address, stderr=asyncio.subprocess.PIPE
        )
        _, complaints = await asyncio.wait_for(process.communicate(), 30)

    assert process.returncode == 1
    assert f"--bind {address}" in complaints.decode()
