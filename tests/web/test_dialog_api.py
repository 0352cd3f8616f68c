"""The dialog's JSON endpoints, and who may not use them."""

import asyncio
import json
import re
from typing import Any

import httpx
import pytest
from tests.web.conftest import WebVault

from flero_vault_client.v1 import credential_pb2
from flero_vault_client.web._headers import HEADERS

FIELDS = {
    "connector": "acme",
    "display_name": "Team chat",
    "credential_scope": "WORKSPACE",
    "connection_params": {"domain": "acme.example"},
    "request_id": "6f1c2f4e-9f43-4b1e-8d51-0a4b8f3f2c11",
}


async def begin(dialog: httpx.AsyncClient) -> dict[str, Any]:
    answer = await dialog.post("/api/credentials", json=FIELDS)
    assert answer.status_code == 201
    begun: dict[str, Any] = answer.json()
    return begun


async def connect(
    dialog: httpx.AsyncClient, vault: WebVault, account: str = "ada"
) -> dict[str, Any]:
    begun = await begin(dialog)
    (state,) = vault.attempts
    await dialog.get(f"/oauth/callback/acme?state={state}&code=code-{account}")
    answer = await dialog.get(f"/api/credentials/{begun['credential']['id']}")
    connected: dict[str, Any] = answer.json()["credential"]
    return connected


async def test_the_page_and_its_files_are_served(dialog: httpx.AsyncClient) -> None:
    page = await dialog.get("/")
    files = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)

    statuses = {path: (await dialog.get(path)).status_code for path in files}

    assert "/static/app.js" in statuses
    assert set(statuses.values()) == {200}


async def test_the_page_needs_nothing_inline(dialog: httpx.AsyncClient) -> None:
    page = (await dialog.get("/")).text

    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+=", page)


async def test_the_catalogue_is_read_to_its_end(dialog: httpx.AsyncClient) -> None:
    answer = await dialog.get("/api/connectors")

    found = {each["key"]: each for each in answer.json()["connectors"]}
    assert list(found) == ["acme", "salesfarce", "unset"]
    assert found["acme"]["default_scopes"] == ["chat:write", "users:read"]
    assert (
        found["salesfarce"]["connection_params"][0]["default_value"] == "login.salesfarce.example"
    )
    assert not found["unset"]["configured"]


async def test_authorize_makes_a_pending_credential_bound_to_this_browser(
    dialog: httpx.AsyncClient, vault: WebVault
) -> None:
    begun = await begin(dialog)

    (asked,) = vault.begun
    assert asked.parent == "workspaces/demo"
    assert asked.user == "demo"
    assert asked.credential_scope == credential_pb2.CREDENTIAL_SCOPE_WORKSPACE
    assert dict(asked.connection_params) == {"domain": "acme.example"}
    assert asked.request_id == FIELDS["request_id"]
    assert dialog.cookies["flero-browser"] == asked.browser_binding
    assert begun["authorize_url"].startswith("https://service.example/acme/authorize?state=")
    assert begun["credential"]["status"] == "PENDING"
    assert begun["credential"]["missing_scopes"] == []


async def test_a_connected_credential_shows_its_account_and_what_is_missing(
    dialog: httpx.AsyncClient, vault: WebVault
) -> None:
    vault.grant("users:read")

    connected = await connect(dialog, vault)

    assert connected["status"] == "ACTIVE"
    assert connected["account"] == "Ada Lovelace"
    assert connected["missing_scopes"] == ["chat:write"]


async def test_save_sends_only_what_changed(dialog: httpx.AsyncClient, vault: WebVault) -> None:
    before = await connect(dialog, vault)

    answer = await dialog.patch(
        f"/api/credentials/{before['id']}", json={"display_name": "New", "etag": before["etag"]}
    )

    after = answer.json()["credential"]
    assert after["display_name"] == "New"
    assert after["credential_scope"] == "WORKSPACE"


async def test_save_of_an_older_version_is_refused_in_words(
    dialog: httpx.AsyncClient, vault: WebVault
) -> None:
    before = await connect(dialog, vault)

    answer = await dialog.patch(
        f"/api/credentials/{before['id']}", json={"display_name": "New", "etag": "old"}
    )

    assert answer.status_code == 409
    assert answer.json()["error"]["reason"] == "ETAG_MISMATCH"
    assert "was changed meanwhile" in answer.json()["error"]["message"]


async def test_cancel_leaves_nothing(dialog: httpx.AsyncClient) -> None:
    begun = await begin(dialog)

    answer = await dialog.request(
        "DELETE", f"/api/credentials/{begun['credential']['id']}", json={}
    )

    assert answer.status_code == 204
    assert (await dialog.get("/api/credentials")).json() == {"credentials": []}


async def test_reauthenticate_keeps_the_credential(
    dialog: httpx.AsyncClient, vault: WebVault
) -> None:
    before = await connect(dialog, vault)

    answer = await dialog.post(
        f"/api/credentials/{before['id']}/reauthenticate", json={"allow_account_change": True}
    )

    (attempt,) = vault.attempts.values()
    assert answer.json()["credential"]["id"] == before["id"]
    assert attempt.allow_account_change
    assert attempt.binding == dialog.cookies["flero-browser"]


async def test_check_and_revoke_answer_with_the_credential(
    dialog: httpx.AsyncClient, vault: WebVault
) -> None:
    before = await connect(dialog, vault)

    checked = await dialog.post(f"/api/credentials/{before['id']}/check", json={})
    revoked = await dialog.post(
        f"/api/credentials/{before['id']}/revoke", json={"revoke_at_service": True}
    )

    assert checked.json()["credential"]["account"] == "Ada Lovelace"
    assert revoked.json()["service_revocation"] == "DONE"
    assert revoked.json()["credential"]["status"] == "REVOKED"


async def test_the_stream_tells_every_change_until_the_credential_is_gone(
    dialog: httpx.AsyncClient, vault: WebVault
) -> None:
    begun = await begin(dialog)
    (state,) = vault.attempts

    # httpx hands out a response when it is complete: here when the credential is gone.
    stream = asyncio.create_task(dialog.get(f"/api/credentials/{begun['credential']['id']}/events"))
    await vault.until(lambda: len(vault.told) == 1)
    await dialog.get(f"/oauth/callback/acme?state={state}&code=code-ada")
    await vault.until(lambda: len(vault.told) == 2)
    await dialog.request("DELETE", f"/api/credentials/{begun['credential']['id']}", json={})
    answer = await stream

    events = [event.split("\n") for event in answer.text.strip().split("\n\n")]
    statuses = [
        json.loads(lines[1].removeprefix("data: "))["status"]
        for lines in events
        if lines[0] == "event: credential"
    ]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert statuses == ["PENDING", "ACTIVE"]
    assert events[-1] == ["event: gone", "data: {}"]


async def test_a_page_that_leaves_no_longer_watches(
    dialog: httpx.AsyncClient, vault: WebVault
) -> None:
    begun = await begin(dialog)

    stream = asyncio.create_task(dialog.get(f"/api/credentials/{begun['credential']['id']}/events"))
    await vault.until(lambda: vault.watchers == 1)
    stream.cancel()

    await vault.until(lambda: vault.watchers == 0)


async def test_a_vault_that_is_away_ends_the_stream_so_that_the_browser_asks_again(
    dialog: httpx.AsyncClient, vault: WebVault
) -> None:
    begun = await begin(dialog)
    vault.away = True

    answer = await dialog.get(f"/api/credentials/{begun['credential']['id']}/events")

    assert answer.status_code == 200
    assert answer.text == "retry: 1000\n\n"


async def test_an_error_of_the_vault_is_a_sentence_with_its_fields(
    dialog: httpx.AsyncClient,
) -> None:
    answer = await dialog.post("/api/credentials", json=FIELDS | {"credential_scope": "ALL"})

    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "reason": "INVALID_FIELD",
        "message": "The request is not valid: credential_scope must be set.",
        "help_url": "",
        "fields": [{"field": "credential_scope", "description": "must be set"}],
    }


async def test_a_vault_that_is_away_is_said_in_words(
    dialog: httpx.AsyncClient, vault: WebVault
) -> None:
    vault.away = True

    answer = await dialog.get("/api/credentials")

    assert answer.status_code == 503
    assert "Try again" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"connector": 7}', b'{"connection_params": []}', b" " * 20_000],
)
async def test_a_body_that_is_not_what_the_page_sends_is_refused(
    dialog: httpx.AsyncClient, vault: WebVault, body: bytes
) -> None:
    answer = await dialog.post(
        "/api/credentials", content=body, headers={"Content-Type": "application/json"}
    )

    assert answer.status_code == 400
    assert vault.begun == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:8080"},
        {"Origin": "http://127.0.0.1:9400"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": ""},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
async def test_another_page_may_change_nothing(
    dialog: httpx.AsyncClient, vault: WebVault, method: str, headers: dict[str, str]
) -> None:
    begun = await begin(dialog)
    path = "/api/credentials"
    path = path if method == "POST" else f"{path}/{begun['credential']['id']}"

    answer = await dialog.request(
        method,
        path,
        content=json.dumps(FIELDS),
        headers={"Content-Type": "application/json"} | headers,
    )

    assert answer.status_code == 403
    assert len(vault.begun) == 1
    assert vault.the_credential().etag == "r1"


async def test_a_foreign_name_for_this_host_is_refused(dialog: httpx.AsyncClient) -> None:
    """A page at evil.example that lets its own name point at 127.0.0.1 is its own origin."""
    answer = await dialog.get("/api/credentials", headers={"Host": "evil.example:8080"})

    assert answer.status_code == 400


async def test_a_credential_id_is_a_uuid(dialog: httpx.AsyncClient) -> None:
    answer = await dialog.get("/api/credentials/..%2f..%2fdemo")

    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/static/app.js"),
        ("GET", "/api/connectors"),
        ("GET", "/api/credentials/00000000-0000-0000-0000-000000000000"),
        ("PUT", "/api/credentials"),
        ("POST", "/api/credentials"),
        ("GET", "/nowhere"),
        ("GET", "/oauth/nowhere"),
    ],
)
async def test_every_response_carries_the_headers(
    dialog: httpx.AsyncClient, method: str, path: str
) -> None:
    response = await dialog.request(method, path)

    assert {name: response.headers[name] for name in HEADERS} == HEADERS
    assert "access-control-allow-origin" not in response.headers
