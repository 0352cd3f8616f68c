"""Who may do what to which credential. Pure; the rules of the design's section 6.

- PERSONAL: only the owner, for everything; to others it does not exist.
- WORKSPACE: tokens for any user or none; re-authenticate, look and test by any user of the
  workspace; update, revoke and delete by the owner.
- A PERSONAL credential becomes WORKSPACE by its owner only, and is never handed over.
"""

from enum import StrEnum

from flero_vault.core.errors import NotAllowed, Reason, about, credential_not_found
from flero_vault.core.model import Credential, CredentialScope


class Action(StrEnum):
    """What somebody wants to do."""

    LOOK = "see"
    TEST = "test"
    REAUTHENTICATE = "re-authenticate"
    UPDATE = "change"
    REVOKE = "revoke"
    DELETE = "delete"


_OWNER_ONLY = frozenset({Action.UPDATE, Action.REVOKE, Action.DELETE})


def visible(scope: CredentialScope, owner: str, user: str) -> bool:
    """Say whether the credential exists for this user."""
    return scope is CredentialScope.WORKSPACE or (bool(user) and owner == user)


def allow(action: Action, credential: Credential | None, user: str) -> Credential:
    """Return the credential if the user may do this to it.

    Raises:
        NotFound: it is not there, or not for this user.
        NotAllowed: the user sees it but may not do this.

    """
    if credential is None or not visible(credential.scope, credential.owner, user):
        raise credential_not_found()
    if action in _OWNER_ONLY and credential.owner != user:
        raise NotAllowed(
            Reason.CALLER_NOT_ALLOWED,
            f"Only the owner of “{credential.display_name}” can {action} it.",
            metadata=about(credential),
        )
    return credential
