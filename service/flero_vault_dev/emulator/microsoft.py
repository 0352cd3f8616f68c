"""Microsoft Entra ID's dialect, the v2.0 endpoints.

Sources: "Microsoft identity platform and OAuth 2.0 authorization code flow", "Refresh tokens in the
Microsoft identity platform" and "Microsoft Entra authentication and authorization error codes"
(learn.microsoft.com/entra/identity-platform).

- A refresh always brings a new refresh token, and the old one stays good: here `grace_s` is as long
  as its life. `offline_access` is what brings one, and never appears in the answered `scope`
  (microsoft-authentication-library-for-go, pull request 445).
- A refusal is an envelope: text of four CRLF lines that begins with AADSTS and a number, the number
  again in `error_codes`, and three ways to find the call again.
- A code is redeemed on the tenant path that issued it. There is no revocation endpoint.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flero_vault_dev.emulator.accounts import Account
from flero_vault_dev.emulator.control import Settings
from flero_vault_dev.emulator.service import (
    NO_STORE,
    SLOT,
    Form,
    Query,
    Service,
    UnanswerableError,
    person_claims,
    split_scopes,
)
from flero_vault_dev.emulator.state import Approval, Ask, Cause, Issued, Mint, RefusedError

TENANT_ID: Final = "5a1f9c2e-0b7d-4e36-8c41-7d2e9b60f3aa"
TENANTS: Final = frozenset({"common", "organizations", "consumers", TENANT_ID, "example.com"})
OBJECT_IDS: Final[Mapping[str, str]] = {
    "ada": "1815121a-da00-4000-8000-000018521127",
    "grace": "19061209-6ace-4000-8000-000019920101",
}
REFRESH_LIFE_S: Final = 90 * 24 * 3600.0
PROTOCOL_SCOPES: Final = frozenset({"openid", "profile", "email", "offline_access"})


@dataclass(frozen=True, slots=True)
class _Aadsts:
    error: str
    number: int
    text: str
    status: int = 400
    suberror: str | None = None


_ERRORS: Final[Mapping[Cause, _Aadsts]] = {
    Cause.PARAMETER_MISSING: _Aadsts(
        "invalid_request", 900144, "The request body must contain all required parameters."
    ),
    Cause.GRANT_TYPE_UNSUPPORTED: _Aadsts(
        "unsupported_grant_type", 70003, "The app requested an unsupported grant type."
    ),
    Cause.CLIENT_MISSING: _Aadsts(
        "invalid_request", 900144, "The request body must contain the parameter: 'client_id'."
    ),
    Cause.CLIENT_UNKNOWN: _Aadsts(
        "unauthorized_client", 700016, "The application was not found in the directory."
    ),
    Cause.CLIENT_SECRET_MISSING: _Aadsts(
        "invalid_client",
        7000218,
        "The request body must contain the parameter 'client_assertion' or 'client_secret'.",
        401,
    ),
    Cause.CLIENT_SECRET_WRONG: _Aadsts(
        "invalid_client", 7000215, "Invalid client secret provided.", 401
    ),
    Cause.CODE_UNKNOWN: _Aadsts(
        "invalid_grant", 9002313, "Invalid request. Request is malformed or invalid."
    ),
    Cause.CODE_EXPIRED: _Aadsts(
        "invalid_grant", 70008, "The provided authorization code is expired."
    ),
    Cause.CODE_USED: _Aadsts(
        "invalid_grant", 54005, "OAuth2 Authorization code was already redeemed."
    ),
    Cause.CODE_OF_ANOTHER_TENANT: _Aadsts(
        "invalid_grant", 700005, "The authorization code was issued on another tenant path."
    ),
    Cause.REDIRECT_URI_MISMATCH: _Aadsts(
        "invalid_client",
        500112,
        "The reply address does not match the one given when the code was requested.",
    ),
    Cause.VERIFIER_MISSING: _Aadsts(
        "invalid_grant", 501481, "The Code_Verifier does not match the code_challenge."
    ),
    Cause.VERIFIER_WRONG: _Aadsts(
        "invalid_grant", 501481, "The Code_Verifier does not match the code_challenge."
    ),
    Cause.SCOPE_NOT_GRANTED: _Aadsts(
        "invalid_grant",
        65001,
        "The user or administrator has not consented to use the application.",
        suberror="consent_required",
    ),
    Cause.REFRESH_UNKNOWN: _Aadsts(
        "invalid_grant", 70000, "The provided value for the input parameter is not valid."
    ),
    Cause.REFRESH_EXPIRED: _Aadsts(
        "invalid_grant", 700082, "The refresh token has expired due to inactivity."
    ),
    Cause.REFRESH_SPENT: _Aadsts(
        "invalid_grant", 70000, "The provided value for the input parameter is not valid."
    ),
    Cause.REFRESH_REVOKED: _Aadsts(
        "invalid_grant", 50173, "The provided grant has expired due to it being revoked."
    ),
}


class Microsoft(Service):
    """Microsoft Entra ID, one tenant behind every path."""

    name = "microsoft"
    title = "Microsoft"
    defaults = Settings(
        access_ttl_s=3599.0, refresh_ttl_s=REFRESH_LIFE_S, rotate=True, grace_s=REFRESH_LIFE_S
    )
    takes_basic = True
    challenge_methods = frozenset({"S256", "plain"})

    def routes(self) -> list[Route]:
        """Return Entra's endpoints and Graph's userinfo."""
        tenant = "/microsoft/{tenant}"
        return [
            Route("/microsoft/oidc/userinfo", self.identity(self._userinfo), methods=["GET"]),
            Route(f"{tenant}/oauth2/v2.0/authorize", self.authorize, methods=["GET"]),
            Route(f"{tenant}/oauth2/v2.0/token", self.token, methods=["POST"]),
            Route(f"{tenant}/discovery/v2.0/keys", self._keys, methods=["GET"]),
        ]

    def mint(self, slot: str) -> Mint:  # noqa: ARG002
        """Return Microsoft's prefixes."""
        return Mint(access_prefix="EwB4A8l6BAAU", refresh_prefix="1.AXoA")

    def read_ask(self, query: Query, path: Mapping[str, str]) -> Ask:
        """Refuse a tenant that there is not, and any other way back than the query."""
        if path["tenant"] not in TENANTS:
            raise UnanswerableError("AADSTS90002: there is no such tenant.")
        if query.get("response_mode", "query") != "query":
            raise UnanswerableError("This emulator answers in the query only (response_mode).")
        return super().read_ask(query, path)

    def brings_refresh_token(self, approval: Approval, slot: str) -> bool:
        """Only with `offline_access`."""
        return "offline_access" in approval.scopes[slot]

    def redirect_extras(self, ask: Ask, account: Account) -> Mapping[str, str]:  # noqa: ARG002
        """Return a session, of no use to anybody here."""
        return {"session_state": str(uuid.uuid4())}

    def denial(self) -> Mapping[str, str]:
        """Word the redirect after Cancel."""
        return {
            "error": "access_denied",
            "error_description": "AADSTS65004: User declined to consent to access the app.",
        }

    def exchange(self, form: Form, path: Mapping[str, str]) -> Mapping[str, object]:
        """Hold the code to its tenant path."""
        approval = self.ledger.approval(form.get("code", ""))
        if approval is not None and approval.ask.extra["tenant"] != path["tenant"]:
            raise RefusedError(Cause.CODE_OF_ANOTHER_TENANT)
        return super().exchange(form, path)

    def narrowed(self, form: Form) -> tuple[str, ...] | None:
        """Return the lesser scopes that a refresh may ask for; more of them are refused."""
        scopes = split_scopes(form.get("scope"))
        token = self.ledger.refresh_token(form.get("refresh_token", ""))
        if not scopes or token is None:
            return None
        if not set(scopes) <= {*token.grant.scopes, *PROTOCOL_SCOPES}:
            raise RefusedError(Cause.SCOPE_NOT_GRANTED)
        return scopes

    def code_answer(self, approval: Approval, issued: Mapping[str, Issued]) -> Mapping[str, object]:
        """Word the answer."""
        return self._answer_body(issued[SLOT], approval.ask.nonce)

    def refresh_answer(self, issued: Issued) -> Mapping[str, object]:
        """Word the answer, a fresh refresh token included."""
        return self._answer_body(issued, None)

    def _answer_body(self, issued: Issued, nonce: str | None) -> Mapping[str, object]:
        life = self.expires_in(issued)
        body: dict[str, object] = {
            "token_type": "Bearer",
            "scope": " ".join(s for s in issued.access.scopes if s != "offline_access"),
            **life,
            **({"ext_expires_in": life["expires_in"]} if life else {}),
            "access_token": issued.access.value,
        }
        if issued.refresh:
            body["refresh_token"] = issued.refresh.value
        if "openid" in issued.access.scopes:
            body["id_token"] = self._id_token(issued, nonce)
        return body

    def _id_token(self, issued: Issued, nonce: str | None) -> str:
        account, scopes, now = issued.grant.account, issued.access.scopes, int(issued.now)
        profile: dict[str, object] = {}
        if "profile" in scopes:
            profile = {
                "name": account.name,
                "preferred_username": account.email,
                "oid": OBJECT_IDS[account.key],
            }
        return self.world.signer.sign(
            {
                "ver": "2.0",
                "iss": f"{self.base}/{TENANT_ID}/v2.0",
                "sub": self._subject(account),
                "aud": self.client_id,
                "tid": TENANT_ID,
                **profile,
                "email": account.email if "email" in scopes else None,
                "nonce": nonce,
                "iat": now,
                "nbf": now,
                "exp": now + 3600,
            }
        )

    def _subject(self, account: Account) -> str:
        # Pairwise: another app sees another subject, so a vault keys on tid and oid.
        return uuid.uuid5(uuid.NAMESPACE_URL, f"{self.client_id}/{account.key}").hex

    def refusal(self, cause: Cause) -> Response:
        """Word the envelope."""
        wording = _ERRORS[cause]
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        stamp = datetime.fromtimestamp(self.now(), UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        lines = (
            f"AADSTS{wording.number}: {wording.text}",
            f"Trace ID: {trace}",
            f"Correlation ID: {correlation}",
            f"Timestamp: {stamp}",
        )
        body = {
            "error": wording.error,
            "error_description": "\r\n".join(lines),
            "error_codes": [wording.number],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"{self.base}/error?code={wording.number}",
            **({"suberror": wording.suberror} if wording.suberror else {}),
        }
        return JSONResponse(body, wording.status, headers=NO_STORE)

    async def _userinfo(self, request: Request) -> Response:
        try:
            token = self.holder(request)
        except RefusedError:
            error = {"code": "InvalidAuthenticationToken", "message": "Access token is not valid."}
            return JSONResponse({"error": error}, 401)
        account = token.grant.account
        claims = person_claims(account, frozenset(token.scopes))
        claims.pop("email_verified", None)  # Graph does not say
        return JSONResponse({"sub": self._subject(account), **claims})

    async def _keys(self, request: Request) -> Response:  # noqa: ARG002
        return JSONResponse(self.world.signer.jwks())
