"""How tokens lie in a row: which fields are sealed, and how a row's tokens are made and opened."""

import hashlib
import hmac

from flero_vault.core.model import Seat
from flero_vault.core.ports import NewTokens, Sealer, SlotTokens
from flero_vault.core.secret import Secret

ACCESS = "access_token"
REFRESH = "refresh_token"
_FINGERPRINT_USE = "refresh_token"


def is_token(token: Secret, sha256: bytes) -> bool:
    """Say whether the caller means this token, in constant time."""
    return hmac.compare_digest(hashlib.sha256(token.encode()).digest(), sha256)


async def seal_tokens(
    sealer: Sealer,
    seat: Seat,
    tokens: SlotTokens,
    *,
    kept_refresh_token: Secret | None,
    kept_from: int | None,
    scopes: tuple[str, ...],
    connection: dict[str, str],
    age: float,
) -> NewTokens:
    """Seal a slot's tokens for its row.

    An answer without a refresh token keeps the old one (RFC 6749, section 6), sealed anew, since a
    row's fields share one data key.
    """
    refresh = tokens.refresh_token or kept_refresh_token
    fields = {ACCESS: tokens.access_token}
    fingerprint = None
    if refresh is not None:
        fields[REFRESH] = refresh
        fingerprint = await sealer.fingerprint(seat.workspace, _FINGERPRINT_USE, refresh)
    return NewTokens(
        slot=tokens.slot,
        tokens=await sealer.seal(seat, fields),
        refresh_fingerprint=fingerprint,
        token_type=tokens.token_type,
        scopes=tokens.scopes if tokens.scopes is not None else scopes,
        connection=connection,
        expires_in=tokens.expires_in,
        refresh_expires_in=tokens.refresh_expires_in,
        age=age,
        rotated=kept_refresh_token is not None
        and tokens.refresh_token is not None
        and tokens.refresh_token != kept_refresh_token,
        kept_from=kept_from if tokens.refresh_token is None else None,
    )
