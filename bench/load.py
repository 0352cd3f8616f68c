"""Presses a server with h2load and reads what came of it, while a real client checks the answers.

h2load is written in C and leaves the processors to the servers, but it knows nothing of gRPC: it
takes an error for a success, because its status travels in a trailer. So each phase is checked by a
gRPC client that sends the very message that h2load sends, before, during and after, and by the
number of bytes that came back. A wrong answer makes the run void.
"""

import asyncio
import re
import statistics
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from bench.processes import Server

PROGRAM = "h2load"
WARM_UP_S = 1
CHECK_EVERY_S = 0.25
CONNECTIONS = 16
"""More callers at once than this share the connections, as those of a few client processes do."""
GIVE_UP_AFTER_S = 30.0
_OK = 200
_COUNTS = re.compile(
    r"^requests: .* (?P<succeeded>\d+) succeeded, (?P<failed>\d+) failed, "
    r"(?P<errored>\d+) errored, (?P<late>\d+) timeout$",
    re.MULTILINE,
)
_DATA = re.compile(r"^traffic: .*\((?P<bytes>\d+)\) data$", re.MULTILINE)


class Void(Exception):
    """Something was answered wrong, or not at all: the figures of this run mean nothing."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What is sent to whom, how many at once, and how to tell that the answers are right."""

    title: str
    server: Server
    path: str
    message: bytes
    concurrency: int
    least_answer: int
    """How many bytes a right answer has at least."""
    check: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a phase came to."""

    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """The server's processor time a request."""
    checks: int


@dataclass(frozen=True, slots=True)
class _Request:
    """A request that ended while h2load measured."""

    ended: float
    took_ms: float


@dataclass(frozen=True, slots=True)
class _Sample:
    time: float
    cpu_s: float


async def measure(phase: Phase, seconds: int, folder: Path) -> Measured:
    """Run a phase.

    Raises:
        Void: naming what was wrong.

    """
    await phase.check()
    load = asyncio.create_task(_press(phase, seconds, folder))
    samples: list[_Sample] = []
    checks = 0
    try:
        while not (await asyncio.wait({load}, timeout=CHECK_EVERY_S))[0]:
            samples.append(_sample(phase))
            await phase.check()
            checks += not load.done()
        requests = await load
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    await phase.check()
    if not checks:
        raise Void(f"{phase.title}: no answer could be checked under load")
    percentiles = statistics.quantiles((each.took_ms for each in requests), n=100)
    return Measured(
        rps=len(requests) / seconds,
        p50_ms=percentiles[49],
        p99_ms=percentiles[98],
        cpu_us=_cpu_us(requests, samples),
        checks=checks,
    )


def _cpu_us(requests: list[_Request], samples: list[_Sample]) -> float:
    """Return the server's processor time a request, between the first and the last sample."""
    first, last = requests[0].ended, requests[-1].ended
    inside = [sample for sample in samples if first <= sample.time <= last]
    if not inside:
        return 0.0
    begin, end = inside[0], inside[-1]
    count = sum(begin.time <= each.ended < end.time for each in requests)
    return (end.cpu_s - begin.cpu_s) / count * 1e6 if count else 0.0


def _sample(phase: Phase) -> _Sample:
    try:
        return _Sample(time.time(), phase.server.cpu_s())
    except OSError:
        raise Void(f"{phase.title}: the server has ended") from None


async def _press(phase: Phase, seconds: int, folder: Path) -> list[_Request]:
    body, log = folder / "body", folder / "requests.tsv"
    # A gRPC message on the wire: not compressed, its length, itself.
    body.write_bytes(b"\0" + len(phase.message).to_bytes(4, "big") + phase.message)
    log.unlink(missing_ok=True)
    connections = min(phase.concurrency, CONNECTIONS)
    process = await asyncio.create_subprocess_exec(
        PROGRAM,
        f"--clients={connections}",
        f"--max-concurrent-streams={phase.concurrency // connections}",
        f"--duration={seconds}",
        f"--warm-up-time={WARM_UP_S}",
        f"--data={body}",
        f"--log-file={log}",
        "--header=content-type: application/grpc",
        "--header=te: trailers",
        f"http://{phase.server.target}{phase.path}",
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        async with asyncio.timeout(WARM_UP_S + seconds + GIVE_UP_AFTER_S):
            stdout, stderr = await process.communicate()
    except TimeoutError:
        raise Void(f"{phase.title}: {PROGRAM} did not end") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    report = stdout.decode(errors="replace")
    if process.returncode:
        raise Void(f"{phase.title}: {PROGRAM} failed: {stderr.decode(errors='replace').strip()}")
    requests = _requests(phase, log)
    _compare(phase, report, len(requests))
    return requests


def _requests(phase: Phase, log: Path) -> list[_Request]:
    """Read h2load's log: start in microseconds since 1970, HTTP status, microseconds it took.

    It holds the requests that ended in the measured time, those of the warm-up not. The percentiles
    come from here because h2load itself prints only extremes, mean and deviation.
    """
    requests: list[_Request] = []
    for line in log.read_text(encoding="ascii").splitlines():
        start, status, took = (int(field) for field in line.split("\t")[:3])
        if status != _OK:
            raise Void(f"{phase.title}: HTTP status {status}")
        requests.append(_Request((start + took) / 1e6, took / 1e3))
    if len(requests) <= 1:
        raise Void(f"{phase.title}: no requests came to an end")
    return requests


def _compare(phase: Phase, report: str, logged: int) -> None:
    """Hold h2load's summary against its log, and the bytes that came against the answers' length.

    An error of gRPC has no body. The bytes include the warm-up's, so a few errors can hide here;
    errors that are many cannot.
    """
    counts, data = _COUNTS.search(report), _DATA.search(report)
    if counts is None or data is None:
        raise Void(f"{phase.title}: {PROGRAM} said something unknown:\n{report}")
    lost = sum(int(counts[name]) for name in ("failed", "errored", "late"))
    if lost:
        raise Void(f"{phase.title}: {lost} requests failed")
    if int(counts["succeeded"]) != logged:
        raise Void(f"{phase.title}: {counts['succeeded']} requests succeeded, {logged} are logged")
    if int(data["bytes"]) < logged * phase.least_answer:
        raise Void(f"{phase.title}: {data['bytes']} bytes are too few for {logged} right answers")
