"""Resource names: what is one round-trips, everything else is refused."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flero_vault.core.model import (
    DEPLOYMENT,
    AppName,
    CredentialName,
    NameInvalid,
    parse_parent,
    parse_workspace,
)

ID = "123e4567-e89b-42d3-a456-426614174000"
workspaces = st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True)
BAD_WORKSPACES = [
    "", "workspaces/", "workspaces", "demo", "workspaces/Demo", "workspaces/a_b", "workspaces/a/b",
    "workspaces/demo/", "/workspaces/demo", " workspaces/demo", "workspaces/demo\n",
    "workspaces/é", "workspaces/\u0661", "workspaces/_deployment", f"workspaces/{'a' * 64}",
    "Workspaces/demo", "workspaces//demo", "workspaces/..", "workspaces/a b", "workspaces/a\0",
]  # fmt: skip
BAD_IDS = [
    "", ID.upper(), ID[:-1], f"{ID}0", f"{{{ID}}}", ID.replace("-", ""), f"urn:uuid:{ID}",
    f"{ID}\n", f" {ID}", ID.replace("1", "\u0661"), f"{ID}/x", "-",
]  # fmt: skip


@given(workspace=workspaces, key=st.uuids())
def test_every_credential_name_comes_back_as_it_was(*, workspace: str, key: UUID) -> None:
    name = CredentialName(workspace, key)
    assert CredentialName.parse(str(name)) == name
    assert str(name) == f"workspaces/{workspace}/credentials/{key}"


@given(workspace=workspaces | st.just(DEPLOYMENT), key=st.uuids())
def test_every_app_name_comes_back_as_it_was(*, workspace: str, key: UUID) -> None:
    name = AppName(workspace, key)
    assert AppName.parse(str(name)) == name


@given(workspace=workspaces)
def test_every_workspace_is_a_parent(workspace: str) -> None:
    assert parse_workspace(f"workspaces/{workspace}") == workspace
    assert parse_parent(f"workspaces/{workspace}") == workspace


def test_the_deployment_is_a_parent_but_no_workspace() -> None:
    assert parse_parent("deployment") == DEPLOYMENT
    with pytest.raises(NameInvalid):
        parse_workspace("deployment")


@pytest.mark.parametrize("bad", BAD_WORKSPACES)
def test_what_is_no_workspace_is_refused_everywhere(bad: str) -> None:
    with pytest.raises(NameInvalid):
        parse_workspace(bad)
    with pytest.raises(NameInvalid):
        parse_parent(bad)
    with pytest.raises(NameInvalid):
        CredentialName.parse(f"{bad}/credentials/{ID}")
    with pytest.raises(NameInvalid):
        AppName.parse(f"{bad}/oauthApps/{ID}")


@pytest.mark.parametrize("bad", BAD_IDS)
def test_what_is_no_lower_case_uuid_is_refused(bad: str) -> None:
    with pytest.raises(NameInvalid):
        CredentialName.parse(f"workspaces/demo/credentials/{bad}")
    with pytest.raises(NameInvalid):
        AppName.parse(f"deployment/oauthApps/{bad}")


def test_a_credential_never_belongs_to_the_deployment() -> None:
    with pytest.raises(NameInvalid):
        CredentialName.parse(f"deployment/credentials/{ID}")


def test_one_kind_of_name_is_not_taken_for_another() -> None:
    with pytest.raises(NameInvalid):
        CredentialName.parse(f"workspaces/demo/oauthApps/{ID}")
    with pytest.raises(NameInvalid):
        AppName.parse(f"workspaces/demo/credentials/{ID}")


@given(st.text(max_size=120))
def test_any_text_is_either_exactly_a_name_or_refused(text: str) -> None:
    for kind in (CredentialName, AppName):
        try:
            name = kind.parse(text)
        except NameInvalid:
            continue
        assert str(name) == text
