"""The dialog's server: one page, JSON endpoints, and the stream of one credential.

    GET    /                                      the page
    GET    /api/connectors                        the catalogue
    GET    /api/credentials                       what this user sees
    POST   /api/credentials                       BeginAuthorize
    GET    /api/credentials/{id}                  GetCredential
    PATCH  /api/credentials/{id}                  UpdateCredential: Save
    DELETE /api/credentials/{id}                  DeleteCredential: Cancel, Delete
    GET    /api/credentials/{id}/events           WatchCredential as server-sent events
    POST   /api/credentials/{id}/reauthenticate   Reauthenticate
    POST   /api/credentials/{id}/check            CheckCredential: Test connection
    POST   /api/credentials/{id}/revoke           Revoke
    …      /oauth/…                               the callback page

The types of fields are checked here, their values by the vault: it has the sentences.
"""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import grpc
import grpc.aio
from google.protobuf import field_mask_pb2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from flero_vault_client.v1 import (
    connector_catalog_pb2,
    connector_catalog_pb2_grpc,
    credential_pb2,
    credential_vault_pb2,
    credential_vault_pb2_grpc,
)
from flero_vault_client.web import (
    SecurityHeaders,
    browser_binding,
    callback_routes,
    refusal_of,
)
from flero_vault_dev.web.guard import SameOriginOnly
from flero_vault_dev.web.wire import Json, connector_json, credential_json, error_json

if TYPE_CHECKING:
    # Stubs of a grpc.aio channel have these types for the type checker only.
    from flero_vault_client.v1.connector_catalog_pb2_grpc import ConnectorCatalogAsyncStub
    from flero_vault_client.v1.credential_vault_pb2_grpc import CredentialVaultAsyncStub

BODY_MAX_BYTES: Final = 16 * 1024
PAGE_SIZE: Final = 200
# Test connection and discovery wait for a service.
RPC_TIMEOUT: Final = timedelta(seconds=30)
# As long as a consent page is good for; the browser connects again by itself.
WATCH_TIMEOUT: Final = timedelta(minutes=10)
RECONNECT_AFTER: Final = timedelta(seconds=1)
LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")

_STATIC: Final = Path(__file__).parent / "static"
_CREDENTIAL: Final = "/api/credentials/{id:uuid}"


def create_app(
    channel: grpc.aio.Channel, *, workspace: str = "demo", user: str = "demo"
) -> Starlette:
    """Make the development frontend of the vault behind `channel`, for one user."""
    vault = credential_vault_pb2_grpc.CredentialVaultStub(channel)
    desk = _Desk(
        vault=vault,
        catalog=connector_catalog_pb2_grpc.ConnectorCatalogStub(channel),
        parent=f"workspaces/{workspace}",
        user=user,
    )

    async def user_of(_request: Request) -> str:
        return user

    dialog = Starlette(
        routes=[
            Route("/", _page, methods=["GET"]),
            Mount("/static", StaticFiles(directory=_STATIC)),
            Route("/api/connectors", desk.connectors, methods=["GET"]),
            Route("/api/credentials", desk.credentials, methods=["GET"]),
            Route("/api/credentials", desk.begin, methods=["POST"]),
            Route(_CREDENTIAL, desk.credential, methods=["GET"]),
            Route(_CREDENTIAL, desk.save, methods=["PATCH"]),
            Route(_CREDENTIAL, desk.delete, methods=["DELETE"]),
            Route(f"{_CREDENTIAL}/events", desk.events, methods=["GET"]),
            Route(f"{_CREDENTIAL}/reauthenticate", desk.reauthenticate, methods=["POST"]),
            Route(f"{_CREDENTIAL}/check", desk.check, methods=["POST"]),
            Route(f"{_CREDENTIAL}/revoke", desk.revoke, methods=["POST"]),
        ],
        middleware=[Middleware(SameOriginOnly)],
        exception_handlers={grpc.aio.AioRpcError: _refused, _BadBody: _bad_body},
    )
    return Starlette(
        routes=[*callback_routes(vault, user_of=user_of), Mount("/", dialog)],
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_NAMES),
        ],
    )


class _BadBody(Exception):  # a verdict about a request, answered with 400
    """The body is not what this endpoint takes."""


class _Desk:
    """The endpoints: each is one RPC on behalf of the one user."""

    def __init__(
        self,
        *,
        vault: "CredentialVaultAsyncStub",
        catalog: "ConnectorCatalogAsyncStub",
        parent: str,
        user: str,
    ) -> None:
        self._vault = vault
        self._catalog = catalog
        self._parent = parent
        self._user = user
        self._timeout = RPC_TIMEOUT.total_seconds()

    async def connectors(self, _request: Request) -> Response:
        found: list[Json] = []
        message = connector_catalog_pb2.ListConnectorsRequest(
            page_size=PAGE_SIZE, workspace=self._parent
        )
        while True:
            page = await self._catalog.ListConnectors(message, timeout=self._timeout)
            found += (connector_json(each) for each in page.connectors)
            if not page.next_page_token:
                return JSONResponse({"connectors": found})
            message.page_token = page.next_page_token

    async def credentials(self, _request: Request) -> Response:
        found: list[Json] = []
        message = credential_vault_pb2.ListCredentialsRequest(
            parent=self._parent, user=self._user, page_size=PAGE_SIZE
        )
        while True:
            page = await self._vault.ListCredentials(message, timeout=self._timeout)
            found += (credential_json(each) for each in page.credentials)
            if not page.next_page_token:
                return JSONResponse({"credentials": found})
            message.page_token = page.next_page_token

    async def begin(self, request: Request) -> Response:
        body = await _body(request)
        binding = browser_binding(request)
        answer = await self._vault.BeginAuthorize(
            credential_vault_pb2.BeginAuthorizeRequest(
                parent=self._parent,
                connector=_text(body, "connector"),
                display_name=_text(body, "display_name"),
                credential_scope=_scope(body),
                user=self._user,
                connection_params=_text_map(body, "connection_params"),
                browser_binding=binding.value,
                request_id=_text(body, "request_id"),
            ),
            timeout=self._timeout,
        )
        response = JSONResponse(_begun(answer), status_code=HTTPStatus.CREATED)
        binding.set_cookie(response)
        return response

    async def reauthenticate(self, request: Request) -> Response:
        body = await _body(request)
        binding = browser_binding(request)
        answer = await self._vault.Reauthenticate(
            credential_vault_pb2.ReauthenticateRequest(
                name=self._name(request),
                user=self._user,
                allow_account_change=_flag(body, "allow_account_change"),
                browser_binding=binding.value,
                request_id=_text(body, "request_id"),
            ),
            timeout=self._timeout,
        )
        response = JSONResponse(_begun(answer))
        binding.set_cookie(response)
        return response

    async def credential(self, request: Request) -> Response:
        message = credential_vault_pb2.GetCredentialRequest(
            name=self._name(request), user=self._user
        )
        return _shown(await self._vault.GetCredential(message, timeout=self._timeout))

    async def save(self, request: Request) -> Response:
        body = await _body(request)
        changed = credential_pb2.Credential(name=self._name(request), etag=_text(body, "etag"))
        mask = field_mask_pb2.FieldMask()
        if "display_name" in body:
            changed.display_name = _text(body, "display_name")
            mask.paths.append("display_name")
        if "credential_scope" in body:
            changed.credential_scope = _scope(body)
            mask.paths.append("credential_scope")
        message = credential_vault_pb2.UpdateCredentialRequest(
            credential=changed, update_mask=mask, user=self._user
        )
        return _shown(await self._vault.UpdateCredential(message, timeout=self._timeout))

    async def delete(self, request: Request) -> Response:
        message = credential_vault_pb2.DeleteCredentialRequest(
            name=self._name(request), user=self._user
        )
        await self._vault.DeleteCredential(message, timeout=self._timeout)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def check(self, request: Request) -> Response:
        message = credential_vault_pb2.CheckCredentialRequest(
            name=self._name(request), user=self._user
        )
        return _shown(await self._vault.CheckCredential(message, timeout=self._timeout))

    async def revoke(self, request: Request) -> Response:
        body = await _body(request)
        answer = await self._vault.Revoke(
            credential_vault_pb2.RevokeRequest(
                name=self._name(request),
                user=self._user,
                revoke_at_service=_flag(body, "revoke_at_service"),
            ),
            timeout=self._timeout,
        )
        outcome = credential_pb2.ServiceRevocation.Name(answer.service_revocation)
        return JSONResponse(
            {
                "credential": credential_json(answer.credential),
                "service_revocation": outcome.removeprefix("SERVICE_REVOCATION_"),
                "manage_url": answer.manage_url,
            }
        )

    async def events(self, request: Request) -> Response:
        return StreamingResponse(self._watch(self._name(request)), media_type="text/event-stream")

    async def _watch(self, name: str) -> AsyncIterator[str]:
        """Bridge WatchCredential. The stream just ends when the vault is away: the browser retries.

        A credential that is gone is said in an event of its own, or the browser would ask for ever.
        """
        yield f"retry: {int(RECONNECT_AFTER.total_seconds() * 1000)}\n\n"
        message = credential_vault_pb2.WatchCredentialRequest(name=name, user=self._user)
        call = self._vault.WatchCredential(message, timeout=WATCH_TIMEOUT.total_seconds())
        try:
            async for change in call:
                data = json.dumps(credential_json(change.credential))
                yield f"event: credential\ndata: {data}\n\n"
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                yield "event: gone\ndata: {}\n\n"
        finally:
            # The browser left: the vault need not watch any longer.
            call.cancel()

    def _name(self, request: Request) -> str:
        return f"{self._parent}/credentials/{request.path_params['id']}"


async def _page(_request: Request) -> Response:
    return FileResponse(_STATIC / "index.html")


async def _refused(_request: Request, error: Exception) -> Response:
    # Registered for this class only; Starlette's signature is wider.
    status, body = error_json(refusal_of(cast("grpc.aio.AioRpcError", error)))
    return JSONResponse(body, status_code=status)


async def _bad_body(_request: Request, error: Exception) -> Response:
    body = {"error": {"reason": "INVALID_FIELD", "message": str(error)}}
    return JSONResponse(body, status_code=HTTPStatus.BAD_REQUEST)


def _begun(
    answer: credential_vault_pb2.BeginAuthorizeResponse
    | credential_vault_pb2.ReauthenticateResponse,
) -> Json:
    return {
        "credential": credential_json(answer.credential),
        "authorize_url": answer.authorize_url,
        "expire_time": answer.expire_time.ToJsonString(),
    }


def _shown(credential: credential_pb2.Credential) -> Response:
    return JSONResponse({"credential": credential_json(credential)})


async def _body(request: Request) -> dict[str, object]:
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > BODY_MAX_BYTES:
            raise _BadBody("The request is too long.")
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise _BadBody("The request is not a JSON object.")
    return body


def _text(body: dict[str, object], key: str) -> str:
    value = body.get(key, "")
    if not isinstance(value, str):
        raise _BadBody(f"{key} is not a text.")
    return value


def _flag(body: dict[str, object], key: str) -> bool:
    value = body.get(key, False)
    if not isinstance(value, bool):
        raise _BadBody(f"{key} is neither true nor false.")
    return value


def _text_map(body: dict[str, object], key: str) -> dict[str, str]:
    values = body.get(key, {})
    if not isinstance(values, dict):
        raise _BadBody(f"{key} is not an object.")
    return {name: _text(values, name) for name in values}


def _scope(body: dict[str, object]) -> "credential_pb2.CredentialScope.ValueType":
    """Read the scope. What is unknown becomes UNSPECIFIED, which the vault refuses in words."""
    known = {
        "PERSONAL": credential_pb2.CREDENTIAL_SCOPE_PERSONAL,
        "WORKSPACE": credential_pb2.CREDENTIAL_SCOPE_WORKSPACE,
    }
    value = _text(body, "credential_scope")
    return known.get(value, credential_pb2.CREDENTIAL_SCOPE_UNSPECIFIED)
