"""Filters and page tokens: what is not exactly ours is refused, never an error of ours."""

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flero_vault.api.paging import (
    only_id,
    page_size,
    page_token,
    parse_filter,
    position,
    time_and_id,
)
from flero_vault.core.errors import InvalidField
from flero_vault.core.model import Status
from flero_vault.core.ports import Filter
from flero_vault_client.v1 import credential_vault_pb2

values = st.from_regex(r'[^"\s]{1,40}', fullmatch=True)
FIELDS = ("connector", "owner", "authorized_by")


def request(**fields: Any) -> credential_vault_pb2.ListCredentialsRequest:
    about = {"parent": "workspaces/demo", "user": "ada", **fields}
    return credential_vault_pb2.ListCredentialsRequest(**about)


@given(
    fields=st.dictionaries(st.sampled_from(FIELDS), values),
    status=st.none() | st.sampled_from(Status),
    quoted=st.booleans(),
    long=st.booleans(),
)
def test_every_filter_of_our_fields_is_read_back(
    *, fields: dict[str, str], status: Status | None, quoted: bool, long: bool
) -> None:
    terms = [f'{k} = "{v}"' if quoted else f"{k}={v}" for k, v in fields.items()]
    if status:
        terms.append(f"status = {'CREDENTIAL_STATUS_' if long else ''}{status}")
    wanted = Filter(
        status=status,
        connector=fields.get("connector"),
        owner=fields.get("owner"),
        authorized_by=fields.get("authorized_by"),
    )
    assert parse_filter("  " + " AND ".join(terms) + " ") == wanted


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_an_empty_filter_finds_everything(text: str) -> None:
    assert parse_filter(text) == Filter()


@pytest.mark.parametrize(
    "text",
    [
        "owner", "owner=", "=ada", "owner=ada bob", "owner!=ada", "owner>ada", "owner=ada OR x=y",
        "owner=ada AND", "AND owner=ada", "owner=ada AND AND status=ACTIVE", "owner=ada owner=bob",
        "owner=ada AND owner=bob", "display_name=x", "workspace=other", "__class__=x",
        'owner="ada', 'owner=""', 'owner="a"b', "status=GONE", "status=active",
        "status=CREDENTIAL_STATUS_UNSPECIFIED", "status=CREDENTIAL_STATUS_",
        f"owner={'a' * 257}", "NOT owner=ada", "(owner=ada)",
    ],
)  # fmt: skip
def test_a_filter_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidField) as refused:
        parse_filter(text)
    assert [violation.field for violation in refused.value.violations] == ["filter"]


def test_a_quoted_value_may_hold_what_separates_terms() -> None:
    assert parse_filter('owner="ada AND bob"').owner == "ada AND bob"


@given(st.text(max_size=60))
def test_no_text_breaks_the_filter(text: str) -> None:
    try:
        found = parse_filter(text)
    except InvalidField:
        return
    assert isinstance(found, Filter)


@given(parts=st.lists(st.text(st.characters(codec="utf-8")), max_size=3))
def test_a_page_token_gives_its_position_back_to_the_same_request(parts: list[str]) -> None:
    token = page_token(request(page_size=2), *parts)
    assert position(request(page_size=9, page_token="x"), token, len(parts)) == parts


def test_no_page_token_is_the_first_page() -> None:
    assert position(request(), "", 2) is None
    assert time_and_id(None) is None
    assert only_id(None) is None


@pytest.mark.parametrize(
    "changed",
    [{"user": "bob"}, {"parent": "workspaces/other"}, {"filter": "status=ACTIVE"}],
)
def test_a_page_token_is_refused_once_another_field_changed(changed: dict[str, str]) -> None:
    token = page_token(request(), "a", "b")
    with pytest.raises(InvalidField):
        position(request(**changed), token, 2)


def test_a_page_token_of_another_list_is_refused() -> None:
    with pytest.raises(InvalidField):
        position(request(), page_token(request(), "a"), 2)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
forged = json_values.map(lambda v: base64.urlsafe_b64encode(json.dumps(v).encode()).decode())


@given(
    st.text(st.characters(codec="utf-8"), min_size=1)
    | forged
    | st.binary(min_size=1).map(lambda b: base64.urlsafe_b64encode(b).decode())
    | st.integers(1, 3000).map(lambda n: base64.urlsafe_b64encode(b"[" * n).decode())
)
def test_no_forged_page_token_is_anything_but_refused(token: str) -> None:
    with pytest.raises(InvalidField):
        position(request(), token, 2)


def test_a_deeply_nested_page_token_is_refused() -> None:
    token = base64.urlsafe_b64encode(b"[" * 200_000).decode()
    with pytest.raises(InvalidField):
        position(request(), token, 2)


@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_a_time_and_an_id_come_back_exactly(time: datetime, last: UUID) -> None:
    assert time_and_id([time.isoformat(), str(last)]) == (time, last)
    assert only_id([str(last)]) == last


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_position_that_is_no_time_and_id_is_refused_or_has_a_zone(one: str, two: str) -> None:
    try:
        found = time_and_id([one, two])
    except InvalidField:
        return
    assert found
    assert found[0].tzinfo


def test_a_time_without_a_zone_is_refused() -> None:
    last = str(UUID(int=1))
    with pytest.raises(InvalidField):
        time_and_id(["2026-11-24T12:00:00", last])
    zone = timezone(timedelta(hours=2))
    found = time_and_id([datetime(2026, 1, 1, tzinfo=zone).isoformat(), last])
    assert found


@pytest.mark.parametrize(("asked", "given_"), [(0, 50), (1, 1), (1000, 1000), (1001, 1000)])
def test_a_page_has_fifty_rows_and_at_most_a_thousand(asked: int, given_: int) -> None:
    assert page_size(asked) == given_
