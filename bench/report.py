"""From rounds to figures: medians, of ratios within a round where something is compared.

A machine that others use too is slow in one minute and fast in the next. What two phases of the
same round have to do with each other hardly moves.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.load import Measured
from bench.phases import BATCH

Round = Mapping[str, Measured]
NOOP, GET, BATCH_GET = "noop", "get", "batch"


@dataclass(frozen=True, slots=True)
class Run:
    """All that was measured. `alone` has a list for each number of callers at once."""

    rounds: Sequence[Round]
    alone: Mapping[int, Sequence[Measured]]
    rss_mb: float
    ready_s: Sequence[float]
    setting: Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run comes to."""

    noop_rps: float
    get_rps: float
    get_ratio: float
    get_p99_over_noop_p99: float
    batch_over_noop: float
    rss_mb: float
    ready_s: float


def figures(run: Run) -> Figures:
    """Return the medians."""

    def median(of: Callable[[Round], float]) -> float:
        return statistics.median(of(each) for each in run.rounds)

    return Figures(
        noop_rps=median(lambda r: r[NOOP].rps),
        get_rps=median(lambda r: r[GET].rps),
        get_ratio=median(lambda r: r[GET].rps / r[NOOP].rps),
        get_p99_over_noop_p99=median(lambda r: r[GET].p99_ms / r[NOOP].p99_ms),
        batch_over_noop=median(lambda r: r[BATCH_GET].rps * BATCH / r[NOOP].rps),
        rss_mb=run.rss_mb,
        ready_s=statistics.median(run.ready_s),
    )


def as_json(run: Run) -> dict[str, Any]:
    """Return the figures, and the raw ones that they come from."""
    quiet = {
        f"get_c{callers}_{name}": statistics.median(getattr(each, name) for each in phases)
        for callers, phases in run.alone.items()
        for name in ("p50_ms", "p99_ms")
    }
    return {
        **asdict(figures(run)),
        **quiet,
        "ready_s_of_each_start": list(run.ready_s),
        "rounds": [{name: asdict(each) for name, each in r.items()} for r in run.rounds],
        "alone": {str(c): [asdict(each) for each in phases] for c, phases in run.alone.items()},
        "setting": dict(run.setting),
    }


def as_text(run: Run, *, callers: int, batch_callers: int) -> str:
    """Return the figures as a table that is also Markdown."""
    found = figures(run)

    def row(
        title: str, at_once: int, phases: Sequence[Measured], *comparisons: float, worth: int = 1
    ) -> list[str]:
        def median(name: str) -> float:
            values: list[float] = [getattr(each, name) for each in phases]
            return statistics.median(values)

        return [
            title,
            str(at_once),
            f"{median('rps'):.0f}",
            f"{median('rps') * worth:.0f}" if worth else "",
            f"{median('p50_ms'):.2f}",
            f"{median('p99_ms'):.2f}",
            f"{median('cpu_us'):.0f}",
            *(f"{each:.2f}" for each in comparisons),
        ]

    def of(name: str) -> list[Measured]:
        return [each[name] for each in run.rounds]

    ratios = (found.get_ratio, found.get_p99_over_noop_p99)
    table = [
        [
            *("", "at once", "calls/s", "tokens/s", "p50 ms", "p99 ms", "CPU µs/call"),
            *("tokens/s : no-op", "p99 : no-op"),
        ],
        row("no-op", callers, of(NOOP), worth=0),
        row("GetAccessToken", callers, of(GET), *ratios),
        row(
            *(f"BatchGetAccessTokens of {BATCH}", batch_callers, of(BATCH_GET)),
            found.batch_over_noop,
            worth=BATCH,
        ),
        *(row("GetAccessToken", c, phases) for c, phases in sorted(run.alone.items())),
    ]
    settings = ", ".join(f"{name} {text}" for name, text in run.setting.items())
    return (
        f"{_aligned(table)}\n\n"
        f"The vault is ready after {found.ready_s:.2f} s and holds {found.rss_mb:.0f} MB after the"
        f" load. Medians; ratios within a round.\n{settings}."
    )


def _aligned(table: Sequence[Sequence[str]]) -> str:
    columns = len(table[0])
    rows = [[*row, *[""] * (columns - len(row))] for row in table]
    widths = [max(len(row[column]) for row in rows) for column in range(columns)]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return f"| {' | '.join(cells)} |"

    rule = [f"{'-' * widths[0]}", *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    return "\n".join([line(rows[0]), line(rule), *(line(row) for row in rows[1:])])
