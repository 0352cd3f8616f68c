"""Google's dialect.

Sources: "Using OAuth 2.0 for Web Server Applications" and "OpenID Connect"
(developers.google.com/identity), the list of token errors in google-auth's `_client.py`, and for
the redirect's `iss` openiddict-core issue 2428.

- A refresh token comes only with `access_type=offline`, and only at the first consent of an account
  to this client, unless `prompt=consent`. Revoking makes the next consent a first one again.
- A refresh does not bring a refresh token. The oldest of more than a hundred dies silently.
- A person may untick scopes, but not the three of signing in. `scope` in the answer is sorted and
  names `email` and `profile` by their long aliases.
- Credentials go in the form; Basic is not understood.
- The redirect carries `iss`, `scope`, `authuser` and `prompt`.
"""

from collections.abc import Mapping
from typing import ClassVar, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flero_vault_dev.emulator.accounts import Account
from flero_vault_dev.emulator.control import Settings
from flero_vault_dev.emulator.service import (
    SLOT,
    Service,
    Wording,
    World,
    person_claims,
    read_form,
)
from flero_vault_dev.emulator.state import (
    AccessToken,
    Approval,
    Ask,
    Cause,
    Issued,
    Mint,
    RefusedError,
    Traits,
)

ALIASES: Final[Mapping[str, str]] = {
    "email": "https://www.googleapis.com/auth/userinfo.email",
    "profile": "https://www.googleapis.com/auth/userinfo.profile",
}
SIGN_IN: Final = frozenset({"openid", *ALIASES, *ALIASES.values()})
SUBJECTS: Final[Mapping[str, str]] = {
    "ada": "101815121018521018151",
    "grace": "101906120919061209190",
}
HOSTED_DOMAIN: Final = "example.com"

_DEAD: Final = Wording(400, "invalid_grant", "Token has been expired or revoked.")
_BAD_CODE: Final = Wording(400, "invalid_grant", "Bad Request")


class Google(Service):
    """Google's OAuth 2.0 for web servers."""

    name = "google"
    title = "Google"
    defaults = Settings(access_ttl_s=3599.0)
    traits = Traits(grants_per_account=100)
    challenge_methods = frozenset({"S256", "plain"})
    remembered = ("access_type", "prompt", "include_granted_scopes")
    refusals: ClassVar[Mapping[Cause, Wording]] = {
        Cause.PARAMETER_MISSING: Wording(400, "invalid_request", "Missing required parameter."),
        Cause.GRANT_TYPE_UNSUPPORTED: Wording(
            400, "unsupported_grant_type", "Invalid grant_type: it is not supported."
        ),
        Cause.CLIENT_MISSING: Wording(
            400, "invalid_request", "Could not determine client ID from request."
        ),
        Cause.CLIENT_UNKNOWN: Wording(401, "invalid_client", "The OAuth client was not found."),
        Cause.CLIENT_SECRET_MISSING: Wording(400, "invalid_request", "client_secret is missing."),
        Cause.CLIENT_SECRET_WRONG: Wording(401, "invalid_client", "Unauthorized"),
        Cause.CODE_UNKNOWN: Wording(400, "invalid_grant", "Malformed auth code."),
        Cause.CODE_EXPIRED: _BAD_CODE,
        Cause.CODE_USED: _BAD_CODE,
        Cause.REDIRECT_URI_MISMATCH: Wording(400, "redirect_uri_mismatch", "Bad Request"),
        Cause.VERIFIER_MISSING: Wording(400, "invalid_grant", "Missing code verifier."),
        Cause.VERIFIER_WRONG: Wording(400, "invalid_grant", "Invalid code verifier."),
        Cause.REFRESH_UNKNOWN: _BAD_CODE,
        Cause.REFRESH_EXPIRED: _DEAD,
        Cause.REFRESH_SPENT: _DEAD,
        Cause.REFRESH_REVOKED: _DEAD,
    }

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._consented: set[str] = set()

    def forget(self) -> None:
        """Forget the consents too."""
        super().forget()
        self._consented.clear()

    def routes(self) -> list[Route]:
        """Return Google's endpoints, which in truth live on several hosts."""
        return [
            Route("/google/o/oauth2/v2/auth", self.authorize, methods=["GET"]),
            Route("/google/token", self.token, methods=["POST"]),
            Route("/google/revoke", self.revocation(self._revoke), methods=["POST"]),
            Route("/google/v1/userinfo", self.identity(self._userinfo), methods=["GET", "POST"]),
            Route("/google/oauth2/v3/certs", self._certs, methods=["GET"]),
        ]

    def mint(self, slot: str) -> Mint:  # noqa: ARG002
        """Return Google's prefixes."""
        return Mint(access_prefix="ya29.a0", refresh_prefix="1//0")

    def tickable(self, ask: Ask) -> frozenset[str]:
        """All but signing in."""
        return frozenset(ask.scopes[SLOT]) - SIGN_IN

    def granted(
        self, ask: Ask, account: Account, ticked: frozenset[str]
    ) -> Mapping[str, tuple[str, ...]]:
        """Add what was granted before, if the app asked for that."""
        fresh = super().granted(ask, account, ticked)[SLOT]
        held: tuple[str, ...] = ()
        if ask.extra.get("include_granted_scopes") == "true":
            held = self.ledger.held_scopes(self.client_id, account, SLOT)
        return {SLOT: tuple(dict.fromkeys((*fresh, *held)))}

    def brings_refresh_token(self, approval: Approval, slot: str) -> bool:  # noqa: ARG002
        """Offline, and new or asked again."""
        extra, account = approval.ask.extra, approval.account.key
        if extra.get("access_type") != "offline":
            return False
        brings = account not in self._consented or "consent" in extra.get("prompt", "").split()
        self._consented.add(account)
        return brings

    def redirect_extras(self, ask: Ask, account: Account) -> Mapping[str, str]:  # noqa: ARG002
        """Return what Google adds to the redirect."""
        return {
            "iss": self.base,
            "scope": _scope(ask.scopes[SLOT]),
            "authuser": "0",
            "prompt": ask.extra.get("prompt", "none"),
        }

    def code_answer(self, approval: Approval, issued: Mapping[str, Issued]) -> Mapping[str, object]:
        """Word the answer, with a refresh token when there is one to give."""
        tokens = issued[SLOT]
        refresh = {"refresh_token": tokens.refresh.value} if tokens.refresh else {}
        return {**self._answer_body(tokens, approval.ask.nonce), **refresh}

    def refresh_answer(self, issued: Issued) -> Mapping[str, object]:
        """Leave the refresh token out, unless a test has switched rotation on."""
        body = self._answer_body(issued, None)
        if self.control.settings.rotate and issued.refresh:
            body["refresh_token"] = issued.refresh.value
        return body

    def _answer_body(self, issued: Issued, nonce: str | None) -> dict[str, object]:
        scopes = issued.access.scopes
        body: dict[str, object] = {
            "access_token": issued.access.value,
            **self.expires_in(issued),
            "scope": _scope(scopes),
            "token_type": "Bearer",
        }
        if "openid" in scopes:
            body["id_token"] = self._id_token(issued, nonce)
        if issued.refresh_life_s is not None:
            body["refresh_token_expires_in"] = issued.refresh_life_s
        return body

    def _id_token(self, issued: Issued, nonce: str | None) -> str:
        now = int(issued.now)
        return self.world.signer.sign(
            {
                "iss": self.base,
                "azp": self.client_id,
                "aud": self.client_id,
                **_claims(issued.access),
                "nonce": nonce,
                "iat": now,
                "exp": now + 3600,
            }
        )

    async def _userinfo(self, request: Request) -> Response:
        try:
            return JSONResponse(_claims(self.holder(request)))
        except RefusedError:
            return JSONResponse(
                {"error": "invalid_request", "error_description": "Invalid Credentials"}, 401
            )

    async def _revoke(self, request: Request) -> Response:
        form = await read_form(request)
        token = self.ledger.find(form.get("token", request.query_params.get("token", "")))
        if token is None or token.killed or token.grant.revoked:
            return JSONResponse(
                {"error": "invalid_token", "error_description": "Token expired or revoked"}, 400
            )
        self.ledger.revoke_grant(token.grant, self.now())
        self._consented.discard(token.grant.account.key)
        return JSONResponse({})

    async def _certs(self, request: Request) -> Response:  # noqa: ARG002
        return JSONResponse(self.world.signer.jwks())


def _scope(scopes: tuple[str, ...]) -> str:
    return " ".join(sorted({ALIASES.get(scope, scope) for scope in scopes}))


def _claims(token: AccessToken) -> dict[str, object]:
    short = {long: name for name, long in ALIASES.items()}
    scopes = frozenset(short.get(scope, scope) for scope in token.scopes)
    claims: dict[str, object] = {"sub": SUBJECTS[token.grant.account.key]}
    if "email" in scopes:
        claims["hd"] = HOSTED_DOMAIN
    return claims | person_claims(token.grant.account, scopes)
