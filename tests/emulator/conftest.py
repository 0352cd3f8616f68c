from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from tests.emulator.harness import ORIGIN, App, FakeClock

from flero_vault_dev.emulator.server import create_app


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def http(clock: FakeClock) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(ORIGIN, clock))
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
        yield client


@pytest.fixture
def app(http: httpx.AsyncClient) -> Callable[[str], App]:
    return lambda connector: App(http, connector)


@pytest.fixture
def slack(http: httpx.AsyncClient) -> App:
    return App(http, "slack")


@pytest.fixture
def google(http: httpx.AsyncClient) -> App:
    return App(http, "google")


@pytest.fixture
def microsoft(http: httpx.AsyncClient) -> App:
    return App(http, "microsoft")


@pytest.fixture
def salesforce(http: httpx.AsyncClient) -> App:
    return App(http, "salesforce")


@pytest.fixture
def hubspot(http: httpx.AsyncClient) -> App:
    return App(http, "hubspot")


@pytest.fixture
def oidc(http: httpx.AsyncClient) -> App:
    return App(http, "oidc")
