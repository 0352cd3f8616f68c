"""A whole vault as `make run` starts it, on ports of its own, and a browser in front of it."""

import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "build" / "e2e"
READY_WITHIN_S = 120
STOP_WITHIN_S = 30
STEP_WITHIN_MS = 15_000

CHROMIUM_FLAGS = [
    # No background traffic: whatever leaves this browser belongs to a test.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--disable-gpu",
    "--no-first-run",
]


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A running vault. `lines` is everything that it wrote."""

    url: str
    lines: list[str]


@dataclass(kw_only=True)
class Visit:
    """One person's browser: its page, what the console said, what came back to the callback."""

    page: Page
    context: BrowserContext
    console: list[str] = field(default_factory=list)
    callbacks: list[str] = field(default_factory=list)

    def picture(self, name: str, page: Page | None = None) -> None:
        (page or self.page).screenshot(path=SCREENSHOTS / f"{name}.png")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    # Not tmp_path: as root the database runs as another user, who has to reach the folder.
    folder = Path(tempfile.mkdtemp(prefix="flero-vault-e2e-"))
    folder.chmod(0o755)
    grpc_port, web_port, emulator_port = _free_ports(3)
    process = subprocess.Popen(
        [sys.executable, "-m", "flero_vault.cli", "dev"],
        env=os.environ
        | {
            "FLERO_VAULT_GRPC_BIND": f"127.0.0.1:{grpc_port}",
            "FLERO_VAULT_WEB_BIND": f"127.0.0.1:{web_port}",
            "FLERO_VAULT_EMULATOR_BIND": f"127.0.0.1:{emulator_port}",
            "FLERO_VAULT_DATA_DIR": str(folder / "data"),
            "PYTHONUNBUFFERED": "1",
        },
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[str] = []
    ready: queue.Queue[bool] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process, lines, ready), daemon=True)
    reader.start()
    try:
        try:
            came_up = ready.get(timeout=READY_WITHIN_S)
        except queue.Empty:
            came_up = False
        assert came_up, "`flero-vault dev` did not say ready:\n" + "".join(lines)
        yield Stack(url=f"http://127.0.0.1:{web_port}", lines=lines)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(timeout=STOP_WITHIN_S)
        shutil.rmtree(folder, ignore_errors=True)
    assert process.returncode == 0, "`flero-vault dev` did not stop cleanly:\n" + "".join(lines)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "no Chromium here: install the Debian package `chromium`"
    # The sandbox of Chromium does not start as root.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=STEP_WITHIN_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=[*CHROMIUM_FLAGS, *sandbox]
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(stack: Stack, browser: Browser) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1000, "height": 860})
    context.set_default_timeout(STEP_WITHIN_MS)
    visit = Visit(page=context.new_page(), context=context)

    def on_console(message: ConsoleMessage) -> None:
        visit.console.append(f"{message.text} {message.location}")

    def on_request(request: Request) -> None:
        if "/oauth/callback/" in request.url:
            visit.callbacks.append(request.url)

    context.on("console", on_console)
    context.on("request", on_request)
    visit.page.goto(stack.url)
    yield visit
    context.close()


def _free_ports(count: int) -> list[int]:
    """Ports that are free now; all held at once so that no two are the same."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def _read(process: subprocess.Popen[str], lines: list[str], ready: "queue.Queue[bool]") -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.append(line)
            if line == "ready\n":
                ready.put(item=True)
    # It ended; whoever still waits for it need not.
    ready.put(item=False)
