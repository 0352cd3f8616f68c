"""A strict OpenID provider, for connectors that know a service by its discovery document only.

Sources: OpenID Connect Core and Discovery 1.0, RFC 6749, RFC 7009 (revocation), RFC 7636 (PKCE),
RFC 9207 (`iss` on the redirect) and RFC 9700 (rotation with reuse detection).

- PKCE with S256 is required. Refresh tokens come with `offline_access` (Core, section 11).
- A spent refresh token, or a code sent twice, revokes everything that came from it.
"""

from collections.abc import Mapping
from typing import ClassVar, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flero_vault_dev.emulator.accounts import Account
from flero_vault_dev.emulator.control import Settings
from flero_vault_dev.emulator.keys import ALGORITHM
from flero_vault_dev.emulator.service import (
    CODE,
    NO_STORE,
    REFRESH,
    SLOT,
    Form,
    Query,
    SentBackError,
    Service,
    Wording,
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
    RefreshToken,
    RefusedError,
    Traits,
)

SCOPES: Final = ("openid", "profile", "email", "offline_access")
SUBJECTS: Final[Mapping[str, str]] = {"ada": "subject-ada", "grace": "subject-grace"}

_DEAD: Final = Wording(400, "invalid_grant", "The refresh token is invalid.")
_BAD_CODE: Final = Wording(400, "invalid_grant", "The code is invalid.")
_BAD_CLIENT: Final = Wording(401, "invalid_client", "Client authentication failed.")
_BAD_VERIFIER: Final = Wording(400, "invalid_grant", "The code verifier does not match.")


class Oidc(Service):
    """An OpenID provider as the specifications have it."""

    name = "oidc"
    title = "Example ID"
    defaults = Settings(access_ttl_s=3600.0, rotate=True, family_revoke=True)
    traits = Traits(code_replay_revokes=True)
    takes_basic = True
    refusals: ClassVar[Mapping[Cause, Wording]] = {
        Cause.PARAMETER_MISSING: Wording(400, "invalid_request", "A parameter is missing."),
        Cause.GRANT_TYPE_UNSUPPORTED: Wording(
            400, "unsupported_grant_type", "This grant type is not supported."
        ),
        Cause.CLIENT_MISSING: _BAD_CLIENT,
        Cause.CLIENT_UNKNOWN: _BAD_CLIENT,
        Cause.CLIENT_SECRET_MISSING: _BAD_CLIENT,
        Cause.CLIENT_SECRET_WRONG: _BAD_CLIENT,
        Cause.CLIENT_AUTHENTICATED_TWICE: Wording(
            400, "invalid_request", "Credentials were sent in more than one way."
        ),
        Cause.CODE_UNKNOWN: _BAD_CODE,
        Cause.CODE_EXPIRED: _BAD_CODE,
        Cause.CODE_USED: _BAD_CODE,
        Cause.REDIRECT_URI_MISMATCH: _BAD_CODE,
        Cause.VERIFIER_MISSING: _BAD_VERIFIER,
        Cause.VERIFIER_WRONG: _BAD_VERIFIER,
        Cause.REFRESH_UNKNOWN: _DEAD,
        Cause.REFRESH_EXPIRED: _DEAD,
        Cause.REFRESH_SPENT: _DEAD,
        Cause.REFRESH_REVOKED: _DEAD,
    }

    def routes(self) -> list[Route]:
        """Return what the discovery document announces."""
        userinfo = self.identity(self._userinfo)
        return [
            Route("/oidc/.well-known/openid-configuration", self._discovery, methods=["GET"]),
            Route("/oidc/authorize", self.authorize, methods=["GET"]),
            Route("/oidc/token", self.token, methods=["POST"]),
            Route("/oidc/revoke", self.revocation(self._revoke), methods=["POST"]),
            Route("/oidc/userinfo", userinfo, methods=["GET", "POST"]),
            Route("/oidc/jwks", self._jwks, methods=["GET"]),
        ]

    async def _discovery(self, request: Request) -> Response:  # noqa: ARG002
        return JSONResponse(
            {
                "issuer": self.base,
                "authorization_endpoint": f"{self.base}/authorize",
                "token_endpoint": f"{self.base}/token",
                "revocation_endpoint": f"{self.base}/revoke",
                "userinfo_endpoint": f"{self.base}/userinfo",
                "jwks_uri": f"{self.base}/jwks",
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "grant_types_supported": [CODE, REFRESH],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [ALGORITHM],
                "scopes_supported": list(SCOPES),
                "token_endpoint_auth_methods_supported": [
                    "client_secret_basic",
                    "client_secret_post",
                ],
                "code_challenge_methods_supported": sorted(self.challenge_methods),
                "authorization_response_iss_parameter_supported": True,
            }
        )

    def mint(self, slot: str) -> Mint:  # noqa: ARG002
        """Return prefixes that tell the two kinds apart."""
        return Mint(access_prefix="at_", refresh_prefix="rt_")

    def read_ask(self, query: Query, path: Mapping[str, str]) -> Ask:
        """Require PKCE; its absence is the app's error and goes back to it."""
        ask = super().read_ask(query, path)
        if ask.challenge is None:
            raise SentBackError(
                ask.redirect_uri,
                {
                    "error": "invalid_request",
                    "error_description": "code_challenge is required",
                    "iss": self.base,
                },
            )
        return ask

    def brings_refresh_token(self, approval: Approval, slot: str) -> bool:
        """Only with `offline_access`."""
        return "offline_access" in approval.scopes[slot]

    def redirect_extras(self, ask: Ask, account: Account) -> Mapping[str, str]:  # noqa: ARG002
        """Mix-up defence (RFC 9207): the redirect says who sends it."""
        return {"iss": self.base}

    def denial(self) -> Mapping[str, str]:
        """Word the redirect after Cancel; it carries `iss` too (RFC 9207, section 2)."""
        return {
            "error": "access_denied",
            "error_description": "The person declined.",
            "iss": self.base,
        }

    def authenticate(self, request: Request, form: Form) -> None:
        """Refuse credentials that come in two ways (RFC 6749, section 2.3)."""
        if "authorization" in request.headers and "client_secret" in form:
            raise RefusedError(Cause.CLIENT_AUTHENTICATED_TWICE)
        super().authenticate(request, form)

    def code_answer(self, approval: Approval, issued: Mapping[str, Issued]) -> Mapping[str, object]:
        """Word the answer."""
        return self._answer_body(issued[SLOT], approval.ask.nonce)

    def refresh_answer(self, issued: Issued) -> Mapping[str, object]:
        """Word the answer; a refreshed id_token has no nonce (Core, section 12.2)."""
        return self._answer_body(issued, None)

    def _answer_body(self, issued: Issued, nonce: str | None) -> Mapping[str, object]:
        scopes = issued.access.scopes
        body: dict[str, object] = {
            "access_token": issued.access.value,
            "token_type": "Bearer",
            **self.expires_in(issued),
            "scope": " ".join(scopes),
        }
        if issued.refresh:
            body["refresh_token"] = issued.refresh.value
        if "openid" in scopes:
            now = int(issued.now)
            body["id_token"] = self.world.signer.sign(
                {
                    "iss": self.base,
                    "aud": self.client_id,
                    **_claims(issued.access),
                    "nonce": nonce,
                    "iat": now,
                    "exp": now + 3600,
                }
            )
        return body

    def refusal(self, cause: Cause) -> Response:
        """Add the challenge that a 401 must carry (RFC 6749, section 5.2)."""
        response = super().refusal(cause)
        if response.status_code == _BAD_CLIENT.status:
            response.headers["WWW-Authenticate"] = 'Basic realm="oidc"'
        return response

    async def _userinfo(self, request: Request) -> Response:
        try:
            return JSONResponse(_claims(self.holder(request)))
        except RefusedError:
            return JSONResponse(
                {"error": "invalid_token"},
                401,
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )

    async def _revoke(self, request: Request) -> Response:
        form = await read_form(request)
        try:
            self.authenticate(request, form)
        except RefusedError as exc:
            return self.refusal(exc.cause)
        # RFC 7009, section 2.2: a token that is not there is as good as revoked.
        token = self.ledger.find(form.get("token", ""))
        if isinstance(token, RefreshToken):
            self.ledger.revoke_grant(token.grant, self.now())
        elif token is not None:
            self.ledger.kill(token, self.now())
        return Response(b"", headers=NO_STORE)

    async def _jwks(self, request: Request) -> Response:  # noqa: ARG002
        return JSONResponse(self.world.signer.jwks())


def _claims(token: AccessToken) -> dict[str, object]:
    account = token.grant.account
    return {"sub": SUBJECTS[account.key], **person_claims(account, frozenset(token.scopes))}
