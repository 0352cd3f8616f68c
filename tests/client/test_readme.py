"""The program in the README, run as a stranger runs it."""

import asyncio
import re
import sys
from pathlib import Path

from tests.stack import Vault

README = Path(__file__).resolve().parents[2] / "README.md"
MOST_LINES = 10


def program() -> str:
    section = README.read_text(encoding="utf-8").split("\n## Use it from Python\n")[1]
    found = re.search(r"```python\n(.*?)```", section.split("\n## ")[0], re.DOTALL)
    assert found is not None
    return found[1]


def test_it_is_short() -> None:
    assert len([line for line in program().splitlines() if line.strip()]) <= MOST_LINES


async def test_it_prints_a_token_that_the_service_takes(vault: Vault, tmp_path: Path) -> None:
    demo = {"parent": "workspaces/demo", "user": "demo"}
    await vault.connect("google", display_name="Team drive", **demo)
    await vault.begin("google", display_name="Never finished", **demo)
    script = tmp_path / "readme.py"
    script.write_text(program(), encoding="utf-8")

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        script,
        vault.target,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()

    assert process.returncode == 0, err.decode()
    (line,) = out.decode().splitlines()
    assert line.startswith("Team drive ")
    token = re.search(r"Bearer ([^']+)'", line)
    assert token is not None
    assert await vault.emulator.accepts("google", token[1])


def test_it_goes_where_make_run_listens() -> None:
    assert 'target="127.0.0.1:50051"' in program()
