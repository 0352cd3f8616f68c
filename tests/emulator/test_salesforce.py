import base64
import hashlib
import hmac

import pytest
from tests.emulator.harness import ORIGIN, App, FakeClock, bearer, redirect_params


async def test_an_exchange_says_where_the_org_is_and_not_how_long_the_token_lives(
    salesforce: App, clock: FakeClock
) -> None:
    body = await salesforce.connect()

    signed = (body["id"] + body["issued_at"]).encode()
    digest = hmac.digest(b"flero-dev-secret-salesforce", signed, hashlib.sha256)
    assert "expires_in" not in body
    assert body["instance_url"] == f"{ORIGIN}/salesforce"
    assert body["id"].startswith(f"{ORIGIN}/salesforce/id/00D")
    assert body["issued_at"] == str(int(clock.now * 1000))
    assert body["signature"] == base64.b64encode(digest).decode()
    assert body["scope"] == "api refresh_token id"
    assert (body["token_type"], "!" in body["access_token"]) == ("Bearer", True)


@pytest.mark.parametrize("scope", ["api refresh_token", "api offline_access"])
async def test_either_name_of_the_scope_brings_a_refresh_token(salesforce: App, scope: str) -> None:
    assert "refresh_token" in await salesforce.connect(scope=scope)
    assert "refresh_token" not in await salesforce.connect(scope="api")


async def test_a_refresh_brings_no_refresh_token_unless_rotation_is_on(salesforce: App) -> None:
    first = (await salesforce.connect())["refresh_token"]
    plain = (await salesforce.refresh(first)).json()

    await salesforce.control(rotate=True)
    rotated = (await salesforce.refresh(first)).json()
    spent = await salesforce.refresh(first)

    assert "refresh_token" not in plain
    assert rotated["refresh_token"] != first
    assert (spent.status_code, spent.json()) == (
        400,
        {"error": "invalid_grant", "error_description": "expired access/refresh token"},
    )


async def test_the_sixth_grant_of_a_user_ends_the_first(salesforce: App) -> None:
    tokens = [(await salesforce.connect())["refresh_token"] for _ in range(6)]

    assert (await salesforce.refresh(tokens[0])).json()["error"] == "invalid_grant"
    assert (await salesforce.refresh(tokens[1])).status_code == 200


@pytest.mark.parametrize(
    ("change", "error", "description"),
    [
        ({"client_id": "other"}, "invalid_client_id", "client identifier invalid"),
        ({"client_secret": "wrong"}, "invalid_client", "invalid client credentials"),
        ({"code": "made-up"}, "invalid_grant", "invalid authorization code"),
        ({"code_verifier": "wrong"}, "invalid_grant", "invalid code verifier"),
        (
            {"redirect_uri": "http://x/"},
            "redirect_uri_mismatch",
            "redirect_uri must match configuration",
        ),
        ({"grant_type": "password"}, "unsupported_grant_type", "grant type not supported"),
    ],
)
async def test_a_refusal_has_salesforces_words(
    salesforce: App, change: dict[str, str], error: str, description: str
) -> None:
    response = await salesforce.exchange(**{"code": await salesforce.code(), **change})

    assert response.status_code == 400
    assert response.json() == {"error": error, "error_description": description}


async def test_identity_is_behind_the_id_url_and_userinfo(salesforce: App) -> None:
    body = await salesforce.connect()
    headers = bearer(body["access_token"])

    identity = await salesforce.http.get(body["id"], headers=headers)
    userinfo = await salesforce.http.get(
        "/salesforce/services/oauth2/userinfo", headers=bearer(body["access_token"])
    )
    dead = await salesforce.http.get(body["id"], headers=bearer("made-up"))

    assert identity.json()["display_name"] == "Ada Lovelace"
    assert userinfo.json()["sub"] == body["id"]
    assert userinfo.json()["organization_id"] == identity.json()["organization_id"]
    assert (dead.status_code, dead.text) == (403, "Bad_OAuth_Token")


async def test_only_introspection_tells_when_a_token_ends(
    salesforce: App, clock: FakeClock
) -> None:
    body = await salesforce.connect()
    form = {"token": body["access_token"], **salesforce.client}
    url = "/salesforce/services/oauth2/introspect"

    live = await salesforce.http.post(url, data=form)
    stranger = await salesforce.http.post(url, data={**form, "client_secret": "wrong"})
    clock.advance(7200)
    over = await salesforce.http.post(url, data=form)

    assert (live.json()["active"], live.json()["exp"]) == (True, int(clock.now))
    assert stranger.json()["error"] == "invalid_client"
    assert over.json() == {"active": False}


async def test_revoking_a_refresh_token_ends_its_access_tokens(salesforce: App) -> None:
    body = await salesforce.connect()
    url = "/salesforce/services/oauth2/revoke"

    revoked = await salesforce.http.post(url, data={"token": body["refresh_token"]})
    again = await salesforce.http.get(url, params={"token": body["refresh_token"]})

    assert revoked.status_code == 200
    assert (again.status_code, again.json()["error"]) == (400, "invalid_token")
    assert (await salesforce.whoami(body["access_token"])).status_code == 401


async def test_revoking_an_access_token_only_ends_the_session(salesforce: App) -> None:
    body = await salesforce.connect()

    await salesforce.http.get(
        "/salesforce/services/oauth2/revoke", params={"token": body["access_token"]}
    )

    assert (await salesforce.whoami(body["access_token"])).status_code == 401
    assert (await salesforce.refresh(body["refresh_token"])).status_code == 200


async def test_cancel_comes_back_with_a_description(salesforce: App) -> None:
    params = redirect_params(await salesforce.answer(await salesforce.page(), decision="deny"))

    assert params["error_description"] == "end-user denied authorization"
