"""Is this callback ours: every single deviation is refused, and for its own reason."""

from dataclasses import replace
from datetime import timedelta
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.values import ATTEMPT, NOW, attempt

from flero_vault.core.decisions import (
    Accept,
    Callback,
    Doubt,
    Expected,
    Refuse,
    Repeat,
    judge_callback,
)
from flero_vault.core.model import Attempt, Phase

CALLBACK = Callback(
    connector="google",
    user="ada",
    binding_hash=b"b" * 32,
    iss="https://accounts.example",
    code_hash=b"c" * 32,
)
EXPECTED = Expected(callback_key="google", iss_required=True)
DEVIATIONS: dict[Doubt, tuple[dict[str, Any], dict[str, Any]]] = {
    # in the order of judgement: changes of the callback, and of the attempt
    Doubt.OTHER_USER: ({"user": "bob"}, {}),
    Doubt.OTHER_BROWSER: ({"binding_hash": b"x" * 32}, {}),
    Doubt.OTHER_CONNECTOR: ({"connector": "slack"}, {}),
    Doubt.OTHER_ISSUER: ({"iss": "https://evil.example"}, {}),
    Doubt.REPLACED: ({}, {"phase": Phase.VOID}),
    Doubt.OTHER_CODE: ({}, {"phase": Phase.DONE, "code_hash": b"x" * 32}),
    Doubt.TOO_OLD: ({}, {"expire_time": NOW}),
}


def judge(
    found: Attempt | None = ATTEMPT, expected: Expected = EXPECTED, **fields: Any
) -> Accept | Repeat | Refuse:
    callback = replace(CALLBACK, **fields)
    return judge_callback(found, callback=callback, expected=expected, now=NOW)


def test_the_exact_callback_is_accepted() -> None:
    assert judge() == Accept()


@pytest.mark.parametrize("doubt", DEVIATIONS)
def test_each_deviation_alone_is_refused_for_its_own_reason(doubt: Doubt) -> None:
    ours, theirs = DEVIATIONS[doubt]
    assert judge(attempt(**theirs), **ours) == Refuse(doubt)


def test_there_is_a_deviation_for_every_doubt() -> None:
    assert {*DEVIATIONS, Doubt.UNKNOWN} == set(Doubt)


@pytest.mark.parametrize(("first", "second"), list(combinations(DEVIATIONS, 2)))
def test_of_two_deviations_the_one_judged_first_is_the_reason(first: Doubt, second: Doubt) -> None:
    (ours, theirs), (ours_too, theirs_too) = DEVIATIONS[first], DEVIATIONS[second]
    found = attempt(**{**theirs_too, **theirs})
    assert judge(found, **(ours_too | ours)) == Refuse(first)


def test_a_state_that_nobody_made_is_unknown() -> None:
    assert judge(None) == Refuse(Doubt.UNKNOWN)


text = st.text(max_size=8)


@given(
    user=text | st.just("ada"),
    binding=st.binary(max_size=4) | st.just(b"b" * 32),
    path=text | st.just("google"),
    iss=text | st.just("https://accounts.example"),
    code=st.binary(max_size=4) | st.just(b"c" * 32),
    age=st.integers(-3600, 3600),
    phase=st.sampled_from(Phase),
)
def test_only_the_exact_callback_of_an_open_attempt_is_accepted(
    *, user: str, binding: bytes, path: str, iss: str, code: bytes, age: int, phase: Phase
) -> None:
    first = None if phase is Phase.OPEN else b"c" * 32
    found = attempt(phase=phase, expire_time=NOW + timedelta(seconds=age), code_hash=first)
    verdict = judge(found, user=user, binding_hash=binding, connector=path, iss=iss, code_hash=code)
    ours = (user, binding, path, iss) == (
        CALLBACK.user,
        CALLBACK.binding_hash,
        CALLBACK.connector,
        CALLBACK.iss,
    )
    assert (verdict == Accept()) == (ours and phase is Phase.OPEN and age > 0)
    again = phase in {Phase.EXCHANGING, Phase.DONE} and code == CALLBACK.code_hash
    assert (verdict == Repeat()) == (ours and again)


@pytest.mark.parametrize("phase", [Phase.EXCHANGING, Phase.DONE])
def test_the_same_code_again_is_a_repetition_however_late(phase: Phase) -> None:
    late = attempt(phase=phase, code_hash=CALLBACK.code_hash, expire_time=NOW - timedelta(hours=1))
    assert judge(late) == Repeat()


@pytest.mark.parametrize("phase", [Phase.EXCHANGING, Phase.DONE])
def test_a_used_state_without_a_remembered_code_repeats_nothing(phase: Phase) -> None:
    assert judge(attempt(phase=phase, code_hash=None)) == Refuse(Doubt.OTHER_CODE)


@pytest.mark.parametrize(
    ("issuer", "iss", "required", "fine"),
    [
        ("https://a.example", "https://a.example", True, True),
        ("https://a.example", "", True, False),
        ("https://a.example", "", False, True),
        ("https://a.example", "https://b.example", False, False),
        ("https://a.example", "https://a.example/", False, False),
        ("https://a.example", "https://A.example", False, False),
        ("", "https://a.example", False, True),
        ("", "", True, False),
    ],
)
def test_the_issuer_is_compared_exactly_where_there_is_one(
    *, issuer: str, iss: str, required: bool, fine: bool
) -> None:
    verdict = judge(attempt(issuer=issuer), replace(EXPECTED, iss_required=required), iss=iss)
    assert verdict == (Accept() if fine else Refuse(Doubt.OTHER_ISSUER))
