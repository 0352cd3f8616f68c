import json
from collections.abc import Callable

import pytest
from tests.emulator.harness import ASKS, STATE, VERIFIER, App, FakeClock, bearer

CONNECTORS = sorted(ASKS)


async def test_a_change_is_merged_and_shown(oidc: App) -> None:
    first = (await oidc.control(access_ttl_s=5, grace_s=2.5)).json()
    second = (await oidc.control(rotate=False)).json()

    assert first["settings"]["access_ttl_s"] == 5
    assert second["settings"]["grace_s"] == 2.5
    assert second["settings"]["rotate"] is False
    assert second["settings"]["family_revoke"] is True
    assert second["token_calls"] == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("access_ttl_s", "5"),
        ("access_ttl_s", None),
        ("access_ttl_s", True),
        ("access_ttl_s", -1),
        ("refresh_ttl_s", []),
        ("rotate", 1),
        ("fail", "sometimes"),
        ("fail", {}),
        ("fail_count", 1.5),
        ("fail_grant", None),
        ("hang_s", "long"),
        ("reset", False),
        ("tokens", "all"),
    ],
)
async def test_a_wrong_setting_is_named_and_nothing_changes(
    oidc: App, field: str, value: object
) -> None:
    refused = await oidc.control(**{"grace_s": 99, field: value})

    assert refused.status_code == 400
    assert list(refused.json()["fields"]) == [field]
    assert (await oidc.console())["settings"]["grace_s"] == 0


@pytest.mark.parametrize("body", ["", "[]", "{", '{"grace_s": NaN}', '{"grace_s": Infinity}'])
async def test_a_body_that_is_no_change_is_refused(oidc: App, body: str) -> None:
    response = await oidc.http.post("/_control/oidc", content=body)

    assert response.status_code == 400


async def test_an_unknown_connector_is_not_found(oidc: App) -> None:
    assert (await oidc.http.get("/_control/nobody")).status_code == 404
    assert (await oidc.http.post("/_control/nobody", json={})).status_code == 404


async def test_every_call_is_counted_when_it_arrives(oidc: App) -> None:
    body = await oidc.connect()
    await oidc.refresh(body["refresh_token"])
    await oidc.refresh("made-up")
    await oidc.http.post("/oidc/token")
    await oidc.http.get("/oidc/userinfo", headers=bearer(body["access_token"]))
    await oidc.http.post("/oidc/revoke")

    console = await oidc.console()

    assert console["token_calls"] == 4
    assert (console["code_calls"], console["refresh_calls"]) == (1, 2)
    assert (console["identity_calls"], console["revoke_calls"]) == (1, 1)


async def test_the_log_tells_the_story_of_a_grant(oidc: App, clock: FakeClock) -> None:
    first = (await oidc.connect())["refresh_token"]
    clock.advance(60)
    await oidc.refresh(first)
    await oidc.refresh(first)

    log = (await oidc.console())["log"]

    assert [(line["event"], line["generation"]) for line in log] == [
        ("code.issued", None),
        ("code.received", None),
        ("code.redeemed", None),
        ("tokens.issued", 1),
        ("refresh.received", 1),
        ("refresh.accepted", 1),
        ("tokens.issued", 2),
        ("refresh.received", 1),
        ("grant.revoked", 2),
        ("refresh.refused", 1),
    ]
    assert {line["grant"] for line in log} == {None, "grant-1"}
    assert log[-1]["time"] == log[0]["time"] + 60


async def test_the_log_forgets_all_but_a_thousand_lines(oidc: App) -> None:
    for _ in range(501):
        await oidc.refresh("made-up")

    assert len((await oidc.console())["log"]) == 1000


@pytest.mark.parametrize("connector", CONNECTORS)
async def test_the_console_shows_no_secret(app: Callable[[str], App], connector: str) -> None:
    code = await app(connector).code()
    body = (await app(connector).exchange(code)).json()
    await app(connector).refresh(body["refresh_token"])

    console = json.dumps(await app(connector).console())

    assert body["refresh_token"] not in console
    assert body["access_token"] not in console
    assert code not in console
    assert STATE not in console
    assert VERIFIER not in console


async def test_killed_refresh_tokens_leave_the_access_tokens(oidc: App) -> None:
    body = await oidc.connect()

    await oidc.control(kill_refresh_tokens=True)

    assert (await oidc.refresh(body["refresh_token"])).status_code == 400
    assert (await oidc.whoami(body["access_token"])).status_code == 200


async def test_killed_access_tokens_leave_the_refresh_tokens(oidc: App) -> None:
    body = await oidc.connect()

    await oidc.control(kill_access_tokens=True)

    assert (await oidc.whoami(body["access_token"])).status_code == 401
    assert (await oidc.refresh(body["refresh_token"])).status_code == 200


async def test_reset_forgets_everything(google: App) -> None:
    body = await google.connect()
    await google.control(access_ttl_s=1, fail="empty")

    console = (await google.control(reset=True)).json()

    assert (console["token_calls"], console["log"]) == (0, [])
    assert console["settings"]["access_ttl_s"] == 3599
    assert (await google.whoami(body["access_token"])).status_code == 401
    assert "refresh_token" in await google.connect()


async def test_reset_comes_before_the_settings_it_is_sent_with(oidc: App) -> None:
    console = (await oidc.control(reset=True, grace_s=3)).json()

    assert console["settings"]["grace_s"] == 3


async def test_one_connector_does_not_change_another(oidc: App, google: App) -> None:
    await oidc.control(fail="empty", access_ttl_s=1)

    assert (await google.connect())["expires_in"] == 3599


async def test_lifetimes_are_as_set(oidc: App, clock: FakeClock) -> None:
    await oidc.control(access_ttl_s=30, refresh_ttl_s=60)
    body = await oidc.connect()

    clock.advance(30)
    access = await oidc.whoami(body["access_token"])
    clock.advance(30)
    refresh = await oidc.refresh(body["refresh_token"])

    assert body["expires_in"] == 30
    assert access.status_code == 401
    assert refresh.status_code == 400


async def test_expires_in_can_be_left_out_and_put_in(oidc: App, salesforce: App) -> None:
    await oidc.control(send_expires_in=False)
    await salesforce.control(send_expires_in=True)

    assert "expires_in" not in await oidc.connect()
    assert (await salesforce.connect())["expires_in"] == 7200


IDENTITY = {
    "slack": ("POST", "/slack/api/auth.test"),
    "google": ("GET", "/google/v1/userinfo"),
    "microsoft": ("GET", "/microsoft/oidc/userinfo"),
    "salesforce": ("GET", "/salesforce/services/oauth2/userinfo"),
    "hubspot": ("POST", "/hubspot/oauth/v3/token/introspect"),
    "oidc": ("GET", "/oidc/userinfo"),
}


@pytest.mark.parametrize("connector", CONNECTORS)
async def test_identity_can_be_broken(app: Callable[[str], App], connector: str) -> None:
    body = await app(connector).connect()
    await app(connector).control(identity_fail=True)

    method, url = IDENTITY[connector]
    response = await app(connector).http.request(method, url, headers=bearer(body["access_token"]))

    assert response.status_code == 500
    assert (await app(connector).console())["identity_calls"] == 1
