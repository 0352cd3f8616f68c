import pytest
from tests.emulator.harness import VERIFIER, App, FakeClock, bearer, redirect_params


async def test_bot_and_user_tokens_come_in_one_answer_in_two_places(slack: App) -> None:
    response = await slack.exchange(await slack.code())

    body = response.json()
    assert response.status_code == 200
    assert body["ok"] is True
    assert body["token_type"] == "bot"
    assert body["access_token"].startswith("xoxe.xoxb-1-")
    assert body["refresh_token"].startswith("xoxe-1-")
    assert body["scope"] == "chat:write,channels:read"
    assert body["expires_in"] == 43200
    assert body["team"]["id"].startswith("T")
    assert body["enterprise"] is None
    assert body["authed_user"]["access_token"].startswith("xoxe.xoxp-1-")
    assert body["authed_user"]["token_type"] == "user"
    assert body["authed_user"]["scope"] == "search:read"
    assert body["authed_user"]["refresh_token"] != body["refresh_token"]


async def test_a_user_only_install_has_no_token_at_the_top(slack: App) -> None:
    body = await slack.connect(scope="", user_scope="search:read,users:read")

    assert {"access_token", "token_type", "scope", "refresh_token"}.isdisjoint(body)
    assert body["authed_user"]["scope"] == "search:read,users:read"


async def test_each_slot_is_refreshed_apart_with_a_flat_answer(slack: App) -> None:
    body = await slack.connect()

    bot = (await slack.refresh(body["refresh_token"])).json()
    user = (await slack.refresh(body["authed_user"]["refresh_token"])).json()

    assert (bot["token_type"], bot["scope"]) == ("bot", "chat:write,channels:read")
    assert (user["token_type"], user["scope"]) == ("user", "search:read")
    assert "authed_user" not in bot
    assert "bot_user_id" not in user
    assert bot["refresh_token"] not in {body["refresh_token"], user["refresh_token"]}


async def test_a_spent_refresh_token_works_in_the_grace_and_not_after(
    slack: App, clock: FakeClock
) -> None:
    spent = (await slack.connect())["refresh_token"]
    await slack.refresh(spent)

    clock.advance(59)
    within = await slack.refresh(spent)
    clock.advance(1)
    after = await slack.refresh(spent)

    assert within.json()["ok"] is True
    assert (after.status_code, after.json()) == (
        200,
        {"ok": False, "error": "invalid_refresh_token"},
    )


async def test_a_third_access_token_ends_the_first(slack: App) -> None:
    first = await slack.connect()
    second = (await slack.refresh(first["refresh_token"])).json()
    third = (await slack.refresh(second["refresh_token"])).json()

    statuses = [
        (await slack.whoami(body["access_token"])).status_code for body in (first, second, third)
    ]

    assert statuses == [401, 200, 200]


async def test_without_rotation_tokens_last(slack: App, clock: FakeClock) -> None:
    await slack.control(rotate=False)
    body = await slack.connect()

    clock.advance(10**9)

    assert body["access_token"].startswith("xoxb-")
    assert {"expires_in", "refresh_token"}.isdisjoint(body)
    assert (await slack.whoami(body["access_token"])).status_code == 200


async def test_asking_again_adds_scopes(slack: App) -> None:
    await slack.connect()

    again = await slack.connect(scope="files:read", user_scope="")

    assert again["scope"] == "chat:write,channels:read,files:read"
    assert "access_token" not in again["authed_user"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"client_id": "somebody-else"}, "invalid_client_id"),
        ({"client_secret": "wrong"}, "bad_client_secret"),
        ({"code": "made-up"}, "invalid_code"),
        ({"redirect_uri": "http://127.0.0.1:8080/x/oauth/callback/slack"}, "bad_redirect_uri"),
        ({"code_verifier": "wrong"}, "invalid_code"),
        ({"grant_type": "password"}, "invalid_grant_type"),
    ],
)
async def test_a_refusal_is_a_200_that_is_not_ok(
    slack: App, change: dict[str, str], error: str
) -> None:
    response = await slack.exchange(**{"code": await slack.code(), **change})

    assert (response.status_code, response.json()) == (200, {"ok": False, "error": error})


async def test_basic_credentials_are_taken(slack: App) -> None:
    form = {"code": await slack.code(), "redirect_uri": slack.redirect_uri}

    response = await slack.http.post(
        "/slack/api/oauth.v2.access",
        data={**form, "code_verifier": VERIFIER},
        auth=("flero-dev-slack", "flero-dev-secret-slack"),
    )

    assert response.json()["ok"] is True


async def test_auth_test_says_who_a_token_is(slack: App, clock: FakeClock) -> None:
    body = await slack.connect()
    headers = bearer(body["access_token"])
    user_headers = bearer(body["authed_user"]["access_token"])

    bot = (await slack.http.post("/slack/api/auth.test", headers=headers)).json()
    user = (await slack.http.get("/slack/api/auth.test", headers=user_headers)).json()
    nobody = (await slack.http.post("/slack/api/auth.test")).json()
    clock.advance(43200)
    late = (await slack.http.post("/slack/api/auth.test", headers=headers)).json()

    assert (bot["ok"], bot["team_id"], "bot_id" in bot) == (True, body["team"]["id"], True)
    assert user["user_id"] == body["authed_user"]["id"]
    assert nobody == {"ok": False, "error": "not_authed"}
    assert late == {"ok": False, "error": "token_expired"}


async def test_auth_revoke_kills_one_token_and_leaves_the_installation(slack: App) -> None:
    body = await slack.connect()
    headers = bearer(body["access_token"])

    rehearsal = await slack.http.post("/slack/api/auth.revoke", headers=headers, data={"test": "1"})
    revoked = await slack.http.post("/slack/api/auth.revoke", headers=headers)
    again = await slack.http.post("/slack/api/auth.revoke", headers=headers)

    assert rehearsal.json() == {"ok": True, "revoked": False}
    assert revoked.json() == {"ok": True, "revoked": True}
    assert again.json() == {"ok": False, "error": "token_revoked"}
    assert (await slack.refresh(body["refresh_token"])).json()["ok"] is True


async def test_auth_revoke_kills_a_refresh_token(slack: App) -> None:
    refresh_token = (await slack.connect())["refresh_token"]

    revoked = await slack.http.post("/slack/api/auth.revoke", data={"token": refresh_token})

    assert revoked.json() == {"ok": True, "revoked": True}
    assert (await slack.refresh(refresh_token)).json()["error"] == "invalid_refresh_token"


async def test_cancel_comes_back_as_access_denied(slack: App) -> None:
    redirect = await slack.answer(await slack.page(), decision="deny")

    assert redirect_params(redirect) == {"error": "access_denied", "state": "planted-state-canary"}
