"""A Secret prints as nothing, whatever is done to it."""

import copy
import json
import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flero_vault.core.secret import Secret

TEXT = "ya29.planted"
LONE = f"{TEXT}\ud800"


@pytest.mark.parametrize(
    "shown",
    [
        repr(Secret(TEXT)),
        str(Secret(TEXT)),
        f"{Secret(TEXT)}",
        f"{Secret(TEXT)!r:>40}",
        f"{Secret(TEXT):.3}",
        "%s %r" % (Secret(TEXT), Secret(TEXT)),  # noqa: UP031 - old formatting is the point
        "{:>30}".format(Secret(TEXT)),  # noqa: UP032 - as above
        str([Secret(TEXT)]),
        str({"token": Secret(TEXT)}),
    ],
)
def test_no_way_of_printing_shows_it(shown: str) -> None:
    assert "planted" not in shown
    assert "Secret(…)" in shown


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError) as refused:
        pickle.dumps(Secret(TEXT), protocol)
    assert TEXT not in str(refused.value)


def test_it_is_not_copied_written_as_json_or_hashed() -> None:
    with pytest.raises(TypeError):
        copy.copy(Secret(TEXT))
    with pytest.raises(TypeError):
        copy.deepcopy([Secret(TEXT)])
    with pytest.raises(TypeError) as refused:
        json.dumps(Secret(TEXT))
    assert TEXT not in str(refused.value)
    with pytest.raises(TypeError):
        hash(Secret(TEXT))


def test_it_has_no_dictionary_to_look_into() -> None:
    assert not hasattr(Secret(TEXT), "__dict__")


@given(one=st.text(st.characters(codec="utf-8")), other=st.text(st.characters(codec="utf-8")))
def test_it_equals_exactly_a_secret_of_the_same_text(*, one: str, other: str) -> None:
    assert (Secret(one) == Secret(other)) == (one == other)
    assert Secret(one) == Secret(one)
    assert Secret(one) != one
    assert Secret(one).reveal() == one
    assert Secret(one).encode() == one.encode()


def test_text_without_utf8_is_refused_by_an_error_that_does_not_hold_it() -> None:
    with pytest.raises(ValueError, match="UTF-8") as refused:
        Secret(LONE)
    error = refused.value
    assert not isinstance(error, UnicodeError)
    assert error.__cause__ is None
    assert error.__context__ is None
    assert "planted" not in "".join(map(str, error.args))
    assert "planted" not in "".join(traceback.format_exception_only(error))
