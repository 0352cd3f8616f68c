"""Messages as JSON for the page.

Field by field and not by reflection: what is not named here does not reach a browser.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from flero_vault_client.v1 import connector_catalog_pb2, credential_pb2
from flero_vault_client.web import Refusal

Json = dict[str, object]

# UNAUTHENTICATED is not here on purpose: it means this program, not the person before the page.
HTTP_STATUS: Final[Mapping[grpc.StatusCode, HTTPStatus]] = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.CONFLICT,
    grpc.StatusCode.ABORTED: HTTPStatus.CONFLICT,
    grpc.StatusCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
}

NO_SENTENCE: Final = "The vault does not answer. Try again in a moment."


def credential_json(credential: credential_pb2.Credential) -> Json:
    """Turn a credential into what the page shows of it."""
    granted = set(credential.granted_scopes)
    return {
        "id": credential.name.rpartition("/")[2],
        "name": credential.name,
        "connector": credential.connector,
        "display_name": credential.display_name,
        "credential_scope": credential_pb2.CredentialScope.Name(
            credential.credential_scope
        ).removeprefix("CREDENTIAL_SCOPE_"),
        "status": credential_pb2.CredentialStatus.Name(credential.status).removeprefix(
            "CREDENTIAL_STATUS_"
        ),
        "status_reason": {
            "reason": credential.status_reason.reason,
            "message": credential.status_reason.message,
            "time": _time(credential.status_reason, "time"),
        }
        if credential.HasField("status_reason")
        else None,
        "owner": credential.owner,
        "account": credential.account.label or credential.account.email,
        # Before there is a grant everything would be missing, which says nothing.
        "missing_scopes": [
            scope for scope in credential.requested_scopes if granted and scope not in granted
        ],
        "reauthenticate_by_time": _time(credential, "reauthenticate_by_time"),
        "last_used_time": _time(credential, "last_used_time"),
        "update_time": _time(credential, "update_time"),
        "etag": credential.etag,
    }


def connector_json(connector: connector_catalog_pb2.Connector) -> Json:
    """Turn a connector into what the dialog asks and says about it."""
    return {
        "key": connector.name.rpartition("/")[2],
        "display_name": connector.display_name,
        "configured": connector.configured,
        "admin_approval": connector.admin_approval,
        "manage_url": connector.manage_url,
        "default_scopes": list(connector.default_scopes),
        "permissions": [
            {"scope": each.scope, "description": each.description} for each in connector.permissions
        ],
        "connection_params": [
            {
                "key": param.key,
                "description": param.description,
                "pattern": param.pattern,
                "default_value": param.default_value,
                "example": param.example,
            }
            for param in connector.connection_params
        ],
    }


def error_json(refusal: Refusal) -> tuple[HTTPStatus, Json]:
    """Turn an error of the vault into an answer that the page can act on."""
    status = HTTP_STATUS.get(refusal.code, HTTPStatus.BAD_GATEWAY)
    return status, {
        "error": {
            "reason": refusal.reason,
            "message": refusal.sentence or NO_SENTENCE,
            "help_url": refusal.help_url,
            "fields": [
                {"field": field, "description": description}
                for field, description in refusal.fields
            ],
        }
    }


def _time(message: Message, field: str) -> str | None:
    if not message.HasField(field):
        return None
    value: Timestamp = getattr(message, field)
    return value.ToJsonString()
