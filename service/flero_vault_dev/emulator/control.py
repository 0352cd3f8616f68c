"""What a test may change in a running service, and what it may count.

- A change is checked as a whole before anything of it happens; an unknown key or a wrong type is
  refused by name.
- Naming a new `fail` without a `fail_count` means: from now on, always. When the count runs out,
  both return to null.
- Actions (`reset`, `kill_refresh_tokens`, `kill_access_tokens`) are keys whose only value is true.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from flero_vault_dev.emulator.state import Rules

FAULTS: Final = (
    "invalid_grant",
    "invalid_client",
    "server_error_500",
    "html_502",
    "rate_limited_429",
    "truncated",
    "reset",
    "empty",
    "html_200",
)
FAULT_GRANTS: Final = ("any", "authorization_code", "refresh_token")
ACTIONS: Final = ("reset", "kill_refresh_tokens", "kill_access_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Rules):
    """The rules of the tokens and the troubles of the endpoints."""

    send_expires_in: bool = True
    fail: str | None = None
    fail_count: int | None = None
    fail_grant: str = "any"
    hang_s: float = 0.0
    identity_fail: bool = False


@dataclass(slots=True, kw_only=True)
class Counters:
    """Calls, counted when they arrive, whatever becomes of them."""

    token_calls: int = 0
    code_calls: int = 0
    refresh_calls: int = 0
    revoke_calls: int = 0
    identity_calls: int = 0


class InvalidSettingsError(Exception):
    """The change was refused; `fields` says what is wrong with which key."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__(", ".join(fields))
        self.fields = fields


class Control:
    """The settings and counters of one service."""

    def __init__(self, defaults: Settings) -> None:
        self._defaults = defaults
        self.restore()

    def restore(self) -> None:
        """Return to the settings that the real service has, and count from zero."""
        self.settings = self._defaults
        self.counters = Counters()

    def check(self, body: object) -> tuple[dict[str, object], frozenset[str]]:
        """Split a change into settings and actions, or raise InvalidSettingsError."""
        if not isinstance(body, dict):
            raise InvalidSettingsError({"": "the body must be a JSON object"})
        problems: dict[str, str] = {}
        for name, value in body.items():
            kind = _KINDS.get(name)
            if kind is None:
                problems[name] = "is not a setting"
            elif not kind.accepts(value):
                problems[name] = f"must be {kind.words}"
        if problems:
            raise InvalidSettingsError(problems)
        actions = frozenset(body).intersection(ACTIONS)
        return {name: value for name, value in body.items() if name not in actions}, actions

    def merge(self, changes: Mapping[str, object]) -> None:
        """Take over settings that `check` has accepted."""
        if "fail" in changes:
            changes = {"fail_count": None, **changes}
        self.settings = dataclasses.replace(self.settings, **changes)  # type: ignore[arg-type]  # checked by `check`

    def take_fault(self, grant_type: str | None) -> str | None:
        """Return the trouble that this call meets, and count it down."""
        fault, left = self.settings.fail, self.settings.fail_count
        if fault is None or self.settings.fail_grant not in {"any", grant_type}:
            return None
        if left == 0:
            return None
        if left is not None:
            over = left == 1
            self.settings = dataclasses.replace(
                self.settings, fail=None if over else fault, fail_count=None if over else left - 1
            )
        return fault

    def snapshot(self) -> dict[str, object]:
        """Return the counters and settings as the control interface shows them."""
        return {
            **dataclasses.asdict(self.counters),
            "settings": dataclasses.asdict(self.settings),
        }


@dataclass(frozen=True, slots=True)
class _Kind:
    words: str
    accepts: Callable[[object], bool]


def _is_seconds(value: object) -> bool:
    # A JSON true is a Python int, and json.loads lets NaN and Infinity through.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0  # type: ignore[arg-type,operator]  # a number by now


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_SECONDS: Final = _Kind("a number of seconds, 0 or more", _is_seconds)
_SECONDS_OR_NULL: Final = _Kind(
    "a number of seconds, 0 or more, or null", lambda value: value is None or _is_seconds(value)
)
_SWITCH: Final = _Kind("true or false", lambda value: isinstance(value, bool))
_ACTION: Final = _Kind("true", lambda value: value is True)
_KINDS: Final[Mapping[str, _Kind]] = {
    "access_ttl_s": _SECONDS,
    "refresh_ttl_s": _SECONDS_OR_NULL,
    "rotate": _SWITCH,
    "grace_s": _SECONDS,
    "family_revoke": _SWITCH,
    "send_expires_in": _SWITCH,
    "fail": _Kind(
        f"null or one of {', '.join(FAULTS)}", lambda value: value is None or value in FAULTS
    ),
    "fail_count": _Kind(
        "a whole number, 0 or more, or null", lambda value: value is None or _is_count(value)
    ),
    "fail_grant": _Kind(f"one of {', '.join(FAULT_GRANTS)}", lambda value: value in FAULT_GRANTS),
    "hang_s": _SECONDS,
    "identity_fail": _SWITCH,
    **dict.fromkeys(ACTIONS, _ACTION),
}
