"""The two people who have an account at every emulated service."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A person at a service; each dialect adds the identifiers of its own service."""

    key: str
    given_name: str
    family_name: str

    @property
    def name(self) -> str:
        """The name as people write it."""
        return f"{self.given_name} {self.family_name}"

    @property
    def email(self) -> str:
        """An address at a domain that is reserved for examples (RFC 2606)."""
        return f"{self.key}@example.com"


ADA: Final = Account(key="ada", given_name="Ada", family_name="Lovelace")
GRACE: Final = Account(key="grace", given_name="Grace", family_name="Hopper")
ACCOUNTS: Final[Mapping[str, Account]] = {account.key: account for account in (ADA, GRACE)}


def hinted(login_hint: str | None) -> Account:
    """Return the account that a `login_hint` names by address or key, else the first one."""
    for account in ACCOUNTS.values():
        if login_hint in {account.key, account.email}:
            return account
    return ADA
