"""What the fields of a request must look like: the rules that callers commonly break."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from google.api import field_behavior_pb2
from google.protobuf.message import Message

from flero_vault_client.testing._refused import invalid
from flero_vault_client.v1 import credential_pb2, credential_vault_pb2

Rule = Callable[[Any], str]
"""Returns the remedy, or nothing."""

LONGEST_TTL_S: Final = 86_400
LARGEST_BATCH: Final = 1_000
SHA256_BYTES: Final = 32

_UUID: Final = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_WORKSPACE: Final = "workspaces/[a-z0-9-]{1,63}"
_TERM: Final = r"(status|connector|owner|authorized_by)\s*=\s*(\"[^\"]+\"|[^\s\"]+)"


def _matches(pattern: str, remedy: str) -> Rule:
    return lambda value: "" if re.fullmatch(pattern, value) else remedy


def _long(shortest: int, longest: int) -> Rule:
    remedy = f"must have {shortest} to {longest} characters"
    return lambda value: "" if shortest <= len(value) <= longest else remedy


_WORKSPACE_RULE: Final = _matches(_WORKSPACE, "must be workspaces/{workspace} with [a-z0-9-]{1,63}")
_CREDENTIAL_RULE: Final = _matches(
    f"{_WORKSPACE}/credentials/{_UUID}",
    "must be workspaces/{workspace}/credentials/{uuid}, in lower case",
)

RULES: Final[Mapping[str, Rule]] = {
    "browser_binding": _long(22, 512),
    "connector": _matches("[a-z0-9][a-z0-9-]{0,62}", "must be a connector's key, such as slack"),
    "credential_scope": lambda value: "" if value in {1, 2} else "must be PERSONAL or WORKSPACE",
    "display_name": _long(1, 128),
    "filter": _matches(
        rf"\s*({_TERM}(\s+AND\s+{_TERM})*)?\s*",
        'must be status, connector, owner, authorized_by with "=", joined by AND',
    ),
    "min_ttl": lambda value: (
        ""
        if 0 <= value.ToTimedelta().total_seconds() <= LONGEST_TTL_S
        else f"must be between 0s and {LONGEST_TTL_S}s"
    ),
    "name": _CREDENTIAL_RULE,
    "owner": _long(1, 256),
    "page_size": lambda value: "" if value >= 0 else "must not be negative",
    "parent": _WORKSPACE_RULE,
    "purpose": _long(0, 256),
    "rejected_token_sha256": lambda value: (
        "" if len(value) == SHA256_BYTES else "must be the 32 bytes of a SHA-256"
    ),
    "request_id": _matches(
        "(?i)[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
        "must be a UUID4",
    ),
    "requests": lambda value: (
        "" if len(value) <= LARGEST_BATCH else f"must have at most {LARGEST_BATCH} items"
    ),
    "state": _long(1, 512),
    "user": _long(1, 256),
    "workspace": _WORKSPACE_RULE,
    "GetConnectorRequest.name": _matches(
        "connectors/[a-z0-9][a-z0-9-]{0,62}", "must be connectors/{connector}"
    ),
}


def check(request: Message) -> None:
    """Raise INVALID_FIELD with everything that is wrong with a request."""
    wrong = list(_violations(request))
    if isinstance(request, credential_vault_pb2.CompleteCallbackRequest) and bool(
        request.code
    ) == bool(request.error):
        wrong.append(("code", "must be set, unless error is"))
    if isinstance(request, credential_vault_pb2.UpdateCredentialRequest):
        wrong += _changes(request.credential, list(request.update_mask.paths))
    if wrong:
        raise invalid(*wrong)


def _violations(request: Message) -> Iterator[tuple[str, str]]:
    for field in request.DESCRIPTOR.fields:
        value = getattr(request, field.name)
        tracked = field.message_type is not None and not field.is_repeated
        present = request.HasField(field.name) if tracked else bool(value)
        behaviors = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        if not present:
            if field_behavior_pb2.REQUIRED in behaviors:
                yield field.name, "must be set"
            continue
        rule = RULES.get(f"{request.DESCRIPTOR.name}.{field.name}") or RULES.get(field.name)
        if rule and (remedy := rule(value)):
            yield field.name, remedy


def _changes(credential: credential_pb2.Credential, mask: list[str]) -> Iterator[tuple[str, str]]:
    updatable = ("display_name", "credential_scope", "owner")
    if [path for path in mask if path not in updatable]:
        yield "update_mask", f"may name {', '.join(updatable)} only"
        return
    mask = mask or [path for path in updatable if getattr(credential, path)]
    if not mask:
        yield "update_mask", "must name what to change"
    for path in ("name", *mask):
        value = getattr(credential, path)
        remedy = RULES[path](value) if value else "must be set"
        if remedy:
            yield f"credential.{path}", remedy
