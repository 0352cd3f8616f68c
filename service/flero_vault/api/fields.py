"""What every field of every request must look like, as one table.

- Whether a field must be there is said in the protos (`field_behavior` REQUIRED).
- A rule is found by `Message.field`, else by the field's name, so that the same word means the
  same everywhere. A field without a rule is a fault that a test finds.
- `check` reports every violation at once and changes nothing. Remedies never repeat the value.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from flero_vault.core.decisions import MIN_TTL_MAX
from flero_vault.core.errors import InvalidField, Violation
from flero_vault.core.model import (
    CONNECTOR,
    AppName,
    CredentialName,
    NameInvalid,
    parse_parent,
    parse_workspace,
)

Remedy = str | None
Rule = Callable[[Any], Remedy]

UPDATABLE = ("display_name", "credential_scope", "owner")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_VISIBLE = re.compile(r"[\x21-\x7e]*")
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_UUID4 = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE
)
_SHA256_BYTES = 32
_NANOS = 1_000_000_000


def _text(longest: int, shortest: int = 0) -> Rule:
    def rule(value: str) -> Remedy:
        if not shortest <= len(value) <= longest:
            return f"must have {shortest} to {longest} characters"
        return "must not contain control characters" if _CONTROL.search(value) else None

    return rule


def _visible(longest: int, shortest: int = 0) -> Rule:
    def rule(value: str) -> Remedy:
        if not shortest <= len(value) <= longest:
            return f"must have {shortest} to {longest} characters"
        return None if _VISIBLE.fullmatch(value) else "must be visible ASCII characters"

    return rule


def _printable(longest: int, shortest: int = 0) -> Rule:
    """Return the rule of a client id or secret: VSCHAR of RFC 6749, appendix A, so with spaces."""

    def rule(value: str) -> Remedy:
        if not shortest <= len(value) <= longest:
            return f"must have {shortest} to {longest} characters"
        return None if _PRINTABLE.fullmatch(value) else "must be printable ASCII characters"

    return rule


def _name(parse: Callable[[str], object]) -> Rule:
    def rule(value: str) -> Remedy:
        try:
            parse(value)
        except NameInvalid as error:
            return str(error)
        return None

    return rule


def _connector(value: str) -> Remedy:
    return None if CONNECTOR.fullmatch(value) else "must be a connector's key, such as slack"


def _connector_name(value: str) -> Remedy:
    collection, _, key = value.partition("/")
    fits = collection == "connectors" and CONNECTOR.fullmatch(key)
    return None if fits else "must be connectors/{connector}"


def _enum(value: int) -> Remedy:
    return None if value in _KNOWN_SCOPES else "must be PERSONAL or WORKSPACE"


_KNOWN_SCOPES = (0, 1, 2)


def _items(most: int, item: Rule) -> Rule:
    def rule(values: Sequence[Any]) -> Remedy:
        if len(values) > most:
            return f"must have at most {most} items"
        return next((f"[{i}] {r}" for i, v in enumerate(values) if (r := item(v))), None)

    return rule


def _pairs(most: int, longest_key: int, longest_value: int) -> Rule:
    key_rule, value_rule = _visible(longest_key, 1), _text(longest_value)

    def rule(values: Mapping[str, str]) -> Remedy:
        if len(values) > most:
            return f"must have at most {most} entries"
        for key, value in values.items():
            remedy = key_rule(key)
            if remedy:
                return f"keys {remedy}"
            remedy = value_rule(value)
            if remedy:
                return f"values {remedy}"
        return None

    return rule


def _scope(value: str) -> Remedy:
    longest = 512
    fits = len(value) <= longest and _SCOPE.fullmatch(value)
    return None if fits else f"must be an OAuth scope (RFC 6749, 3.3) of 1 to {longest} characters"


def _uuid4(value: str) -> Remedy:
    # Not UUID(): it also takes braces, any number of hyphens, white space and underscores.
    return None if _UUID4.fullmatch(value) else "must be a UUID4"


def _sha256(value: bytes) -> Remedy:
    return None if len(value) == _SHA256_BYTES else "must be the 32 bytes of a SHA-256"


def _min_ttl(value: Duration) -> Remedy:
    longest = int(MIN_TTL_MAX.total_seconds())
    whole = value.seconds + value.nanos / _NANOS
    sound = 0 <= value.nanos < _NANOS and 0 <= whole <= longest
    return None if sound else f"must be between 0s and {longest}s"


def _page_size(value: int) -> Remedy:
    return None if value >= 0 else "must not be negative"


def _mask(value: FieldMask) -> Remedy:
    wrong = [path for path in value.paths if path not in UPDATABLE]
    return f"may name {', '.join(UPDATABLE)} only" if wrong else None


def _message(value: Message) -> Remedy:
    """Accept; the fields inside have their own rules."""
    del value
    return None


def _flag(value: bool) -> Remedy:  # noqa: FBT001 - a rule takes the field's value
    del value
    return None


_CREDENTIAL = _name(CredentialName.parse)
_WORKSPACE = _name(parse_workspace)
_USER = _text(256, 1)
_SCOPES = _items(100, _scope)

RULES: Mapping[str, Rule] = {
    "allow_account_change": _flag,
    "browser_binding": _visible(512, 22),
    "client_id": _printable(512, 1),
    "client_secrets": _items(4, _printable(4096, 1)),
    "code": _visible(8192),
    "connection_params": _pairs(20, 64, 2048),
    "connector": _connector,
    "credential": _message,
    "credential_scope": _enum,
    "cursor": _visible(256),
    "display_name": _text(128, 1),
    "error": _text(256),
    "error_description": _text(8192),
    "etag": _visible(64),
    "extra_params": _pairs(50, 128, 8192),
    "filter": _text(1024),
    "from_user": _USER,
    "import_id": _text(256, 1),
    "iss": _visible(2048),
    "login_hint": _text(320),
    "min_ttl": _min_ttl,
    "name": _CREDENTIAL,
    "origins": _items(20, _visible(512, 1)),
    "owner": _USER,
    "page_size": _page_size,
    "page_token": _visible(1024),
    "parent": _WORKSPACE,
    "purpose": _text(256),
    "refresh_token": _visible(8192, 1),
    "rejected_token_sha256": _sha256,
    "request_id": _uuid4,
    "requested_scopes": _SCOPES,
    "requests": _items(1000, _message),
    "required_scopes": _SCOPES,
    "revoke_at_service": _flag,
    "slot": _visible(32),
    "state": _visible(512, 1),
    "to_user": _USER,
    "update_mask": _mask,
    "user": _USER,
    "validate_only": _flag,
    "workspace": _WORKSPACE,
    "DeleteOAuthAppRequest.name": _name(AppName.parse),
    "DeleteWorkspaceRequest.name": _WORKSPACE,
    "GetConnectorRequest.name": _connector_name,
    "ListOAuthAppsRequest.parent": _name(parse_parent),
    "PutOAuthAppRequest.parent": _name(parse_parent),
}


def rule_of(field: FieldDescriptor) -> Rule:
    """Return the rule of a field; KeyError if nobody wrote one."""
    message = field.containing_type.name if field.containing_type else ""
    return RULES.get(f"{message}.{field.name}") or RULES[field.name]


def is_required(field: FieldDescriptor) -> bool:
    """Say whether the protos demand the field."""
    behaviors = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behaviors


@cache
def _plan(descriptor: Descriptor) -> tuple[Mapping[str, Rule], Sequence[str]]:
    """Return the rule of every field, and the fields that must be there."""
    rules = {field.name: rule_of(field) for field in descriptor.fields}
    return rules, [field.name for field in descriptor.fields if is_required(field)]


def check(request: Message) -> None:
    """Check every field of a request.

    Raises:
        InvalidField: with every violation.

    """
    rules, required = _plan(request.DESCRIPTOR)
    present = {field.name: value for field, value in request.ListFields()}
    violations = [Violation(name, "must be set") for name in required if name not in present]
    for name, value in present.items():
        remedy = rules[name](value)
        if remedy:
            violations.append(Violation(name, remedy))
    if violations:
        raise InvalidField(*violations)


def check_inside(
    prefix: str, message: Message, *, required: Sequence[str], optional: Sequence[str]
) -> None:
    """Check some fields of a resource that a request carries.

    Raises:
        InvalidField: with every violation, its path beginning with `prefix`.

    """
    violations = []
    for name in (*required, *optional):
        value = getattr(message, name)
        remedy = RULES[name](value) if value else None
        if not value and name in required:
            remedy = "must be set"
        if remedy:
            violations.append(Violation(f"{prefix}.{name}", remedy))
    if violations:
        raise InvalidField(*violations)
