"""Measures the vault beside a server that does nothing: `make bench`.

Real processes: PostgreSQL with its default durability, `flero-vault serve` over it, the no-op
server, h2load. Writes `build/bench.json` and prints a table; docs/performance.md says how to
read it.

    BENCH_ROUNDS=5     how often the phases are repeated, in turn
    BENCH_SECONDS=3    how long each is measured, after a second of warm-up

Exit codes: 0 measured, 1 could not be measured, 2 void: an answer was wrong.
"""

import asyncio
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import grpc
from flero_vault.migrations import runner

from flero_vault_dev import embedded_postgres

ROOT = Path(__file__).resolve().parent.parent
# Started as a script, Python looks only in this file's own folder.
sys.path.insert(0, str(ROOT))

from bench import report  # noqa: E402 - after the path is set, like the next
from bench.load import PROGRAM, Measured, Void, measure  # noqa: E402
from bench.phases import Phases  # noqa: E402
from bench.processes import NotReady, Server, free_target, started, tail  # noqa: E402
from bench.seed import CREDENTIALS, TOKEN_BYTES, seed  # noqa: E402

RESULT = ROOT / "build" / "bench.json"
CALLERS = 64
BATCH_CALLERS = 16
QUIET = (1, 16)
"""How many callers at once are measured besides, for their latency."""
QUIET_ROUNDS = 3
STARTS = 3
FAILED, VOID = 1, 2


class Refused(Exception):
    """The benchmark cannot run; the message names the remedy."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure."""

    rounds: int
    seconds: int


def plan() -> Plan:
    """Read the environment, and see that nothing is missing.

    Raises:
        Refused: a value is no number of at least 1, or h2load is not installed.

    """

    def number(name: str, default: int) -> int:
        text = os.environ.get(name) or str(default)
        if not text.isascii() or not text.isdigit() or not int(text):
            raise Refused(f"{name} must be a whole number, at least 1")
        return int(text)

    if shutil.which(PROGRAM) is None:
        raise Refused(f"{PROGRAM} is missing: apt-get install nghttp2-client")
    return Plan(rounds=number("BENCH_ROUNDS", 5), seconds=number("BENCH_SECONDS", 3))


def say(text: str) -> None:
    """Tell the person who waits."""
    print(text, file=sys.stderr, flush=True)


async def bench(database_url: str, chosen: Plan, folder: Path) -> report.Run:
    """Fill the database, start the servers, measure.

    Raises:
        NotReady: a server did not start.
        Void: an answer was wrong.

    """
    say(f"sealing and storing {CREDENTIALS} credentials")
    keyring = folder / "keyring.json"
    seeded, postgres_version = await seed(database_url, keyring)
    noop_at, vault_at = free_target(), free_target()
    settings = {
        "FLERO_VAULT_DATABASE_URL": database_url,
        "FLERO_VAULT_KEK": f"local:{keyring}",
        "FLERO_VAULT_GRPC_BIND": vault_at,
    }
    log = folder / "vault.log"

    def start_vault() -> AbstractAsyncContextManager[Server]:
        return started(
            "-m", "flero_vault.cli", "serve", target=vault_at, settings=settings, log=log
        )

    say(f"starting the vault {STARTS} times")
    ready_s: list[float] = []
    for _ in range(STARTS - 1):
        async with start_vault() as server:
            ready_s.append(server.ready_s)
    noop_script = str(ROOT / "bench" / "noop_server.py")
    noop_log = folder / "noop.log"
    async with (
        start_vault() as vault,
        started(noop_script, noop_at, target=noop_at, settings={}, log=noop_log) as noop,
        grpc.aio.insecure_channel(vault_at) as vault_channel,
        grpc.aio.insecure_channel(noop_at) as noop_channel,
    ):
        ready_s.append(vault.ready_s)
        phases = Phases((noop, noop_channel), (vault, vault_channel), seeded)
        try:
            rounds, alone = await measure_all(phases, chosen, folder)
        except Void as error:
            raise Void(f"{error}\n{tail(log)}".strip()) from None
        return report.Run(
            rounds=rounds,
            alone=alone,
            rss_mb=vault.rss_mb(),
            ready_s=ready_s,
            setting={
                "rounds": chosen.rounds,
                "seconds": chosen.seconds,
                "credentials": CREDENTIALS,
                "token bytes": TOKEN_BYTES,
                "cores": os.cpu_count() or 0,
                "Python": platform.python_version(),
                "grpcio": grpc.__version__,
                "PostgreSQL": postgres_version,
            },
        )


async def measure_all(
    phases: Phases, chosen: Plan, folder: Path
) -> tuple[list[report.Round], dict[int, list[Measured]]]:
    """Measure the rounds, then a few callers alone."""
    rounds: list[report.Round] = []
    for number in range(1, chosen.rounds + 1):
        turn = [
            (report.NOOP, phases.noop(CALLERS)),
            (report.GET, phases.get(CALLERS)),
            (report.BATCH_GET, phases.batch(BATCH_CALLERS)),
        ]
        if number % 2 == 0:
            # Backwards, so that a machine that gets slower does not always hit the same phase.
            turn.reverse()
        found = {name: await measure(phase, chosen.seconds, folder) for name, phase in turn}
        rounds.append(found)
        rates = ", ".join(f"{name} {each.rps:.0f}/s" for name, each in sorted(found.items()))
        say(f"round {number} of {chosen.rounds}: {rates}")
    alone: dict[int, list[Measured]] = {callers: [] for callers in QUIET}
    say("a few callers")
    for _ in range(min(chosen.rounds, QUIET_ROUNDS)):
        for callers, measured in alone.items():
            measured.append(await measure(phases.get(callers), chosen.seconds, folder))
    return rounds, alone


def main() -> int:
    """Measure and report; return the exit code."""
    # As Ctrl-C: whatever ends this process, the servers that it started end with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        chosen = plan()
        # What is there tells of another run, and must not be taken for this one's.
        RESULT.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(prefix="flero-vault-bench-") as name:
            folder = Path(name)
            # As root, PostgreSQL runs as another user, who has to reach its folder.
            folder.chmod(0o755)
            with embedded_postgres.running(folder / "postgres") as postgres:
                runner.migrate(postgres.url)
                run = asyncio.run(bench(postgres.url, chosen, folder))
    except Void as error:
        say(f"bench: void: {error}")
        return VOID
    except (Refused, NotReady, embedded_postgres.PostgresFailed) as error:
        say(f"bench: {error}")
        return FAILED
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report.as_json(run), indent=2) + "\n", encoding="utf-8")
    print(report.as_text(run, callers=CALLERS, batch_callers=BATCH_CALLERS))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
