import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from tests.emulator.harness import ORIGIN, App, FakeClock, bearer, redirect_params


async def test_what_is_announced_is_there(oidc: App) -> None:
    document = (await oidc.http.get("/oidc/.well-known/openid-configuration")).json()

    assert document["issuer"] == f"{ORIGIN}/oidc"
    assert document["authorization_response_iss_parameter_supported"] is True
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert (await oidc.http.get(document["jwks_uri"])).json()["keys"][0]["kty"] == "RSA"
    assert "d" not in (await oidc.http.get(document["jwks_uri"])).json()["keys"][0]
    assert (await oidc.http.get(document["userinfo_endpoint"])).status_code == 401
    assert (await oidc.http.post(document["token_endpoint"])).status_code == 401
    assert (await oidc.http.post(document["revocation_endpoint"])).status_code == 401


async def test_an_exchange_brings_an_id_token_that_verifies(oidc: App) -> None:
    body = await oidc.connect()
    keys = KeySet.import_key_set((await oidc.http.get("/oidc/jwks")).json())

    claims = jwt.decode(body["id_token"], keys, algorithms=["RS256"]).claims
    assert (claims["iss"], claims["nonce"]) == (f"{ORIGIN}/oidc", "nonce-1")
    assert (claims["email"], claims["name"]) == ("ada@example.com", "Ada Lovelace")
    assert body["token_type"] == "Bearer"


async def test_the_redirect_carries_iss_on_success_and_on_cancel(oidc: App) -> None:
    allowed = redirect_params(await oidc.answer(await oidc.page()))
    denied = redirect_params(await oidc.answer(await oidc.page(), decision="deny"))

    assert allowed["iss"] == denied["iss"] == f"{ORIGIN}/oidc"
    assert denied["error"] == "access_denied"


async def test_a_request_without_pkce_goes_back_to_the_app(oidc: App) -> None:
    params = redirect_params(await oidc.page(code_challenge=""))

    assert (params["error"], params["iss"]) == ("invalid_request", f"{ORIGIN}/oidc")
    assert params["state"] == "planted-state-canary"


async def test_plain_pkce_is_refused(oidc: App) -> None:
    page = await oidc.page(code_challenge_method="plain")

    assert page.status_code == 400


@pytest.mark.parametrize("verifier", ["", "wrong"])
async def test_a_wrong_verifier_is_an_invalid_grant(oidc: App, verifier: str) -> None:
    response = await oidc.exchange(await oidc.code(), code_verifier=verifier)

    assert (response.status_code, response.json()["error"]) == (400, "invalid_grant")


async def test_offline_access_is_what_brings_a_refresh_token(oidc: App) -> None:
    assert "refresh_token" not in await oidc.connect(scope="openid")


async def test_a_spent_refresh_token_revokes_the_whole_family(oidc: App) -> None:
    first = await oidc.connect()
    second = (await oidc.refresh(first["refresh_token"])).json()

    replay = await oidc.refresh(first["refresh_token"])

    assert (replay.status_code, replay.json()["error"]) == (400, "invalid_grant")
    assert (await oidc.refresh(second["refresh_token"])).status_code == 400
    assert (await oidc.whoami(second["access_token"])).status_code == 401


async def test_in_the_grace_a_spent_refresh_token_gets_another_pair(
    oidc: App, clock: FakeClock
) -> None:
    await oidc.control(grace_s=10)
    first = await oidc.connect()
    second = (await oidc.refresh(first["refresh_token"])).json()

    clock.advance(9)
    third = (await oidc.refresh(first["refresh_token"])).json()
    both = [(await oidc.refresh(body["refresh_token"])).status_code for body in (second, third)]
    clock.advance(1)
    late = await oidc.refresh(first["refresh_token"])

    assert both == [200, 200]
    assert late.status_code == 400
    assert (await oidc.whoami(third["access_token"])).status_code == 401


async def test_without_family_revocation_only_the_replay_is_refused(oidc: App) -> None:
    await oidc.control(family_revoke=False)
    first = await oidc.connect()
    second = (await oidc.refresh(first["refresh_token"])).json()

    replay = await oidc.refresh(first["refresh_token"])

    assert replay.status_code == 400
    assert (await oidc.refresh(second["refresh_token"])).status_code == 200


async def test_a_code_sent_twice_revokes_what_it_brought(oidc: App) -> None:
    code = await oidc.code()
    body = (await oidc.exchange(code)).json()

    replay = await oidc.exchange(code)

    assert replay.json()["error"] == "invalid_grant"
    assert (await oidc.whoami(body["access_token"])).status_code == 401


async def test_credentials_come_in_one_way_only(oidc: App) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "x"}
    basic = ("flero-dev-oidc", "flero-dev-secret-oidc")

    good = await oidc.http.post("/oidc/token", data=form, auth=basic)
    twice = await oidc.http.post("/oidc/token", data={**form, **oidc.client}, auth=basic)
    wrong = await oidc.http.post("/oidc/token", data=form, auth=("flero-dev-oidc", "wrong"))

    assert good.json()["error"] == "invalid_grant"
    assert twice.json()["error"] == "invalid_request"
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    assert wrong.headers["www-authenticate"].startswith("Basic")


async def test_revoking_follows_rfc_7009(oidc: App) -> None:
    body = await oidc.connect()

    revoked = await oidc.http.post(
        "/oidc/revoke", data={"token": body["refresh_token"], **oidc.client}
    )
    unknown = await oidc.http.post("/oidc/revoke", data={"token": "made-up", **oidc.client})

    assert (revoked.status_code, unknown.status_code) == (200, 200)
    assert (await oidc.whoami(body["access_token"])).status_code == 401
    assert (await oidc.refresh(body["refresh_token"])).status_code == 400


async def test_userinfo_agrees_with_the_id_token(oidc: App) -> None:
    token = (await oidc.connect(account="grace"))["access_token"]

    userinfo = (await oidc.http.get("/oidc/userinfo", headers=bearer(token))).json()

    assert userinfo["sub"] == "subject-grace"
    assert userinfo["email"] == "grace@example.com"
