import pytest
from tests.emulator.harness import App, FakeClock


async def test_an_exchange_names_the_portal_and_lists_the_scopes(hubspot: App) -> None:
    body = await hubspot.connect()

    assert (body["token_type"], body["expires_in"]) == ("bearer", 1800)
    assert body["scopes"] == ["oauth", "crm.objects.contacts.read"]
    assert isinstance(body["hub_id"], int)
    assert isinstance(body["user_id"], int)
    assert len(body["access_token"]) >= 300


async def test_a_refresh_echoes_the_refresh_token(hubspot: App) -> None:
    body = await hubspot.connect()

    refreshed = (await hubspot.refresh(body["refresh_token"])).json()

    assert refreshed["refresh_token"] == body["refresh_token"]
    assert refreshed["access_token"] != body["access_token"]


async def test_a_dead_refresh_token_has_hubspots_body(hubspot: App) -> None:
    response = await hubspot.refresh("made-up")

    body = response.json()
    assert response.status_code == 400
    assert body["status"] == "BAD_REFRESH_TOKEN"
    assert body["message"] == "missing or invalid refresh token"
    assert body["correlationId"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"client_id": "other"}, "BAD_CLIENT_ID"),
        ({"client_secret": "wrong"}, "BAD_CLIENT_SECRET"),
        ({"code": "made-up"}, "BAD_AUTH_CODE"),
        ({"code_verifier": "wrong"}, "BAD_AUTH_CODE"),
        ({"redirect_uri": "http://x/"}, "BAD_REDIRECT_URI"),
        ({"grant_type": "password"}, "BAD_GRANT_TYPE"),
    ],
)
async def test_a_refusal_has_a_status_word(
    hubspot: App, change: dict[str, str], status: str
) -> None:
    response = await hubspot.exchange(**{"code": await hubspot.code(), **change})

    assert (response.status_code, response.json()["status"]) == (400, status)


async def test_introspection_knows_both_kinds_of_token(hubspot: App, clock: FakeClock) -> None:
    body = await hubspot.connect(account="grace")
    url = "/hubspot/oauth/v3/token/introspect"
    access = {"token": body["access_token"], **hubspot.client}
    refresh = {"token": body["refresh_token"], **hubspot.client}

    clock.advance(100)
    live = (await hubspot.http.post(url, data=access)).json()
    renewable = (await hubspot.http.post(url, data=refresh)).json()
    clock.advance(1700)
    over = (await hubspot.http.post(url, data=access)).json()

    assert (live["token_use"], live["expires_in"]) == ("access_token", 1700)
    assert (live["user"], live["hub_id"]) == ("grace@example.com", body["hub_id"])
    assert (renewable["token_use"], "expires_in" in renewable) == ("refresh_token", False)
    assert over == {"active": False}


async def test_revoking_deletes_the_refresh_token_alone(hubspot: App) -> None:
    body = await hubspot.connect()
    form = {"token": body["refresh_token"], "token_type_hint": "refresh_token"}

    stranger = await hubspot.http.post("/hubspot/oauth/v3/token/revoke", data=form)
    revoked = await hubspot.http.post(
        "/hubspot/oauth/v3/token/revoke", data={**form, **hubspot.client}
    )

    assert stranger.json()["status"] == "BAD_CLIENT_ID"
    assert revoked.status_code == 200
    assert (await hubspot.refresh(body["refresh_token"])).json()["status"] == "BAD_REFRESH_TOKEN"
    assert (await hubspot.whoami(body["access_token"])).status_code == 200


async def test_optional_scopes_are_granted_too(hubspot: App) -> None:
    body = await hubspot.connect(optional_scope="tickets")

    assert body["scopes"] == ["oauth", "crm.objects.contacts.read", "tickets"]
