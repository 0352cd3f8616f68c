"""A server that is killed in the moment in which it would send a refresh: it holds the lease then.

Started by the tests as a process of its own, with the settings of `flero-vault serve`.
"""

import asyncio
import os
import signal

import click

from flero_vault import logs, settings
from flero_vault.core.ports import Client, Failure, TokenAnswer
from flero_vault.core.secret import Secret
from flero_vault.oauth.wire import HttpServers
from flero_vault.process import SystemClock
from flero_vault.server import running


class Doomed(HttpServers):
    """The services, as a process sees them that does not live to refresh."""

    async def refresh(
        self, client: Client, slot: str, refresh_token: Secret, deadline: float
    ) -> TokenAnswer | Failure:
        """Die before the request is written."""
        os.kill(os.getpid(), signal.SIGKILL)
        return await super().refresh(client, slot, refresh_token, deadline)


async def serve() -> None:
    """Serve like `flero-vault serve`, but doomed."""
    chosen = settings.load()
    servers = Doomed(SystemClock(), allow_loopback=True)
    async with running(chosen, logs.configure(json=True), servers=servers):
        click.echo("ready")
        await asyncio.Event().wait()  # until it is killed, which is what it is for


if __name__ == "__main__":
    asyncio.run(serve())
