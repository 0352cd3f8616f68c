import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from tests.emulator.harness import ORIGIN, VERIFIER, App, FakeClock, bearer, redirect_params

from flero_vault_dev.emulator.microsoft import TENANT_ID


async def test_an_exchange_brings_tokens_and_an_id_token_of_the_tenant(microsoft: App) -> None:
    body = await microsoft.connect()
    keys = await microsoft.http.get("/microsoft/common/discovery/v2.0/keys")

    claims = jwt.decode(
        body["id_token"], KeySet.import_key_set(keys.json()), algorithms=["RS256"]
    ).claims
    assert (body["token_type"], body["expires_in"], body["ext_expires_in"]) == (
        "Bearer",
        3599,
        3599,
    )
    assert body["scope"] == "openid profile Mail.Read"
    assert claims["iss"] == f"{ORIGIN}/microsoft/{TENANT_ID}/v2.0"
    assert (claims["tid"], claims["nonce"]) == (TENANT_ID, "nonce-1")
    assert claims["preferred_username"] == "ada@example.com"
    assert claims["oid"]


async def test_without_offline_access_there_is_no_refresh_token(microsoft: App) -> None:
    body = await microsoft.connect(scope="openid Mail.Read")

    assert "refresh_token" not in body


async def test_a_refresh_brings_a_new_refresh_token_and_the_old_one_stays_good(
    microsoft: App, clock: FakeClock
) -> None:
    first = (await microsoft.connect())["refresh_token"]

    second = (await microsoft.refresh(first)).json()["refresh_token"]
    clock.advance(30 * 24 * 3600)
    third = await microsoft.refresh(first)

    assert second != first
    assert third.status_code == 200
    assert (await microsoft.refresh(second)).status_code == 200


async def test_a_refresh_token_dies_after_ninety_days(microsoft: App, clock: FakeClock) -> None:
    refresh_token = (await microsoft.connect())["refresh_token"]

    clock.advance(90 * 24 * 3600)
    response = await microsoft.refresh(refresh_token)

    assert response.json()["error_codes"] == [700082]


async def test_a_refresh_may_ask_for_less_and_not_for_more(microsoft: App) -> None:
    refresh_token = (await microsoft.connect())["refresh_token"]

    less = (await microsoft.refresh(refresh_token, scope="Mail.Read")).json()
    more = (await microsoft.refresh(refresh_token, scope="Mail.Send")).json()

    assert less["scope"] == "Mail.Read"
    assert (await microsoft.whoami(less["access_token"])).json()["scope"] == ["Mail.Read"]
    assert (more["error_codes"], more["suberror"]) == ([65001], "consent_required")


async def test_a_refusal_is_the_whole_envelope(microsoft: App) -> None:
    await microsoft.control(kill_refresh_tokens=True)
    response = await microsoft.refresh((await microsoft.connect())["refresh_token"])
    assert response.status_code == 200

    await microsoft.control(kill_refresh_tokens=True)
    response = await microsoft.refresh(response.json()["refresh_token"])

    body = response.json()
    lines = body["error_description"].split("\r\n")
    assert response.status_code == 400
    assert (body["error"], body["error_codes"]) == ("invalid_grant", [50173])
    assert lines[0].startswith("AADSTS50173: ")
    assert lines[1:] == [
        f"Trace ID: {body['trace_id']}",
        f"Correlation ID: {body['correlation_id']}",
        f"Timestamp: {body['timestamp']}",
    ]


@pytest.mark.parametrize(
    ("change", "status", "error", "number"),
    [
        ({"client_id": "other"}, 400, "unauthorized_client", 700016),
        ({"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        ({"client_secret": ""}, 401, "invalid_client", 7000218),
        ({"code_verifier": "wrong"}, 400, "invalid_grant", 501481),
        ({"redirect_uri": "http://x/"}, 400, "invalid_client", 500112),
    ],
)
async def test_each_refusal_has_its_number(
    microsoft: App, change: dict[str, str], status: int, error: str, number: int
) -> None:
    response = await microsoft.exchange(**{"code": await microsoft.code(), **change})

    body = response.json()
    assert (response.status_code, body["error"], body["error_codes"]) == (status, error, [number])


async def test_a_code_is_redeemed_once_and_on_its_tenant_path(microsoft: App) -> None:
    code = await microsoft.code()
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": microsoft.redirect_uri,
        "code_verifier": VERIFIER,
        **microsoft.client,
    }

    elsewhere = await microsoft.http.post("/microsoft/organizations/oauth2/v2.0/token", data=form)
    first = await microsoft.exchange(code)
    second = await microsoft.exchange(code)

    assert elsewhere.json()["error_codes"] == [700005]
    assert first.status_code == 200
    assert second.json()["error_codes"] == [54005]


async def test_an_unknown_tenant_is_a_page(microsoft: App) -> None:
    response = await microsoft.http.get(
        "/microsoft/nowhere/oauth2/v2.0/authorize", params=microsoft.authorization()
    )

    assert response.status_code == 400
    assert "AADSTS90002" in response.text


async def test_there_is_no_revocation_endpoint(microsoft: App) -> None:
    response = await microsoft.http.post("/microsoft/common/oauth2/v2.0/revoke")

    assert response.status_code == 404


async def test_userinfo_is_graphs(microsoft: App) -> None:
    token = (await microsoft.connect())["access_token"]

    known = await microsoft.http.get("/microsoft/oidc/userinfo", headers=bearer(token))
    unknown = await microsoft.http.get("/microsoft/oidc/userinfo")

    assert known.json()["name"] == "Ada Lovelace"
    assert unknown.json()["error"]["code"] == "InvalidAuthenticationToken"


async def test_cancel_says_so_in_its_own_number(microsoft: App) -> None:
    params = redirect_params(await microsoft.answer(await microsoft.page(), decision="deny"))

    assert params["error"] == "access_denied"
    assert params["error_description"].startswith("AADSTS65004")
