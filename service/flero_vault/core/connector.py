"""What a connector declares about its service. Data only; the files are in `connectors/`.

URLs may hold `{param}`, filled with connection parameters that matched their pattern. A field
that a file leaves out has the default here, which is what RFC 6749 says, or "unknown".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Verified(StrEnum):
    """Who says that the facts are so."""

    VENDOR = "vendor"
    METADATA = "metadata"
    SECONDHAND = "secondhand"


class ClientAuth(StrEnum):
    """How the client proves itself at the token endpoint (RFC 6749, section 2.3)."""

    BASIC = "basic"
    BASIC_RAW = "basic_raw"
    """Basic without the form encoding that section 2.3.1 asks for."""
    POST = "post"
    NONE = "none"


class Reuse(StrEnum):
    """What the service does when a refresh token that was already used comes again."""

    NOT_ROTATING = "not_rotating"
    TOLERATED = "tolerated"
    GRACE = "grace"
    REFUSED = "refused"
    FAMILY_REVOKED = "family_revoked"


class RevocationStyle(StrEnum):
    """The request that ends a grant at the service."""

    RFC7009 = "rfc7009"
    """POST `token`, with client authentication."""
    TOKEN_ONLY = "token_only"
    """POST `token`, without client authentication (Google, Salesforce)."""
    BEARER = "bearer"
    """POST with the token itself as bearer (Slack)."""
    NONE = "none"


class IdentitySource(StrEnum):
    """Where the account is read from when a consent is completed."""

    ID_TOKEN = "id_token"
    TOKEN_ANSWER = "token_answer"
    ENDPOINT = "endpoint"
    NONE = "none"


class ProbeStyle(StrEnum):
    """How the identity endpoint is asked."""

    GET = "get"
    """With the access token as bearer (OpenID Connect Core, section 5.3)."""
    POST = "post"
    """The same, by POST (Slack)."""
    INTROSPECT = "introspect"
    """RFC 7662: POST `token` with client authentication."""


class Verdict(StrEnum):
    """What a refusal of the service means for us; one list for errors, status, events and logs."""

    RECONNECT = "reconnect"
    """The grant is dead: a person must re-authenticate."""
    CONSENT_DENIED = "consent_denied"
    ADMIN_APPROVAL = "admin_approval"
    APP_NOT_VERIFIED = "app_not_verified"
    APP_REFUSED = "app_refused"
    """Our client id or secret is refused. Never the person's fault."""
    SERVICE_DOWN = "service_down"
    SLOW_DOWN = "slow_down"
    SCOPE_REFUSED = "scope_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """The authorization request (RFC 6749, section 4.1.1)."""

    endpoint: str = ""
    scope_separator: str = " "
    extra_params: Mapping[str, str] = field(default_factory=dict)
    pkce: bool = True
    """Send an S256 challenge (RFC 7636)."""
    login_hint_param: str = "login_hint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """The token endpoint (RFC 6749, sections 4.1.3 and 6)."""

    endpoint: str = ""
    client_auth: ClientAuth = ClientAuth.BASIC
    errors: Mapping[str, Verdict] = field(default_factory=dict)
    """The service's own error codes, beside those of the RFC."""
    error_path: str = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One of the grants that a credential holds."""

    name: str = ""
    path: str = ""
    """Where the slot's fields stand in the answer to the code; empty: at the top."""
    scope_param: str = "scope"
    token_type: str = ""
    """If set, a top-level token with another `token_type` is not this slot's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Asks the service now whose token this is. `id` empty: only whether it still works."""

    endpoint: str = ""
    style: ProbeStyle = ProbeStyle.GET
    id: tuple[str, ...] = ()
    email: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose account it is. `id` names the fields that together never change."""

    source: IdentitySource = IdentitySource.NONE
    id: tuple[str, ...] = ("sub",)
    email: str = "email"
    label: str = "name"
    probe: Probe = field(default_factory=Probe)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """How a grant is ended at the service."""

    style: RevocationStyle = RevocationStyle.NONE
    endpoint: str = ""
    token: str = "refresh"
    """Which token to send: `refresh` (the access token if there is none), `access`, or `both`."""
    gone: tuple[str, ...] = ("invalid_token",)
    """Error codes that say that the token is dead already, which is what we wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """What is known about refreshing."""

    reuse: Reuse = Reuse.FAMILY_REVOKED
    """The careful assumption where nothing is known."""
    grace_s: float = 0
    kills_access_token: bool = False
    window_s: float | None = None
    """If set, refresh only in the last so many seconds of the access token's life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """In seconds; None: unknown."""

    access_token_s: float | None = None
    """Assumed when an answer carries no `expires_in`; None: rely on 401."""
    refresh_token_idle_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """A connection parameter; the whole value must match `pattern`."""

    description: str
    pattern: str
    default: str = ""
    example: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A value that the token answer or the redirect brings, for those who use the token."""

    path: str
    pattern: str = ""
    """The whole value must match; required for URLs, which are followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """A service, as its file describes it."""

    key: str
    display_name: str
    verified: Verified
    verified_by: str
    """The page that says so."""

    discovery: str = ""
    """URL of the OpenID provider's metadata; fills endpoints that the file leaves out."""
    issuer: str = ""
    """Exact issuer; `{claim}` is filled from the ID token itself (Microsoft's `{tid}`)."""
    jwks_uri: str = ""
    iss_on_redirect: bool = False
    """The service sends `iss` (RFC 9207), so its absence is refused."""
    redirect_as: str = ""
    """Key of the connector whose callback path is registered; empty: its own."""

    authorization: Authorization = field(default_factory=Authorization)
    token: Token = field(default_factory=Token)
    slots: tuple[Slot, ...] = (Slot(),)
    identity: Identity = field(default_factory=Identity)
    revocation: Revocation = field(default_factory=Revocation)
    refresh: Refresh = field(default_factory=Refresh)
    lifetimes: Lifetimes = field(default_factory=Lifetimes)

    scopes: Mapping[str, str] = field(default_factory=dict)
    """OAuth scope -> what it allows, as a sentence for a person."""
    default_scopes: tuple[str, ...] = ()
    slot_scopes: Mapping[str, str] = field(default_factory=dict)
    """OAuth scope -> name of the slot that it is asked for in, if not the first."""
    connection_params: Mapping[str, Param] = field(default_factory=dict)
    connection: Mapping[str, Learned] = field(default_factory=dict)

    setup_steps: tuple[str, ...] = ()
    admin_approval: str = ""
    admin_approval_url: str = ""
    manage_url: str = ""
    app_origins: tuple[str, ...] = ()
    """Origins beside those of its fixed endpoints that secrets may go to."""

    @property
    def callback_key(self) -> str:
        """The last path segment of its redirect URI."""
        return self.redirect_as or self.key

    def slot(self, name: str) -> Slot | None:
        """Return the slot of this name, the first for the empty name, or None."""
        return next((slot for slot in self.slots if name in ("", slot.name)), None)
