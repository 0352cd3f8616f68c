"""Signs id_tokens with a throwaway key: made once a process, shared by all services, never stored.

signer.sign({"iss": ..., "sub": ...})   # a compact JWS, RS256
signer.jwks()                           # what the jwks endpoints publish
"""

from collections.abc import Mapping
from functools import cache
from typing import Final

from joserfc import jwt
from joserfc.jwk import RSAKey

ALGORITHM: Final = "RS256"
KEY_ID: Final = "flero-emulator-1"
KEY_BITS: Final = 2048


class Signer:
    """One RSA key and the two things that are done with it."""

    def __init__(self) -> None:
        self._key = _key()

    def sign(self, claims: Mapping[str, object]) -> str:
        """Return the claims as a signed id_token; `None` values are left out."""
        present = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": ALGORITHM, "kid": KEY_ID, "typ": "JWT"}
        return jwt.encode(header, present, self._key, algorithms=[ALGORITHM])

    def jwks(self) -> dict[str, object]:
        """Return the public half as a JWK set (RFC 7517, section 5)."""
        return {"keys": [self._key.as_dict(private=False)]}


@cache
def _key() -> RSAKey:
    # Making one takes longer than most tests; an emulator a test would be slow for nothing.
    return RSAKey.generate_key(KEY_BITS, {"use": "sig", "alg": ALGORITHM, "kid": KEY_ID})
