"""What a caller may rely on, of the fake vault as of the real one."""

import uuid
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.client.conftest import World

from flero_vault_client import (
    AccessToken,
    AccountMismatch,
    CallerNotAllowed,
    CodeRejected,
    ConnectorNotFound,
    ConsentDenied,
    CredentialExpired,
    CredentialNotFound,
    CredentialPending,
    CredentialRevoked,
    CredentialScope,
    CredentialStatus,
    EtagMismatch,
    InvalidField,
    RequestIdReused,
    ScopesMissing,
    ServiceRateLimited,
    ServiceRevocation,
    StateInvalid,
    TokenRequest,
    VaultError,
)

WORKSPACE = CredentialScope.WORKSPACE


async def test_a_person_authorizes_once_and_callers_get_tokens(world: World) -> None:
    begun = await world.begin()
    completed = await world.complete(await world.consent(begun))
    token = await world.vault.get_access_token(completed.credential.name, user="ada")

    assert begun.credential.status is CredentialStatus.PENDING
    assert begun.expire_time is not None
    assert {each.scope for each in begun.permissions} == set(begun.credential.requested_scopes)
    assert completed.credential.name == begun.credential.name
    assert completed.credential.status is CredentialStatus.ACTIVE
    assert completed.credential.account is not None
    assert completed.credential.account.email == "ada@example.com"
    assert completed.missing_scopes == ()
    assert token.token_type == "Bearer"
    assert token.expire_time is not None
    assert token.expire_time > datetime.now(UTC)
    assert token.headers == {"Authorization": f"Bearer {token.access_token}"}
    assert await world.backend.accepts("google", token.access_token)


async def test_slack_has_a_bot_and_a_user(world: World) -> None:
    credential = await world.connect(
        "slack", requested_scopes=["chat:write", "channels:read", "search:read"]
    )

    first = await world.vault.get_access_token(credential.name, user="ada")
    bot = await world.vault.get_access_token(credential.name, user="ada", slot="bot")
    user = await world.vault.get_access_token(credential.name, user="ada", slot="user")

    assert first.access_token == bot.access_token != user.access_token
    assert (bot.token_type, user.token_type) == ("bot", "user")
    assert bot.headers["Authorization"].startswith("Bearer ")
    with pytest.raises(InvalidField) as refused:
        await world.vault.get_access_token(credential.name, user="ada", slot="admin")
    assert [field for field, _ in refused.value.violations] == ["slot"]


async def test_a_repeated_request_id_gets_the_same_answer(world: World) -> None:
    request_id = str(uuid.uuid4())

    first = await world.begin(request_id=request_id)
    second = await world.begin(request_id=request_id)
    with pytest.raises(RequestIdReused):
        await world.begin(request_id=request_id, display_name="Another")
    await world.complete(await world.consent(first))
    third = await world.begin(request_id=request_id)

    assert second.credential.name == first.credential.name
    assert second.authorize_url == first.authorize_url
    assert third.credential.name == first.credential.name
    assert third.authorize_url == ""


async def test_without_a_request_id_every_call_is_its_own(world: World) -> None:
    first, second = await world.begin(), await world.begin()

    assert first.credential.name != second.credential.name


async def test_a_personal_credential_does_not_exist_for_others(world: World) -> None:
    credential = await world.connect()

    for call in (
        world.vault.get_credential(credential.name, user="eve"),
        world.vault.get_access_token(credential.name, user="eve"),
        world.vault.get_access_token(credential.name),
        world.vault.revoke(credential.name, user="eve"),
        world.vault.delete_credential(credential.name, user="eve"),
        world.vault.update_credential(credential.name, user="eve", display_name="Mine"),
    ):
        with pytest.raises(CredentialNotFound):
            await call
    assert [each async for each in world.vault.list_credentials(world.parent, user="eve")] == []


async def test_a_workspace_credential_serves_everybody_and_obeys_its_owner(world: World) -> None:
    credential = await world.connect(credential_scope=WORKSPACE)

    token = await world.vault.get_access_token(credential.name)

    assert await world.backend.accepts("google", token.access_token)
    with pytest.raises(CallerNotAllowed) as refused:
        await world.vault.revoke(credential.name, user="eve")
    assert refused.value.credential == credential.name
    assert not refused.value.retryable


@pytest.mark.parametrize(
    "other",
    [
        {"user": "eve"},
        {"browser_binding": "another-browser-0123456789012345"},
        {"state": "made.up"},
        {"connector": "slack"},
        {"iss": "https://evil.example"},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_a_callback_of_somebody_else_is_refused_and_burns_nothing(
    world: World, other: dict[str, Any]
) -> None:
    back = await world.consent(await world.begin())

    with pytest.raises(StateInvalid):
        await world.complete(back, **other)

    completed = await world.complete(back)
    assert completed.credential.status is CredentialStatus.ACTIVE


async def test_a_state_takes_one_code_and_gives_one_answer(world: World) -> None:
    back = await world.consent(await world.begin())

    first = await world.complete(back)
    again = await world.complete(back)
    with pytest.raises(StateInvalid):
        await world.complete(back | {"code": "another"})

    assert again.credential.name == first.credential.name


async def test_a_newer_trip_replaces_an_older_one(world: World) -> None:
    begun = await world.begin()
    older = await world.consent(begun)
    await world.vault.reauthenticate(begun.credential.name, user="ada", browser_binding="b" * 32)

    with pytest.raises(StateInvalid):
        await world.complete(older)


async def test_who_declines_leaves_a_reason(world: World) -> None:
    begun = await world.begin()

    with pytest.raises(ConsentDenied) as refused:
        await world.complete(await world.consent(begun, decision="deny"))

    credential = await world.vault.get_credential(begun.credential.name, user="ada")
    assert refused.value.credential == credential.name
    assert credential.status is CredentialStatus.PENDING
    assert credential.status_reason is not None
    assert credential.status_reason.reason == "CONSENT_DENIED"


async def test_a_code_that_the_service_never_gave_is_rejected(world: World) -> None:
    back = await world.consent(await world.begin())

    with pytest.raises(CodeRejected):
        await world.complete(back | {"code": "made-up"})


async def test_a_credential_that_waits_for_its_person_gives_no_token(world: World) -> None:
    begun = await world.begin()

    with pytest.raises(CredentialPending) as refused:
        await world.vault.get_access_token(begun.credential.name, user="ada")

    assert refused.value.credential == begun.credential.name
    assert refused.value.metadata["connector"] == "google"
    assert "My google" in refused.value.user_message


async def test_a_dead_grant_expires_the_credential_until_a_person_comes(world: World) -> None:
    before = await world.connect()
    await world.backend.kill_grant(before.name)

    with pytest.raises(CredentialExpired) as refused:
        await world.vault.get_access_token(before.name, user="ada")
    expired = await world.vault.get_credential(before.name, user="ada")
    begun = await world.vault.reauthenticate(
        before.name, user="ada", browser_binding="browser-binding-of-a-test-0123456789"
    )
    after = await world.complete(await world.consent(begun))
    token = await world.vault.get_access_token(before.name, user="ada")

    assert refused.value.credential == before.name
    assert not refused.value.retryable
    assert refused.value.help_url.startswith("https://") or not refused.value.help_url
    assert expired.status is CredentialStatus.EXPIRED
    assert after.credential.name == before.name
    assert after.credential.status is CredentialStatus.ACTIVE
    assert await world.backend.accepts("google", token.access_token)


async def test_a_refused_token_is_replaced_once(world: World) -> None:
    credential = await world.connect()
    first = await world.vault.get_access_token(credential.name, user="ada")

    second = await world.vault.get_access_token(
        credential.name, user="ada", rejected_token=first.access_token
    )
    third = await world.vault.get_access_token(
        credential.name, user="ada", rejected_token=first.access_token
    )

    fourth = await world.vault.get_access_token(
        credential.name, user="ada", rejected_token=second.access_token
    )

    assert second.access_token != first.access_token
    assert third.access_token == second.access_token
    assert not third.warning
    # Whoever is refused twice in a minute has another trouble than an old token.
    assert fourth.access_token == second.access_token
    assert fourth.warning


async def test_a_service_that_is_busy_is_worth_another_try_later(world: World) -> None:
    credential = await world.connect()
    token = await world.vault.get_access_token(credential.name, user="ada")

    async with world.backend.trouble():
        with pytest.raises(ServiceRateLimited) as failed:
            await world.vault.get_access_token(
                credential.name, user="ada", rejected_token=token.access_token
            )

    assert failed.value.retryable
    assert failed.value.retry_after is not None
    assert failed.value.retry_after >= 1
    found = await world.vault.get_credential(credential.name, user="ada")
    assert found.status is CredentialStatus.ACTIVE


async def test_a_token_without_a_needed_scope_is_not_handed_out(world: World) -> None:
    credential = await world.connect()

    with pytest.raises(ScopesMissing) as refused:
        await world.vault.get_access_token(
            credential.name, user="ada", required_scopes=["openid", "a.scope"]
        )

    assert refused.value.metadata["missing_scopes"] == "a.scope"


async def test_a_token_that_cannot_live_as_long_comes_with_a_warning(world: World) -> None:
    credential = await world.connect()

    token = await world.vault.get_access_token(
        credential.name, user="ada", min_ttl=timedelta(hours=20)
    )

    assert token.warning


async def test_another_account_is_refused_unless_allowed(world: World) -> None:
    credential = await world.connect()
    binding = "browser-binding-of-a-test-0123456789"

    begun = await world.vault.reauthenticate(credential.name, user="ada", browser_binding=binding)
    with pytest.raises(AccountMismatch) as refused:
        await world.complete(await world.consent(begun, account="grace"))
    begun = await world.vault.reauthenticate(
        credential.name, user="ada", browser_binding=binding, allow_account_change=True
    )
    changed = await world.complete(await world.consent(begun, account="grace"))

    assert {"expected_account", "actual_account"} <= set(refused.value.metadata)
    assert changed.credential.account is not None
    assert changed.credential.account.email == "grace@example.com"


async def test_revoking_stops_at_once_and_again_changes_nothing(world: World) -> None:
    credential = await world.connect()

    first = await world.vault.revoke(credential.name, user="ada", revoke_at_service=True)
    again = await world.vault.revoke(credential.name, user="ada")

    assert first.service_revocation is ServiceRevocation.DONE
    assert again.credential.status is CredentialStatus.REVOKED
    with pytest.raises(CredentialRevoked):
        await world.vault.get_access_token(credential.name, user="ada")


async def test_revoking_ends_a_consent_under_way(world: World) -> None:
    begun = await world.begin()
    back = await world.consent(begun)

    revoked = await world.vault.revoke(begun.credential.name, user="ada")

    assert revoked.service_revocation is ServiceRevocation.NOT_REQUESTED
    with pytest.raises(StateInvalid):
        await world.complete(back)


async def test_a_list_is_read_to_its_end_and_filtered(world: World) -> None:
    names = [(await world.begin(display_name=f"{number}")).credential.name for number in range(5)]
    active = await world.connect("slack")

    everything = world.vault.list_credentials(world.parent, user="ada", page_size=2)
    found = world.vault.list_credentials(world.parent, user="ada", filter="status=ACTIVE")
    both = world.vault.list_credentials(
        world.parent, user="ada", filter='connector = "slack" AND owner = "ada"'
    )

    assert [each.name async for each in everything] == [*names, active.name]
    assert [each.name async for each in found] == [active.name]
    assert [each.name async for each in both] == [active.name]


@pytest.mark.parametrize("filter_", ["status=LOST", "colour=red", "status", "status=ACTIVE OR x=1"])
async def test_a_filter_that_nobody_understands_is_refused(world: World, filter_: str) -> None:
    with pytest.raises(InvalidField) as refused:
        async for _ in world.vault.list_credentials(world.parent, user="ada", filter=filter_):
            pass

    assert [field for field, _ in refused.value.violations] == ["filter"]


async def test_a_change_needs_the_present_version(world: World) -> None:
    before = await world.connect()

    after = await world.vault.update_credential(
        before.name,
        user="ada",
        display_name="New",
        credential_scope=WORKSPACE,
        etag=before.etag,
    )

    assert (after.display_name, after.credential_scope) == ("New", WORKSPACE)
    assert after.etag != before.etag
    with pytest.raises(EtagMismatch):
        await world.vault.update_credential(
            before.name, user="ada", display_name="Newer", etag=before.etag
        )
    with pytest.raises(EtagMismatch):
        await world.vault.delete_credential(before.name, user="ada", etag=before.etag)


async def test_a_workspace_credential_is_handed_over_a_personal_one_is_not(world: World) -> None:
    shared = await world.connect(credential_scope=WORKSPACE)
    personal = await world.connect()

    handed = await world.vault.update_credential(shared.name, user="ada", owner="grace")

    assert handed.owner == "grace"
    with pytest.raises(CallerNotAllowed):
        await world.vault.update_credential(personal.name, user="ada", owner="grace")
    with pytest.raises(CallerNotAllowed):
        await world.vault.delete_credential(shared.name, user="ada")


async def test_what_is_deleted_is_gone(world: World) -> None:
    credential = await world.connect()

    await world.vault.delete_credential(credential.name, user="ada", etag=credential.etag)

    with pytest.raises(CredentialNotFound):
        await world.vault.get_credential(credential.name, user="ada")


async def test_a_connection_can_be_tested(world: World) -> None:
    credential = await world.connect()

    checked = await world.vault.check_credential(credential.name, user="ada")

    assert checked.name == credential.name
    assert checked.account == credential.account


async def test_a_watcher_hears_of_every_change_until_the_end(world: World) -> None:
    begun = await world.begin()
    name = begun.credential.name
    statuses = []

    async with aclosing(world.vault.watch_credential(name, user="ada")) as changes:
        statuses.append((await anext(changes)).status)
        await world.complete(await world.consent(begun))
        statuses.append((await anext(changes)).status)
        await world.vault.revoke(name, user="ada")
        statuses.append((await anext(changes)).status)
        await world.vault.delete_credential(name, user="ada")
        with pytest.raises(CredentialNotFound):
            await anext(changes)

    assert statuses == ["PENDING", "ACTIVE", "REVOKED"]


async def test_a_batch_keeps_its_order_and_spoils_no_other(world: World) -> None:
    first, second = await world.connect(), await world.connect()
    pending = (await world.begin()).credential
    unknown = f"{world.parent}/credentials/{uuid.uuid4()}"
    foreign = f"workspaces/elsewhere/credentials/{uuid.uuid4()}"
    asked = [first.name, unknown, second.name, foreign, pending.name, first.name]

    results = await world.vault.batch_get_access_tokens(
        world.parent, [TokenRequest(name=name, user="ada") for name in asked]
    )

    kinds = [type(each) for each in results]
    assert kinds[:3] == [AccessToken, CredentialNotFound, AccessToken]
    assert issubclass(kinds[3], VaultError)
    assert kinds[4:] == [CredentialPending, AccessToken]
    tokens = [each.access_token for each in results if isinstance(each, AccessToken)]
    assert tokens[0] == tokens[2] != tokens[1]
    errors = [each for each in results if isinstance(each, VaultError)]
    assert all(each.user_message for each in errors)
    assert errors[-1].credential == pending.name


async def test_an_empty_batch_is_refused(world: World) -> None:
    with pytest.raises(InvalidField) as refused:
        await world.vault.batch_get_access_tokens(world.parent, [])

    assert [field for field, _ in refused.value.violations] == ["requests"]


async def test_the_catalogue_describes_what_can_be_connected(world: World) -> None:
    listed = [each async for each in world.vault.list_connectors(world.parent, page_size=1)]
    slack = await world.vault.get_connector("connectors/slack", parent=world.parent)

    keys = [each.key for each in listed]
    assert keys == sorted(keys)
    assert {"google", "slack"} <= set(keys)
    assert slack in listed
    assert slack.slots == ("bot", "user")
    assert slack.configured
    with pytest.raises(ConnectorNotFound):
        await world.vault.get_connector("connectors/nobody")


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("display_name", {"display_name": ""}),
        ("display_name", {"display_name": "x" * 129}),
        ("user", {"user": ""}),
        ("browser_binding", {"browser_binding": "short"}),
        ("request_id", {"request_id": "one"}),
        ("credential_scope", {"credential_scope": CredentialScope.UNSPECIFIED}),
        ("connection_params.domain", {"connection_params": {"domain": "x"}}),
    ],
)
async def test_a_wrong_field_is_named_with_a_remedy(
    world: World, field: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidField) as refused:
        await world.begin(**fields)

    assert [name for name, _ in refused.value.violations] == [field]
    assert all(remedy for _, remedy in refused.value.violations)


@pytest.mark.parametrize("name", ["", "credentials/1", "workspaces/A/credentials/1", "demo"])
async def test_a_malformed_name_is_named_with_a_remedy(world: World, name: str) -> None:
    with pytest.raises(InvalidField) as refused:
        await world.vault.get_access_token(name, user="ada")

    assert [field for field, _ in refused.value.violations] == ["name"]


async def test_an_unreasonable_lifetime_is_refused(world: World) -> None:
    credential = await world.connect()

    for min_ttl in (timedelta(seconds=-1), timedelta(hours=25)):
        with pytest.raises(InvalidField) as refused:
            await world.vault.get_access_token(credential.name, user="ada", min_ttl=min_ttl)
        assert [field for field, _ in refused.value.violations] == ["min_ttl"]


async def test_an_update_of_nothing_is_refused(world: World) -> None:
    credential = await world.connect()

    with pytest.raises(InvalidField) as refused:
        await world.vault.update_credential(credential.name, user="ada")

    assert [field for field, _ in refused.value.violations] == ["update_mask"]


async def test_a_connector_that_is_not_there_cannot_be_authorized(world: World) -> None:
    with pytest.raises(ConnectorNotFound):
        await world.begin("nobody")
