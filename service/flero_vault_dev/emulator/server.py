"""Puts the services, the control interface and the stylesheet under one origin.

    app = create_app("http://localhost:9400")

`POST /_control/{connector}` changes settings and does actions, `GET` shows settings, counters and
the journal; `control` says which. Any origin is fine for the callers: the emulator holds nothing
worth protecting and is meant for a loopback address.
"""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from flero_vault_dev.emulator import faults
from flero_vault_dev.emulator.control import InvalidSettingsError
from flero_vault_dev.emulator.google import Google
from flero_vault_dev.emulator.hubspot import HubSpot
from flero_vault_dev.emulator.keys import Signer
from flero_vault_dev.emulator.microsoft import Microsoft
from flero_vault_dev.emulator.oidc import Oidc
from flero_vault_dev.emulator.salesforce import Salesforce
from flero_vault_dev.emulator.service import Service, World
from flero_vault_dev.emulator.slack import Slack

SERVICES: Final[tuple[type[Service], ...]] = (Slack, Google, Microsoft, Salesforce, HubSpot, Oidc)
STATIC: Final = Path(__file__).parent / "static"


def create_app(origin: str, clock: Callable[[], float] = time.time) -> Starlette:
    """Return the emulator as an ASGI application that believes to be reached at `origin`."""
    world = World(origin=origin.rstrip("/"), clock=clock, signer=Signer())
    services = [kind(world) for kind in SERVICES]
    console = _Console({service.name: service for service in services})
    routes: list[BaseRoute] = [
        Mount("/_static", StaticFiles(directory=STATIC)),
        Route("/_control/{connector}", console.show, methods=["GET"]),
        Route("/_control/{connector}", console.change, methods=["POST"]),
    ]
    for service in services:
        routes += [*service.own_routes(), *service.routes()]
    return _Emulator(routes=routes)


class _Emulator(Starlette):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The faults that drop a connection need it. ASGI has no message for that; under uvicorn
        # `send` is a method of the cycle that owns the transport, under test clients it is not.
        scope[faults.TRANSPORT] = getattr(getattr(send, "__self__", None), "transport", None)
        await super().__call__(scope, receive, send)


class _Console:
    """The control interface."""

    def __init__(self, services: dict[str, Service]) -> None:
        self._services = services

    async def show(self, request: Request) -> Response:
        service = self._services.get(request.path_params["connector"])
        return _unknown() if service is None else JSONResponse(_snapshot(service))

    async def change(self, request: Request) -> Response:
        service = self._services.get(request.path_params["connector"])
        if service is None:
            return _unknown()
        try:
            settings, actions = service.control.check(json.loads(await request.body()))
        except InvalidSettingsError as exc:
            return JSONResponse({"error": "invalid_settings", "fields": exc.fields}, 400)
        except ValueError:
            return JSONResponse({"error": "invalid_json", "fields": {}}, 400)
        if "reset" in actions:
            service.forget()
        service.control.merge(settings)
        if "kill_refresh_tokens" in actions:
            service.ledger.kill_refresh_tokens(service.now())
        if "kill_access_tokens" in actions:
            service.ledger.kill_access_tokens(service.now())
        return JSONResponse(_snapshot(service))


def _snapshot(service: Service) -> dict[str, object]:
    return {
        "connector": service.name,
        **service.control.snapshot(),
        "log": [dataclasses.asdict(event) for event in service.ledger.journal],
    }


def _unknown() -> Response:
    return JSONResponse({"error": "unknown_connector", "fields": {}}, 404)
