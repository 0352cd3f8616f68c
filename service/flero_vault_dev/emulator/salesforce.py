"""Salesforce's dialect.

Sources: "OAuth 2.0 Web Server Flow", "OAuth 2.0 Refresh Token Flow", "OAuth Authorization Errors"
and "Identity URLs" (help.salesforce.com), "Revoking OAuth 2.0 Access Tokens and Refresh Tokens"
(developer.salesforce.com/blogs), jsforce's TokenResponse and its handling of Bad_OAuth_Token.

- No `expires_in`: how long a token lives is the org's session setting, which only introspection
  tells. `issued_at` is milliseconds, in a string; `signature` is an HMAC over it and the `id`.
- A refresh token comes with the scope `refresh_token` or `offline_access`, and not again at a
  refresh, unless rotation is on. A sixth grant of one user revokes the oldest.
- The identity service answers a dead token with 403 and one word of plain text.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import ClassVar, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from flero_vault_dev.emulator.accounts import Account
from flero_vault_dev.emulator.control import Settings
from flero_vault_dev.emulator.service import (
    NO_STORE,
    SLOT,
    Service,
    Wording,
    read_form,
)
from flero_vault_dev.emulator.state import (
    Approval,
    Cause,
    Issued,
    Mint,
    RefreshToken,
    RefusedError,
    Traits,
)

ORG_ID: Final = "00DFL00000EMU8ATE0"
USER_IDS: Final[Mapping[str, str]] = {"ada": "005FL00000ADAAAA01", "grace": "005FL00000GRACEE02"}

_DEAD: Final = Wording(400, "invalid_grant", "expired access/refresh token")
_BAD_CLIENT: Final = Wording(400, "invalid_client", "invalid client credentials")
_BAD_CLIENT_ID: Final = Wording(400, "invalid_client_id", "client identifier invalid")
_BAD_VERIFIER: Final = Wording(400, "invalid_grant", "invalid code verifier")


class Salesforce(Service):
    """A Salesforce org and its login host."""

    name = "salesforce"
    title = "Salesforce"
    defaults = Settings(access_ttl_s=7200.0, send_expires_in=False)
    traits = Traits(grants_per_account=5)
    refusals: ClassVar[Mapping[Cause, Wording]] = {
        Cause.PARAMETER_MISSING: Wording(400, "invalid_request", "missing required parameter"),
        Cause.GRANT_TYPE_UNSUPPORTED: Wording(
            400, "unsupported_grant_type", "grant type not supported"
        ),
        Cause.CLIENT_MISSING: _BAD_CLIENT_ID,
        Cause.CLIENT_UNKNOWN: _BAD_CLIENT_ID,
        Cause.CLIENT_SECRET_MISSING: _BAD_CLIENT,
        Cause.CLIENT_SECRET_WRONG: _BAD_CLIENT,
        Cause.CODE_UNKNOWN: Wording(400, "invalid_grant", "invalid authorization code"),
        Cause.CODE_EXPIRED: Wording(400, "invalid_grant", "expired authorization code"),
        Cause.CODE_USED: Wording(400, "invalid_grant", "expired authorization code"),
        Cause.REDIRECT_URI_MISMATCH: Wording(
            400, "redirect_uri_mismatch", "redirect_uri must match configuration"
        ),
        Cause.VERIFIER_MISSING: _BAD_VERIFIER,
        Cause.VERIFIER_WRONG: _BAD_VERIFIER,
        Cause.REFRESH_UNKNOWN: _DEAD,
        Cause.REFRESH_EXPIRED: _DEAD,
        Cause.REFRESH_SPENT: _DEAD,
        Cause.REFRESH_REVOKED: _DEAD,
    }

    def routes(self) -> list[Route]:
        """Return the endpoints of one host, which here is login host and instance at once."""
        oauth = "/salesforce/services/oauth2"
        userinfo = self.identity(self._userinfo)
        return [
            Route(f"{oauth}/authorize", self.authorize, methods=["GET"]),
            Route(f"{oauth}/token", self.token, methods=["POST"]),
            Route(f"{oauth}/revoke", self.revocation(self._revoke), methods=["GET", "POST"]),
            Route(f"{oauth}/userinfo", userinfo, methods=["GET", "POST"]),
            Route(f"{oauth}/introspect", self.identity(self._introspect), methods=["POST"]),
            Route("/salesforce/id/keys", self._keys, methods=["GET"]),
            Route("/salesforce/id/{org}/{user}", self.identity(self._id), methods=["GET"]),
        ]

    def mint(self, slot: str) -> Mint:  # noqa: ARG002
        """Return Salesforce's prefixes: an access token begins with the org."""
        return Mint(access_prefix=f"{ORG_ID[:15]}!", refresh_prefix="5Aep861")

    def brings_refresh_token(self, approval: Approval, slot: str) -> bool:
        """Only when asked for by one of its two names."""
        return not {"refresh_token", "offline_access"}.isdisjoint(approval.scopes[slot])

    def denial(self) -> Mapping[str, str]:
        """Word the redirect after Cancel."""
        return {
            "error": "access_denied",
            "error_description": "end-user denied authorization",
        }

    def code_answer(self, approval: Approval, issued: Mapping[str, Issued]) -> Mapping[str, object]:
        """Word the answer, with the refresh token if there is one."""
        tokens = issued[SLOT]
        refresh = {"refresh_token": tokens.refresh.value} if tokens.refresh else {}
        return {**self._answer_body(tokens, approval.ask.nonce), **refresh}

    def refresh_answer(self, issued: Issued) -> Mapping[str, object]:
        """Leave the refresh token out, unless rotation is on."""
        body = self._answer_body(issued, None)
        if self.control.settings.rotate and issued.refresh:
            body["refresh_token"] = issued.refresh.value
        return body

    def _answer_body(self, issued: Issued, nonce: str | None) -> dict[str, object]:
        identity = self._identity_url(issued.grant.account)
        issued_at = str(int(issued.now * 1000))
        digest = hmac.digest(
            self.client_secret.encode(), f"{identity}{issued_at}".encode(), hashlib.sha256
        )
        body: dict[str, object] = {
            "access_token": issued.access.value,
            "signature": base64.b64encode(digest).decode(),
            "scope": " ".join(issued.access.scopes),
            "instance_url": self.base,
            "id": identity,
            "token_type": "Bearer",
            "issued_at": issued_at,
            **self.expires_in(issued),
        }
        if "openid" in issued.access.scopes:
            body["id_token"] = self._id_token(issued, nonce)
        return body

    def _id_token(self, issued: Issued, nonce: str | None) -> str:
        now = int(issued.now)
        return self.world.signer.sign(
            {
                "iss": self.base,
                "sub": self._identity_url(issued.grant.account),
                "aud": self.client_id,
                "nonce": nonce,
                "iat": now,
                "exp": now + 120,
            }
        )

    def _identity_url(self, account: Account) -> str:
        return f"{self.base}/id/{ORG_ID}/{USER_IDS[account.key]}"

    async def _userinfo(self, request: Request) -> Response:
        try:
            account = self.holder(request).grant.account
        except RefusedError as exc:
            return _bad_token(exc.cause)
        return JSONResponse(
            {
                "sub": self._identity_url(account),
                "user_id": USER_IDS[account.key],
                "organization_id": ORG_ID,
                "preferred_username": account.email,
                "name": account.name,
                "email": account.email,
                "email_verified": True,
                "zoneinfo": "Europe/Vienna",
            }
        )

    async def _id(self, request: Request) -> Response:
        try:
            account = self.holder(request).grant.account
        except RefusedError as exc:
            return _bad_token(exc.cause)
        if request.path_params != {"org": ORG_ID, "user": USER_IDS[account.key]}:
            return _bad_token(Cause.ACCESS_UNKNOWN)
        return JSONResponse(
            {
                "id": self._identity_url(account),
                "user_id": USER_IDS[account.key],
                "organization_id": ORG_ID,
                "username": account.email,
                "display_name": account.name,
                "email": account.email,
                "urls": {"rest": f"{self.base}/services/data/v{{version}}/"},
            }
        )

    async def _introspect(self, request: Request) -> Response:
        form = await read_form(request)
        try:
            self.authenticate(request, form)
            token = self.ledger.access(form.get("token"), self.now())
        except RefusedError as exc:
            wording = self.refusals.get(exc.cause)
            return self.refusal(exc.cause) if wording else JSONResponse({"active": False})
        account = token.grant.account
        body: dict[str, object] = {
            "active": True,
            "scope": " ".join(token.scopes),
            "client_id": self.client_id,
            "username": account.email,
            "sub": self._identity_url(account),
            "token_type": "access_token",
        }
        if token.expires_at is not None:
            body["exp"] = int(token.expires_at)
        return JSONResponse(body, headers=NO_STORE)

    async def _revoke(self, request: Request) -> Response:
        form = await read_form(request)
        token = self.ledger.find(form.get("token", request.query_params.get("token", "")))
        if token is None or token.killed or token.grant.revoked:
            return JSONResponse(
                {"error": "invalid_token", "error_description": "invalid token"}, 400
            )
        if isinstance(token, RefreshToken):
            self.ledger.revoke_grant(token.grant, self.now())
        else:
            # The end of that session; the refresh token can begin another.
            self.ledger.kill(token, self.now())
        return Response(b"")

    async def _keys(self, request: Request) -> Response:  # noqa: ARG002
        return JSONResponse(self.world.signer.jwks())


def _bad_token(cause: Cause) -> Response:
    word = "Missing_OAuth_Token" if cause is Cause.ACCESS_MISSING else "Bad_OAuth_Token"
    return PlainTextResponse(word, 403)
