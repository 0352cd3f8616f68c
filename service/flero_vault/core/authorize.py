"""The hand-off: BeginAuthorize, Reauthenticate, CompleteCallback.

- The state has 256 bits and is stored as a hash; it stays sealed beside it until it is used, so
  that a repeated request gets the same URL. It travels as `{workspace}.{secret}`.
- An attempt is bound to user, browser and connector. Its single use is decided by the database
  before anything is sent; what happens then happens once, even if the caller hangs up.
- The first outcome is remembered: the same callback again gets it, another code never does.
- The old grant serves until the new one is accepted, in one transaction.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from flero_vault.core.access import Action, allow, visible
from flero_vault.core.apps import Clients, not_configured, origin_allowed
from flero_vault.core.connector import Connector, Verdict
from flero_vault.core.decisions import (
    Accept,
    Callback,
    Doubt,
    Expected,
    Refuse,
    judge_callback,
    loggable,
    missing,
    verdict_of,
)
from flero_vault.core.errors import (
    CallbackRefused,
    Conflict,
    InvalidField,
    Precondition,
    Reason,
    Unavailable,
    VaultError,
    Violation,
    about,
    connector_not_found,
    credential_not_found,
)
from flero_vault.core.log import Log
from flero_vault.core.model import (
    Account,
    App,
    Attempt,
    Credential,
    CredentialName,
    CredentialScope,
    Grant,
    Phase,
    Sealed,
    Seat,
    ServiceRevocation,
    Status,
)
from flero_vault.core.persist import Persistence
from flero_vault.core.ports import (
    Activated,
    Activation,
    AuthorizationServer,
    Catalogue,
    Client,
    Clock,
    Consent,
    Delivery,
    Entropy,
    Failure,
    NewTokens,
    Sealer,
    Store,
    TokenAnswer,
)
from flero_vault.core.sealing import REFRESH, seal_tokens
from flero_vault.core.secret import Secret

ATTEMPT_FIELD = "attempt"
EXCHANGE_LEASE = timedelta(seconds=60)
"""How long an exchange may take; after it the code counts as spent by a process that died."""
REPEAT_PATIENCE_S = 30.0
REPEAT_POLL_S = 0.2
BINDING_USE = "browser_binding"


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginRequest:
    """What BeginAuthorize is asked."""

    workspace: str
    connector: str
    display_name: str
    scope: CredentialScope
    user: str
    requested_scopes: tuple[str, ...]
    connection_params: Mapping[str, str]
    login_hint: str
    browser_binding: Secret
    request_id: str
    caller: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReauthenticateRequest:
    """What Reauthenticate is asked."""

    name: CredentialName
    user: str
    requested_scopes: tuple[str, ...]
    allow_account_change: bool
    login_hint: str
    browser_binding: Secret
    request_id: str
    caller: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackRequest:
    """What stood in the URL that the service sent the browser to, and in whose session."""

    connector: str
    state: Secret
    code: Secret | None
    iss: str
    error: str
    extra_params: Mapping[str, str]
    user: str
    browser_binding: Secret


@dataclass(frozen=True, slots=True)
class Permission:
    """An OAuth scope in words."""

    scope: str
    description: str
    granted: bool


@dataclass(frozen=True, slots=True)
class Begun:
    """A trip to the consent page. `url` is None if it was made already."""

    credential: Credential
    url: Secret | None
    permissions: tuple[Permission, ...]
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class Completed:
    """A consent that was accepted."""

    credential: Credential
    missing_scopes: tuple[str, ...]


def state_invalid() -> CallbackRefused:
    """Return the one answer for every state that is not, or no longer, this person's."""
    return CallbackRefused(
        Reason.STATE_INVALID,
        "This authorization link is no longer valid, or was opened in another browser. "
        "Start again from Flero.",
    )


class Authorize:
    """Leads a person to the consent page and back."""

    def __init__(
        self,
        *,
        process_id: UUID,
        public_url: str,
        store: Store,
        sealer: Sealer,
        servers: AuthorizationServer,
        catalogue: Catalogue,
        clients: Clients,
        clock: Clock,
        entropy: Entropy,
        log: Log,
    ) -> None:
        self._process_id = process_id
        self._public_url = public_url.rstrip("/")
        self._store = store
        self._sealer = sealer
        self._servers = servers
        self._catalogue = catalogue
        self._clients = clients
        self._clock = clock
        self._entropy = entropy
        self._log = log
        self._persistence = Persistence(clock, log, patience=EXCHANGE_LEASE / 2)
        self._exchanges: set[asyncio.Task[Completed | None]] = set()

    def redirect_uri(self, connector: Connector) -> str:
        """Return the redirect URI to register at the service."""
        return f"{self._public_url}/oauth/callback/{connector.callback_key}"

    async def drain(self) -> None:
        """Wait until every exchange under way has ended."""
        if self._exchanges:
            await asyncio.wait(self._exchanges)

    # the way there

    async def begin(self, request: BeginRequest) -> Begun:
        """Make a PENDING credential and the URL of its consent page.

        Raises:
            NotFound: CONNECTOR_NOT_FOUND.
            InvalidField: a connection parameter is missing or does not match.
            Precondition: OAUTH_APP_NOT_CONFIGURED.
            Conflict: REQUEST_ID_REUSED.
            Unavailable: the service's metadata cannot be read.

        """
        connector = self._connector(request.connector)
        params = checked_params(connector, request.connection_params)
        scopes = request.requested_scopes or connector.default_scopes
        now = await self._store.now()
        credential = Credential(
            name=CredentialName(request.workspace, self._entropy.uuid()),
            connector=connector.key,
            display_name=request.display_name,
            scope=request.scope,
            status=Status.PENDING,
            owner=request.user,
            authorized_by="",
            account=None,
            requested_scopes=scopes,
            granted_scopes=(),
            connection_params=params,
            status_reason=None,
            service_revocation=ServiceRevocation.NOT_REQUESTED,
            access_token_expire_time=None,
            refresh_token_expire_time=None,
            last_refresh_time=None,
            last_used_time=None,
            create_time=now,
            update_time=now,
            revision=1,
            generations=0,
        )
        idempotency = _Idempotency.of("BeginAuthorize", request.caller, request)
        return await self._start(
            connector,
            credential,
            new=True,
            user=request.user,
            scopes=scopes,
            login_hint=request.login_hint,
            binding=request.browser_binding,
            allow_account_change=False,
            idempotency=idempotency,
        )

    async def reauthenticate(self, request: ReauthenticateRequest) -> Begun:
        """Start the consent again for a credential that exists.

        Raises:
            NotFound: CREDENTIAL_NOT_FOUND.
            Precondition: OAUTH_APP_NOT_CONFIGURED.
            Conflict: REQUEST_ID_REUSED.
            Unavailable: the service's metadata cannot be read.

        """
        found = await self._store.load(request.name)
        credential = allow(Action.REAUTHENTICATE, found, request.user)
        return await self._start(
            self._connector(credential.connector),
            credential,
            new=False,
            user=request.user,
            scopes=request.requested_scopes or credential.requested_scopes,
            login_hint=request.login_hint
            or (credential.account.email if credential.account else ""),
            binding=request.browser_binding,
            allow_account_change=request.allow_account_change,
            idempotency=_Idempotency.of("Reauthenticate", request.caller, request),
        )

    async def _start(
        self,
        connector: Connector,
        credential: Credential,
        *,
        new: bool,
        user: str,
        scopes: tuple[str, ...],
        login_hint: str,
        binding: Secret,
        allow_account_change: bool,
        idempotency: "_Idempotency | None",
    ) -> Begun:
        workspace = credential.name.workspace
        if idempotency is not None:
            stored = await self._store.attempt_by_request(workspace, idempotency.key)
            if stored is not None and await self._fresh(stored):
                return await self._again(stored, idempotency, connector, login_hint)
        app, client = await self._client(workspace, connector, credential.connection_params)
        issuer = await self._servers.issuer(client)
        if isinstance(issuer, Failure):
            raise _service_error(issuer, connector, {})
        consent = Consent(
            redirect_uri=self.redirect_uri(connector),
            state=Secret(f"{workspace}.{self._entropy.token()}"),
            nonce=Secret(self._entropy.token()),
            verifier=Secret(self._entropy.token()),
            scopes=scopes,
            login_hint=login_hint,
        )
        url = await self._url(client, consent)
        state_hash = hash_state(consent.state)
        seat = Seat("attempt", workspace, state_hash.hex())
        row = await self._sealer.seal(seat, {ATTEMPT_FIELD: _pack(consent)})
        attempt = Attempt(
            workspace=workspace,
            state_hash=state_hash,
            credential_id=credential.name.id,
            phase=Phase.OPEN,
            user=user,
            binding_hash=await self._sealer.fingerprint(workspace, BINDING_USE, binding),
            connector=connector.key,
            app=app.name,
            redirect_uri=consent.redirect_uri,
            issuer=issuer,
            requested_scopes=scopes,
            connection_params=credential.connection_params,
            allow_account_change=allow_account_change,
            secrets=Sealed(row.key_id, row.fields[ATTEMPT_FIELD]),
            code_hash=None,
            outcome=None,
            create_time=credential.update_time,
            expire_time=credential.update_time,
            lease_expire_time=None,
            request_digest=idempotency.digest if idempotency else None,
        )
        key = idempotency.key if idempotency else None
        begun = await self._store.begin(attempt, key, credential if new else None)
        if begun is None and idempotency is not None:
            stored = await self._store.attempt_by_request(workspace, idempotency.key)
            if stored is not None:
                return await self._again(stored, idempotency, connector, login_hint)
        if begun is None:
            raise credential_not_found()
        await self._store.announce(workspace, credential.name.id)
        return await self._begun(begun, connector, url)

    async def _fresh(self, attempt: Attempt) -> bool:
        """Say whether a stored request is young enough to be the same one."""
        return await self._store.now() < attempt.expire_time

    async def _again(
        self, attempt: Attempt, idempotency: "_Idempotency", connector: Connector, login_hint: str
    ) -> Begun:
        """Answer a repeated request: the same URL as long as its state is unused."""
        if attempt.request_digest != idempotency.digest:
            raise Conflict(
                Reason.REQUEST_ID_REUSED,
                "This request_id was used a moment ago with other fields. Use a new one.",
            )
        if attempt.secrets is None or attempt.phase is not Phase.OPEN:
            return await self._begun(attempt, connector, None)
        client = await self._clients.load(connector, attempt.connection_params, attempt.app)
        packed = await self._sealer.open(attempt.seat, ATTEMPT_FIELD, attempt.secrets)
        consent = _unpack(packed, attempt, login_hint)
        return await self._begun(attempt, connector, await self._url(client, consent))

    async def _begun(self, attempt: Attempt, connector: Connector, url: Secret | None) -> Begun:
        credential = await self._store.load(
            CredentialName(attempt.workspace, attempt.credential_id)
        )
        if credential is None:
            raise credential_not_found()
        return Begun(
            credential=credential,
            url=url,
            permissions=permissions(connector, attempt.requested_scopes, credential.granted_scopes),
            expire_time=attempt.expire_time,
        )

    async def _url(self, client: Client, consent: Consent) -> Secret:
        url = await self._servers.authorize_url(client, consent)
        if isinstance(url, Failure):
            raise _service_error(url, client.connector, {})
        return url

    async def _client(
        self, workspace: str, connector: Connector, params: Mapping[str, str]
    ) -> tuple[App, Client]:
        app = await self._store.current_app(workspace, connector.key)
        if app is None:
            raise not_configured(connector)
        endpoint = fill(connector.token.endpoint or connector.discovery, params)
        if not origin_allowed(endpoint, app.origins):
            # A host that the tenant chose must not get the secret of another app.
            raise not_configured(connector)
        return app, await self._clients.of(connector, params, app)

    # the way back

    async def complete(self, request: CallbackRequest) -> Completed:
        """Take what came back and make the credential ACTIVE.

        Raises:
            CallbackRefused: STATE_INVALID and every other outcome without a grant.
            Unavailable: the service or the vault is away, or the first call is still at work.

        """
        attempt, now = await self._find(request.state)
        # Nothing is made for a stranger's workspace: the binding is hashed only for a known state.
        callback = Callback(
            connector=request.connector,
            user=request.user,
            binding_hash=await self._binding_hash(attempt, request.browser_binding),
            iss=request.iss,
            code_hash=_hash_code(request),
        )
        connector = self._catalogue.find(attempt.connector) if attempt else None
        expected = Expected(
            callback_key=connector.callback_key if connector else "",
            iss_required=bool(connector and connector.iss_on_redirect),
        )
        verdict = judge_callback(attempt, callback=callback, expected=expected, now=now)
        if isinstance(verdict, Refuse) or attempt is None or connector is None:
            doubt = verdict.doubt if isinstance(verdict, Refuse) else Doubt.UNKNOWN
            self._log.warning("callback.refused", connector=request.connector, doubt=doubt)
            raise state_invalid()
        if isinstance(verdict, Accept):
            # A task of its own from the moment the state is consumed: a person who closes the tab
            # must not lose a spent code.
            task = asyncio.create_task(self._once(attempt, connector, request, callback.code_hash))
            self._exchanges.add(task)
            task.add_done_callback(self._exchanges.discard)
            completed = await asyncio.shield(task)
            if completed is not None:
                return completed
        return await self._first_outcome(attempt, callback, expected)

    async def _once(
        self, attempt: Attempt, connector: Connector, request: CallbackRequest, code_hash: bytes
    ) -> Completed | None:
        """Consume the state and finish; None if another call was faster."""
        consumed = await self._store.consume(attempt, code_hash, self._process_id, EXCHANGE_LEASE)
        return await self._finish(attempt, connector, request) if consumed else None

    async def _find(self, state: Secret) -> tuple[Attempt | None, datetime]:
        workspace, _, secret = state.reveal().partition(".")
        if not secret:
            return None, await self._store.now()
        return await self._store.attempt(workspace, hash_state(state))

    async def _binding_hash(self, attempt: Attempt | None, binding: Secret) -> bytes:
        if attempt is None:
            return b""
        return await self._sealer.fingerprint(attempt.workspace, BINDING_USE, binding)

    async def _first_outcome(
        self, attempt: Attempt, callback: Callback, expected: Expected
    ) -> Completed:
        """Return what the first call of this callback ended with, waiting for it if need be."""
        end = self._clock.monotonic() + REPEAT_PATIENCE_S
        while self._clock.monotonic() < end:
            again, now = await self._store.attempt(attempt.workspace, attempt.state_hash)
            verdict = judge_callback(again, callback=callback, expected=expected, now=now)
            if isinstance(verdict, Refuse) or again is None:
                raise state_invalid()
            if again.phase is Phase.DONE and again.outcome is not None:
                return await self._replay(again, again.outcome)
            if again.lease_expire_time is not None and again.lease_expire_time <= now:
                # The process died with the code in hand. Using it again could revoke what the
                # first use brought (RFC 6749, section 4.1.2), so the person starts again.
                refusal = await self._refusal(again, Verdict.RECONNECT)
                await self._end(again, refusal)
                raise refusal
            await asyncio.sleep(REPEAT_POLL_S)
        raise Unavailable(
            Reason.REFRESH_PENDING,
            "This authorization is still being completed. Try again in a moment.",
            retry_after=1,
        )

    async def _replay(self, attempt: Attempt, outcome: Mapping[str, object]) -> Completed:
        if outcome.get("reason"):
            raise _error_from(outcome)
        credential = await self._mine(attempt)
        return Completed(credential, _texts(outcome.get("missing_scopes")))

    async def _mine(self, attempt: Attempt) -> Credential:
        """Return the attempt's credential if it still is its user's to authorize.

        It may have been deleted, or made PERSONAL by its owner, since the attempt began.
        """
        credential = await self._store.load(
            CredentialName(attempt.workspace, attempt.credential_id)
        )
        if credential is None or not visible(credential.scope, credential.owner, attempt.user):
            raise state_invalid()
        return credential

    async def _finish(
        self, attempt: Attempt, connector: Connector, request: CallbackRequest
    ) -> Completed:
        """Do what happens once: exchange, compare, store. The attempt ends whatever happens."""
        try:
            return await self._accept(attempt, connector, request)
        except (Precondition, Unavailable) as error:
            await self._end(attempt, error)
            raise
        except Exception:
            # The code may be spent, so the person has to start again; the log names the fault.
            await self._end(attempt, refusal(Verdict.RECONNECT, connector, {}))
            raise

    async def _end(self, attempt: Attempt, error: VaultError) -> None:
        self._log.info("callback.ended", workspace=attempt.workspace, reason=error.reason)
        await self._store.finish(attempt, _outcome_of(error), error.reason, error.message)
        await self._store.announce(attempt.workspace, attempt.credential_id)

    async def _accept(
        self, attempt: Attempt, connector: Connector, request: CallbackRequest
    ) -> Completed:
        credential = await self._mine(attempt)
        if attempt.secrets is None:
            raise state_invalid()
        if request.code is None:
            raise await self._refusal(attempt, error_verdict(connector, request.error))
        client = await self._clients.load(connector, attempt.connection_params, attempt.app)
        packed = await self._sealer.open(attempt.seat, ATTEMPT_FIELD, attempt.secrets)
        consent = _unpack(packed, attempt, "")
        await self._sealer.warm(attempt.workspace)
        sent = self._clock.monotonic()
        answer = await self._servers.exchange(client, consent, request.code, request.extra_params)
        if isinstance(answer, Failure):
            self._log.warning(
                "callback.exchange_refused",
                workspace=attempt.workspace,
                connector=connector.key,
                verdict=answer.verdict,
                delivery=answer.delivery,
                code=loggable(answer.code),
            )
            raise _service_error(answer, connector, about(credential))
        account = await self._account(client, answer, credential, attempt)
        absent = await self._persistence.store(
            lambda: self._activate(attempt, credential, answer, account, sent)
        )
        if absent is None:
            # Revoked, deleted or started anew while the person was at the consent page.
            raise state_invalid()
        self._log.info("callback.done", workspace=attempt.workspace, connector=connector.key)
        await self._store.announce(attempt.workspace, attempt.credential_id)
        active = await self._store.load(credential.name)
        if active is None:
            raise credential_not_found()
        return Completed(active, absent)

    async def _activate(
        self,
        attempt: Attempt,
        credential: Credential,
        answer: TokenAnswer,
        account: Account | None,
        sent: float,
    ) -> tuple[str, ...] | None:
        """Store what was granted; return the scopes that were not, or None if nobody wants it."""
        while True:
            grants = await self._sealed(attempt, credential, answer, account, sent)
            granted = tuple(dict.fromkeys(scope for _, tokens in grants for scope in tokens.scopes))
            absent = missing(attempt.requested_scopes, granted)
            activated = await self._store.activate(
                Activation(
                    attempt=attempt,
                    account=account,
                    grants=grants,
                    outcome={"missing_scopes": list(absent)},
                )
            )
            if activated is not Activated.CHANGED:
                return absent if activated is Activated.DONE else None
            # The refresh token that is kept was just spent, or is being spent: its successor is
            # the one to keep.
            await asyncio.sleep(REPEAT_POLL_S)

    async def _account(
        self, client: Client, answer: TokenAnswer, credential: Credential, attempt: Attempt
    ) -> Account | None:
        """Return whose account it is, refusing another one than before unless that is allowed."""
        known = credential.account
        account = await self._servers.identify(client, answer)
        if account is None or isinstance(account, Failure):
            if known is not None and not attempt.allow_account_change:
                # It cannot be shown to be the same account, so the old grant stays.
                raise refusal(Verdict.SERVICE_DOWN, client.connector, about(credential))
            return None
        if known is not None and known.id != account.id and not attempt.allow_account_change:
            raise CallbackRefused(
                Reason.ACCOUNT_MISMATCH,
                f"“{credential.display_name}” belongs to {known.known_as}, but "
                f"{account.known_as} was chosen. Nothing was changed: start again and choose "
                f"{known.known_as}.",
                metadata=about(
                    credential, expected_account=known.known_as, actual_account=account.known_as
                ),
            )
        return account

    async def _sealed(
        self,
        attempt: Attempt,
        credential: Credential,
        answer: TokenAnswer,
        account: Account | None,
        sent: float,
    ) -> Sequence[tuple[UUID, NewTokens]]:
        old = {grant.slot: grant for grant in await self._store.grants_of(credential.name)}
        grants: list[tuple[UUID, NewTokens]] = []
        for tokens in answer.slots:
            before = old.get(tokens.slot)
            grant_id = before.id if before else self._entropy.uuid()
            kept = await self._kept_refresh_token(before, credential, attempt, account)
            sealed = await seal_tokens(
                self._sealer,
                Seat("grant", attempt.workspace, str(grant_id)),
                tokens,
                kept_refresh_token=kept,
                kept_from=before.generation if before and kept else None,
                scopes=attempt.requested_scopes,
                connection=dict(answer.connection),
                age=self._clock.monotonic() - sent,
            )
            grants.append((grant_id, sealed))
        return grants

    async def _kept_refresh_token(
        self,
        before: Grant | None,
        credential: Credential,
        attempt: Attempt,
        account: Account | None,
    ) -> Secret | None:
        """Return the refresh token to go on with if the service sends none.

        Some send it at the first consent only (Google). It is the same account's, of the same
        OAuth app, and not known to be dead, or it is not kept.
        """
        if before is None or before.refresh_token is None or before.dead_time is not None:
            return None
        if before.app != attempt.app or account is None or credential.account is None:
            return None
        if account.id != credential.account.id:
            return None
        return await self._sealer.open(before.seat, REFRESH, before.refresh_token)

    async def _refusal(self, attempt: Attempt, verdict: Verdict) -> VaultError:
        credential = await self._store.load(
            CredentialName(attempt.workspace, attempt.credential_id)
        )
        metadata = about(credential) if credential else {}
        return refusal(verdict, self._connector(attempt.connector), metadata)

    def _connector(self, key: str) -> Connector:
        connector = self._catalogue.find(key)
        if connector is None:
            raise connector_not_found(key)
        return connector


# --- pure ---------------------------------------------------------------------------------------


def hash_state(state: Secret) -> bytes:
    """Return what a state is stored as. It has 256 bits, so a plain hash cannot be reversed."""
    return hashlib.sha256(state.encode()).digest()


def fill(template: str, params: Mapping[str, str]) -> str:
    """Fill the placeholders of a URL with connection parameters that matched their patterns."""
    for key, value in params.items():
        template = template.replace(f"{{{key}}}", value)
    return template


def checked_params(connector: Connector, given: Mapping[str, str]) -> dict[str, str]:
    """Return the connection parameters with their defaults.

    Raises:
        InvalidField: one is missing, unknown, or does not match its pattern.

    """
    wrong = [
        Violation(f"connection_params.{key}", f"is not a parameter of {connector.display_name}")
        for key in given
        if key not in connector.connection_params
    ]
    params = {}
    for key, declared in connector.connection_params.items():
        value = given.get(key) or declared.default
        if not re.fullmatch(declared.pattern, value):
            example = f", such as {declared.example}" if declared.example else ""
            wrong.append(
                Violation(f"connection_params.{key}", f"must match {declared.pattern}{example}")
            )
        params[key] = value
    if wrong:
        raise InvalidField(*wrong)
    return params


def permissions(
    connector: Connector, scopes: tuple[str, ...], granted: tuple[str, ...]
) -> tuple[Permission, ...]:
    """Return scopes in words."""
    return tuple(
        Permission(scope, connector.scopes.get(scope, ""), scope in granted) for scope in scopes
    )


def error_verdict(connector: Connector, error: str) -> Verdict:
    """Return what an `error` on the redirect means.

    Services also send it in upper case or with hyphens (Salesforce).
    """
    plain = error.lower().replace("-", "_")
    return verdict_of(connector.token.errors, http_status=0, codes=(error, plain))


_CALLBACK_ERRORS: Mapping[Verdict, tuple[Reason, str]] = {
    Verdict.RECONNECT: (
        Reason.CODE_REJECTED,
        "{service} did not complete the authorization. Start again.",
    ),
    Verdict.CONSENT_DENIED: (
        Reason.CONSENT_DENIED,
        "The authorization was cancelled at {service}. Start again if that was a mistake.",
    ),
    Verdict.ADMIN_APPROVAL: (
        Reason.ADMIN_APPROVAL_REQUIRED,
        (
            "An administrator of {service} has to approve Flero first. "
            "Ask them to, then authorize again."
        ),
    ),
    Verdict.APP_NOT_VERIFIED: (
        Reason.APP_NOT_VERIFIED,
        (
            "{service} does not let this account use Flero, because Flero's registration there is "
            "not verified for it. Your platform team can help."
        ),
    ),
    Verdict.APP_REFUSED: (
        Reason.OAUTH_APP_REJECTED,
        "{service} refuses Flero's own registration. Your platform team has to correct it.",
    ),
    Verdict.SCOPE_REFUSED: (
        Reason.SCOPES_MISSING,
        "{service} does not offer the permissions that were asked for.",
    ),
    Verdict.SERVICE_DOWN: (
        Reason.SERVICE_UNAVAILABLE,
        "{service} does not answer at the moment. Start again later.",
    ),
    Verdict.SLOW_DOWN: (
        Reason.SERVICE_RATE_LIMITED,
        "{service} asks us to slow down. Start again later.",
    ),
}
_AGAIN_LATER = frozenset({Reason.SERVICE_UNAVAILABLE, Reason.SERVICE_RATE_LIMITED})


def refusal(
    verdict: Verdict,
    connector: Connector,
    metadata: Mapping[str, str],
    retry_after: float | None = None,
) -> VaultError:
    """Return the error for a consent that a service did not grant."""
    reason, sentence = _CALLBACK_ERRORS[verdict]
    kind = Unavailable if reason in _AGAIN_LATER else CallbackRefused
    return kind(
        reason,
        sentence.format(service=connector.display_name),
        metadata={"connector": connector.key, **metadata, "cause": verdict},
        help_url=connector.admin_approval_url if verdict is Verdict.ADMIN_APPROVAL else "",
        retry_after=retry_after or 5.0 if kind is Unavailable else None,
    )


_AWAY_CODES = frozenset({"server_error", "temporarily_unavailable"})


def _service_error(
    failure: Failure, connector: Connector, metadata: Mapping[str, str]
) -> VaultError:
    verdict = failure.verdict
    if (
        verdict is Verdict.SERVICE_DOWN
        and failure.delivery is Delivery.ANSWERED
        and failure.retry_after is None
        and failure.code not in _AWAY_CODES
    ):
        # It answered, with a refusal that nobody knows: this code will not do, whatever it means.
        verdict = Verdict.RECONNECT
    return refusal(verdict, connector, metadata, failure.retry_after)


def _outcome_of(error: VaultError) -> dict[str, object]:
    return {
        "reason": error.reason,
        "message": error.message,
        "metadata": error.metadata,
        "help_url": error.help_url,
        "retry_after": error.retry_after,
    }


def _error_from(outcome: Mapping[str, object]) -> VaultError:
    """Return the error that an attempt ended with, as it was."""
    reason = Reason(str(outcome["reason"]))
    kind = Unavailable if reason in _AGAIN_LATER else CallbackRefused
    metadata = outcome.get("metadata")
    retry_after = outcome.get("retry_after")
    return kind(
        reason,
        str(outcome["message"]),
        metadata={str(k): str(v) for k, v in metadata.items()}
        if isinstance(metadata, dict)
        else {},
        help_url=str(outcome.get("help_url", "")),
        retry_after=retry_after if isinstance(retry_after, int | float) else None,
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()


def _hash_code(request: CallbackRequest) -> bytes:
    """Return what tells a repeated callback from another one, be it a code or an error."""
    said = f"code {request.code.reveal()}" if request.code else f"error {request.error}"
    return hashlib.sha256(said.encode()).digest()


def _pack(consent: Consent) -> Secret:
    parts = {"state": consent.state, "nonce": consent.nonce, "verifier": consent.verifier}
    return Secret(json.dumps({key: part.reveal() for key, part in parts.items()}))


def _unpack(packed: Secret, attempt: Attempt, login_hint: str) -> Consent:
    parts = json.loads(packed.reveal())
    return Consent(
        redirect_uri=attempt.redirect_uri,
        state=Secret(parts["state"]),
        nonce=Secret(parts["nonce"]),
        verifier=Secret(parts["verifier"]),
        scopes=attempt.requested_scopes,
        login_hint=login_hint,
    )


@dataclass(frozen=True, slots=True)
class _Idempotency:
    """What makes a repeated request the same one (AIP-155): its key, and what it asked."""

    key: bytes
    digest: bytes

    @classmethod
    def of(
        cls, rpc: str, caller: str, request: BeginRequest | ReauthenticateRequest
    ) -> "_Idempotency | None":
        if not request.request_id:
            return None
        asked = {
            field: value.reveal() if isinstance(value, Secret) else value
            for field in request.__dataclass_fields__
            if (value := getattr(request, field)) is not None
        }
        text = json.dumps(asked, sort_keys=True, default=str)
        key = json.dumps([rpc, caller, request.user, request.request_id])
        return cls(
            hashlib.sha256(key.encode()).digest(),
            hashlib.sha256(text.encode()).digest(),
        )
