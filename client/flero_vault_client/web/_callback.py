"""The routes under `/oauth`: callback, result, static files.

    GET /oauth/callback/{connector}   asks the vault, answers 303, whatever the outcome
    GET /oauth/result/{page_id}       shows the outcome once
    GET /oauth/static/…               style and script of the result page

Nothing here logs. A URL of this page is worth a token until the vault has seen it.
"""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

import grpc
import grpc.aio
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.staticfiles import StaticFiles

from flero_vault_client._refusal import refusal_of
from flero_vault_client.v1 import credential_vault_pb2
from flero_vault_client.web import _outcome
from flero_vault_client.web._binding import BrowserBinding, browser_binding
from flero_vault_client.web._headers import SecurityHeaders

if TYPE_CHECKING:
    # The stub of a grpc.aio channel has this type for the type checker only.
    from flero_vault_client.v1.credential_vault_pb2_grpc import CredentialVaultAsyncStub

UserOf = Callable[[Request], Awaitable[str | None]]

QUERY_MAX_BYTES: Final = 8192
QUERY_MAX_PARAMETERS: Final = 64
OUTCOME_LIFETIME: Final = timedelta(seconds=60)
# Longer than a service takes to answer an exchange, shorter than a person's patience.
CALLBACK_TIMEOUT: Final = timedelta(seconds=30)
# A vault that is being restarted is back after these; CompleteCallback is safe to repeat.
RETRY_PAUSES: Final = (timedelta(milliseconds=300), timedelta(seconds=1))

_STATIC: Final = Path(__file__).parent / "static"
# 16 random bytes in base64url.
_PAGE_ID: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_NAMED_PARAMETERS: Final = ("state", "code", "iss", "error", "error_description")


def callback_routes(vault: "CredentialVaultAsyncStub", *, user_of: UserOf) -> list[BaseRoute]:
    """Make the routes that a frontend mounts at its root.

    `user_of` reads the frontend's own session: the opaque id of the person who is signed in, the
    same that BeginAuthorize was given as `user`, or None. It must not trust anything in the query.
    """
    callback = _Callback(vault=vault, user_of=user_of)
    routes = [
        Route("/callback/{connector}", callback.answer, methods=["GET"]),
        Route("/result/{page_id}", _show, methods=["GET"]),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]
    # A Router and not an application of its own: `request.app` stays the frontend's in `user_of`.
    return [Mount("/oauth", SecurityHeaders(ExceptionMiddleware(Router(routes))))]


class _Callback:
    """The one route that talks to the vault."""

    def __init__(self, *, vault: "CredentialVaultAsyncStub", user_of: UserOf) -> None:
        self._vault = vault
        self._user_of = user_of

    async def answer(self, request: Request) -> Response:
        """Send the browser on to a page whose address is worth nothing, whatever the outcome."""
        binding = browser_binding(request)
        outcome = await self._outcome(request, binding)
        page_id = secrets.token_urlsafe(16)
        page_path = f"{request.scope['root_path']}/result/{page_id}"
        response = RedirectResponse(page_path, status_code=HTTPStatus.SEE_OTHER)
        response.set_cookie(
            _cookie_name(page_id),
            _outcome.seal(outcome, binding=binding.value, page_id=page_id),
            max_age=int(OUTCOME_LIFETIME.total_seconds()),
            path=page_path,
            secure=binding.secure,
            httponly=True,
            # The redirect still belongs to the navigation that the service began.
            samesite="lax",
        )
        if binding.is_new:
            # The page is sealed with it.
            binding.set_cookie(response)
        return response

    async def _outcome(self, request: Request, binding: BrowserBinding) -> _outcome.Outcome:
        params = _parameters(request.scope["query_string"])
        if params is None:
            return _outcome.UNREADABLE
        user = await self._user_of(request)
        if not user:
            return _outcome.SIGNED_OUT
        if binding.is_new:
            return _outcome.OTHER_BROWSER
        message = credential_vault_pb2.CompleteCallbackRequest(
            connector=request.path_params["connector"],
            **{name: params.get(name, "") for name in _NAMED_PARAMETERS},
            extra_params={name: params[name] for name in params.keys() - _NAMED_PARAMETERS},
            user=user,
            browser_binding=binding.value,
        )
        try:
            answer = await self._complete(message)
        except grpc.aio.AioRpcError as error:
            return _outcome.refused(refusal_of(error))
        return _outcome.connected(answer.credential.name)

    async def _complete(
        self, message: credential_vault_pb2.CompleteCallbackRequest
    ) -> credential_vault_pb2.CompleteCallbackResponse:
        timeout = CALLBACK_TIMEOUT.total_seconds()
        for pause in RETRY_PAUSES:
            try:
                return await self._vault.CompleteCallback(message, timeout=timeout)
            except grpc.aio.AioRpcError as error:
                # With a reason it was the vault that spoke, and it would say the same again.
                if error.code() is not grpc.StatusCode.UNAVAILABLE or refusal_of(error).reason:
                    raise
            await asyncio.sleep(pause.total_seconds())
        return await self._vault.CompleteCallback(message, timeout=timeout)


async def _show(request: Request) -> Response:
    """Show an outcome and forget it."""
    binding = browser_binding(request)
    page_id = request.path_params["page_id"]
    name = _cookie_name(page_id)
    outcome = _outcome.SHOWN_ALREADY
    if _PAGE_ID.fullmatch(page_id) and name in request.cookies:
        outcome = _outcome.unseal(request.cookies[name], binding=binding.value, page_id=page_id)
    root_path = request.scope["root_path"]
    response = HTMLResponse(
        _outcome.page(outcome, static=f"{root_path}/static"), status_code=outcome.status
    )
    if name in request.cookies:
        response.delete_cookie(
            name,
            path=f"{root_path}/result/{page_id}",
            secure=binding.secure,
            httponly=True,
            samesite="lax",
        )
    return response


def _parameters(unverified_query: bytes) -> Mapping[str, str] | None:
    """Read a query, or None if no authorization server sends such a one.

    No parameter may stand there twice (RFC 6749, section 3.1): two readers that disagree on which
    `code` counts are how a code is smuggled past a check.
    """
    if len(unverified_query) > QUERY_MAX_BYTES:
        return None
    try:
        pairs = parse_qsl(
            unverified_query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=QUERY_MAX_PARAMETERS,
        )
    except ValueError:
        return None
    params = dict(pairs)
    return params if len(params) == len(pairs) else None


def _cookie_name(page_id: str) -> str:
    return f"flero-outcome-{page_id}"
