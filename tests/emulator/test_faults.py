import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
import uvicorn
from tests.emulator.harness import ASKS, VERIFIER, App

from flero_vault_dev.emulator.server import create_app

CONNECTORS = sorted(ASKS)


@pytest.fixture
async def served() -> AsyncIterator[httpx.AsyncClient]:
    """The emulator behind a real server and a real socket."""
    # The socket listens before the server runs, so that a client can come at any time.
    listener = socket.create_server(("127.0.0.1", 0))
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(create_app(origin), lifespan="off", log_config=None, ws="none")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    async with httpx.AsyncClient(base_url=origin, timeout=10) as client:
        yield client
    server.should_exit = True
    await running


async def test_a_reset_drops_the_answer_after_the_token_was_spent(
    served: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    oidc = App(served, "oidc")
    refresh_token = (await oidc.connect())["refresh_token"]
    await oidc.control(fail="reset", fail_count=1, grace_s=60)
    caplog.set_level(logging.WARNING)

    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await oidc.refresh(refresh_token)

    again = await oidc.refresh(refresh_token)
    events = [line["event"] for line in (await oidc.console())["log"]]
    assert again.status_code == 200
    assert events.count("refresh.accepted") == 1
    assert events.count("refresh.reused_in_grace") == 1
    assert caplog.records == []


async def test_without_grace_a_dropped_answer_is_lost(served: httpx.AsyncClient) -> None:
    oidc = App(served, "oidc")
    refresh_token = (await oidc.connect())["refresh_token"]
    await oidc.control(fail="reset", fail_count=1)

    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await oidc.refresh(refresh_token)

    assert (await oidc.refresh(refresh_token)).json()["error"] == "invalid_grant"


async def test_a_truncated_answer_announces_more_than_it_sends(
    served: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    google = App(served, "google")
    code = await google.code()
    await google.control(fail="truncated", fail_count=1)
    caplog.set_level(logging.WARNING)
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": google.redirect_uri,
        "code_verifier": VERIFIER,
        **google.client,
    }
    call = served.build_request("POST", "/google/token", data=form)

    response = await served.send(call, stream=True)
    with pytest.raises(httpx.RemoteProtocolError):
        await response.aread()

    assert response.status_code == 200
    assert response.num_bytes_downloaded == int(response.headers["content-length"]) // 2
    assert (await google.exchange(code)).json()["error"] == "invalid_grant"
    assert caplog.records == []


async def test_a_call_that_hangs_acts_although_its_caller_has_gone(
    served: httpx.AsyncClient,
) -> None:
    oidc = App(served, "oidc")
    refresh_token = (await oidc.connect())["refresh_token"]
    await oidc.control(hang_s=0.3)

    with pytest.raises(httpx.ReadTimeout):
        await served.post(
            "/oidc/token",
            data={"grant_type": "refresh_token", "refresh_token": refresh_token, **oidc.client},
            timeout=httpx.Timeout(10, read=0.05),
        )

    # A second call hangs as long, so the first has acted by the time this one does.
    assert (await oidc.refresh(refresh_token)).json()["error"] == "invalid_grant"


async def test_without_a_connection_to_drop_the_caller_is_told(oidc: App) -> None:
    refresh_token = (await oidc.connect())["refresh_token"]
    await oidc.control(fail="reset", fail_count=1)

    with pytest.raises(ConnectionResetError):
        await oidc.refresh(refresh_token)


@pytest.mark.parametrize(
    ("fault", "status", "content_type"),
    [
        ("server_error_500", 500, "application/json"),
        ("html_502", 502, "text/html; charset=utf-8"),
        ("html_200", 200, "text/html; charset=utf-8"),
        ("empty", 200, "application/json"),
        ("rate_limited_429", 429, "application/json"),
    ],
)
async def test_a_fault_in_front_spends_nothing(
    oidc: App, fault: str, status: int, content_type: str
) -> None:
    refresh_token = (await oidc.connect())["refresh_token"]
    await oidc.control(fail=fault, fail_count=1)

    failed = await oidc.refresh(refresh_token)

    assert (failed.status_code, failed.headers["content-type"]) == (status, content_type)
    assert (await oidc.refresh(refresh_token)).status_code == 200


async def test_a_429_says_how_long_to_wait(slack: App) -> None:
    await slack.control(fail="rate_limited_429")

    response = await slack.refresh("anything")

    assert response.headers["retry-after"] == "7"
    assert response.json() == {"ok": False, "error": "ratelimited"}


@pytest.mark.parametrize("connector", CONNECTORS)
@pytest.mark.parametrize("fault", ["invalid_grant", "invalid_client"])
async def test_an_oauth_fault_is_worded_as_the_service_would(
    app: Callable[[str], App], connector: str, fault: str
) -> None:
    service = app(connector)
    refresh_token = (await service.connect())["refresh_token"]
    await service.control(fail=fault, fail_count=1)
    failed = (await service.refresh(refresh_token)).json()

    provoked = {
        "invalid_grant": (await service.refresh("made-up")).json(),
        "invalid_client": (await service.refresh(refresh_token, client_secret="wrong")).json(),
    }[fault]

    assert failed.get("error") == provoked.get("error")
    assert failed.get("status") == provoked.get("status")
    assert failed.keys() == provoked.keys()


async def test_a_fault_can_be_counted_and_kept_to_one_kind_of_call(oidc: App) -> None:
    refresh_token = (await oidc.connect())["refresh_token"]
    await oidc.control(fail="server_error_500", fail_count=2, fail_grant="refresh_token")

    exchange = await oidc.exchange(await oidc.code())
    refreshes = [(await oidc.refresh(refresh_token)).status_code for _ in range(3)]

    assert exchange.status_code == 200
    assert refreshes == [500, 500, 200]
    assert (await oidc.console())["settings"]["fail"] is None


async def test_a_fault_without_a_count_lasts_until_it_is_lifted(oidc: App) -> None:
    await oidc.control(fail="html_502", fail_count=1)
    await oidc.control(fail="html_502")

    broken = [(await oidc.refresh("x")).status_code for _ in range(3)]
    await oidc.control(fail=None)
    mended = await oidc.refresh("x")

    assert broken == [502, 502, 502]
    assert mended.status_code == 400
