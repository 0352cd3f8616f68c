"""Reads the connector files: the shipped ones and a deployment's folder.

    catalogue = load(Path("/etc/flero/connectors"), allow_loopback=False)
    catalogue.find("slack")

- A file's name is the connector's key. A deployment's file replaces the shipped one of its name.
- `extends = "slack"` starts from that shipped connector and overrides what the file sets.
- `origin = "http://localhost:9400/slack"` puts every endpoint there: gateways, mirrors, emulators.
- `discovery` leaves to the OpenID provider's metadata what the file does not say.
- All problems of all files come in one `ConnectorFilesInvalid`.
"""

import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from flero_vault.core.connector import Connector, IdentitySource, Reuse, RevocationStyle
from flero_vault.oauth.urls import PLACEHOLDER, is_acceptable

SHIPPED: Final = "flero_vault.connectors"
OPENID_SCOPES: Final[Mapping[str, str]] = {
    "openid": "Know which account is connected",
    "email": "See the account's email address",
    "profile": "See the account's name",
    "offline_access": "Stay connected while you are away",
}
REVOCABLE: Final = frozenset({"refresh", "access", "both"})

_KEY: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_APP_ORIGIN: Final = re.compile(r"https?://(?:\*\.)?[a-z0-9.\-\[\]:]+")
_URL_START: Final = re.compile(r"[a-z]+://[^/]*")
_URLS: Final = (
    ("discovery",),
    ("issuer",),
    ("jwks_uri",),
    ("authorization", "endpoint"),
    ("token", "endpoint"),
    ("revocation", "endpoint"),
    ("identity", "probe", "endpoint"),
)
_PAGES: Final = ("verified_by", "manage_url", "admin_approval_url")

Table = dict[str, Any]


class ConnectorFilesInvalid(Exception):  # says what is so, like the core's errors
    """Files that cannot be used; `problems` names file, field and reason of each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class FileCatalogue:
    """The connectors of this deployment."""

    connectors: Mapping[str, Connector] = field(repr=False)

    def find(self, key: str) -> Connector | None:
        """Return the connector of this key."""
        return self.connectors.get(key)

    def all(self) -> Sequence[Connector]:
        """Return every connector by key."""
        return [self.connectors[key] for key in sorted(self.connectors)]


class _File(BaseModel):
    """Only carries the configuration down: the core's dataclasses know nothing of pydantic."""

    model_config = ConfigDict(extra="forbid")
    connector: Connector


def load(folder: Path | None, *, allow_loopback: bool) -> FileCatalogue:
    """Read all files.

    Raises:
        ConnectorFilesInvalid: with everything that is wrong.

    """
    problems: list[str] = []
    shipped = dict(_read(_shipped(), problems))
    own = dict(_read(_own(folder, problems), problems)) if folder else {}
    found: dict[str, Connector] = {}
    for key, table in {**shipped, **own}.items():
        where = f"{key}.toml"
        try:
            connector = _connector(key, table, shipped)
        except _BadFileError as exc:
            problems += [f"{where}: {problem}" for problem in exc.problems]
            continue
        problems += [f"{where}: {p}" for p in _problems(connector, allow_loopback=allow_loopback)]
        found[key] = connector
    for key, connector in found.items():
        if connector.redirect_as and connector.redirect_as not in found:
            problems.append(f"{key}.toml: redirect_as: there is no such connector")
    if problems:
        raise ConnectorFilesInvalid(sorted(problems))
    return FileCatalogue(found)


# --- files ----------------------------------------------------------------------------------


class _BadFileError(Exception):
    def __init__(self, *problems: str) -> None:
        super().__init__()
        self.problems = problems


def _shipped() -> Iterator[tuple[str, bytes]]:
    for entry in resources.files(SHIPPED).iterdir():
        if entry.name.endswith(".toml"):
            yield entry.name, entry.read_bytes()


def _own(folder: Path, problems: list[str]) -> Iterator[tuple[str, bytes]]:
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".toml")
    except OSError as exc:
        problems.append(f"{folder}: cannot be read: {exc.strerror}")
        return
    for path in paths:
        try:
            yield path.name, path.read_bytes()
        except OSError as exc:
            problems.append(f"{path.name}: cannot be read: {exc.strerror}")


def _read(files: Iterable[tuple[str, bytes]], problems: list[str]) -> Iterator[tuple[str, Table]]:
    for name, content in files:
        key = name.removesuffix(".toml")
        if not _KEY.fullmatch(key):
            problems.append(f"{name}: its name must be lower case letters, digits and hyphens")
            continue
        try:
            yield key, tomllib.loads(content.decode())
        except ValueError as exc:  # not UTF-8, or not TOML
            problems.append(f"{name}: is not TOML: {exc}")


def _connector(key: str, table: Table, shipped: Mapping[str, Table]) -> Connector:
    own = dict(table)
    base, origin = own.pop("extends", None), own.pop("origin", None)
    merged = own
    if base is not None:
        if not isinstance(base, str) or base not in shipped:
            raise _BadFileError("extends: there is no such shipped connector")
        merged = _merged(shipped[base], own)
    if "key" in merged:
        raise _BadFileError("key: is the file's name, not a field")
    if "discovery" in merged:
        merged = _merged(_openid_defaults(merged), merged)
    if origin is not None:
        if not isinstance(origin, str) or not urlsplit(origin).netloc:
            raise _BadFileError("origin: must be a URL")
        merged = _moved(merged, origin.rstrip("/"))
    try:
        return _File.model_validate({"connector": {**merged, "key": key}}).connector
    except ValidationError as exc:
        raise _BadFileError(
            *(
                f"{'.'.join(str(part) for part in error['loc'][1:])}: {error['msg']}"
                for error in exc.errors(include_url=False, include_input=False)
            )
        ) from None


def _merged(base: Table, over: Table) -> Table:
    result = dict(base)
    for name, value in over.items():
        old = result.get(name)
        both = isinstance(old, dict) and isinstance(value, dict)
        result[name] = _merged(old, value) if both else value  # type: ignore[arg-type]  # a dict by now
    return result


def _openid_defaults(table: Table) -> Table:
    """Return what OpenID Connect settles for every provider."""
    defaults: Table = {
        "identity": {
            "source": "id_token",
            "probe": {"id": ["sub"], "email": "email", "label": "name"},
        },
        "revocation": {"style": "rfc7009"},
    }
    if "default_scopes" not in table:
        defaults["default_scopes"] = list(OPENID_SCOPES)
    if "scopes" not in table:
        defaults["scopes"] = dict(OPENID_SCOPES)
    return defaults


def _moved(table: Table, origin: str) -> Table:
    """Put every endpoint below another origin, its path unchanged."""
    result = _merged({}, table)
    for path in _URLS:
        holder: Any = result
        for name in path[:-1]:
            child = holder.get(name) if isinstance(holder, dict) else None
            if not isinstance(child, dict):
                holder = None
                break
            holder[name] = dict(child)
            holder = holder[name]
        url = holder.get(path[-1]) if isinstance(holder, dict) else None
        if isinstance(url, str):
            holder[path[-1]] = _URL_START.sub(lambda _: origin, url, count=1)
    learned = result.get("connection")
    if isinstance(learned, dict):
        result["connection"] = {
            name: {**value, "pattern": _moved_pattern(value.get("pattern"), origin)}
            if isinstance(value, dict)
            else value
            for name, value in learned.items()
        }
    parts = urlsplit(origin)
    result["app_origins"] = [f"{parts.scheme}://{parts.netloc}"]
    return result


def _moved_pattern(pattern: object, origin: str) -> object:
    if not isinstance(pattern, str) or not pattern.startswith("http"):
        return pattern if pattern is not None else ""
    return rf"{re.escape(origin)}(/[^?#\s]*)?"


# --- checks beyond types --------------------------------------------------------------------


def _problems(connector: Connector, *, allow_loopback: bool) -> Iterator[str]:
    for name in ("display_name", "verified_by"):
        if not getattr(connector, name):
            yield f"{name}: must not be empty"
    yield from _url_problems(connector, allow_loopback=allow_loopback)
    yield from _pattern_problems(connector)
    yield from _missing(connector)
    yield from _slot_problems(connector)
    yield from _number_problems(connector)


def _url_problems(connector: Connector, *, allow_loopback: bool) -> Iterator[str]:
    for path in _URLS:
        url: Any = connector
        for name in path:
            url = getattr(url, name)
        if url:
            for problem in _endpoint_problems(connector, path, url, allow_loopback=allow_loopback):
                yield f"{'.'.join(path)}: {problem}"
    for name in _PAGES:
        page = getattr(connector, name)
        if page and not page.startswith("https://"):
            yield f"{name}: must be an https URL"
    for origin in connector.app_origins:
        sample = origin.replace("*.", "x.", 1)
        if not _APP_ORIGIN.fullmatch(origin) or not is_acceptable(
            sample, allow_loopback=allow_loopback
        ):
            yield "app_origins: must be origins like https://api.example.com"


def _endpoint_problems(
    connector: Connector, path: tuple[str, ...], url: str, *, allow_loopback: bool
) -> Iterator[str]:
    # A stand-in for each placeholder: the shape must be right whatever is filled in.
    if not is_acceptable(PLACEHOLDER.sub("x", url), allow_loopback=allow_loopback):
        yield "must be an https URL"
    undeclared = [p for p in PLACEHOLDER.findall(url) if p not in connector.connection_params]
    if path != ("issuer",):
        for param in undeclared:
            yield f"{{{param}}} is not one of connection_params"
    elif PLACEHOLDER.search(urlsplit(url).netloc):
        # What is not declared is filled from the token itself, which must not name its own host.
        yield "its host must be fixed"


def _pattern_problems(connector: Connector) -> Iterator[str]:
    for name, param in connector.connection_params.items():
        where = f"connection_params.{name}"
        if not param.pattern:
            yield f"{where}.pattern: must not be empty"
        elif not _compiles(param.pattern):
            yield f"{where}.pattern: is not a regular expression"
        else:
            for what in ("default", "example"):
                value = getattr(param, what)
                if value and not re.fullmatch(param.pattern, value):
                    yield f"{where}.{what}: does not match the pattern"
    for name, learned in connector.connection.items():
        if not learned.path:
            yield f"connection.{name}.path: must not be empty"
        if not _compiles(learned.pattern):
            yield f"connection.{name}.pattern: is not a regular expression"


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _missing(connector: Connector) -> Iterator[str]:
    """Name what neither the file nor any metadata says."""
    if bool(connector.issuer) != bool(connector.jwks_uri) and not connector.discovery:
        yield "issuer: and jwks_uri verify ID tokens together; one without the other is of no use"
    if connector.revocation.token not in REVOCABLE:
        yield f"revocation.token: must be one of {', '.join(sorted(REVOCABLE))}"
    if connector.discovery:
        return
    if not connector.authorization.endpoint:
        yield "authorization.endpoint: is missing, and there is no discovery"
    if not connector.token.endpoint:
        yield "token.endpoint: is missing, and there is no discovery"
    identity = connector.identity
    if identity.source is IdentitySource.ID_TOKEN and not connector.jwks_uri:
        yield "identity.source: an ID token needs issuer and jwks_uri, or discovery"
    if identity.source is IdentitySource.ENDPOINT and not (
        identity.probe.endpoint and identity.probe.id
    ):
        yield "identity.source: needs identity.probe.endpoint and identity.probe.id"
    if connector.revocation.style is not RevocationStyle.NONE and not connector.revocation.endpoint:
        yield "revocation.endpoint: is missing, and there is no discovery"


def _slot_problems(connector: Connector) -> Iterator[str]:
    names = [slot.name for slot in connector.slots]
    if not names or len(set(names)) < len(names):
        yield "slots: at least one, each with a name of its own"
    for scope, slot in connector.slot_scopes.items():
        if slot not in names:
            yield f"slot_scopes.{scope}: there is no slot {slot!r}"
    if not connector.authorization.scope_separator:
        yield "authorization.scope_separator: must not be empty"


def _number_problems(connector: Connector) -> Iterator[str]:
    refresh, lifetimes = connector.refresh, connector.lifetimes
    numbers = {
        "refresh.grace_s": refresh.grace_s,
        "refresh.window_s": refresh.window_s,
        "lifetimes.access_token_s": lifetimes.access_token_s,
        "lifetimes.refresh_token_idle_s": lifetimes.refresh_token_idle_s,
    }
    for name, value in numbers.items():
        if value is not None and not (math.isfinite(value) and value >= 0):
            yield f"{name}: must be a number of seconds, 0 or more"
    if refresh.reuse is Reuse.GRACE and not refresh.grace_s:
        yield "refresh.grace_s: says how long, where reuse is 'grace'"
