"""HubSpot's dialect, OAuth v3.

Sources: HubSpot's public API specification, Auth/Oauth v3 (github.com/HubSpot), "OAuth v3" and
"Migrate from v1" (developers.hubspot.com), and for the refusals what its users meet in practice.

- A refresh echoes the same refresh token; access tokens live for half an hour.
- Scopes are asked for with spaces and answered as an array, `scopes`.
- A refusal carries `status` and `message`, not `error`; all credentials go in the form.
- Revoking deletes the refresh token. The access tokens made from it live out their half hour. The
  specification names no body or status for it; 200 and none are ours, after RFC 7009.
"""

import uuid
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flero_vault_dev.emulator.control import Settings
from flero_vault_dev.emulator.service import (
    NO_STORE,
    SLOT,
    Query,
    Service,
    read_form,
    split_scopes,
)
from flero_vault_dev.emulator.state import (
    AccessToken,
    Approval,
    Cause,
    Issued,
    Mint,
    RefreshToken,
    RefusedError,
)

HUB_ID: Final = 14181512
HUB_DOMAIN: Final = "example.com"
APP_ID: Final = 9400001
USER_IDS: Final[Mapping[str, int]] = {"ada": 1815001, "grace": 1906001}

_DEAD: Final = ("BAD_REFRESH_TOKEN", "missing or invalid refresh token")
_BAD_CODE: Final = ("BAD_AUTH_CODE", "missing or unknown auth code")
_ERRORS: Final[Mapping[Cause, tuple[str, str]]] = {
    Cause.PARAMETER_MISSING: ("VALIDATION_ERROR", "a required field is missing"),
    Cause.GRANT_TYPE_UNSUPPORTED: ("BAD_GRANT_TYPE", "missing or unknown grant type"),
    Cause.CLIENT_MISSING: ("BAD_CLIENT_ID", "missing or unknown client id"),
    Cause.CLIENT_UNKNOWN: ("BAD_CLIENT_ID", "missing or unknown client id"),
    Cause.CLIENT_SECRET_MISSING: ("BAD_CLIENT_SECRET", "missing or invalid client secret"),
    Cause.CLIENT_SECRET_WRONG: ("BAD_CLIENT_SECRET", "missing or invalid client secret"),
    Cause.CODE_UNKNOWN: _BAD_CODE,
    Cause.CODE_EXPIRED: ("EXPIRED_AUTH_CODE", "the auth code has expired"),
    Cause.CODE_USED: _BAD_CODE,
    Cause.REDIRECT_URI_MISMATCH: ("BAD_REDIRECT_URI", "missing or unknown redirect URI"),
    Cause.VERIFIER_MISSING: _BAD_CODE,
    Cause.VERIFIER_WRONG: _BAD_CODE,
    Cause.REFRESH_UNKNOWN: _DEAD,
    Cause.REFRESH_EXPIRED: _DEAD,
    Cause.REFRESH_SPENT: _DEAD,
    Cause.REFRESH_REVOKED: _DEAD,
}


class HubSpot(Service):
    """One HubSpot portal."""

    name = "hubspot"
    title = "HubSpot"
    defaults = Settings(access_ttl_s=1800.0)
    needs_response_type = False

    def routes(self) -> list[Route]:
        """Return HubSpot's endpoints, which in truth live on two hosts."""
        token = "/hubspot/oauth/v3/token"  # a path
        return [
            Route("/hubspot/oauth/authorize", self.authorize, methods=["GET"]),
            Route(token, self.token, methods=["POST"]),
            Route(f"{token}/revoke", self.revocation(self._revoke), methods=["POST"]),
            Route(f"{token}/introspect", self.identity(self._introspect), methods=["POST"]),
        ]

    def mint(self, slot: str) -> Mint:  # noqa: ARG002
        """Return tokens as long as HubSpot's can be: no column should be made for less."""
        return Mint(access_prefix="C" + "K" * 280, refresh_prefix="eu1-")

    def requested(self, query: Query) -> Mapping[str, tuple[str, ...]]:
        """Return the optional scopes too: this portal has every feature."""
        scopes = (*split_scopes(query.get("scope")), *split_scopes(query.get("optional_scope")))
        return {SLOT: tuple(dict.fromkeys(scopes))}

    def code_answer(self, approval: Approval, issued: Mapping[str, Issued]) -> Mapping[str, object]:  # noqa: ARG002
        """Word the answer."""
        return self.refresh_answer(issued[SLOT])

    def refresh_answer(self, issued: Issued) -> Mapping[str, object]:
        """Word the answer, the same refresh token included."""
        return {
            "token_type": "bearer",
            "token_use": "access_token",
            "access_token": issued.access.value,
            "refresh_token": issued.refresh.value if issued.refresh else None,
            **self.expires_in(issued),
            "hub_id": HUB_ID,
            "user_id": USER_IDS[issued.grant.account.key],
            "scopes": list(issued.access.scopes),
        }

    def refusal(self, cause: Cause) -> Response:
        """Word a refusal."""
        status, message = _ERRORS[cause]
        body = {"status": status, "message": message, "correlationId": str(uuid.uuid4())}
        return JSONResponse(body, 400, headers=NO_STORE)

    def overload(self) -> Mapping[str, object]:
        """Word the body of a 429."""
        return {
            "status": "error",
            "message": "You have reached your secondly limit.",
            "category": "RATE_LIMITS",
            "correlationId": str(uuid.uuid4()),
        }

    async def _introspect(self, request: Request) -> Response:
        form = await read_form(request)
        try:
            self.authenticate(request, form)
        except RefusedError as exc:
            return self.refusal(exc.cause)
        token = self.ledger.find(form.get("token", ""))
        if token is None or not self._is_live(token):
            return JSONResponse({"active": False})
        account = token.grant.account
        body: dict[str, object] = {
            "active": True,
            "token_use": "access_token" if isinstance(token, AccessToken) else "refresh_token",
            "token_type": "bearer",
            "client_id": self.client_id,
            "app_id": APP_ID,
            "hub_id": HUB_ID,
            "hub_domain": HUB_DOMAIN,
            "user": account.email,
            "user_id": USER_IDS[account.key],
            "scopes": list(token.grant.scopes),
        }
        if isinstance(token, AccessToken) and token.expires_at is not None:
            body["expires_in"] = int(token.expires_at - self.now())
        return JSONResponse(body, headers=NO_STORE)

    def _is_live(self, token: AccessToken | RefreshToken) -> bool:
        over = token.expires_at is not None and self.now() >= token.expires_at
        return not (token.killed or token.grant.revoked or over)

    async def _revoke(self, request: Request) -> Response:
        form = await read_form(request)
        try:
            self.authenticate(request, form)
        except RefusedError as exc:
            return self.refusal(exc.cause)
        token = self.ledger.find(form.get("token", ""))
        if isinstance(token, RefreshToken) and not token.killed:
            self.ledger.kill(token, self.now())
        return Response(b"")
