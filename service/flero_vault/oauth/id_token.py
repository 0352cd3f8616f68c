"""Verifies ID tokens (OpenID Connect Core, section 3.1.3.7).

- `Verifier.verify` returns the claims, or the reason why there are none.
- Keys come from the issuer's JWK set, kept for an hour; an unknown key id fetches it anew, at most
  once a minute, so that forged tokens cannot make us hammer the issuer.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from joserfc import jwt
from joserfc.errors import InvalidKeyIdError
from joserfc.jwk import ECKey, KeySet, RSAKey

from flero_vault.core.connector import Verdict
from flero_vault.core.ports import Delivery, Failure
from flero_vault.oauth.discovery import Documents
from flero_vault.oauth.urls import PLACEHOLDER

ALGORITHMS: Final = ("RS256", "PS256", "ES256")
"""Public keys only: `none` and HS256 would let anybody, or our own client secret, sign."""
LEEWAY_S: Final = 120.0
REFETCH_S: Final = 60.0
_CLAIM_IN_ISSUER: Final = re.compile(r"[\w.-]{1,128}", re.ASCII)
_COMPACT_PARTS: Final = 3
_KINDS: Final[Mapping[str, type[RSAKey | ECKey]]] = {"RSA": RSAKey, "EC": ECKey}

INVALID: Final = Failure(Delivery.ANSWERED, Verdict.RECONNECT, "id_token_invalid")
NO_KEYS: Final = Failure(Delivery.ANSWERED, Verdict.SERVICE_DOWN, "id_token_keys_unavailable")


@dataclass(frozen=True, slots=True)
class Expected:
    """What the token must say. `issuer` may hold `{claim}`; `nonce` None: none was sent."""

    issuer: str
    client_id: str
    nonce: str | None


class Verifier:
    """Verifies ID tokens; `wall` is the time of day in seconds."""

    def __init__(self, documents: Documents, wall: Callable[[], float]) -> None:
        self._documents = documents
        self._wall = wall

    async def verify(
        self, token: str, jwks_uri: str, expected: Expected, until: float
    ) -> Mapping[str, object] | Failure:
        """Return the claims of a token that is genuine, ours and fresh."""
        claims = await self._signed(token, jwks_uri, until)
        if isinstance(claims, Failure):
            return claims
        return claims if is_ours(claims, expected, self._wall()) else INVALID

    async def _signed(
        self, token: str, jwks_uri: str, until: float
    ) -> Mapping[str, object] | Failure:
        if token.count(".") + 1 != _COMPACT_PARTS:
            return INVALID  # five parts would be an encrypted one, which we never ask for
        document = await self._documents.get(jwks_uri, until)
        if isinstance(document, Failure):
            return NO_KEYS
        try:
            return _decoded(token, document)
        except InvalidKeyIdError:
            # The issuer may have changed its keys since.
            document = await self._documents.get(jwks_uri, until, younger_than=REFETCH_S)
        if isinstance(document, Failure):
            return NO_KEYS
        try:
            return _decoded(token, document)
        except InvalidKeyIdError:
            return INVALID


def _decoded(token: str, document: Mapping[str, object]) -> Mapping[str, object] | Failure:
    """Check the signature. Raises InvalidKeyIdError if the set has no such key."""
    try:
        claims: object = jwt.decode(token, _key_set(document), algorithms=list(ALGORITHMS)).claims
    except InvalidKeyIdError:
        raise
    except Exception:  # noqa: BLE001  # what the libraries below raise for forged input is no list
        return INVALID
    return claims if isinstance(claims, dict) else INVALID


def _key_set(document: Mapping[str, object]) -> KeySet:
    """Read the keys that we understand; one that we do not must not cost us the others."""
    keys: list[RSAKey | ECKey] = []
    values = document.get("keys")
    for value in values if isinstance(values, list) else []:
        kind = _KINDS.get(value.get("kty", "")) if isinstance(value, dict) else None
        if kind is None:
            continue
        try:
            keys.append(kind.import_key(value))
        except Exception:  # noqa: BLE001, S112  # as above
            continue
    return KeySet(list(keys))


def is_ours(claims: Mapping[str, object], expected: Expected, now: float) -> bool:
    """Check issuer, audience, times and nonce of signed claims. Pure."""
    return (
        _issuer_fits(claims, expected.issuer)
        and _audience_fits(claims, expected.client_id)
        and _is_fresh(claims, now)
        and (expected.nonce is None or claims.get("nonce") == expected.nonce)
    )


def _issuer_fits(claims: Mapping[str, object], template: str) -> bool:
    """Compare `iss` exactly; `{claim}` (Microsoft's `{tid}`) is filled from the token itself."""
    strange = False

    def value(match: re.Match[str]) -> str:
        nonlocal strange
        claim = claims.get(match[1])
        if isinstance(claim, str) and _CLAIM_IN_ISSUER.fullmatch(claim):
            return claim
        strange = True
        return ""

    issuer = PLACEHOLDER.sub(value, template)
    return bool(issuer) and not strange and claims.get("iss") == issuer


def _audience_fits(claims: Mapping[str, object], client_id: str) -> bool:
    audience = claims.get("aud")
    several = isinstance(audience, list) and len(audience) > 1
    if client_id not in (audience if isinstance(audience, list) else [audience]):
        return False
    azp = claims.get("azp")
    return azp == client_id if several or azp is not None else True


def _is_fresh(claims: Mapping[str, object], now: float) -> bool:
    def time(name: str) -> float | None:
        value = claims.get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if number else None  # type: ignore[return-value]  # a number by now

    ends, begins, valid_from = time("exp"), time("iat"), time("nbf")
    if ends is None or begins is None:
        return False
    latest_begin = max(begins, valid_from if valid_from is not None else begins)
    return now < ends + LEEWAY_S and latest_begin <= now + LEEWAY_S
