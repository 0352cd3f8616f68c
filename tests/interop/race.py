"""The race: two server processes, one grant each whose token has run out, many callers at once."""

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.interop.services import Service, connect
from tests.refresh.helpers import Server

CALLS = 20
"""At each process, in each round."""
SPREAD_S = 0.002
"""Between two calls, so that some come before the lease is taken, some while it is held."""
ROUNDS = "INTEROP_ROUNDS"


@dataclass(frozen=True, slots=True)
class Runner:
    """A credential, and the account at the service that it is for."""

    name: str
    account_id: str


def rounds(default: int) -> int:
    """Return how many rounds to race: `INTEROP_ROUNDS`, but never more than the suite's own."""
    return min(int(os.environ.get(ROUNDS, "100")), default)


async def enlist(servers: list[Server], service: Service, accounts: list[str]) -> list[Runner]:
    """Connect an account each, through one process or the other."""
    completed = await asyncio.gather(
        *(
            connect(servers[number % len(servers)].vault, service, account)
            for number, account in enumerate(accounts)
        )
    )
    return [Runner(one.credential.name, one.credential.account.id) for one in completed]


async def race(servers: list[Server], service: Service, runners: list[Runner], count: int) -> None:
    """Race `count` rounds for all runners together, each runner's own one after the other."""
    share, rest = divmod(count, len(runners))
    await asyncio.gather(
        *(
            _run(servers, service, runner, share + (number < rest))
            for number, runner in enumerate(runners)
        )
    )
    for runner in runners:
        answer = await servers[0].vault.token(runner.name)
        assert await service.accepts(answer.access_token), "a credential was lost"
        assert set(await service.refreshes(runner.account_id)) <= {"ok"}
        assert await service.living_grants(runner.account_id) == 1


async def until(expire_time: Any) -> None:
    """Wait until a token has run out, by the time that came with it."""
    end: datetime = expire_time.ToDatetime(tzinfo=UTC)
    await asyncio.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds()))


async def _run(servers: list[Server], service: Service, runner: Runner, count: int) -> None:
    old = await servers[0].vault.token(runner.name)
    for _ in range(count):
        await until(old.expire_time)
        before = await service.refreshes(runner.account_id)

        answers = await asyncio.gather(
            *(_call(servers, runner.name, number) for number in range(CALLS * len(servers)))
        )

        tokens = {answer.access_token for answer in answers}
        refused = [token for token in tokens if not await service.accepts(token)]
        # First, because it says why the others do not hold.
        assert (await service.refreshes(runner.account_id))[len(before) :] == ["ok"]
        assert not refused
        assert len(tokens) == 1
        assert old.access_token not in tokens
        old = answers[0]


async def _call(servers: list[Server], name: str, number: int) -> Any:
    await asyncio.sleep(number // len(servers) * SPREAD_S)
    return await servers[number % len(servers)].vault.token(name)
