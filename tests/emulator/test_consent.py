from collections.abc import Callable

import pytest
from tests.emulator.harness import (
    ASKS,
    App,
    FakeClock,
    page_scopes,
    redirect_params,
)

CONNECTORS = sorted(ASKS)


@pytest.mark.parametrize("connector", CONNECTORS)
async def test_the_page_says_that_it_is_emulated_and_who_asks(
    app: Callable[[str], App], connector: str
) -> None:
    page = await app(connector).page()

    assert page.status_code == 200
    assert "Emulated <strong>" in page.text
    assert "Flero asks for access to your" in page.text
    assert '<html lang="en">' in page.text
    assert "<script" not in page.text
    assert page.headers["cache-control"] == "no-store"


async def test_the_policy_allows_the_stylesheet_and_the_way_back_alone(slack: App) -> None:
    page = await slack.page()
    stylesheet = await slack.http.get("/_static/emulator.css")

    assert page.headers["content-security-policy"] == (
        "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "form-action 'self' http://127.0.0.1:8080"
    )
    assert stylesheet.headers["content-type"].startswith("text/css")


async def test_scopes_are_fixed_except_where_the_service_lets_them_be_unticked(
    slack: App, google: App
) -> None:
    fixed = await slack.page()
    granular = await google.page()

    assert page_scopes(fixed) == ["chat:write", "channels:read", "search:read"]
    assert fixed.text.count("checked disabled") == 3
    assert granular.text.count("checked disabled") == 2
    assert 'drive.readonly" checked>' in granular.text


async def test_a_hint_chooses_the_account(google: App) -> None:
    plain = await google.page()
    hinted = await google.page(login_hint="grace@example.com")

    assert 'value="ada" checked' in plain.text
    assert 'value="grace" checked' in hinted.text


@pytest.mark.parametrize("connector", CONNECTORS)
async def test_allow_leads_back_with_code_and_state(
    app: Callable[[str], App], connector: str
) -> None:
    redirect = await app(connector).answer(await app(connector).page())

    params = redirect_params(redirect)
    assert redirect.headers["location"].startswith(f"{app(connector).redirect_uri}?")
    assert params["code"]
    assert params["state"] == "planted-state-canary"


@pytest.mark.parametrize("connector", CONNECTORS)
async def test_cancel_leads_back_with_access_denied_and_state(
    app: Callable[[str], App], connector: str
) -> None:
    params = redirect_params(
        await app(connector).answer(await app(connector).page(), decision="deny")
    )

    assert (params["error"], params["state"]) == ("access_denied", "planted-state-canary")
    assert "code" not in params


@pytest.mark.parametrize("connector", CONNECTORS)
async def test_whoami_knows_the_account_that_was_chosen(
    app: Callable[[str], App], connector: str
) -> None:
    body = await app(connector).connect(account="grace")

    whoami = await app(connector).whoami(body["access_token"])

    assert whoami.json()["account"] == "grace"
    assert whoami.json()["scope"]


async def test_a_page_is_answered_once(google: App) -> None:
    page = await google.page()
    await google.answer(page)

    again = await google.answer(page)

    assert again.status_code == 400
    assert "location" not in again.headers


async def test_a_page_that_lay_open_for_an_hour_is_too_old(google: App, clock: FakeClock) -> None:
    page = await google.page()

    clock.advance(3600)

    assert (await google.answer(page)).status_code == 400


@pytest.mark.parametrize(
    "change", [{"account": "mallory"}, {"decision": "perhaps"}, {"request": "made-up"}]
)
async def test_a_form_that_the_page_did_not_make_is_refused(
    google: App, change: dict[str, str]
) -> None:
    response = await google.answer(await google.page(), **change)

    assert response.status_code == 400


@pytest.mark.parametrize("connector", CONNECTORS)
@pytest.mark.parametrize(
    "change",
    [
        {"client_id": "somebody-else"},
        {"redirect_uri": ""},
        {"redirect_uri": "https://example.com/elsewhere"},
        {"redirect_uri": "javascript:alert(1)//oauth/callback/{connector}"},
        {"redirect_uri": "http://a;script-src *@b/oauth/callback/{connector}"},
        {"redirect_uri": "http://a/oauth/callback/{connector}#fragment"},
    ],
)
async def test_a_request_that_cannot_be_trusted_does_not_redirect(
    app: Callable[[str], App], connector: str, change: dict[str, str]
) -> None:
    page = await app(connector).page(
        **{name: value.replace("{connector}", connector) for name, value in change.items()}
    )

    assert page.status_code == 400
    assert "location" not in page.headers
    assert "cannot be answered" in page.text


@pytest.mark.parametrize("connector", ["google", "microsoft", "salesforce", "oidc"])
async def test_a_missing_response_type_does_not_redirect(
    app: Callable[[str], App], connector: str
) -> None:
    assert (await app(connector).page(response_type="")).status_code == 400


async def test_what_comes_from_outside_is_escaped(google: App) -> None:
    page = await google.page(scope='openid "><script>alert(1)</script>')

    assert "<script>" not in page.text
    assert "&lt;script&gt;" in page.text


async def test_a_redirect_uri_keeps_its_own_query(google: App) -> None:
    uri = f"{google.redirect_uri}?tenant=a"

    redirect = await google.answer(await google.page(redirect_uri=uri))

    assert redirect.headers["location"].startswith(f"{uri}&code=")
