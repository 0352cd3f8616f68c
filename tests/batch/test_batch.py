"""Many tokens in one call: each item by itself, and an answer before the deadline."""

import asyncio
import time
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from tests.refresh.helpers import Rows, eventually, refresh_calls
from tests.stack import PARENT, USER, Vault, fresh_name, refusal_of

from flero_vault.core.tokens import REFRESHES_AT_ONCE
from flero_vault_client.v1 import credential_pb2, credential_vault_pb2

pytestmark = pytest.mark.usefixtures("reset")
Item = credential_vault_pb2.GetAccessTokenRequest


@pytest.fixture
def rows(database_url: str) -> Rows:
    return Rows(database_url)


async def batch(vault: Vault, *items: Item, parent: str = PARENT, timeout: float = 30) -> Any:
    request = credential_vault_pb2.BatchGetAccessTokensRequest(parent=parent, requests=items)
    return (await vault.rpc.BatchGetAccessTokens(request, timeout=timeout)).results


def of(credential: Any, **fields: Any) -> Item:
    return Item(**{"name": credential.name, "user": USER, **fields})


def reason(result: Any) -> str:
    assert result.WhichOneof("outcome") == "error", result.WhichOneof("outcome")
    details: list[AnyMessage] = list(result.error.details)
    info = error_details_pb2.ErrorInfo()
    assert details[0].Unpack(info)
    return str(info.reason)


def violations(result: Any) -> list[str]:
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in result.error.details)
    return [violation.field for violation in bad.field_violations]


async def test_each_item_has_its_own_outcome_in_the_order_of_the_requests(vault: Vault) -> None:
    google, slack = await vault.connect("google"), await vault.connect("slack")
    others = await vault.connect("oidc", user="grace")
    revoked = await vault.connect("hubspot")
    await vault.rpc.Revoke(credential_vault_pb2.RevokeRequest(name=revoked.name, user=USER))
    single = {c.name: (await vault.token(c.name)).access_token for c in (google, slack)}

    results = await batch(
        vault,
        of(slack),
        of(others),
        of(google, purpose="a workflow"),
        Item(name=fresh_name(), user=USER),
        of(revoked),
        of(slack, slot="user", required_scopes=["nothing:like-it"]),
        of(google),
    )

    assert results[0].token.access_token == single[slack.name]
    assert results[2].token.access_token == single[google.name] == results[6].token.access_token
    assert results[2].token.HasField("expire_time")
    assert [reason(results[i]) for i in (1, 3, 4, 5)] == [
        "CREDENTIAL_NOT_FOUND",
        "CREDENTIAL_NOT_FOUND",
        "CREDENTIAL_REVOKED",
        "SCOPES_MISSING",
    ]


async def test_a_malformed_item_is_named_and_spoils_no_other(vault: Vault) -> None:
    good = await vault.connect("google")
    foreign = fresh_name("workspaces/other")

    results = await batch(
        vault,
        Item(name="nonsense", user=USER),
        of(good, rejected_token_sha256=b"short"),
        of(good),
        Item(name=foreign, user=USER),
    )

    assert [violations(results[i]) for i in (0, 1, 3)] == [
        ["requests[0].name"],
        ["requests[1].rejected_token_sha256"],
        ["requests[3].name"],
    ]
    assert results[2].token.access_token


async def test_a_token_of_another_workspace_is_not_given_by_naming_that_workspace_as_parent(
    vault: Vault,
) -> None:
    mine = await vault.connect("google")
    identifier = mine.name.rpartition("/")[2]

    (result,) = await batch(
        vault,
        Item(name=f"workspaces/other/credentials/{identifier}", user=USER),
        parent="workspaces/other",
    )

    assert reason(result) == "CREDENTIAL_NOT_FOUND"


async def test_repeated_names_cause_one_refresh_and_get_the_same_token(
    vault: Vault, rows: Rows
) -> None:
    credential = await vault.connect("google")
    await rows.age(credential.name, had=3600, left=-1)

    results = await batch(vault, *[of(credential)] * 50)

    assert len({result.token.access_token for result in results}) == 1
    assert await vault.emulator.accepts("google", results[0].token.access_token)
    assert await refresh_calls(vault.emulator, "google") == 1


async def test_a_thousand_distinct_credentials_come_in_one_answer(vault: Vault) -> None:
    names = {(await vault.connect("google", parent="workspaces/many")).name for _ in range(20)}
    items = [Item(name=name, user=USER) for name in names] * 50

    results = await batch(vault, *items, parent="workspaces/many")

    expected = {name: (await vault.token(name)).access_token for name in names}
    assert [r.token.access_token for r in results] == [expected[item.name] for item in items]


async def test_the_answer_comes_before_the_deadline_and_the_refresh_goes_on(
    vault: Vault, rows: Rows
) -> None:
    ready = await vault.connect("google")
    gone, lives = await vault.connect("oidc"), await vault.connect("oidc", account="grace")
    old: str = (await vault.token(lives.name)).access_token
    await rows.age(gone.name, had=3600, left=-1)
    await rows.age(lives.name, had=3560, left=40)
    await vault.emulator.control("oidc", hang_s=3)
    began = time.monotonic()

    results = await batch(vault, of(ready), of(gone), of(lives), timeout=1.5)

    assert time.monotonic() - began < 1.5
    assert results[0].token.access_token
    assert reason(results[1]) == "REFRESH_PENDING"
    assert results[2].token.access_token == old
    assert results[2].token.warning

    async def renewed() -> bool:
        token: str = (await vault.token(lives.name)).access_token
        return token != old

    await eventually(renewed)
    assert await vault.emulator.accepts("oidc", (await vault.token(gone.name)).access_token)
    assert await refresh_calls(vault.emulator, "oidc") == 2


async def test_refreshes_of_a_batch_are_bounded_and_those_beyond_are_told_to_come_again(
    vault: Vault, rows: Rows
) -> None:
    credentials = await asyncio.gather(
        *[vault.connect("oidc") for _ in range(REFRESHES_AT_ONCE + 8)]
    )
    for credential in credentials:
        await rows.age(credential.name, had=3600, left=-1)
    await vault.emulator.control("oidc", hang_s=2)

    results = await batch(vault, *[of(c) for c in credentials], timeout=1.5)

    assert {reason(result) for result in results} == {"REFRESH_PENDING"}
    assert await refresh_calls(vault.emulator, "oidc") == REFRESHES_AT_ONCE


async def test_a_token_that_ran_out_while_its_refresh_was_awaited_is_not_served(
    vault: Vault, rows: Rows
) -> None:
    """What was valid when it was read may be over when the service has still not answered."""
    credential = await vault.connect("oidc")
    await vault.token(credential.name)
    await rows.age(credential.name, had=3598, left=2)
    await vault.emulator.control("oidc", hang_s=4)

    request = Item(name=credential.name, user=USER, min_ttl=Duration(seconds=60))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await vault.rpc.GetAccessToken(request, timeout=3)

    assert refusal_of(caught.value).reason == "REFRESH_PENDING"


async def test_an_empty_batch_and_too_large_a_one_are_refused(vault: Vault) -> None:
    for items in ([], [Item(name=fresh_name(), user=USER)] * 1001):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await batch(vault, *items)
        assert refusal_of(caught.value).fields == ("requests",)


async def test_everybody_may_read_a_workspace_credential_in_a_batch_without_a_user(
    vault: Vault,
) -> None:
    shared = await vault.connect(
        "google", credential_scope=credential_pb2.CREDENTIAL_SCOPE_WORKSPACE
    )

    (result,) = await batch(vault, Item(name=shared.name))

    assert result.token.access_token
