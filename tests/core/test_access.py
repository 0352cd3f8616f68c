"""Who may do what: the whole table of the design's section 6."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.values import credential

from flero_vault.core.access import Action, allow, visible
from flero_vault.core.errors import NotAllowed, NotFound, Reason
from flero_vault.core.model import CredentialScope, Status

PERSONAL, WORKSPACE = CredentialScope.PERSONAL, CredentialScope.WORKSPACE
OF_THE_OWNER = {Action.UPDATE, Action.REVOKE, Action.DELETE}


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("scope", CredentialScope)
def test_the_owner_may_do_everything(*, action: Action, scope: CredentialScope) -> None:
    mine = credential(scope=scope, owner="ada")
    assert allow(action, mine, "ada") is mine


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("user", ["bob", "", "Ada", "ada ", " "])
def test_to_others_a_personal_credential_does_not_exist(*, action: Action, user: str) -> None:
    with pytest.raises(NotFound) as hidden:
        allow(action, credential(scope=PERSONAL, owner="ada"), user)
    with pytest.raises(NotFound) as absent:
        allow(action, None, user)
    assert vars(hidden.value) == vars(absent.value)
    assert str(hidden.value) == str(absent.value)


def test_nobody_is_not_the_owner_of_a_credential_without_one() -> None:
    assert not visible(PERSONAL, "", "")


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("user", ["bob", ""])
def test_others_may_use_but_not_change_what_the_workspace_shares(
    *, action: Action, user: str
) -> None:
    shared = credential(scope=WORKSPACE, owner="ada")
    if action not in OF_THE_OWNER:
        assert allow(action, shared, user) is shared
        return
    with pytest.raises(NotAllowed) as refused:
        allow(action, shared, user)
    assert refused.value.reason is Reason.CALLER_NOT_ALLOWED
    assert refused.value.metadata["credential"] == str(shared.name)


@given(
    action=st.sampled_from(Action),
    scope=st.sampled_from(CredentialScope),
    status=st.sampled_from(Status),
    owner=st.text(min_size=1),
    user=st.text(),
)
def test_nobody_but_the_owner_ever_gets_a_personal_or_changes_a_shared_one(
    *, action: Action, scope: CredentialScope, status: Status, owner: str, user: str
) -> None:
    one = credential(scope=scope, status=status, owner=owner)
    try:
        allowed = allow(action, one, user) is one
    except (NotFound, NotAllowed):
        allowed = False
    assert allowed == (user == owner or (scope is WORKSPACE and action not in OF_THE_OWNER))
