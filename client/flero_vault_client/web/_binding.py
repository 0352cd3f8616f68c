"""The cookie that binds an authorization to the browser it began in.

Somebody who lures a person to a callback URL with the attacker's own code (login CSRF) fails
because the vault compares this value with the one that BeginAuthorize was given.

- The name begins with `__Host-`, so a browser takes the cookie only from this very host, over TLS,
  for all paths: a neighbouring subdomain cannot plant one.
- SameSite is Lax: the way back from the service is a navigation that another site began, and a
  Strict cookie stays at home then.
- On plain http at a loopback host there is no TLS to ask for; a plain name says so. Every other
  host is taken to be behind TLS, even if a proxy forgot to say: failing closed costs a consent,
  failing open costs the binding.
"""

import re
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

LIFETIME: Final = timedelta(days=1)
RANDOM_BYTES: Final = 32
LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})

# 32 bytes in base64url without padding.
_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserBinding:
    """What only this browser knows. `value` goes to the vault, never into a page or a log.

    `secure` is what every cookie beside this one has to be as well.
    """

    value: str = field(repr=False)
    is_new: bool
    secure: bool

    def set_cookie(self, response: Response) -> None:
        """Give the browser the cookie, or a present one another day to live."""
        response.set_cookie(
            _name(secure=self.secure),
            self.value,
            max_age=int(LIFETIME.total_seconds()),
            path="/",
            secure=self.secure,
            httponly=True,
            samesite="lax",
        )


def browser_binding(request: Request) -> BrowserBinding:
    """Read the browser's binding, or make one that it does not have yet."""
    secure = _wants_secure_cookies(request)
    unverified_value = request.cookies.get(_name(secure=secure), "")
    if _SHAPE.fullmatch(unverified_value):
        return BrowserBinding(value=unverified_value, is_new=False, secure=secure)
    return BrowserBinding(value=secrets.token_urlsafe(RANDOM_BYTES), is_new=True, secure=secure)


def _wants_secure_cookies(request: Request) -> bool:
    return request.url.scheme == "https" or request.url.hostname not in LOOPBACK_HOSTS


def _name(*, secure: bool) -> str:
    return "__Host-flero-browser" if secure else "flero-browser"
