"""What a call for a token needs: serve, refresh, wait or a person. Properties over all grants."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.values import NOW, SEALED, grant

from flero_vault.core.connector import Refresh as Facts
from flero_vault.core.decisions import (
    HINT_SPACING,
    HINT_WINDOW,
    HINTS_PER_WINDOW,
    MIN_TTL_DEFAULT,
    MIN_TTL_MAX,
    YOUNG,
    Dead,
    Need,
    Refresh,
    Serve,
    Wait,
    is_valid,
    may_hint,
    need,
    wanted_life,
)
from flero_vault.core.model import Grant

PLAIN = Facts()
seconds = st.one_of(
    st.sampled_from([-1, 0, 1, 29, 30, 31, 59, 60, 61, 1799, 1800, 3600]),
    st.integers(-90_000, 90_000),
)
moments = seconds.map(lambda s: NOW + timedelta(seconds=s))
maybe_moments = st.none() | moments
min_ttls = st.integers(0, int(MIN_TTL_MAX.total_seconds())).map(lambda s: timedelta(seconds=s))
facts = st.builds(
    Facts,
    kills_access_token=st.booleans(),
    window_s=st.none() | st.floats(0, 7200),
)


@st.composite
def grants(draw: st.DrawFn) -> Grant:
    return grant(
        access_token=draw(st.sampled_from([SEALED, None])),
        refresh_token=draw(st.sampled_from([SEALED, SEALED, None])),
        issue_time=draw(maybe_moments),
        expire_time=draw(maybe_moments),
        dead_time=draw(st.none() | moments),
        retry_time=draw(maybe_moments),
        hinted_times=tuple(draw(st.lists(moments, max_size=6))),
        lease_expire_time=draw(maybe_moments),
    )


def decide(
    found: Grant,
    min_ttl: timedelta = MIN_TTL_DEFAULT,
    *,
    rejected: bool = False,
    known: Facts = PLAIN,
    now: datetime = NOW,
) -> Need:
    return need(found, min_ttl=min_ttl, rejected=rejected, facts=known, now=now)


def living(age: float, left: float, **fields: object) -> Grant:
    issued, ends = NOW - timedelta(seconds=age), NOW + timedelta(seconds=left)
    return grant(issue_time=issued, expire_time=ends, **fields)


@settings(max_examples=1000)
@given(found=grants(), min_ttl=min_ttls, rejected=st.booleans(), known=facts)
def test_whatever_the_grant_the_decision_is_a_safe_one(
    *, found: Grant, min_ttl: timedelta, rejected: bool, known: Facts
) -> None:
    decision = decide(found, min_ttl, rejected=rejected, known=known)
    valid = is_valid(found, NOW)
    match decision:
        case Serve():
            assert valid
            assert found.access_token is not None
            assert found.expire_time is None or found.expire_time > NOW
            assert found.dead_time is None
        case Refresh(servable, hinted):
            assert found.dead_time is None
            assert found.refresh_token is not None
            assert not servable or (valid and not known.kills_access_token and not rejected)
            assert not hinted or (rejected and may_hint(found.hinted_times, NOW))
            under_way = found.lease_expire_time is not None and found.lease_expire_time > NOW
            resting = found.retry_time is not None and found.retry_time > NOW
            assert not resting or (rejected and valid and under_way)
        case Wait(until):
            assert found.dead_time is None
            assert found.refresh_token is not None
            assert until == found.retry_time
            assert until > NOW
            assert not valid or rejected
        case Dead():
            assert found.dead_time is not None or (found.refresh_token is None and not valid)


@given(found=grants(), min_ttl=min_ttls, rejected=st.booleans(), known=facts)
def test_a_dead_grant_is_dead_for_everybody(
    *, found: Grant, min_ttl: timedelta, rejected: bool, known: Facts
) -> None:
    dead = replace(found, dead_time=NOW - timedelta(days=1))
    assert decide(dead, min_ttl, rejected=rejected, known=known) == Dead()


@given(found=grants(), min_ttl=min_ttls, rejected=st.booleans(), known=facts)
def test_without_a_refresh_token_nothing_is_ever_refreshed(
    *, found: Grant, min_ttl: timedelta, rejected: bool, known: Facts
) -> None:
    stuck = replace(found, refresh_token=None)
    assert isinstance(decide(stuck, min_ttl, rejected=rejected, known=known), Serve | Dead)


@given(life=st.integers(61, 90_000), part=st.floats(0, 0.5), min_ttl=min_ttls, known=facts)
def test_no_min_ttl_refreshes_a_token_younger_than_half_its_life(
    *, life: int, part: float, min_ttl: timedelta, known: Facts
) -> None:
    age = life * part
    decision = decide(living(age, life - age), min_ttl, known=known)
    assert isinstance(decision, Serve)


@given(life=st.floats(1, 90_000), part=st.floats(0, 1, exclude_max=True), min_ttl=min_ttls)
def test_a_token_younger_than_thirty_seconds_is_served(
    *, life: float, part: float, min_ttl: timedelta
) -> None:
    age = min(YOUNG.total_seconds() - 0.001, life * part * 0.999)
    assert isinstance(decide(living(age, life - age), min_ttl), Serve)


@given(found=grants(), min_ttl=min_ttls, known=facts)
def test_the_wanted_life_is_never_above_any_of_its_bounds(
    *, found: Grant, min_ttl: timedelta, known: Facts
) -> None:
    wanted = wanted_life(found, min_ttl, known)
    bounds = [min_ttl]
    if found.expire_time and found.issue_time:
        bounds.append((found.expire_time - found.issue_time) / 2)
    if known.window_s is not None:
        bounds.append(timedelta(seconds=known.window_s))
    assert wanted in bounds
    assert all(wanted <= bound for bound in bounds)


@pytest.mark.parametrize(
    ("left", "refreshed"), [(61, False), (60, False), (59, True), (1, True), (0, True), (-5, True)]
)
def test_the_default_min_ttl_refreshes_in_the_last_minute(*, left: int, refreshed: bool) -> None:
    decision = decide(living(3600, left))
    assert decision == (Refresh(servable=left > 0, hinted=False) if refreshed else Serve())


def test_a_token_that_ends_in_this_moment_is_not_valid() -> None:
    assert not is_valid(grant(expire_time=NOW), NOW)
    assert is_valid(grant(expire_time=NOW + timedelta(microseconds=1)), NOW)
    assert is_valid(grant(expire_time=None), NOW)
    assert not is_valid(grant(expire_time=None, access_token=None), NOW)


def test_a_token_of_unknown_length_is_served_until_somebody_says_that_it_is_refused() -> None:
    endless = grant(expire_time=None)
    assert decide(endless, MIN_TTL_MAX) == Serve()
    assert decide(endless, rejected=True) == Refresh(servable=False, hinted=True)


def test_a_service_that_forbids_early_refreshes_is_asked_in_its_window_only() -> None:
    exact = Facts(window_s=30)
    early = decide(living(560, 40), timedelta(minutes=5), known=exact)
    assert isinstance(early, Serve)
    assert early.warning
    late = decide(living(575, 25), timedelta(minutes=5), known=exact)
    assert late == Refresh(servable=True, hinted=False)


def test_where_a_refresh_kills_the_access_token_everybody_waits_for_it() -> None:
    killing = Facts(kills_access_token=True)
    assert decide(living(3600, 10), known=killing) == Refresh(servable=False, hinted=False)


@given(left=st.integers(1, 59), rest=st.integers(1, 300))
def test_while_the_service_rests_a_valid_token_is_served_with_a_warning(
    *, left: int, rest: int
) -> None:
    resting = NOW + timedelta(seconds=rest)
    decision = decide(living(3600, left, retry_time=resting))
    assert isinstance(decision, Serve)
    assert decision.warning


def test_while_the_service_rests_nobody_without_a_valid_token_asks_it() -> None:
    resting = NOW + timedelta(seconds=5)
    assert decide(living(3600, -1, retry_time=resting)) == Wait(resting)
    rested = living(3600, -1, retry_time=NOW)
    assert decide(rested) == Refresh(servable=False, hinted=False)


def test_while_the_service_rests_a_refused_token_is_not_served() -> None:
    resting = NOW + timedelta(seconds=5)
    assert decide(living(600, 3000, retry_time=resting), rejected=True) == Wait(resting)


def test_a_refused_token_waits_for_the_refresh_under_way_without_a_hint_of_its_own() -> None:
    busy = living(600, 3000, lease_expire_time=NOW + timedelta(seconds=5))
    assert decide(busy, rejected=True) == Refresh(servable=False, hinted=False)


def test_a_refused_token_that_was_refreshed_a_moment_ago_is_served_with_a_warning() -> None:
    hinted = living(600, 3000, hinted_times=(NOW - timedelta(seconds=59),))
    decision = decide(hinted, rejected=True)
    assert isinstance(decision, Serve)
    assert decision.warning


def test_a_refused_token_is_not_served_again_because_the_refresh_for_it_failed() -> None:
    hinted = living(600, 3000, hinted_times=(NOW - timedelta(seconds=50),), failure="service_down")
    assert decide(hinted, rejected=True) == Wait(NOW + timedelta(seconds=10))

    spent = tuple(NOW - timedelta(minutes=minutes) for minutes in (50, 40, 30, 20, 10))
    spent_hints = living(600, 3000, hinted_times=spent, failure="service_down")
    assert decide(spent_hints, rejected=True) == Wait(NOW + timedelta(minutes=10))


def test_a_refused_token_that_ends_soon_is_refreshed_although_its_hints_are_spent() -> None:
    hinted = living(3560, 10, hinted_times=(NOW - timedelta(seconds=50),))
    assert decide(hinted, rejected=True) == Refresh(servable=False, hinted=False)


def test_what_is_served_shorter_than_asked_for_says_so() -> None:
    decision = decide(living(10, 50), timedelta(minutes=5))
    assert isinstance(decision, Serve)
    assert "shorter" in decision.warning


def test_a_token_without_refresh_says_when_it_ends_soon_or_was_refused() -> None:
    stuck = living(3600, 20, refresh_token=None)
    ending, refused = decide(stuck), decide(stuck, rejected=True)
    assert isinstance(ending, Serve)
    assert isinstance(refused, Serve)
    assert ending.warning
    assert refused.warning
    assert decide(living(60, 3000, refresh_token=None)) == Serve()
    assert decide(living(3600, 0, refresh_token=None)) == Dead()


@given(st.lists(st.floats(0, 7200), min_size=1, max_size=300).map(sorted))
def test_any_stream_of_hints_refreshes_at_most_once_a_minute_and_five_times_an_hour(
    arrivals: list[float],
) -> None:
    counted: tuple[datetime, ...] = ()
    for arrival in arrivals:
        now = NOW + timedelta(seconds=arrival)
        ending = grant(
            issue_time=NOW - timedelta(hours=1),
            expire_time=NOW + timedelta(days=2),
            hinted_times=counted,
        )
        decision = decide(ending, rejected=True, now=now)
        if isinstance(decision, Refresh):
            assert decision.hinted
            counted = (*counted[-(HINTS_PER_WINDOW - 1) :], now)
            assert all(b - a >= HINT_SPACING for a, b in pairwise(counted))
            assert sum(now - t < HINT_WINDOW for t in counted) <= HINTS_PER_WINDOW


def test_a_hint_counts_again_after_exactly_a_minute_and_exactly_an_hour() -> None:
    assert not may_hint((NOW - timedelta(seconds=59),), NOW)
    assert may_hint((NOW - HINT_SPACING,), NOW)
    full = tuple(NOW - timedelta(minutes=minutes) for minutes in (59, 40, 30, 20, 10))
    assert not may_hint(full, NOW)
    assert may_hint(full, NOW + timedelta(minutes=1))
