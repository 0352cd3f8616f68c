"""Slack's dialect.

Sources: "oauth.v2.access", "auth.revoke" and "auth.test" (docs.slack.dev/reference/methods),
"Installing with OAuth" and "Using token rotation" (docs.slack.dev/authentication).

- Every answer is HTTP 200; a refusal is `ok: false` with one word.
- Scopes are comma separated. A bot and a user grant come in one answer and are refreshed apart.
- An installation for a user alone has no token at the top level.
- With rotation (`rotate`, on here) tokens expire and a refresh token is used once, with a short
  grace; its length is not documented, 60 s is ours. Without it there is neither expiry nor refresh.
- At most two access tokens of a grant are live. Asking again adds to the scopes, never takes away.
"""

from collections.abc import Mapping
from typing import ClassVar, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flero_vault_dev.emulator.accounts import Account
from flero_vault_dev.emulator.control import Settings
from flero_vault_dev.emulator.service import (
    CODE,
    NO_STORE,
    Form,
    Query,
    Service,
    read_form,
    split_scopes,
)
from flero_vault_dev.emulator.state import (
    AccessToken,
    Approval,
    Ask,
    Cause,
    Issued,
    Mint,
    RefreshToken,
    RefusedError,
    Traits,
)

BOT: Final = "bot"
USER: Final = "user"
TEAM: Final = {"id": "T0FLEROEMU", "name": "Emulated Workspace"}
TEAM_URL: Final = "https://emulated-workspace.slack.com/"
APP_ID: Final = "A0FLEROEMU"
BOT_ID: Final = "B0FLEROEMU"
BOT_USER_ID: Final = "U0FLEROBOT"
USER_IDS: Final[Mapping[str, str]] = {"ada": "U0ADALOVEL", "grace": "U0GRACEHOP"}

_ERRORS: Final[Mapping[Cause, str]] = {
    Cause.PARAMETER_MISSING: "invalid_arguments",
    Cause.GRANT_TYPE_UNSUPPORTED: "invalid_grant_type",
    Cause.CLIENT_MISSING: "invalid_client_id",
    Cause.CLIENT_UNKNOWN: "invalid_client_id",
    Cause.CLIENT_SECRET_MISSING: "bad_client_secret",
    Cause.CLIENT_SECRET_WRONG: "bad_client_secret",
    Cause.CODE_UNKNOWN: "invalid_code",
    Cause.CODE_EXPIRED: "invalid_code",
    Cause.CODE_USED: "invalid_code",
    Cause.REDIRECT_URI_MISMATCH: "bad_redirect_uri",
    # The reference names no error of its own for PKCE.
    Cause.VERIFIER_MISSING: "invalid_code",
    Cause.VERIFIER_WRONG: "invalid_code",
    Cause.REFRESH_UNKNOWN: "invalid_refresh_token",
    Cause.REFRESH_EXPIRED: "invalid_refresh_token",
    Cause.REFRESH_SPENT: "invalid_refresh_token",
    Cause.REFRESH_REVOKED: "invalid_refresh_token",
    Cause.ACCESS_MISSING: "not_authed",
    Cause.ACCESS_UNKNOWN: "invalid_auth",
    Cause.ACCESS_EXPIRED: "token_expired",
    Cause.ACCESS_REVOKED: "token_revoked",
}


class Slack(Service):
    """Slack, its OAuth v2 with granular scopes."""

    name = "slack"
    title = "Slack"
    defaults = Settings(access_ttl_s=43200.0, rotate=True, grace_s=60.0)
    traits = Traits(access_tokens_per_grant=2)
    takes_basic = True
    needs_response_type = False
    slot_names: ClassVar[Mapping[str, str]] = {
        BOT: "What its bot may do",
        USER: "What it may do on your behalf",
    }

    def routes(self) -> list[Route]:
        """Return Slack's endpoints."""
        return [
            Route("/slack/oauth/v2/authorize", self.authorize, methods=["GET"]),
            Route("/slack/api/oauth.v2.access", self.token, methods=["POST"]),
            Route("/slack/api/auth.revoke", self.revocation(self._revoke), methods=["POST"]),
            Route("/slack/api/auth.test", self.identity(self._test), methods=["GET", "POST"]),
        ]

    def mint(self, slot: str) -> Mint:
        """Tokens that rotate wear another prefix than those which last."""
        kind = "xoxb-" if slot == BOT else "xoxp-"
        if not self.control.settings.rotate:
            return Mint(access_prefix=kind, refresh_prefix="xoxe-1-", access_expires=False)
        return Mint(access_prefix=f"xoxe.{kind}1-", refresh_prefix="xoxe-1-")

    def requested(self, query: Query) -> Mapping[str, tuple[str, ...]]:
        """Two parameters, one for the bot and one for the user."""
        return {
            BOT: split_scopes(query.get("scope"), r"\s,"),
            USER: split_scopes(query.get("user_scope"), r"\s,"),
        }

    def granted(
        self, ask: Ask, account: Account, ticked: frozenset[str]
    ) -> Mapping[str, tuple[str, ...]]:
        """Add to what the app already has."""
        asked = super().granted(ask, account, ticked)
        return {
            slot: tuple(
                dict.fromkeys((*self.ledger.held_scopes(self.client_id, account, slot), *scopes))
            )
            if scopes
            else ()
            for slot, scopes in asked.items()
        }

    def brings_refresh_token(self, approval: Approval, slot: str) -> bool:  # noqa: ARG002
        """Only with rotation on."""
        return self.control.settings.rotate

    def grant_type(self, form: Form) -> str | None:
        """Take a call without `grant_type` for a code exchange."""
        return super().grant_type(form) if "grant_type" in form else CODE

    def code_answer(self, approval: Approval, issued: Mapping[str, Issued]) -> Mapping[str, object]:
        """Put the bot's token on top and the user's inside `authed_user`."""
        body: dict[str, object] = {"ok": True, "app_id": APP_ID}
        if BOT in issued:
            body |= {**self._tokens(issued[BOT]), "bot_user_id": BOT_USER_ID}
        user: dict[str, object] = {"id": USER_IDS[approval.account.key]}
        if USER in issued:
            user |= self._tokens(issued[USER])
        return {
            **body,
            "team": TEAM,
            "enterprise": None,
            "is_enterprise_install": False,
            "authed_user": user,
        }

    def refresh_answer(self, issued: Issued) -> Mapping[str, object]:
        """Word a flat answer for either slot; `token_type` tells which it is."""
        body = {"ok": True, "app_id": APP_ID, **self._tokens(issued)}
        if issued.grant.slot == BOT:
            body["bot_user_id"] = BOT_USER_ID
        return {**body, "team": TEAM, "enterprise": None, "is_enterprise_install": False}

    def _tokens(self, issued: Issued) -> dict[str, object]:
        refresh = {"refresh_token": issued.refresh.value} if issued.refresh else {}
        return {
            "access_token": issued.access.value,
            "token_type": issued.grant.slot,
            "scope": ",".join(issued.access.scopes),
            **self.expires_in(issued),
            **refresh,
        }

    def refusal(self, cause: Cause) -> Response:
        """Say no with a 200."""
        return JSONResponse({"ok": False, "error": _ERRORS[cause]}, headers=NO_STORE)

    def overload(self) -> Mapping[str, object]:
        """Word the body of a 429."""
        return {"ok": False, "error": "ratelimited"}

    async def _revoke(self, request: Request) -> Response:
        form = await read_form(request)
        value = _bearer(request) or form.get("token")
        try:
            token = self._revocable(value)
        except RefusedError as exc:
            return self.refusal(exc.cause)
        if form.get("test", request.query_params.get("test")) in {"1", "true"}:
            return JSONResponse({"ok": True, "revoked": False})
        if isinstance(token, AccessToken) and token.expires_at is None:
            # A token that lasts is the installation.
            self.ledger.revoke_grant(token.grant, self.now())
        else:
            self.ledger.kill(token, self.now())
        return JSONResponse({"ok": True, "revoked": True})

    def _revocable(self, value: str | None) -> AccessToken | RefreshToken:
        token = self.ledger.find(value) if value else None
        if not isinstance(token, RefreshToken):
            return self.ledger.access(value, self.now())
        if token.killed or token.grant.revoked:
            raise RefusedError(Cause.ACCESS_REVOKED)
        return token

    async def _test(self, request: Request) -> Response:
        form = await read_form(request)
        try:
            token = self.ledger.access(_bearer(request) or form.get("token"), self.now())
        except RefusedError as exc:
            return self.refusal(exc.cause)
        is_bot = token.grant.slot == BOT
        who: dict[str, object] = {
            "user": "flero" if is_bot else token.grant.account.key,
            "user_id": BOT_USER_ID if is_bot else USER_IDS[token.grant.account.key],
            **({"bot_id": BOT_ID} if is_bot else {}),
        }
        return JSONResponse(
            {
                "ok": True,
                "url": TEAM_URL,
                "team": TEAM["name"],
                "team_id": TEAM["id"],
                **who,
                "is_enterprise_install": False,
            }
        )


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else None
