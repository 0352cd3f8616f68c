"""What a refusal means, how long to back off, what is missing."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.values import connector

from flero_vault.core.authorize import _service_error, error_verdict, permissions
from flero_vault.core.connector import Token, Verdict
from flero_vault.core.decisions import (
    BACK_OFF_FIRST,
    BACK_OFF_MAX,
    back_off,
    missing,
    verdict_of,
)
from flero_vault.core.errors import Reason
from flero_vault.core.ports import Delivery, Failure
from flero_vault.core.refresh import ENDS_A_GRANT

codes = st.lists(st.text(max_size=12), max_size=4).map(tuple)
scopes = st.lists(st.sampled_from(["mail", "calendar", "files", "Mail"]), max_size=6).map(tuple)


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("invalid_grant", Verdict.RECONNECT),
        ("invalid_client", Verdict.APP_REFUSED),
        ("unauthorized_client", Verdict.APP_REFUSED),
        ("unsupported_grant_type", Verdict.APP_REFUSED),
        ("invalid_request", Verdict.APP_REFUSED),
        ("invalid_scope", Verdict.SCOPE_REFUSED),
        ("access_denied", Verdict.CONSENT_DENIED),
        ("server_error", Verdict.SERVICE_DOWN),
        ("temporarily_unavailable", Verdict.SERVICE_DOWN),
        ("slow_down", Verdict.SLOW_DOWN),
        ("interaction_required", Verdict.RECONNECT),
    ],
)
def test_the_codes_of_the_rfcs_mean_what_they_say(code: str, verdict: Verdict) -> None:
    assert verdict_of({}, http_status=400, codes=(code,)) is verdict


@given(status=st.integers(0, 599), said=codes)
def test_codes_that_nobody_knows_never_end_a_grant(*, status: int, said: tuple[str, ...]) -> None:
    unknown = tuple(f"?{code}" for code in said)
    assert verdict_of({}, http_status=status, codes=unknown) not in ENDS_A_GRANT


@given(said=codes)
def test_too_many_requests_is_never_the_grants_fault(said: tuple[str, ...]) -> None:
    given_codes = ("invalid_grant", *said)
    assert verdict_of({}, http_status=429, codes=given_codes) is Verdict.SLOW_DOWN


@given(verdict=st.sampled_from(Verdict), before=codes)
def test_the_connectors_own_codes_win(*, verdict: Verdict, before: tuple[str, ...]) -> None:
    own = {"invalid_grant": verdict}
    said = (*(f"?{code}" for code in before), "access_denied", "invalid_grant")
    assert verdict_of(own, http_status=400, codes=said) is verdict


def test_of_two_known_codes_the_most_specific_one_counts() -> None:
    own = {"AADSTS65001": Verdict.ADMIN_APPROVAL}
    said = ("AADSTS65001", "invalid_grant")
    assert verdict_of(own, http_status=400, codes=said) is Verdict.ADMIN_APPROVAL
    assert verdict_of({}, http_status=400, codes=("login_required", "server_error")) is (
        Verdict.RECONNECT
    )


@pytest.mark.parametrize("error", ["access_denied", "ACCESS_DENIED", "Access-Denied"])
def test_an_error_on_the_redirect_is_understood_in_any_spelling(error: str) -> None:
    assert error_verdict(connector(), error) is Verdict.CONSENT_DENIED


def test_a_connectors_own_redirect_error_is_understood_as_it_stands() -> None:
    own = connector(token=Token(errors={"OAUTH_APP_BLOCKED": Verdict.ADMIN_APPROVAL}))
    assert error_verdict(own, "OAUTH_APP_BLOCKED") is Verdict.ADMIN_APPROVAL


@given(failures=st.integers(0, 10**6), jitter=st.floats(0, 1, exclude_max=True))
def test_a_back_off_stays_between_half_a_second_and_five_minutes(
    *, failures: int, jitter: float
) -> None:
    wait = back_off(failures, jitter)
    assert BACK_OFF_FIRST / 2 <= wait <= BACK_OFF_MAX


@given(failures=st.integers(0, 60), jitter=st.floats(0, 1))
def test_a_back_off_never_gets_shorter_with_more_failures(*, failures: int, jitter: float) -> None:
    assert back_off(failures, jitter) <= back_off(failures + 1, jitter)


def test_jitter_spreads_a_back_off_over_half_of_it() -> None:
    assert back_off(3, 0) == timedelta(seconds=4)
    assert back_off(3, 1) == timedelta(seconds=8)


@given(asked=scopes, granted=scopes)
def test_missing_scopes_are_compared_as_sets_and_keep_their_order(
    *, asked: tuple[str, ...], granted: tuple[str, ...]
) -> None:
    absent = missing(asked, granted)
    assert set(absent) == set(asked) - set(granted)
    assert list(absent) == [scope for scope in asked if scope in absent]
    assert missing(asked, tuple(reversed(granted))) == absent
    assert missing(asked, asked + granted) == ()


def test_permissions_are_sentences_that_say_what_was_granted() -> None:
    speaking = connector(scopes={"mail": "Read your mail"})
    found = permissions(speaking, ("mail", "odd"), ("odd",))
    assert [(p.scope, p.description, p.granted) for p in found] == [
        ("mail", "Read your mail", False),
        ("odd", "", True),
    ]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (Failure(Delivery.ANSWERED, Verdict.SERVICE_DOWN, "not_allowed"), Reason.CODE_REJECTED),
        (
            Failure(Delivery.ANSWERED, Verdict.SERVICE_DOWN, "temporarily_unavailable"),
            Reason.SERVICE_UNAVAILABLE,
        ),
        (
            Failure(Delivery.ANSWERED, Verdict.SERVICE_DOWN, "http_503", 30.0),
            Reason.SERVICE_UNAVAILABLE,
        ),
        (Failure(Delivery.UNKNOWN, Verdict.SERVICE_DOWN, "cut_off"), Reason.SERVICE_UNAVAILABLE),
    ],
)
def test_a_code_that_is_refused_for_a_reason_nobody_knows_is_refused_not_unanswered(
    failure: Failure, reason: Reason
) -> None:
    assert _service_error(failure, connector(), {}).reason is reason
