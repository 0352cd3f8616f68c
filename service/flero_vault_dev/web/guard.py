"""Only this page may change anything.

Another site's page can make this browser send requests here. What it cannot do is send JSON
without asking first (no CORS answer is ever given), or hide where it comes from. Both are checked,
for every method that changes something.
"""

from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

SAFE_METHODS: Final = frozenset({"GET", "HEAD"})


class SameOriginOnly:
    """ASGI middleware that refuses changes asked for by other origins."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is safe or ours; answer 403 to the rest."""
        if scope["type"] != "http" or _is_ours(Request(scope)):
            await self._app(scope, receive, send)
            return
        response = JSONResponse(
            {"error": {"reason": "CROSS_ORIGIN", "message": "Only this page may ask for that."}},
            status_code=HTTPStatus.FORBIDDEN,
        )
        await response(scope, receive, send)


def _is_ours(request: Request) -> bool:
    if request.method in SAFE_METHODS:
        return True
    headers = request.headers
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return (
        media_type == "application/json"
        and headers.get("origin") == f"{request.url.scheme}://{request.url.netloc}"
        and headers.get("sec-fetch-site", "same-origin") == "same-origin"
    )
