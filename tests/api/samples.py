"""One valid request for each method, and what turns each field of it into a wrong one."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from tests.stack import BINDING, PARENT, USER, Refusal, Vault, refusal_of

from flero_vault_client.v1 import (
    connector_catalog_pb2,
    credential_pb2,
    credential_vault_pb2,
    vault_admin_pb2,
)

V = credential_vault_pb2
A = vault_admin_pb2
C = connector_catalog_pb2

SERVICES: Sequence[ServiceDescriptor] = (
    V.DESCRIPTOR.services_by_name["CredentialVault"],
    C.DESCRIPTOR.services_by_name["ConnectorCatalog"],
    A.DESCRIPTOR.services_by_name["VaultAdmin"],
)
METHODS: Mapping[str, MethodDescriptor] = {
    method.name: method for service in SERVICES for method in service.methods
}
NOT_SERVED = (
    "ListEvents",
    "WatchEvents",
    "TransferCredentials",
    "RevokeCredentials",
    "ImportCredentials",
    "ListAuditEvents",
    "DeleteWorkspace",
)
NO_SUCH_APP = "deployment/oauthApps/6f1d9f3e-6a55-4b0e-9f5c-0d7d2a9c1e11"
REQUEST_ID = "0b5bd1c4-4d3f-4c6e-8a2e-3a1d5d0f7b22"
PERSONAL = credential_pb2.CREDENTIAL_SCOPE_PERSONAL

SAMPLES: Mapping[str, Callable[[str], Message]] = {
    "BeginAuthorize": lambda _: V.BeginAuthorizeRequest(
        parent=PARENT,
        connector="google",
        display_name="Mail",
        credential_scope=PERSONAL,
        user=USER,
        browser_binding=BINDING,
    ),
    "CompleteCallback": lambda _: V.CompleteCallbackRequest(
        connector="google", state="acme.unknown", code="4/0A", user=USER, browser_binding=BINDING
    ),
    "GetAccessToken": lambda name: V.GetAccessTokenRequest(name=name, user=USER),
    "BatchGetAccessTokens": lambda name: V.BatchGetAccessTokensRequest(
        parent=PARENT, requests=[V.GetAccessTokenRequest(name=name, user=USER)]
    ),
    "Reauthenticate": lambda name: V.ReauthenticateRequest(
        name=name, user=USER, browser_binding=BINDING
    ),
    "Revoke": lambda name: V.RevokeRequest(name=name, user=USER),
    "GetCredential": lambda name: V.GetCredentialRequest(name=name, user=USER),
    "ListCredentials": lambda _: V.ListCredentialsRequest(parent=PARENT, user=USER),
    "UpdateCredential": lambda name: V.UpdateCredentialRequest(
        credential=credential_pb2.Credential(name=name, display_name="Renamed"),
        update_mask=FieldMask(paths=["display_name"]),
        user=USER,
    ),
    "DeleteCredential": lambda name: V.DeleteCredentialRequest(name=name, user=USER),
    "CheckCredential": lambda name: V.CheckCredentialRequest(name=name, user=USER),
    "WatchCredential": lambda name: V.WatchCredentialRequest(name=name, user=USER),
    "ListEvents": lambda _: V.ListEventsRequest(parent=PARENT),
    "WatchEvents": lambda _: V.WatchEventsRequest(parent=PARENT),
    "ListConnectors": lambda _: C.ListConnectorsRequest(),
    "GetConnector": lambda _: C.GetConnectorRequest(name="connectors/google"),
    "PutOAuthApp": lambda _: A.PutOAuthAppRequest(
        parent="workspaces/apps-only", connector="google", client_id="an-app"
    ),
    "ListOAuthApps": lambda _: A.ListOAuthAppsRequest(parent="deployment"),
    "DeleteOAuthApp": lambda _: A.DeleteOAuthAppRequest(name=NO_SUCH_APP),
    "TransferCredentials": lambda _: A.TransferCredentialsRequest(
        parent=PARENT, from_user=USER, to_user="grace"
    ),
    "RevokeCredentials": lambda _: A.RevokeCredentialsRequest(
        parent=PARENT, filter='owner = "ada"'
    ),
    "ImportCredentials": lambda _: A.ImportCredentialsRequest(
        parent=PARENT,
        import_id="row-1",
        connector="google",
        display_name="Mail",
        credential_scope=PERSONAL,
        owner=USER,
        refresh_token="1//0abc",
    ),
    "ListAuditEvents": lambda _: A.ListAuditEventsRequest(parent=PARENT),
    "DeleteWorkspace": lambda _: A.DeleteWorkspaceRequest(name=PARENT),
}


def _text(longest: int) -> tuple[str, ...]:
    return ("x" * (longest + 1), "a\x00b", "a\nb", "a\x1fb", "a\x7fb")


def _visible(longest: int, *short: str) -> tuple[str, ...]:
    padding = "x" * 30
    strange = (f"{padding}{sign}{padding}" for sign in (" ", "\n", "\x00", "\x7f", "é"))
    wrong = strange if longest > len(padding) * 2 else ("a b", "a\nb", "a\x00b", "é")
    return ("x" * (longest + 1), *short, *wrong)


def _items(most: int, *wrong: str) -> tuple[list[str], ...]:
    return (["x"] * (most + 1), [""], *(["x", item] for item in wrong))


def _pairs(most: int, key: int, value: int) -> tuple[dict[str, str], ...]:
    return (
        {f"k{index}": "x" for index in range(most + 1)},
        {"": "x"},
        {"k" * (key + 1): "x"},
        {"k k": "x"},
        {"k\n": "x"},
        {"k": "x" * (value + 1)},
        {"k": "a\x00b"},
    )


_UUID = "6f1d9f3e-6a55-4b0e-9f5c-0d7d2a9c1e11"
_WORKSPACE: tuple[object, ...] = (
    "acme",
    "workspaces/",
    "workspaces/Acme",
    "workspaces/acme/",
    "workspaces/_deployment",
    "workspaces/acme\n",
    "workspaces/ac\x00me",
    f"workspaces/{'a' * 64}",
    "users/acme",
)
_CREDENTIAL: tuple[object, ...] = (
    "workspaces/acme",
    f"workspaces/acme/credentials/{_UUID.upper()}",
    f"workspaces/acme/credentials/{_UUID}\n",
    f"workspaces/acme/credentials/{_UUID}0",
    f"workspaces/acme/credentials/{_UUID.replace('-', '')}",
    f"workspaces/ac\x00me/credentials/{_UUID}",
    f"workspaces/{'a' * 64}/credentials/{_UUID}",
    f"workspaces/acme/credentials/{_UUID}/credentials/{_UUID}",
    f"credentials/{_UUID}",
)
_APP: tuple[object, ...] = (
    "deployment",
    f"deployment/oauthApps/{_UUID.upper()}",
    f"deployment/oauthApps/{_UUID}\n",
    f"workspaces/Acme/oauthApps/{_UUID}",
    f"workspaces/{'a' * 64}/oauthApps/{_UUID}",
    f"oauthApps/{_UUID}",
    f"workspaces/acme/credentials/{_UUID}",
)
_APP_PARENT: tuple[object, ...] = (*_WORKSPACE, "deployments", "_deployment", "deployment\n")
_SCOPES = _items(100, "x" * 513, "a b", "a\nb", 'a"b', "a\\b", "é")
_FLAG: tuple[object, ...] = ()

WRONG: Mapping[str, Sequence[object]] = {
    "allow_account_change": _FLAG,
    "browser_binding": _visible(512, "x" * 21),
    "client_id": ("", "x" * 513, "a\nb", "é"),
    "client_secrets": (["x"] * 5, [""], ["x" * 4097], ["a\nb"], ["é"]),
    "code": _visible(8192),
    "connection_params": _pairs(20, 64, 2048),
    "connector": ("Google", "-google", "goo gle", "google\n", "go\x00ogle", "g" * 64, "é"),
    "credential": (credential_pb2.Credential(),),
    "credential_scope": (3, 99, -1),
    "cursor": _visible(256),
    "display_name": _text(128),
    "error": _text(256),
    "error_description": _text(8192),
    "etag": _visible(64),
    "extra_params": _pairs(50, 128, 8192),
    "filter": _text(1024),
    "from_user": _text(256),
    "import_id": _text(256),
    "iss": _visible(2048),
    "login_hint": _text(320),
    "min_ttl": (
        Duration(seconds=-1),
        Duration(nanos=-1),
        Duration(seconds=86400, nanos=1),
        Duration(seconds=2**62),
        Duration(seconds=1, nanos=1_000_000_000),
        Duration(seconds=1, nanos=-1),
    ),
    "name": _CREDENTIAL,
    "origins": _items(20, "x" * 513, "a b", "a\nb", "é"),
    "owner": _text(256),
    "page_size": (-1, -(2**31)),
    "page_token": _visible(1024),
    "parent": _WORKSPACE,
    "purpose": _text(256),
    "refresh_token": _visible(8192),
    "rejected_token_sha256": (b"x", b"x" * 31, b"x" * 33, b"x" * 10_000),
    "request_id": (
        "x",
        REQUEST_ID[:-1],
        REQUEST_ID + "\n",
        REQUEST_ID.replace("4c6e", "1c6e"),  # version 1
        REQUEST_ID.replace("8a2e", "ca2e"),  # another variant
        REQUEST_ID.replace("-", ""),
        "{" + REQUEST_ID + "}",
        f"urn:uuid:{REQUEST_ID}",
        "-" * 10_000 + REQUEST_ID,
        "\n" + REQUEST_ID[1:],
        REQUEST_ID.replace("5bd1", "5_d1"),
    ),
    "requested_scopes": _SCOPES,
    "requests": ([V.GetAccessTokenRequest()] * 1001,),
    "required_scopes": _SCOPES,
    "revoke_at_service": _FLAG,
    "slot": _visible(32),
    "state": _visible(512),
    "to_user": _text(256),
    "update_mask": (
        FieldMask(paths=["status"]),
        FieldMask(paths=["display_name", "*"]),
        FieldMask(paths=["a\nb"]),
        FieldMask(paths=["x" * 10_000]),
        FieldMask(paths=[""]),
    ),
    "user": _text(256),
    "validate_only": _FLAG,
    "workspace": _WORKSPACE,
    "DeleteOAuthAppRequest.name": _APP,
    "DeleteWorkspaceRequest.name": _WORKSPACE,
    "GetConnectorRequest.name": (
        "google",
        "connectors/",
        "connectors/Google",
        "connectors/google/",
        "connectors/google\n",
        "connectors/" + "g" * 64,
    ),
    "ListOAuthAppsRequest.parent": _APP_PARENT,
    "PutOAuthAppRequest.parent": _APP_PARENT,
    "ListCredentialsRequest.filter": (
        *_text(1024),
        "ada",
        "owner",
        'owner != "ada"',
        'owner = "ada" OR owner = "bob"',
        'owner = "ada" AND owner = "ada"',
        'nobody = "ada"',
        "status = SLEEPING",
        'owner = ""',
        'owner = "a"b"',
    ),
}
"""Wrong values by `Message.field`, else by field; flags and nothing else have none."""


def wrong_values(field: FieldDescriptor) -> Sequence[object]:
    """Return values that must be refused; KeyError if nobody wrote any."""
    message = field.containing_type.name if field.containing_type else ""
    key = f"{message}.{field.name}"
    return WRONG[key] if key in WRONG else WRONG[field.name]


def put(request: Message, field: FieldDescriptor, value: Any) -> None:
    """Set a field of whatever kind."""
    request.ClearField(field.name)
    present = getattr(request, field.name)
    if isinstance(value, dict):
        present.update(value)
    elif isinstance(value, list):
        present.extend(value)
    elif isinstance(value, Message):
        present.CopyFrom(value)
    else:
        setattr(request, field.name, value)


async def call(vault: Vault, name: str, request: Message) -> Any:
    """Call a method by its descriptor; of a stream return the first message."""
    method = METHODS[name]
    path = f"/{method.containing_service.full_name}/{name}"
    encode = GetMessageClass(method.input_type).SerializeToString
    decode = GetMessageClass(method.output_type).FromString
    if method.client_streaming:

        async def requests() -> AsyncIterator[Message]:
            yield request

        return await vault.channel.stream_unary(path, encode, decode)(requests(), timeout=60)
    if method.server_streaming:
        stream = vault.channel.unary_stream(path, encode, decode)(request, timeout=60)
        try:
            return await stream.read()
        finally:
            stream.cancel()
    return await vault.channel.unary_unary(path, encode, decode)(request, timeout=60)


async def refused(answer: Any) -> Refusal | None:
    """Await a call; return its refusal, or None if it was accepted."""
    try:
        await answer
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    return None
