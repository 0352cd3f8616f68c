"""The whole life of a connection at every emulated service, and every fault it can meet."""

import asyncio
from dataclasses import replace

import pytest
from tests.oauth.harness import World, client_of, consent_of, query_of

from flero_vault.core.apps import own_origins
from flero_vault.core.connector import Connector, Verdict
from flero_vault.core.model import Account, ServiceRevocation
from flero_vault.core.ports import Delivery, Failure, SlotTokens, TokenAnswer
from flero_vault.core.secret import Secret
from flero_vault.oauth.catalogue import FileCatalogue

ALL = ("slack", "google", "microsoft", "salesforce", "hubspot", "oidc")
ACCOUNTS = {
    "slack": Account("T0FLEROEMU:U0ADALOVEL", "", "Emulated Workspace"),
    "google": Account("101815121018521018151", "ada@example.com", "Ada Lovelace"),
    "microsoft": Account(
        "5a1f9c2e-0b7d-4e36-8c41-7d2e9b60f3aa:1815121a-da00-4000-8000-000018521127",
        "ada@example.com",
        "ada@example.com",
    ),
    "salesforce": Account(
        "00DFL00000EMU8ATE0:005FL00000ADAAAA01", "ada@example.com", "ada@example.com"
    ),
    "hubspot": Account("14181512:1815001"),
    "oidc": Account("subject-ada", "ada@example.com", "Ada Lovelace"),
}
PROBED = {
    "slack": None,
    "microsoft": None,
    "hubspot": Account("14181512:1815001", "ada@example.com", "example.com"),
}
BEARER = {"slack": "bot", "hubspot": "bearer"}


def find(catalogue: FileCatalogue, key: str) -> Connector:
    connector = catalogue.find(key)
    assert connector is not None
    return connector


def answered(answer: TokenAnswer | Failure) -> TokenAnswer:
    assert isinstance(answer, TokenAnswer), answer
    return answer


def refresh_token(tokens: SlotTokens) -> Secret:
    assert tokens.refresh_token is not None
    return tokens.refresh_token


@pytest.mark.parametrize("key", ALL)
async def test_a_connection_lives_from_consent_to_revocation(
    key: str, world: World, emulated: FileCatalogue
) -> None:
    connector = find(emulated, key)
    client = client_of(connector, origins=own_origins(connector))
    consent = consent_of(connector)

    answer = answered(await world.connect(client, consent))

    tokens = answer.slots[0]
    assert len(answer.slots) == 1
    assert set(consent.scopes) <= set(tokens.scopes or ())
    assert tokens.token_type == BEARER.get(key, "Bearer")
    assert await world.servers.identify(client, answer) == ACCOUNTS[key]
    assert await world.servers.probe(client, tokens.access_token) == PROBED.get(key, ACCOUNTS[key])

    spent = refresh_token(tokens)
    fresh = answered(await world.servers.refresh(client, tokens.slot, spent, 5)).slots[0]
    assert fresh.slot == tokens.slot
    assert fresh.scopes is None or set(consent.scopes) <= set(fresh.scopes)
    assert await world.whoami(key, fresh.access_token) == 200

    kept = fresh.refresh_token or spent
    outcome = await world.servers.revoke(client, fresh.access_token, kept)
    if key == "microsoft":
        assert outcome is ServiceRevocation.UNSUPPORTED
        return
    assert outcome is ServiceRevocation.DONE
    dead = await world.servers.refresh(client, tokens.slot, kept, 5)
    assert isinstance(dead, Failure)
    assert (dead.delivery, dead.verdict) == (Delivery.ANSWERED, Verdict.RECONNECT)
    again = await world.servers.revoke(client, fresh.access_token, kept)
    assert again is ServiceRevocation.DONE  # gone is what we wanted


async def test_slack_holds_a_bot_and_a_user_grant_that_rotate_apart(
    world: World, emulated: FileCatalogue
) -> None:
    connector = find(emulated, "slack")
    client = client_of(connector)
    consent = consent_of(connector, scopes=("chat:write", "search:read"))
    url = await world.servers.authorize_url(client, consent)
    assert isinstance(url, Secret)
    query = query_of(url.reveal())
    assert (query["scope"], query["user_scope"]) == ("chat:write", "search:read")
    assert "code_challenge" not in query

    answer = answered(await world.connect(client, consent))
    assert [slot.slot for slot in answer.slots] == ["bot", "user"]
    assert [slot.scopes for slot in answer.slots] == [("chat:write",), ("search:read",)]
    assert answer.connection == {"team_id": "T0FLEROEMU"}

    spent = refresh_token(answer.slots[1])
    fresh = answered(await world.servers.refresh(client, "user", spent, 5))
    assert [(slot.slot, slot.token_type) for slot in fresh.slots] == [("user", "user")]
    # A token of the other slot is never taken for this one's.
    bot = refresh_token(answer.slots[0])
    strange = await world.servers.refresh(client, "user", bot, 5)
    assert strange == Failure(Delivery.UNKNOWN, Verdict.SERVICE_DOWN, "unreadable")


async def test_slack_can_be_installed_for_a_user_alone(
    world: World, emulated: FileCatalogue
) -> None:
    connector = find(emulated, "slack")
    client, consent = client_of(connector), consent_of(connector, scopes=("search:read",))
    answer = answered(await world.connect(client, consent))
    assert [slot.slot for slot in answer.slots] == ["user"]
    assert await world.servers.identify(client, answer) == ACCOUNTS["slack"]


async def test_salesforce_says_which_host_to_call(world: World, emulated: FileCatalogue) -> None:
    connector = find(emulated, "salesforce")
    answer = answered(await world.connect(client_of(connector), consent_of(connector)))
    assert answer.connection == {"instance_url": "http://localhost:9400/salesforce"}
    assert answer.slots[0].expires_in is None


async def test_microsoft_redeems_on_the_tenant_of_the_consent(
    world: World, emulated: FileCatalogue
) -> None:
    connector = find(emulated, "microsoft")
    client = client_of(connector, params={"tenant": "example.com"})
    answer = answered(await world.connect(client, consent_of(connector)))
    assert await world.servers.identify(client, answer) == ACCOUNTS["microsoft"]
    assert await world.servers.issuer(client) == ""  # known only once somebody signed in


async def test_issuers_are_those_that_the_redirect_names(
    world: World, emulated: FileCatalogue
) -> None:
    for key in ("google", "oidc"):
        connector = find(emulated, key)
        client = client_of(connector)
        params = await world.consent(client, consent_of(connector))
        assert await world.servers.issuer(client) == params["iss"]


@pytest.mark.parametrize("key", ["slack", "google", "oidc"])
async def test_a_login_hint_goes_where_it_is_understood(
    key: str, world: World, emulated: FileCatalogue
) -> None:
    connector = find(emulated, key)
    consent = consent_of(connector, login_hint="grace@example.com")
    url = await world.servers.authorize_url(client_of(connector), consent)
    assert isinstance(url, Secret)
    assert ("login_hint" in query_of(url.reveal())) is (key != "slack")


FAULTS = {
    "invalid_grant": (Delivery.ANSWERED, Verdict.RECONNECT),
    "invalid_client": (Delivery.ANSWERED, Verdict.APP_REFUSED),
    "server_error_500": (Delivery.UNKNOWN, Verdict.SERVICE_DOWN),
    "html_502": (Delivery.UNKNOWN, Verdict.SERVICE_DOWN),
    "rate_limited_429": (Delivery.ANSWERED, Verdict.SLOW_DOWN),
    "truncated": (Delivery.UNKNOWN, Verdict.SERVICE_DOWN),
    "reset": (Delivery.UNKNOWN, Verdict.SERVICE_DOWN),
    "empty": (Delivery.UNKNOWN, Verdict.SERVICE_DOWN),
    "html_200": (Delivery.UNKNOWN, Verdict.SERVICE_DOWN),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("key", ALL)
async def test_every_fault_has_one_meaning(
    key: str, fault: str, world: World, emulated: FileCatalogue
) -> None:
    connector = find(emulated, key)
    client, consent = client_of(connector), consent_of(connector)
    tokens = answered(await world.connect(client, consent)).slots[0]
    await world.control(key, fail=fault)

    spent = refresh_token(tokens)
    refreshed = await world.servers.refresh(client, tokens.slot, spent, 5)
    exchanged = await world.connect(client, consent)

    for failure in (refreshed, exchanged):
        assert isinstance(failure, Failure)
        assert (failure.delivery, failure.verdict) == FAULTS[fault]
        assert (failure.retry_after == 7) is (fault == "rate_limited_429")


async def test_an_answer_that_takes_too_long_may_have_spent_the_token(
    world: World, emulated: FileCatalogue
) -> None:
    connector = find(emulated, "oidc")
    client = client_of(connector)
    tokens = answered(await world.connect(client, consent_of(connector))).slots[0]
    await world.control("oidc", hang_s=30)
    began = asyncio.get_running_loop().time()
    failure = await world.servers.refresh(client, "", refresh_token(tokens), 0.1)
    assert failure == Failure(Delivery.UNKNOWN, Verdict.SERVICE_DOWN, "timeout")
    assert asyncio.get_running_loop().time() - began < 5


@pytest.mark.parametrize("key", ALL)
async def test_the_next_secret_is_tried_when_one_is_refused(
    key: str, world: World, emulated: FileCatalogue
) -> None:
    connector = find(emulated, key)
    client = client_of(connector, "wrong", f"flero-dev-secret-{key}")
    before = (await world.counters(key))["token_calls"]
    answered(await world.connect(client, consent_of(connector)))
    assert (await world.counters(key))["token_calls"] == before + 2


@pytest.mark.parametrize("key", ALL)
async def test_a_secret_only_goes_to_the_origins_of_its_app(
    key: str, world: World, emulated: FileCatalogue
) -> None:
    connector = find(emulated, key)
    client, consent = client_of(connector), consent_of(connector)
    tokens = answered(await world.connect(client, consent)).slots[0]
    before = await world.counters(key)
    elsewhere = replace(client, origins=("https://elsewhere.example.com",))
    refused = Failure(Delivery.NOT_SENT, Verdict.APP_REFUSED, "origin_not_listed")

    spent = refresh_token(tokens)
    assert await world.connect(elsewhere, consent) == refused
    assert await world.servers.refresh(elsewhere, tokens.slot, spent, 5) == refused
    assert await world.servers.probe(elsewhere, tokens.access_token) == refused
    if key != "microsoft":
        assert await world.servers.revoke(elsewhere, tokens.access_token, spent) == refused

    after = await world.counters(key)
    counts = [name for name in after if name.endswith("_calls")]
    assert {name: after[name] for name in counts} == {name: before[name] for name in counts}


@pytest.mark.parametrize("key", [key for key in ALL if key != "oidc"])
async def test_a_dead_access_token_fails_the_probe(
    key: str, world: World, emulated: FileCatalogue
) -> None:
    connector = find(emulated, key)
    client = client_of(connector)
    tokens = answered(await world.connect(client, consent_of(connector))).slots[0]
    await world.control(key, kill_access_tokens=True)
    failure = await world.servers.probe(client, tokens.access_token)
    assert isinstance(failure, Failure)
    assert (failure.delivery, failure.verdict) == (Delivery.ANSWERED, Verdict.RECONNECT)


async def test_a_probe_that_fails_at_the_service_blames_the_service(
    world: World, emulated: FileCatalogue
) -> None:
    connector = find(emulated, "salesforce")
    client = client_of(connector)
    await world.control("salesforce", identity_fail=True)
    answer = answered(await world.connect(client, consent_of(connector)))
    failure = await world.servers.identify(client, answer)
    assert isinstance(failure, Failure)
    assert failure.verdict is Verdict.SERVICE_DOWN
