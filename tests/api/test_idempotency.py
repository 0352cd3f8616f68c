"""What happens twice happens once: repeated requests, repeated callbacks, newer attempts."""

import asyncio
import uuid
from typing import Any

import pytest
from tests.api.samples import refused
from tests.stack import BINDING, PARENT, USER, Refusal, Vault

from flero_vault_client.v1 import credential_pb2, credential_vault_pb2

pytestmark = pytest.mark.usefixtures("reset")


async def _reauthenticate(vault: Vault, name: str, **fields: Any) -> Any:
    request = {"name": name, "user": USER, "browser_binding": BINDING, **fields}
    return await vault.rpc.Reauthenticate(credential_vault_pb2.ReauthenticateRequest(**request))


async def _names(vault: Vault, user: str) -> list[str]:
    request = credential_vault_pb2.ListCredentialsRequest(
        parent=PARENT, user=user, filter=f'owner = "{user}"', page_size=1000
    )
    return [found.name for found in (await vault.rpc.ListCredentials(request)).credentials]


def _reason(refusal: Refusal | None) -> str:
    return refusal.reason if refusal else "accepted"


def _id() -> str:
    return str(uuid.uuid4())


async def test_the_same_request_gets_the_same_credential_and_url(vault: Vault) -> None:
    request_id = _id()

    first = await vault.begin("google", request_id=request_id)
    second = await vault.begin("google", request_id=request_id)

    assert second == first
    assert first.authorize_url


async def test_without_a_request_id_every_request_makes_a_credential(vault: Vault) -> None:
    first, second = await vault.begin("google"), await vault.begin("google")

    assert first.credential.name != second.credential.name
    assert first.authorize_url != second.authorize_url


@pytest.mark.parametrize(
    "change",
    [
        {"connector": "slack"},
        {"display_name": "Another"},
        {"credential_scope": credential_pb2.CREDENTIAL_SCOPE_WORKSPACE},
        {"requested_scopes": ["openid"]},
        {"login_hint": "grace@example.com"},
        {"browser_binding": BINDING + "x"},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_the_same_request_id_with_other_fields_is_refused(
    vault: Vault, change: dict[str, Any]
) -> None:
    request_id, user = _id(), f"reuser-{next(iter(change))}"
    begun = await vault.begin("google", request_id=request_id, user=user, display_name="One")

    fields = {"connector": "google", "display_name": "One", **change}
    refusal = await refused(vault.begin(request_id=request_id, user=user, **fields))

    assert _reason(refusal) == "REQUEST_ID_REUSED"
    assert await _names(vault, user) == [begun.credential.name]


async def test_another_user_workspace_or_method_may_use_the_same_request_id(vault: Vault) -> None:
    request_id = _id()
    begun = await vault.begin("google", request_id=request_id)

    of_grace = await vault.begin("google", request_id=request_id, user="grace")
    elsewhere = await vault.begin("google", request_id=request_id, parent="workspaces/elsewhere")
    again = await _reauthenticate(vault, begun.credential.name, request_id=request_id)

    names = {one.credential.name for one in (begun, of_grace, elsewhere)}
    assert len(names) == 3
    assert again.credential.name == begun.credential.name
    assert again.authorize_url not in {"", begun.authorize_url}


async def test_twenty_same_requests_at_once_make_one_credential(vault: Vault) -> None:
    request_id, user = _id(), "hurried"

    answers = await asyncio.gather(
        *(vault.begin("google", request_id=request_id, user=user) for _ in range(20))
    )

    assert len({answer.authorize_url for answer in answers}) == 1
    assert await _names(vault, user) == [answers[0].credential.name]
    assert {answer.credential.name for answer in answers} == {answers[0].credential.name}


async def test_once_the_state_is_used_the_same_request_gets_no_url(vault: Vault) -> None:
    request_id = _id()
    begun = await vault.begin("google", request_id=request_id)
    await vault.complete("google", await vault.emulator.consent(begun.authorize_url))

    again = await vault.begin("google", request_id=request_id)

    assert again.authorize_url == ""
    assert again.credential.name == begun.credential.name
    assert again.credential.status == credential_pb2.CREDENTIAL_STATUS_ACTIVE


async def test_a_repeated_reauthentication_gets_the_same_url(vault: Vault) -> None:
    name = (await vault.connect("google")).name
    request_id = _id()

    answers = await asyncio.gather(
        *(_reauthenticate(vault, name, request_id=request_id) for _ in range(10))
    )

    assert len({answer.authorize_url for answer in answers}) == 1
    assert answers[0].authorize_url
    changed = _reauthenticate(vault, name, request_id=request_id, allow_account_change=True)
    assert _reason(await refused(changed)) == "REQUEST_ID_REUSED"


async def test_a_repeated_callback_gets_the_first_outcome(vault: Vault) -> None:
    begun = await vault.begin("google")
    back = await vault.emulator.consent(begun.authorize_url)

    first = await vault.complete("google", back)
    second = await vault.complete("google", back)

    assert second == first


async def test_a_repeated_refusal_is_the_first_refusal(vault: Vault) -> None:
    begun = await vault.begin("google")
    back = await vault.emulator.consent(begun.authorize_url, decision="deny")

    first = await refused(vault.complete("google", back))
    second = await refused(vault.complete("google", back))

    assert _reason(first) == "CONSENT_DENIED"
    assert second == first


@pytest.mark.parametrize("fault", ["html_502", "rate_limited_429"])
async def test_a_repeated_callback_after_an_outage_is_told_the_same(
    vault: Vault, fault: str
) -> None:
    begun = await vault.begin("google")
    back = await vault.emulator.consent(begun.authorize_url)
    await vault.emulator.control("google", fail=fault, fail_grant="authorization_code")

    first = await refused(vault.complete("google", back))
    second = await refused(vault.complete("google", back))

    assert second == first


async def test_a_used_state_with_another_code_is_refused(vault: Vault) -> None:
    begun = await vault.begin("google")
    back = await vault.emulator.consent(begun.authorize_url)
    first = await vault.complete("google", back)

    for other in ({"code": "another"}, {"code": "", "error": "access_denied"}):
        refusal = await refused(vault.complete("google", back, **other))
        assert _reason(refusal) == "STATE_INVALID"

    assert await vault.complete("google", back) == first


async def test_ten_same_callbacks_at_once_spend_the_code_once(vault: Vault) -> None:
    begun = await vault.begin("google")
    back = await vault.emulator.consent(begun.authorize_url)
    before = (await vault.emulator.counters("google"))["code_calls"]

    answers = await asyncio.gather(*(vault.complete("google", back) for _ in range(10)))

    after = (await vault.emulator.counters("google"))["code_calls"]
    assert after == before + 1
    assert all(answer == answers[0] for answer in answers)
    assert answers[0].credential.status == credential_pb2.CREDENTIAL_STATUS_ACTIVE


async def test_a_new_attempt_voids_the_older_one(vault: Vault) -> None:
    request_id = _id()
    older = await vault.begin("google", request_id=request_id)
    back = await vault.emulator.consent(older.authorize_url)
    newer = await _reauthenticate(vault, older.credential.name)

    refusal = await refused(vault.complete("google", back))

    assert _reason(refusal) == "STATE_INVALID"
    assert (await vault.begin("google", request_id=request_id)).authorize_url == ""
    done = await vault.complete("google", await vault.emulator.consent(newer.authorize_url))
    assert done.credential.name == older.credential.name
    assert done.credential.status == credential_pb2.CREDENTIAL_STATUS_ACTIVE
