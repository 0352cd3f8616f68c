"""Codes, grants and tokens of one emulated service: the rules, without HTTP.

- A *request* is parked while a person reads the consent page; it is answered once.
- A *code* is redeemed once, within ten minutes, by the client and for the redirect URI that asked
  (RFC 6749, section 4.1.2), and only with the right verifier where a challenge was sent (RFC 7636).
  An attempt that is refused leaves the code as it was.
- A *grant* is one lineage of tokens. Its *generation* counts the answers that were made from it.
- A rotating refresh token is *spent* by its first use. For `grace_s` it still gets fresh pairs;
  after that it is refused, and with `family_revoke` its whole lineage dies (RFC 9700, 4.14.2).
- Time comes in as `now`, in seconds. The journal says what happened and never holds a token.

    ledger.approve(ask, account, scopes, now) -> code
    ledger.redeem(code, client_id=..., redirect_uri=..., verifier=..., now=now) -> Approval
    ledger.renew(refresh_token, client_id=..., rules=..., mint=..., now=now) -> Issued
"""

import base64
import hashlib
import hmac
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from flero_vault_dev.emulator.accounts import Account

CODE_LIFE_S: Final = 600.0
REQUEST_LIFE_S: Final = 3600.0  # how long a person may look at the consent page
JOURNAL_LENGTH: Final = 1000
TOKEN_BYTES: Final = 32


class Cause(Enum):
    """Why something was refused; each dialect has its own words for it."""

    REQUEST_UNKNOWN = auto()
    PARAMETER_MISSING = auto()
    GRANT_TYPE_UNSUPPORTED = auto()
    CLIENT_MISSING = auto()
    CLIENT_UNKNOWN = auto()
    CLIENT_SECRET_MISSING = auto()
    CLIENT_SECRET_WRONG = auto()
    CLIENT_AUTHENTICATED_TWICE = auto()
    CODE_UNKNOWN = auto()
    CODE_EXPIRED = auto()
    CODE_USED = auto()
    CODE_OF_ANOTHER_TENANT = auto()
    REDIRECT_URI_MISMATCH = auto()
    VERIFIER_MISSING = auto()
    VERIFIER_WRONG = auto()
    SCOPE_NOT_GRANTED = auto()
    REFRESH_UNKNOWN = auto()
    REFRESH_EXPIRED = auto()
    REFRESH_SPENT = auto()
    REFRESH_REVOKED = auto()
    ACCESS_MISSING = auto()
    ACCESS_UNKNOWN = auto()
    ACCESS_EXPIRED = auto()
    ACCESS_REVOKED = auto()


class RefusedError(Exception):
    """The service says no; the dialect turns the cause into its answer."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.name)
        self.cause = cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a service treats its tokens; tests change these while it runs."""

    access_ttl_s: float = 3600.0
    refresh_ttl_s: float | None = None
    rotate: bool = False
    grace_s: float = 0.0
    family_revoke: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a service always does, whatever the rules say."""

    access_tokens_per_grant: int | None = None  # the oldest beyond it is revoked
    grants_per_account: int | None = None  # likewise
    code_replay_revokes: bool = False  # RFC 6749, section 4.1.2: SHOULD


@dataclass(frozen=True, slots=True, kw_only=True)
class Mint:
    """What the tokens of one service (and one slot of it) look like."""

    access_prefix: str
    refresh_prefix: str
    access_expires: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A PKCE challenge (RFC 7636)."""

    value: str
    method: str

    def met_by(self, verifier: str) -> bool:
        """Tell whether the verifier is the one that the challenge was made from."""
        made = verifier.encode()
        if self.method == "S256":
            made = base64.urlsafe_b64encode(hashlib.sha256(made).digest()).rstrip(b"=")
        return hmac.compare_digest(self.value.encode(), made)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """An authorization request; `scopes` by slot, `extra` is what the dialect remembers of it."""

    client_id: str
    redirect_uri: str
    state: str | None = field(repr=False)
    scopes: Mapping[str, tuple[str, ...]]
    challenge: Challenge | None = field(repr=False)
    nonce: str | None = field(repr=False)
    extra: Mapping[str, str]


@dataclass(slots=True, kw_only=True)
class AccessToken:
    """Live until it expires or is killed."""

    value: str = field(repr=False)
    grant: "Grant"
    scopes: tuple[str, ...]
    expires_at: float | None
    killed: bool = False


@dataclass(slots=True, kw_only=True)
class RefreshToken:
    """Bound to one grant; `generation` is that of the answer which brought it."""

    value: str = field(repr=False)
    grant: "Grant"
    generation: int
    expires_at: float | None
    spent_at: float | None = None
    killed: bool = False


@dataclass(slots=True, kw_only=True)
class Grant:
    """One lineage of tokens: what an account allowed a client to do, in one slot."""

    id: str
    client_id: str
    account: Account
    slot: str
    scopes: tuple[str, ...]
    generation: int = 0
    revoked: bool = False
    access_tokens: list[AccessToken] = field(default_factory=list, repr=False)
    refresh_tokens: list[RefreshToken] = field(default_factory=list, repr=False)


@dataclass(slots=True, kw_only=True)
class Approval:
    """What a person allowed; `grants` are those made from it, for the case of a replayed code."""

    ask: Ask
    account: Account
    scopes: Mapping[str, tuple[str, ...]]
    approved_at: float
    redeemed: bool = False
    grants: list[Grant] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """Tokens that the service has just handed out."""

    grant: Grant
    access: AccessToken
    refresh: RefreshToken | None
    now: float

    @property
    def access_life_s(self) -> int | None:
        """Whole seconds, as every service writes `expires_in`."""
        return _life(self.access.expires_at, self.now)

    @property
    def refresh_life_s(self) -> int | None:
        """Whole seconds, or None for a refresh token without an end."""
        return _life(self.refresh.expires_at, self.now) if self.refresh else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the journal."""

    event: str
    grant: str | None
    generation: int | None
    time: float


class Ledger:
    """Everything that one service remembers."""

    def __init__(self, traits: Traits) -> None:
        self._traits = traits
        self.forget()

    def forget(self) -> None:
        """Start over, as after a restart."""
        self._requests: dict[str, tuple[Ask, float]] = {}
        self._codes: dict[str, Approval] = {}
        self._opened = 0
        self._live: dict[tuple[str, str, str], list[Grant]] = {}
        self._access: dict[str, AccessToken] = {}
        self._refresh: dict[str, RefreshToken] = {}
        self.journal: deque[Event] = deque(maxlen=JOURNAL_LENGTH)

    def note(self, event: str, now: float, token: RefreshToken | None = None) -> None:
        """Write a line about a refresh token, or about none."""
        grant = token.grant.id if token else None
        generation = token.generation if token else None
        self.journal.append(Event(event=event, grant=grant, generation=generation, time=now))

    def _note_grant(self, event: str, grant: Grant, now: float) -> None:
        line = Event(event=event, grant=grant.id, generation=grant.generation, time=now)
        self.journal.append(line)

    # Consent

    def park(self, ask: Ask, now: float) -> str:
        """Keep the request until its page is answered; return the name of it."""
        fresh = {
            name: (parked, since)
            for name, (parked, since) in self._requests.items()
            if now - since < REQUEST_LIFE_S
        }
        request_id = secrets.token_urlsafe(TOKEN_BYTES)
        self._requests = {**fresh, request_id: (ask, now)}
        return request_id

    def take(self, request_id: str, now: float) -> Ask:
        """Give the parked request out, once."""
        parked = self._requests.pop(request_id, None)
        if parked is None or now - parked[1] >= REQUEST_LIFE_S:
            raise RefusedError(Cause.REQUEST_UNKNOWN)
        return parked[0]

    def approve(
        self, ask: Ask, account: Account, scopes: Mapping[str, tuple[str, ...]], now: float
    ) -> str:
        """Return a code for what the person allowed."""
        code = secrets.token_urlsafe(TOKEN_BYTES)
        self._codes[code] = Approval(ask=ask, account=account, scopes=scopes, approved_at=now)
        self.note("code.issued", now)
        return code

    def held_scopes(self, client_id: str, account: Account, slot: str) -> tuple[str, ...]:
        """Return the scopes that this client already has of this account, in a stable order."""
        held = dict.fromkeys(
            scope for grant in self._live_grants(client_id, account, slot) for scope in grant.scopes
        )
        return tuple(held)

    # The code

    def approval(self, code: str) -> Approval | None:
        """Look at what a code stands for without using it."""
        return self._codes.get(code)

    def redeem(
        self,
        code: str,
        *,
        client_id: str,
        redirect_uri: str | None,
        verifier: str | None,
        now: float,
    ) -> Approval:
        """Use the code up; a refused attempt changes nothing but the journal."""
        try:
            approval = self._redeemable(code, client_id, redirect_uri, verifier, now)
        except RefusedError:
            self.note("code.refused", now)
            raise
        approval.redeemed = True
        self.note("code.redeemed", now)
        return approval

    def _redeemable(
        self, code: str, client_id: str, redirect_uri: str | None, verifier: str | None, now: float
    ) -> Approval:
        approval = self._codes.get(code)
        if approval is None or approval.ask.client_id != client_id:
            raise RefusedError(Cause.CODE_UNKNOWN)
        if approval.redeemed:
            if self._traits.code_replay_revokes:
                for grant in approval.grants:
                    self.revoke_grant(grant, now)
            raise RefusedError(Cause.CODE_USED)
        if now - approval.approved_at >= CODE_LIFE_S:
            raise RefusedError(Cause.CODE_EXPIRED)
        if redirect_uri != approval.ask.redirect_uri:
            raise RefusedError(Cause.REDIRECT_URI_MISMATCH)
        challenge = approval.ask.challenge
        if challenge is not None and not verifier:
            raise RefusedError(Cause.VERIFIER_MISSING)
        if challenge is not None and not challenge.met_by(verifier or ""):
            raise RefusedError(Cause.VERIFIER_WRONG)
        return approval

    def open_grant(
        self, approval: Approval, slot: str, *, rules: Rules, mint: Mint, refresh: bool, now: float
    ) -> Issued:
        """Begin a lineage from an approval; with `refresh` it can be carried on."""
        self._opened += 1
        grant = Grant(
            id=f"grant-{self._opened}",
            client_id=approval.ask.client_id,
            account=approval.account,
            slot=slot,
            scopes=approval.scopes[slot],
        )
        self._live_grants(grant.client_id, grant.account, slot).append(grant)
        approval.grants.append(grant)
        grant.generation = 1
        token = self._new_refresh(grant, rules=rules, mint=mint, now=now) if refresh else None
        issued = self._issue(grant, grant.scopes, token, rules=rules, mint=mint, now=now)
        self._evict(grant, now)
        return issued

    # The refresh token

    def refresh_token(self, value: str) -> RefreshToken | None:
        """Look at a refresh token without using it."""
        return self._refresh.get(value)

    def renew(
        self,
        value: str,
        *,
        client_id: str,
        rules: Rules,
        mint: Callable[[Grant], Mint],
        scopes: tuple[str, ...] | None = None,
        now: float,
    ) -> Issued:
        """Answer a refresh: a fresh access token and, when the service rotates, a new pair."""
        token = self._refresh.get(value)
        if token is None or token.grant.client_id != client_id:
            self.note("refresh.refused", now)
            raise RefusedError(Cause.REFRESH_UNKNOWN)
        try:
            self._check_refresh(token, rules, now)
        except RefusedError:
            self.note("refresh.refused", now, token)
            raise
        reused = token.spent_at is not None
        self.note("refresh.reused_in_grace" if reused else "refresh.accepted", now, token)
        grant = token.grant
        shape = mint(grant)
        grant.generation += 1
        if rules.rotate:
            token.spent_at = now if token.spent_at is None else token.spent_at
            token = self._new_refresh(grant, rules=rules, mint=shape, now=now)
        return self._issue(grant, scopes or grant.scopes, token, rules=rules, mint=shape, now=now)

    def _check_refresh(self, token: RefreshToken, rules: Rules, now: float) -> None:
        if token.killed or token.grant.revoked:
            raise RefusedError(Cause.REFRESH_REVOKED)
        if token.expires_at is not None and now >= token.expires_at:
            raise RefusedError(Cause.REFRESH_EXPIRED)
        if token.spent_at is not None and now - token.spent_at >= rules.grace_s:
            if rules.family_revoke:
                self.revoke_grant(token.grant, now)
            raise RefusedError(Cause.REFRESH_SPENT)

    # The access token

    def access(self, value: str | None, now: float) -> AccessToken:
        """Return the token if it is live."""
        if not value:
            raise RefusedError(Cause.ACCESS_MISSING)
        token = self._access.get(value)
        if token is None:
            raise RefusedError(Cause.ACCESS_UNKNOWN)
        if token.killed or token.grant.revoked:
            raise RefusedError(Cause.ACCESS_REVOKED)
        if token.expires_at is not None and now >= token.expires_at:
            raise RefusedError(Cause.ACCESS_EXPIRED)
        return token

    # The end

    def find(self, value: str) -> AccessToken | RefreshToken | None:
        """Return a token of either kind, dead or alive, for a revocation to decide about."""
        return self._access.get(value) or self._refresh.get(value)

    def kill(self, token: AccessToken | RefreshToken, now: float) -> None:
        """Revoke this one token and leave the others of its lineage."""
        token.killed = True
        self._note_grant("token.revoked", token.grant, now)

    def revoke_grant(self, grant: Grant, now: float) -> None:
        """Revoke the whole lineage, access tokens too."""
        if not grant.revoked:
            grant.revoked = True
            self._note_grant("grant.revoked", grant, now)

    def kill_refresh_tokens(self, now: float) -> None:
        """Let every refresh token be dead, as after an administrator's sweep."""
        for token in self._refresh.values():
            token.killed = True
        self.note("refresh_tokens.killed", now)

    def kill_access_tokens(self, now: float) -> None:
        """Let every access token be dead while the refresh tokens live on."""
        for token in self._access.values():
            token.killed = True
        self.note("access_tokens.killed", now)

    # Making tokens

    def _issue(
        self,
        grant: Grant,
        scopes: tuple[str, ...],
        refresh: RefreshToken | None,
        *,
        rules: Rules,
        mint: Mint,
        now: float,
    ) -> Issued:
        access = AccessToken(
            value=mint.access_prefix + secrets.token_urlsafe(TOKEN_BYTES),
            grant=grant,
            scopes=scopes,
            expires_at=now + rules.access_ttl_s if mint.access_expires else None,
        )
        self._access[access.value] = access
        grant.access_tokens.append(access)
        cap = self._traits.access_tokens_per_grant
        if cap is not None:
            for old in grant.access_tokens[:-cap]:
                old.killed = True
            del grant.access_tokens[:-cap]
        self._note_grant("tokens.issued", grant, now)
        return Issued(grant=grant, access=access, refresh=refresh, now=now)

    def _new_refresh(self, grant: Grant, *, rules: Rules, mint: Mint, now: float) -> RefreshToken:
        token = RefreshToken(
            value=mint.refresh_prefix + secrets.token_urlsafe(TOKEN_BYTES),
            grant=grant,
            generation=grant.generation,
            expires_at=None if rules.refresh_ttl_s is None else now + rules.refresh_ttl_s,
        )
        self._refresh[token.value] = token
        grant.refresh_tokens.append(token)
        return token

    def _evict(self, newest: Grant, now: float) -> None:
        cap = self._traits.grants_per_account
        if cap is None or not newest.refresh_tokens:
            return
        live = self._live_grants(newest.client_id, newest.account, newest.slot)
        renewable = [grant for grant in live if grant.refresh_tokens]
        for grant in renewable[:-cap]:
            self.revoke_grant(grant, now)

    def _live_grants(self, client_id: str, account: Account, slot: str) -> list[Grant]:
        # Kept by account and cleaned when read: a load test opens many grants for two people.
        key = (client_id, account.key, slot)
        self._live[key] = [grant for grant in self._live.get(key, ()) if not grant.revoked]
        return self._live[key]


def _life(expires_at: float | None, now: float) -> int | None:
    return None if expires_at is None else max(0, int(expires_at - now))
