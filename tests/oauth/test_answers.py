"""Token answers as the real world sends them (a table), and as nobody ever would (a fuzz)."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oauth.harness import plain_connector

from flero_vault.core.connector import (
    Authorization,
    Connector,
    Learned,
    Lifetimes,
    Slot,
    Token,
    Verdict,
)
from flero_vault.core.ports import Delivery, Failure, SlotTokens, TokenAnswer
from flero_vault.oauth import answers
from flero_vault.oauth.answers import HttpAnswer, parse, retry_after
from flero_vault.oauth.catalogue import load

PLAIN = plain_connector()


def slot_of(body: Mapping[str, Any] | bytes, connector: Connector = PLAIN) -> SlotTokens:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = parse(connector, HttpAnswer(200, raw))
    assert isinstance(answer, TokenAnswer), answer
    return answer.slots[0]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (3600, 3600),
        (3599.5, 3599.5),
        ("3600", 3600),
        (" 3600 ", 3600),
        (0, None),
        ("0", None),
        (-1, None),
        (True, None),
        ("soon", None),
        ([3600], None),
        (10**15, None),
        (float("inf"), None),
        (float("nan"), None),
    ],
)
def test_lengths_of_life(said: object, meant: float | None) -> None:
    assert slot_of({"access_token": "t", "expires_in": said}).expires_in == meant
    assert slot_of({"access_token": "t", "refresh_expires_in": said}).refresh_expires_in == meant


@pytest.mark.parametrize("body", [{}, {"expires_in": None}, {"expires_in": ""}])
def test_a_life_that_is_not_said_is_the_connectors(body: dict[str, object]) -> None:
    connector = plain_connector(lifetimes=Lifetimes(access_token_s=1800))
    assert slot_of({"access_token": "t", **body}, connector).expires_in == 1800
    assert slot_of({"access_token": "t", "expires_in": 0}, connector).expires_in is None


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        ({}, None),
        ({"scope": None}, None),
        ({"scope": "a b  a"}, ("a", "b")),
        ({"scope": "a,b"}, ("a", "b")),
        ({"scope": ["a", "b", 3, ""]}, ("a", "b")),
        ({"scopes": ["a"]}, ("a",)),
        ({"scope": ""}, ()),
        ({"scope": 7}, None),
    ],
)
def test_scopes(fields: dict[str, object], meant: tuple[str, ...] | None) -> None:
    assert slot_of({"access_token": "t", **fields}).scopes == meant


def test_scopes_with_a_separator_of_their_own() -> None:
    connector = plain_connector()
    separated = Connector(
        key="x",
        display_name="X",
        verified=connector.verified,
        verified_by="https://x.example",
        authorization=Authorization(scope_separator=";"),
    )
    assert slot_of({"access_token": "t", "scope": "a;b"}, separated).scopes == ("a", "b")


def test_a_refresh_token_proves_offline_access() -> None:
    connector = plain_connector(scopes={"offline_access": "Stay connected"})
    told = {"access_token": "t", "scope": "a"}
    assert slot_of(told, connector).scopes == ("a",)
    assert slot_of({**told, "refresh_token": "r"}, connector).scopes == ("a", "offline_access")


def test_token_type_and_refresh_token_may_be_missing() -> None:
    tokens = slot_of({"access_token": "t", "refresh_token": ""})
    assert (tokens.token_type, tokens.refresh_token) == ("Bearer", None)


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"access_token": "t", "expires_in": "60"}',
        b"access_token=t&expires_in=60&scope=",
        b'  {"access_token":"t","expires_in":60}\r\n',
    ],
)
def test_bodies_are_known_by_their_shape(body: bytes) -> None:
    tokens = slot_of(body)
    assert (tokens.access_token.reveal(), tokens.expires_in) == ("t", 60)


@pytest.mark.parametrize(
    ("status", "body", "code", "verdict"),
    [
        (400, {"error": "invalid_grant"}, "invalid_grant", Verdict.RECONNECT),
        (200, {"error": "invalid_grant", "access_token": "t"}, "invalid_grant", Verdict.RECONNECT),
        (200, {"ok": False, "error": "odd"}, "odd", Verdict.SERVICE_DOWN),
        (200, {"ok": False}, "unreadable", Verdict.SERVICE_DOWN),
        (401, {"error": {"code": "invalid_client"}}, "invalid_client", Verdict.APP_REFUSED),
        (400, {"error": {"code": 190, "type": "OAuthException"}}, "190", Verdict.SERVICE_DOWN),
        (400, {"error": "the token abc is bad"}, "unreadable", Verdict.SERVICE_DOWN),
        (400, {"error": True}, "unreadable", Verdict.SERVICE_DOWN),
        (400, {"status": "BAD_X", "message": "m"}, "BAD_X", Verdict.SERVICE_DOWN),
        (
            400,
            {"status": "error", "message": "m", "category": "VALIDATION_ERROR"},
            "VALIDATION_ERROR",
            Verdict.SERVICE_DOWN,
        ),
        (401, {"errors": [{"errorType": "expired_token"}]}, "expired_token", Verdict.SERVICE_DOWN),
        (401, [{"errorCode": "INVALID_SESSION_ID"}], "INVALID_SESSION_ID", Verdict.SERVICE_DOWN),
        (400, b"error=invalid_grant", "invalid_grant", Verdict.RECONNECT),
        (
            400,
            {"error": "invalid_grant", "error_codes": [65001], "suberror": "consent_required"},
            "AADSTS65001",
            Verdict.RECONNECT,
        ),
        (
            400,
            {"error": "invalid_grant", "error_subtype": "invalid_rapt"},
            "invalid_rapt",
            Verdict.RECONNECT,
        ),
        (429, b"<html>", "http_429", Verdict.SLOW_DOWN),
        (
            400,
            {"error": "temporarily_unavailable"},
            "temporarily_unavailable",
            Verdict.SERVICE_DOWN,
        ),
    ],
)
def test_refusals(status: int, body: object, code: str, verdict: Verdict) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert parse(PLAIN, HttpAnswer(status, raw)) == Failure(Delivery.ANSWERED, verdict, code)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"<html>error=1</html>"),
        (200, b'{"access_token": "t"'),
        (200, b'{"access_token": 7}'),
        (200, b'{"access_token": "a\\r\\nb"}'),
        (200, b'{"access_token": "\\ud800"}'),
        (200, b'{"token_type": "Bearer"}'),
        (200, b"[" * 100_000),
        (302, b""),
        (400, b"Bad Request"),
        (403, b"<html>blocked</html>"),
        (500, b'{"status": 500, "error": "Internal Server Error"}'),
        (502, b'{"access_token": "t"}'),
        (503, b"busy"),
        (504, b""),
    ],
)
def test_what_is_no_answer_leaves_the_fate_unknown(status: int, body: bytes) -> None:
    failure = parse(PLAIN, HttpAnswer(status, body))
    assert isinstance(failure, Failure)
    assert (failure.delivery, failure.verdict) == (Delivery.UNKNOWN, Verdict.SERVICE_DOWN)


def test_busy_with_a_time_to_come_back_is_an_answer() -> None:
    failure = parse(PLAIN, HttpAnswer(503, b"<html>", 30.0))
    assert failure == Failure(Delivery.ANSWERED, Verdict.SERVICE_DOWN, "http_503", 30.0)


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        (None, None),
        ("7", 7),
        ("0", 0),
        ("-3", 0),
        ("99999", 3600),
        ("soon", None),
        ("", None),
        ("inf", None),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
        ("Fri, 15 Jan 2027 08:01:00 -0000", 60),
    ],
)
def test_retry_after(header: str | None, meant: float | None) -> None:
    assert retry_after(header, 1_800_000_000.0) == meant


def test_connection_values_must_match() -> None:
    connector = plain_connector(
        connection={
            "instance_url": Learned(path="instance_url", pattern=r"https://[a-z]+\.example\.com"),
            "api": Learned(path="api"),
            "realm": Learned(path="realmId", pattern="[0-9]+"),
            "team": Learned(path="team.id"),
        }
    )

    def learned(body: Mapping[str, object], redirect: dict[str, str]) -> Mapping[str, str]:
        raw = json.dumps({"access_token": "t", **body}).encode()
        answer = parse(connector, HttpAnswer(200, raw), redirect=redirect)
        assert isinstance(answer, TokenAnswer)
        return answer.connection

    good = {"instance_url": "https://eu.example.com", "team": {"id": 7}}
    assert learned(good, {"realmId": "42"}) == {
        "instance_url": "https://eu.example.com",
        "team": "7",
        "realm": "42",
    }
    evil = {"instance_url": "https://eu.example.com.evil.com", "api": "https://10.0.0.1"}
    assert learned(evil, {"realmId": "x"}) == {}


def test_identity_holds_nothing_secret() -> None:
    slack = load(None, allow_loopback=False).find("slack")
    assert slack is not None
    body = {
        "ok": True,
        "access_token": "canary-access",
        "token_type": "bot",
        "refresh_token": "canary-refresh",
        "team": {"id": "T1", "name": "Team"},
        "authed_user": {"id": "U1"},
        "incoming_webhook": {"url": "https://hooks.slack.com/canary-hook"},
    }
    answer = parse(slack, HttpAnswer(200, json.dumps(body).encode()))
    assert isinstance(answer, TokenAnswer)
    assert answer.identity == {"team.id": "T1", "authed_user.id": "U1", "team.name": "Team"}
    assert "canary" not in repr(answer)


FUZZED = plain_connector(
    slots=(Slot(name="bot", token_type="bot"), Slot(name="user", path="authed_user")),
    connection={"team": Learned(path="team.id"), "url": Learned(path="url", pattern="https://x")},
)
DEEP = Connector(
    key="deep",
    display_name="Deep",
    verified=PLAIN.verified,
    verified_by="https://x.example",
    token=Token(error_path="data.error.code"),
    slots=(Slot(path="data.token"),),
)
KEYS = st.sampled_from(
    [
        *("access_token", "refresh_token", "token_type", "scope", "scopes", "expires_in", "ok"),
        *("error", "errors", "error_codes", "suberror", "status", "message", "category", "code"),
        *("authed_user", "team", "id", "url", "data", "token", "refresh_expires_in", "errorCode"),
    ]
)
CANARY = "canary secret"
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.just(CANARY)
    | st.just("bot")
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner), max_leaves=12
)
BODIES = (
    st.binary(max_size=200)
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(KEYS, VALUES, max_size=8).map(lambda value: json.dumps(value).encode())
    | st.text(alphabet="access_token=&%+0 <>{}[]\"'", max_size=60).map(str.encode)
)


@settings(max_examples=600, deadline=None)
@given(
    body=BODIES,
    status=st.sampled_from([200, 201, 302, 400, 401, 403, 429, 500, 503]),
    refreshed=st.sampled_from([None, "", "bot", "user"]),
    connector=st.sampled_from([PLAIN, FUZZED, DEEP]),
)
def test_no_body_whatsoever_raises_or_leaks(
    body: bytes, status: int, refreshed: str | None, connector: Connector
) -> None:
    result = parse(connector, HttpAnswer(status, body), refreshed=refreshed, redirect={"x": "y"})
    answers.id_token(HttpAnswer(status, body))
    if isinstance(result, Failure):
        assert answers._CODE.fullmatch(result.code)
        assert CANARY not in result.code
    else:
        assert result.slots
        assert 200 <= status < 300
        for slot in result.slots:
            assert slot.access_token.reveal()
            assert slot.expires_in is None or 0 < slot.expires_in <= answers.LIFE_MAX_S


@settings(max_examples=200, deadline=None)
@given(header=st.none() | st.text(max_size=40))
def test_no_retry_after_raises(header: str | None) -> None:
    seconds = retry_after(header, 1_800_000_000.0)
    assert seconds is None or 0 <= seconds <= answers.RETRY_AFTER_MAX_S
