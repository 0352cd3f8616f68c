import pytest
from joserfc import jwt
from joserfc.jwk import KeySet
from tests.emulator.harness import ORIGIN, App, FakeClock, bearer, redirect_params

DRIVE = "https://www.googleapis.com/auth/drive.readonly"
EMAIL = "https://www.googleapis.com/auth/userinfo.email"


async def test_the_first_consent_brings_a_refresh_token_and_an_id_token(
    google: App, clock: FakeClock
) -> None:
    response = await google.exchange(await google.code())
    keys = KeySet.import_key_set((await google.http.get("/google/oauth2/v3/certs")).json())

    body = response.json()
    claims = jwt.decode(body["id_token"], keys, algorithms=["RS256"]).claims
    assert response.status_code == 200
    assert body["access_token"].startswith("ya29.")
    assert body["refresh_token"].startswith("1//0")
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 3599)
    assert body["scope"] == f"{DRIVE} {EMAIL} openid"
    assert "refresh_token_expires_in" not in body
    assert (claims["iss"], claims["aud"]) == (f"{ORIGIN}/google", "flero-dev-google")
    assert (claims["nonce"], claims["email"]) == ("nonce-1", "ada@example.com")
    assert claims["exp"] == clock.now + 3600


async def test_a_second_consent_brings_none_unless_it_is_asked_for(google: App) -> None:
    await google.connect()

    second = await google.connect()
    other = await google.connect(account="grace")
    forced = await google.connect(prompt="consent")

    assert "refresh_token" not in second
    assert "refresh_token" in other
    assert "refresh_token" in forced


async def test_online_access_brings_no_refresh_token_and_is_no_first_consent(google: App) -> None:
    online = await google.connect(access_type="online")
    offline = await google.connect()

    assert "refresh_token" not in online
    assert "refresh_token" in offline


async def test_a_refresh_brings_no_refresh_token_and_leaves_the_old_one(google: App) -> None:
    refresh_token = (await google.connect())["refresh_token"]

    first = await google.refresh(refresh_token)
    second = await google.refresh(refresh_token)

    assert (first.status_code, second.status_code) == (200, 200)
    assert "refresh_token" not in first.json()
    assert first.json()["access_token"] != second.json()["access_token"]


async def test_unticked_scopes_are_missing_but_not_those_of_signing_in(google: App) -> None:
    redirect = await google.answer(await google.page(), scopes=[])
    body = (await google.exchange(redirect_params(redirect)["code"])).json()

    assert body["scope"] == f"{EMAIL} openid"


async def test_unticking_everything_is_a_refusal(google: App) -> None:
    redirect = await google.answer(await google.page(scope=DRIVE), scopes=[])

    assert redirect_params(redirect)["error"] == "access_denied"


async def test_earlier_scopes_are_included_on_demand(google: App) -> None:
    await google.connect()

    body = await google.connect(scope="openid", include_granted_scopes="true")

    assert body["scope"] == f"{DRIVE} {EMAIL} openid"


async def test_the_redirect_says_who_sends_it(google: App) -> None:
    params = redirect_params(await google.answer(await google.page()))

    assert params["iss"] == f"{ORIGIN}/google"
    assert (params["authuser"], params["prompt"]) == ("0", "none")


async def test_the_oldest_of_more_than_a_hundred_refresh_tokens_dies(google: App) -> None:
    tokens = [(await google.connect(prompt="consent"))["refresh_token"] for _ in range(101)]

    assert (await google.refresh(tokens[0])).json()["error"] == "invalid_grant"
    assert (await google.refresh(tokens[1])).status_code == 200


async def test_a_time_limited_refresh_token_says_so(google: App, clock: FakeClock) -> None:
    await google.control(refresh_ttl_s=604799)
    body = await google.connect()

    clock.advance(604799)
    late = await google.refresh(body["refresh_token"])

    assert body["refresh_token_expires_in"] == 604799
    assert (late.status_code, late.json()) == (
        400,
        {"error": "invalid_grant", "error_description": "Token has been expired or revoked."},
    )


@pytest.mark.parametrize(
    ("change", "status", "error", "description"),
    [
        ({"client_id": ""}, 400, "invalid_request", "Could not determine client ID from request."),
        ({"client_id": "other"}, 401, "invalid_client", "The OAuth client was not found."),
        ({"client_secret": "wrong"}, 401, "invalid_client", "Unauthorized"),
        ({"code": "made-up"}, 400, "invalid_grant", "Malformed auth code."),
        ({"code_verifier": "wrong"}, 400, "invalid_grant", "Invalid code verifier."),
        ({"code_verifier": ""}, 400, "invalid_grant", "Missing code verifier."),
        ({"redirect_uri": "http://x/"}, 400, "redirect_uri_mismatch", "Bad Request"),
    ],
)
async def test_a_refusal_has_googles_words(
    google: App, change: dict[str, str], status: int, error: str, description: str
) -> None:
    response = await google.exchange(**{"code": await google.code(), **change})

    assert response.status_code == status
    assert response.json() == {"error": error, "error_description": description}


async def test_a_code_works_once_and_for_ten_minutes(google: App, clock: FakeClock) -> None:
    used, late = await google.code(), await google.code()

    first = await google.exchange(used)
    second = await google.exchange(used)
    clock.advance(600)
    third = await google.exchange(late)

    assert [r.status_code for r in (first, second, third)] == [200, 400, 400]
    assert second.json()["error_description"] == "Bad Request"


async def test_basic_credentials_are_not_understood(google: App) -> None:
    response = await google.http.post(
        "/google/token",
        data={"grant_type": "authorization_code", "code": await google.code()},
        auth=("flero-dev-google", "flero-dev-secret-google"),
    )

    assert response.json()["error"] == "invalid_request"


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_revoking_either_token_ends_both_and_the_consent(google: App, kind: str) -> None:
    body = await google.connect()

    revoked = await google.http.post("/google/revoke", data={"token": body[kind]})
    again = await google.http.post("/google/revoke", data={"token": body[kind]})

    assert (revoked.status_code, revoked.json()) == (200, {})
    assert (again.status_code, again.json()["error"]) == (400, "invalid_token")
    assert (await google.whoami(body["access_token"])).status_code == 401
    assert (await google.refresh(body["refresh_token"])).json()["error"] == "invalid_grant"
    assert "refresh_token" in await google.connect()


async def test_userinfo_tells_what_the_scopes_allow(google: App) -> None:
    body = await google.connect()

    known = await google.http.get("/google/v1/userinfo", headers=bearer(body["access_token"]))
    unknown = await google.http.get("/google/v1/userinfo", headers=bearer("made-up"))

    assert known.json()["email"] == "ada@example.com"
    assert "name" not in known.json()
    assert unknown.status_code == 401
