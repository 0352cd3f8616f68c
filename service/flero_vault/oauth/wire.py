"""`HttpServers`: the port `AuthorizationServer` over HTTP.

- Consent: `authorize_url`, `issuer`. Tokens: `exchange`, `refresh`. Account: `identify`, `probe`.
  End: `revoke`.
- Each resolves the endpoints, checks that the app's secrets may go there, sends once, and reads.
- Client credentials are sent in one way only, and the next secret is tried only after a whole
  answer refused the one before: then nothing was spent.
"""

import asyncio
import base64
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import quote_plus, urlencode

from flero_vault.core.apps import origin_allowed
from flero_vault.core.connector import (
    ClientAuth,
    Connector,
    IdentitySource,
    ProbeStyle,
    RevocationStyle,
    Verdict,
)
from flero_vault.core.model import Account, ServiceRevocation
from flero_vault.core.ports import (
    Client,
    Clock,
    Consent,
    Delivery,
    Failure,
    TokenAnswer,
)
from flero_vault.core.secret import Secret
from flero_vault.oauth import answers
from flero_vault.oauth.answers import HttpAnswer
from flero_vault.oauth.discovery import Documents, Endpoints, Resolver
from flero_vault.oauth.id_token import Expected, Verifier
from flero_vault.oauth.transport import ClientFactory, Transport, fresh_clients

CALL_TIMEOUT_S: Final = 15.0
OPENID: Final = "openid"
_DEAD_STATUSES: Final = frozenset({401, 403})
_HINTS: Final = {"refresh": "refresh_token", "access": "access_token"}


class HttpServers:
    """Speaks to the services.

    `timeout_s` is the whole time of a call that has no deadline of its own; `wall` is the time of
    day, for ID tokens and Retry-After.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        allow_loopback: bool = False,
        clients: ClientFactory | None = None,
        wall: Callable[[], float] = time.time,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> None:
        self._transport = Transport(clients or fresh_clients(), wall, allow_loopback=allow_loopback)
        documents = Documents(self._transport, clock.monotonic)
        self._resolver = Resolver(documents)
        self._verifier = Verifier(documents, wall)
        self._timeout_s = timeout_s

    # Consent

    async def authorize_url(self, client: Client, consent: Consent) -> Secret | Failure:
        """Return the URL of the consent page (RFC 6749, section 4.1.1)."""
        endpoints = await self._resolver.resolve(client, self._until())
        if isinstance(endpoints, Failure):
            return endpoints
        if not self._transport.accepts(endpoints.authorization):
            return _not_sent(Verdict.SERVICE_DOWN, "insecure_url")
        query = urlencode(_authorization_params(client, consent))
        glue = "&" if "?" in endpoints.authorization else "?"
        return Secret(f"{endpoints.authorization}{glue}{query}")

    async def issuer(self, client: Client) -> str | Failure:
        """Return the issuer; empty if it is unknown or known only once somebody signed in."""
        endpoints = await self._resolver.resolve(client, self._until())
        if isinstance(endpoints, Failure):
            return endpoints
        return "" if "{" in endpoints.issuer else endpoints.issuer

    # Tokens

    async def exchange(
        self, client: Client, consent: Consent, code: Secret, redirect_params: Mapping[str, str]
    ) -> TokenAnswer | Failure:
        """Exchange a code (RFC 6749, section 4.1.3)."""
        until = self._until()
        endpoints = await self._resolver.resolve(client, until)
        if isinstance(endpoints, Failure):
            return endpoints
        form = {
            "grant_type": "authorization_code",
            "code": code.reveal(),
            "redirect_uri": consent.redirect_uri,
        }
        if client.connector.authorization.pkce:
            form["code_verifier"] = consent.verifier.reveal()
        raw = await self._authenticated(client, endpoints, endpoints.token, form, until)
        if isinstance(raw, Failure):
            return raw
        answer = answers.parse(client.connector, raw, redirect=redirect_params)
        if isinstance(answer, Failure):
            return answer
        claims = await self._claims(client, endpoints, consent, raw, until)
        if isinstance(claims, Failure):
            return claims
        if client.connector.identity.source is IdentitySource.ID_TOKEN:
            answer = replace(answer, identity=answers.pick(client.connector, claims))
        return answer

    async def _claims(
        self,
        client: Client,
        endpoints: Endpoints,
        consent: Consent,
        raw: HttpAnswer,
        until: float,
    ) -> Mapping[str, object] | Failure:
        """Return the verified claims; none if there is no ID token, or nothing to verify it by."""
        token = answers.id_token(raw)
        if token is None or not endpoints.issuer or not endpoints.jwks_uri:
            return {}
        nonce = consent.nonce.reveal() if OPENID in consent.scopes else None
        expected = Expected(endpoints.issuer, client.client_id, nonce)
        return await self._verifier.verify(token, endpoints.jwks_uri, expected, until)

    async def refresh(
        self, client: Client, slot: str, refresh_token: Secret, deadline: float
    ) -> TokenAnswer | Failure:
        """Spend a refresh token (RFC 6749, section 6).

        An ID token in the answer is not looked at: fetching keys now would only delay storing
        tokens that cost us a single-use one, and whose account it is was settled at the consent.
        """
        until = self._until(deadline)
        known = client.connector.slot(slot)
        if known is None:
            return _not_sent(Verdict.APP_REFUSED, "unknown_slot")
        endpoints = await self._resolver.resolve(client, until)
        if isinstance(endpoints, Failure):
            return endpoints
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token.reveal()}
        raw = await self._authenticated(client, endpoints, endpoints.token, form, until)
        if isinstance(raw, Failure):
            return raw
        return answers.parse(client.connector, raw, refreshed=known.name)

    # Account

    async def identify(self, client: Client, answer: TokenAnswer) -> Account | Failure | None:
        """Return whose account a consent was for."""
        identity = client.connector.identity
        if identity.source is IdentitySource.NONE:
            return None
        if identity.source is not IdentitySource.ENDPOINT:
            account = _account(answer.identity, identity.id, identity.email, identity.label)
            if account is not None or identity.source is IdentitySource.TOKEN_ANSWER:
                return account
        # No ID token came (`openid` was not asked for or not granted): ask.
        return await self.probe(client, answer.slots[0].access_token) if identity.probe.id else None

    async def probe(self, client: Client, access_token: Secret) -> Account | Failure | None:
        """Ask the service whose token this is."""
        until = self._until()
        endpoints = await self._resolver.resolve(client, until)
        if isinstance(endpoints, Failure):
            return endpoints
        if not endpoints.probe:
            return None
        probe = client.connector.identity.probe
        if probe.style is ProbeStyle.INTROSPECT:
            form = {"token": access_token.reveal(), "token_type_hint": "access_token"}
            raw = await self._authenticated(client, endpoints, endpoints.probe, form, until)
        else:
            raw = await self._bearing(
                client, probe.style.value.upper(), endpoints.probe, access_token, until
            )
        if isinstance(raw, Failure):
            return raw
        refused = _probe_refusal(client.connector, raw)
        if refused is not None:
            return refused
        body = answers.read_object(raw.body)
        if body is None:
            return Failure(Delivery.UNKNOWN, Verdict.SERVICE_DOWN, answers.UNREADABLE)
        if probe.style is ProbeStyle.INTROSPECT and body.get("active") is not True:
            return Failure(Delivery.ANSWERED, Verdict.RECONNECT, "inactive")
        return _account(body, probe.id, probe.email, probe.label)

    # End

    async def revoke(
        self, client: Client, access_token: Secret | None, refresh_token: Secret | None
    ) -> ServiceRevocation | Failure:
        """End the grant at the service (RFC 7009, section 2)."""
        revocation = client.connector.revocation
        if revocation.style is RevocationStyle.NONE:
            return ServiceRevocation.UNSUPPORTED
        until = self._until()
        endpoints = await self._resolver.resolve(client, until)
        if isinstance(endpoints, Failure):
            return endpoints
        held = {"refresh": refresh_token, "access": access_token}
        kinds = [kind for kind in _HINTS if held[kind] and revocation.token in (kind, "both")]
        if not kinds and revocation.token == "refresh" and access_token:  # a kind
            kinds = ["access"]
        if not endpoints.revocation or not kinds:
            return ServiceRevocation.UNSUPPORTED
        for kind in kinds:
            token = held[kind]
            if token is not None:
                failure = await self._revoke(client, endpoints, kind, token, until)
                if failure is not None:
                    return failure
        return ServiceRevocation.DONE

    async def _revoke(
        self, client: Client, endpoints: Endpoints, kind: str, token: Secret, until: float
    ) -> Failure | None:
        revocation = client.connector.revocation
        url = endpoints.revocation
        form = {"token": token.reveal()}
        match revocation.style:
            case RevocationStyle.RFC7009:
                form["token_type_hint"] = _HINTS[kind]
                raw = await self._authenticated(client, endpoints, url, form, until)
            case RevocationStyle.BEARER:
                raw = await self._bearing(client, "POST", url, token, until)
            case _:
                raw = await self._guarded(client, "POST", url, until=until, form=form)
        if isinstance(raw, Failure):
            return raw
        failure = answers.refusal(client.connector, raw)
        return None if failure is None or failure.code in revocation.gone else failure

    # Sending

    def _until(self, seconds: float | None = None) -> float:
        limit = self._timeout_s if seconds is None else seconds
        return asyncio.get_running_loop().time() + limit

    async def _authenticated(
        self,
        client: Client,
        endpoints: Endpoints,
        url: str,
        form: Mapping[str, str],
        until: float,
    ) -> HttpAnswer | Failure:
        """POST with client authentication, with the first secret that is not refused."""
        if endpoints.client_auth is ClientAuth.NONE:
            public = {**form, "client_id": client.client_id}
            return await self._guarded(client, "POST", url, until=until, form=public)
        raw: HttpAnswer | Failure = _not_sent(Verdict.APP_REFUSED, "no_secret")
        for secret in client.secrets:
            headers, fields = _credentials(endpoints.client_auth, client.client_id, secret)
            raw = await self._guarded(
                client, "POST", url, until=until, form={**form, **fields}, headers=headers
            )
            if isinstance(raw, Failure) or not _refuses_secret(client.connector, raw):
                break
        return raw

    async def _bearing(
        self, client: Client, method: str, url: str, token: Secret, until: float
    ) -> HttpAnswer | Failure:
        """Send a request that bears a token (RFC 6750, section 2.1)."""
        headers = {"Authorization": f"Bearer {token.reveal()}"}
        return await self._guarded(client, method, url, until=until, headers=headers)

    async def _guarded(
        self,
        client: Client,
        method: str,
        url: str,
        *,
        until: float,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HttpAnswer | Failure:
        """Send something secret, but only to an origin that the app lists."""
        if not origin_allowed(url, client.origins):
            return _not_sent(Verdict.APP_REFUSED, "origin_not_listed")
        return await self._transport.send(method, url, until=until, form=form, headers=headers)


def _not_sent(verdict: Verdict, code: str) -> Failure:
    return Failure(Delivery.NOT_SENT, verdict, code)


def _authorization_params(client: Client, consent: Consent) -> dict[str, str]:
    connector = client.connector
    request = connector.authorization
    params = {
        **request.extra_params,
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": consent.redirect_uri,
        "state": consent.state.reveal(),
        **_scope_params(connector, consent.scopes),
    }
    if request.pkce:  # RFC 7636, section 4.2
        digest = hashlib.sha256(consent.verifier.encode()).digest()
        params["code_challenge"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        params["code_challenge_method"] = "S256"
    if OPENID in consent.scopes:
        params["nonce"] = consent.nonce.reveal()
    if consent.login_hint and request.login_hint_param:
        params[request.login_hint_param] = consent.login_hint
    return params


def _scope_params(connector: Connector, scopes: tuple[str, ...]) -> dict[str, str]:
    """Put each scope into the parameter of its slot."""
    by_param: dict[str, list[str]] = {}
    for scope in scopes:
        slot = connector.slot(connector.slot_scopes.get(scope, "")) or connector.slots[0]
        by_param.setdefault(slot.scope_param, []).append(scope)
    separator = connector.authorization.scope_separator
    return {param: separator.join(found) for param, found in by_param.items()}


def _credentials(
    style: ClientAuth, client_id: str, secret: Secret
) -> tuple[dict[str, str], dict[str, str]]:
    """Return headers and form fields that prove who we are; never both kinds."""
    if style is ClientAuth.POST:
        return {}, {"client_id": client_id, "client_secret": secret.reveal()}
    encode = quote_plus if style is ClientAuth.BASIC else str  # RFC 6749, section 2.3.1
    pair = f"{encode(client_id)}:{encode(secret.reveal())}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}, {}


def _refuses_secret(connector: Connector, raw: HttpAnswer) -> bool:
    failure = answers.refusal(connector, raw)
    return (
        failure is not None
        and failure.delivery is Delivery.ANSWERED
        and failure.verdict is Verdict.APP_REFUSED
        and (failure.code == "invalid_client" or failure.code in connector.token.errors)
    )


def _probe_refusal(connector: Connector, raw: HttpAnswer) -> Failure | None:
    failure = answers.refusal(connector, raw)
    introspects = connector.identity.probe.style is ProbeStyle.INTROSPECT
    if failure is not None and raw.status in _DEAD_STATUSES and not introspects:
        # RFC 6750, section 3.1, whatever else the body says. An introspection endpoint refuses
        # us with these, not the token.
        return replace(failure, delivery=Delivery.ANSWERED, verdict=Verdict.RECONNECT)
    return failure


def _account(
    fields: Mapping[str, object], id_paths: tuple[str, ...], email: str, label: str
) -> Account | None:
    parts = [answers.text_at(fields, path) for path in id_paths]
    present = [part for part in parts if part is not None]
    if not present or len(present) < len(parts):
        return None
    return Account(
        id=":".join(present),
        email=answers.text_at(fields, email) or "",
        label=answers.text_at(fields, label) or "",
    )
