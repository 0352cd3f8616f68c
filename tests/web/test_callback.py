"""What a person, and somebody who means ill, sees of the callback page."""

import asyncio
import logging
from urllib.parse import urlencode

import grpc
import grpc.aio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount
from tests.web.conftest import Frontend

from flero_vault_client.v1 import credential_vault_pb2_grpc
from flero_vault_client.web import callback_routes
from flero_vault_client.web._headers import HEADERS


def set_cookies(response: httpx.Response) -> list[str]:
    return response.headers.get_list("set-cookie")


async def shown(frontend: Frontend, response: httpx.Response) -> httpx.Response:
    assert response.status_code == 303
    return await frontend.client.get(response.headers["location"])


async def test_a_callback_ends_on_a_clean_address_that_says_connected(frontend: Frontend) -> None:
    state = await frontend.begin()

    answer = await frontend.callback(f"state={state}&code=code-ada")
    page = await shown(frontend, answer)

    assert answer.headers["location"].startswith("/oauth/result/")
    assert page.status_code == 200
    assert "Connected!" in page.text
    assert "You can close this tab." in page.text


async def test_a_frontend_may_mount_it_below_a_prefix(channel: grpc.aio.Channel) -> None:
    async def user_of(_request: Request) -> str:
        return "demo"

    vault = credential_vault_pb2_grpc.CredentialVaultStub(channel)
    app = Starlette(routes=[Mount("/app", routes=callback_routes(vault, user_of=user_of))])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://flero.example") as client:
        answer = await client.get("/app/oauth/callback/acme?state=a.b&code=c")
        page = await client.get(answer.headers["location"])

    assert answer.headers["location"].startswith("/app/oauth/result/")
    assert "Start again from Flero" in page.text
    assert 'href="/app/oauth/static/result.css"' in page.text


async def test_neither_state_nor_code_goes_further_than_the_callback(frontend: Frontend) -> None:
    state = await frontend.begin()

    answer = await frontend.callback(f"state={state}&code=code-ada")
    page = await shown(frontend, answer)

    everything = repr((answer.headers, answer.text, page.headers, page.text))
    assert state not in everything
    assert "code-ada" not in everything


async def test_the_result_is_shown_once(frontend: Frontend) -> None:
    state = await frontend.begin()
    answer = await frontend.callback(f"state={state}&code=code-ada")

    first = await shown(frontend, answer)
    second = await shown(frontend, answer)

    assert "Connected!" in first.text
    assert "Max-Age=0" in set_cookies(first)[0]
    assert "This page has been shown already. You can close this tab." in second.text
    assert "result.js" not in second.text


async def test_everything_that_stood_in_the_query_reaches_the_vault(frontend: Frontend) -> None:
    state = await frontend.begin()
    query = urlencode(
        {"state": state, "code": "code-ada", "iss": "https://acme.example", "realmId": "ü 7"}
    )

    await frontend.callback(query)

    (asked,) = frontend.vault.callbacks
    assert asked.connector == "acme"
    assert asked.iss == "https://acme.example"
    assert dict(asked.extra_params) == {"realmId": "ü 7"}
    assert asked.user == "demo"
    assert asked.browser_binding == frontend.vault.begun[0].browser_binding
    assert len(asked.browser_binding) == 43


async def test_who_declines_reads_a_sentence_and_the_tab_stays(frontend: Frontend) -> None:
    state = await frontend.begin()

    page = await shown(frontend, await frontend.callback(f"state={state}&error=access_denied"))

    assert page.status_code == 409
    assert "The authorization was cancelled at Acme Chat." in page.text
    assert 'data-connected="false"' in page.text
    assert "CONSENT_DENIED" in page.text


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("ADMIN_APPROVAL_REQUIRED", "Forward this to your administrator."),
        ("STATE_INVALID", "Go back to Flero and start again."),
        ("ACCOUNT_MISMATCH", "The connection is as it was."),
        ("OAUTH_APP_REJECTED", "Tell whoever looks after Flero"),
        ("A_REASON_OF_NEXT_YEAR", "Go back to Flero and start again."),
    ],
)
async def test_every_refusal_says_what_to_do(frontend: Frontend, reason: str, words: str) -> None:
    await frontend.begin()
    frontend.vault.fail_next(reason, user_message="The vault's own sentence.")

    page = await shown(frontend, await frontend.callback("state=a.b&code=c"))

    assert "The vault&#x27;s own sentence." in page.text
    assert words in page.text


async def test_help_is_offered_as_a_link(frontend: Frontend) -> None:
    await frontend.begin()
    frontend.vault.fail_next("ADMIN_APPROVAL_REQUIRED", help_url="https://acme.example/approve?a&b")

    page = await shown(frontend, await frontend.callback("state=a.b&code=c"))

    assert 'href="https://acme.example/approve?a&amp;b"' in page.text


async def test_a_link_that_is_no_web_address_is_left_out(frontend: Frontend) -> None:
    await frontend.begin()
    frontend.vault.fail_next("ADMIN_APPROVAL_REQUIRED", help_url="javascript:alert(1)")

    page = await shown(frontend, await frontend.callback("state=a.b&code=c"))

    assert "javascript:" not in page.text


async def test_words_are_shown_as_words(frontend: Frontend) -> None:
    await frontend.begin()
    frontend.vault.fail_next('"><img src=x>', user_message="<script>alert(1)</script>")

    page = await shown(frontend, await frontend.callback("state=a.b&code=c"))

    assert "<script>alert" not in page.text
    assert "<img" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text


async def test_a_very_long_sentence_still_fits_into_a_cookie(frontend: Frontend) -> None:
    await frontend.begin()
    frontend.vault.fail_next(
        "STATE_INVALID", user_message="語" * 1200, help_url="https://a.example/" * 30
    )

    answer = await frontend.callback("state=a.b&code=c")

    assert max(map(len, set_cookies(answer))) < 4096
    assert "語" in (await shown(frontend, answer)).text


async def test_a_vault_that_is_away_says_try_later(frontend: Frontend) -> None:
    state = await frontend.begin()
    frontend.vault.away = True

    page = await shown(frontend, await frontend.callback(f"state={state}&code=code-ada"))

    assert page.status_code == 503
    assert "Wait a few minutes" in page.text


async def test_a_vault_that_is_back_in_a_moment_is_waited_for(frontend: Frontend) -> None:
    state = await frontend.begin()
    frontend.vault.away = True

    callback = asyncio.create_task(frontend.callback(f"state={state}&code=code-ada"))
    await frontend.vault.until(lambda: len(frontend.vault.callbacks) == 1)
    frontend.vault.away = False

    assert "Connected!" in (await shown(frontend, await callback)).text


async def test_a_service_that_is_away_is_not_asked_again(frontend: Frontend) -> None:
    await frontend.begin()
    frontend.vault.fail_next("SERVICE_UNAVAILABLE", user_message="")

    page = await shown(frontend, await frontend.callback("state=a.b&code=c"))

    assert "The service does not answer" in page.text
    assert len(frontend.vault.callbacks) == 1


@pytest.mark.parametrize(
    "query",
    [
        "state=a.b&state=c.d&code=e",
        "state=a.b&code=c&code=c",
        "state=a.b&code=c&realmId=1&realmId=2",
        "state=a.b&code=c&state=",
        f"state=a.b&code={'c' * 8192}",
        "&".join(f"p{number}=1" for number in range(65)),
        "state=a.b&code=%ff",
    ],
    ids=[
        "two states",
        "two codes",
        "two others",
        "an empty one",
        "too long",
        "too many",
        "not text",
    ],
)
async def test_a_query_that_no_server_sends_is_refused(frontend: Frontend, query: str) -> None:
    await frontend.begin()

    page = await shown(frontend, await frontend.callback(query))

    assert page.status_code == 400
    assert "cannot read" in page.text
    assert frontend.vault.callbacks == []


async def test_without_a_user_the_vault_is_not_asked(frontend: Frontend) -> None:
    state = await frontend.begin()
    frontend.session["user"] = None

    page = await shown(frontend, await frontend.callback(f"state={state}&code=code-ada"))

    assert page.status_code == 403
    assert "Sign in to Flero and start again" in page.text
    assert frontend.vault.callbacks == []


@pytest.mark.parametrize("cookies", [{}, {"__Host-flero-browser": "short"}])
async def test_without_the_browsers_binding_the_vault_is_not_asked(
    frontend: Frontend, cookies: dict[str, str]
) -> None:
    state = await frontend.begin()
    frontend.client.cookies.clear()
    frontend.client.cookies.update(cookies)

    page = await shown(frontend, await frontend.callback(f"state={state}&code=code-ada"))

    assert page.status_code == 403
    assert "Start again from Flero" in page.text
    assert frontend.vault.callbacks == []


async def test_a_planted_outcome_is_not_shown(frontend: Frontend) -> None:
    state = await frontend.begin()
    answer = await frontend.callback(f"state={state}&code=code-ada")
    name, _, rest = set_cookies(answer)[0].partition("=")
    value = rest.partition(";")[0]

    frontend.client.cookies.clear()
    await frontend.begin()
    page = await frontend.client.get(
        answer.headers["location"],
        headers={
            "Cookie": f"{name}={value}; "
            f"__Host-flero-browser={frontend.vault.begun[-1].browser_binding}"
        },
    )

    assert "Connected!" not in page.text
    assert "shown already" in page.text


async def test_an_outcome_belongs_to_one_page(frontend: Frontend) -> None:
    state = await frontend.begin()
    answer = await frontend.callback(f"state={state}&code=code-ada")
    value = set_cookies(answer)[0].partition("=")[2].partition(";")[0]
    other = "A" * 22

    frontend.client.cookies.set(f"flero-outcome-{other}", value)
    page = await frontend.client.get(f"/oauth/result/{other}")

    assert "shown already" in page.text


@pytest.mark.parametrize("tag", ["", ".", "....", "é"])
async def test_a_garbled_outcome_is_nothing_to_see(frontend: Frontend, tag: str) -> None:
    await frontend.begin()
    page_id = "B" * 22
    binding = f"__Host-flero-browser={frontend.vault.begun[0].browser_binding}"

    page = await frontend.client.get(
        f"/oauth/result/{page_id}",
        headers=[
            (b"Cookie", f"flero-outcome-{page_id}=e30{tag}; {binding}".encode()),
        ],
    )

    assert page.status_code == 200
    assert "shown already" in page.text


async def test_the_outcome_cookie_is_short_lived_and_belongs_to_its_page(
    frontend: Frontend,
) -> None:
    state = await frontend.begin()

    answer = await frontend.callback(f"state={state}&code=code-ada")

    (cookie,) = set_cookies(answer)
    attributes = cookie.split("; ")[1:]
    assert sorted(attributes) == [
        "HttpOnly",
        "Max-Age=60",
        f"Path={answer.headers['location']}",
        "SameSite=lax",
        "Secure",
    ]


@pytest.mark.parametrize(
    ("frontend", "expected"),
    [
        ("https://flero.example", "__Host-flero-browser Secure"),
        ("https://localhost:8443", "__Host-flero-browser Secure"),
        # A proxy that ends TLS and forgets to say so.
        ("http://flero.example", "__Host-flero-browser Secure"),
        ("http://localhost.flero.example", "__Host-flero-browser Secure"),
        ("http://localhost:8080", "flero-browser"),
        ("http://127.0.0.1:8080", "flero-browser"),
        ("http://[::1]:8080", "flero-browser"),
    ],
    indirect=["frontend"],
)
async def test_the_binding_cookie_fits_the_place(frontend: Frontend, expected: str) -> None:
    name, *secure = expected.split()

    answer = await frontend.client.post("/begin")

    (cookie,) = set_cookies(answer)
    assert cookie.partition("=")[0] == name
    assert sorted(cookie.split("; ")[1:]) == [
        "HttpOnly",
        "Max-Age=86400",
        "Path=/",
        "SameSite=lax",
        *secure,
    ]


@pytest.mark.parametrize("frontend", ["http://127.0.0.1:8080"], indirect=True)
async def test_it_works_on_loopback_without_tls(frontend: Frontend) -> None:
    state = await frontend.begin()

    page = await shown(frontend, await frontend.callback(f"state={state}&code=code-ada"))

    assert "Connected!" in page.text


async def test_a_browser_keeps_its_binding(frontend: Frontend) -> None:
    await frontend.begin()
    await frontend.begin()

    first, second = frontend.vault.begun
    assert first.browser_binding == second.browser_binding


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/oauth/callback/acme?state=a&code=b", 303),
        ("POST", "/oauth/callback/acme", 405),
        ("GET", f"/oauth/result/{'A' * 22}", 200),
        ("GET", "/oauth/result/x", 200),
        ("GET", "/oauth/static/result.js", 200),
        ("GET", "/oauth/static/result.css", 200),
        ("GET", "/oauth/static/icon.svg", 200),
        ("GET", "/oauth/static/../_callback.py", 404),
        ("GET", "/oauth/nowhere", 404),
    ],
)
async def test_every_response_carries_the_headers(
    frontend: Frontend, method: str, path: str, status: int
) -> None:
    response = await frontend.client.request(method, path)

    assert response.status_code == status
    assert {name: response.headers[name] for name in HEADERS} == HEADERS


async def test_the_policy_allows_nothing_inline_and_no_frame() -> None:
    policy = HEADERS["Content-Security-Policy"].split("; ")

    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in " ".join(policy)


async def test_nothing_is_logged_that_stood_in_the_query(
    frontend: Frontend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await frontend.begin()

    await frontend.callback("state=canary-state&code=canary-code&realmId=canary-realm")

    # The client of this test logs its own requests.
    ours = [record for record in caplog.records if not record.name.startswith("http")]
    assert "canary" not in repr([record.getMessage() for record in ours])
