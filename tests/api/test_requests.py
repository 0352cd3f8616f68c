"""What no request can do: be malformed, or reach what is not its caller's."""

import base64
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from tests.api.samples import (
    METHODS,
    NOT_SERVED,
    SAMPLES,
    SERVICES,
    call,
    put,
    refused,
    wrong_values,
)
from tests.stack import BINDING, DEPLOYMENT, PARENT, USER, Refusal, Vault

from flero_vault.api import fields, paging
from flero_vault_client.v1 import (
    connector_catalog_pb2,
    credential_pb2,
    credential_vault_pb2,
    vault_admin_pb2,
)

ELSEWHERE = "workspaces/elsewhere"
INVALID = (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
FIELDS = [
    pytest.param(method.name, field, id=f"{method.name}-{field.name}")
    for method in METHODS.values()
    for field in method.input_type.fields
]
NAMING = [
    method.name
    for method in SERVICES[0].methods
    if {"name", "credential"} & {field.name for field in method.input_type.fields}
]
OWNER_ONLY = ("UpdateCredential", "Revoke", "DeleteCredential")
SHARED = sorted(set(NAMING) - set(OWNER_ONLY))


class Database:
    """Says what is stored."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def snapshot(self) -> Mapping[str, str]:
        """Return the number and the digest of every table's rows, but for the heartbeats."""
        tables = await self._connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        )
        found = {}
        for (table,) in tables:
            if table == "processes":
                continue
            rows = "string_agg(t::text, '|' ORDER BY t::text)"
            found[table] = await self._connection.fetchval(
                f"SELECT count(*) || ' ' || md5(coalesce({rows}, '')) FROM \"{table}\" AS t"  # noqa: S608 - a name from the catalog
            )
        assert "credentials" in found
        return found


@pytest.fixture(scope="module")
async def database(database_url: str) -> AsyncIterator[Database]:
    """Read what the vault stored."""
    connection = await asyncpg.connect(database_url)
    yield Database(connection)
    await connection.close()


@pytest.fixture(scope="module")
async def name(vault: Vault) -> str:
    """Return the name of Ada's credential, which is nobody else's."""
    credential = await vault.connect("google")
    return str(credential.name)


@pytest.fixture(scope="module")
async def shared(vault: Vault) -> str:
    """Return the name of Ada's credential that the workspace uses."""
    scope = credential_pb2.CREDENTIAL_SCOPE_WORKSPACE
    credential = await vault.connect("google", credential_scope=scope)
    return str(credential.name)


def _field(message: Message, key: str) -> Any:
    return message.DESCRIPTOR.fields_by_name[key]


def _said(refusal: Refusal | None) -> tuple[object, ...]:
    return (refusal.code, refusal.reason, refusal.fields) if refusal else ("accepted",)


def _wrong(path: str) -> tuple[object, ...]:
    return (*INVALID, (path,))


def _reason(refusal: Refusal | None) -> str:
    return refusal.reason if refusal else "accepted"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_valid_sample(method: str) -> None:
    assert method in SAMPLES
    assert SAMPLES[method]("n").DESCRIPTOR.full_name == METHODS[method].input_type.full_name


def test_no_sample_is_of_a_method_that_is_gone() -> None:
    assert set(SAMPLES) == set(METHODS)


@pytest.mark.parametrize(("method", "field"), FIELDS)
def test_every_field_of_every_request_has_a_rule(method: str, field: FieldDescriptor) -> None:
    assert callable(fields.rule_of(field)), method


@pytest.mark.parametrize(("method", "field"), FIELDS)
async def test_a_wrong_field_is_named_and_changes_nothing(
    vault: Vault, database: Database, name: str, method: str, field: FieldDescriptor
) -> None:
    sample = SAMPLES[method](name)
    requests: dict[str, Message] = {}
    if fields.is_required(field):
        requests["missing"] = type(sample)()
        requests["missing"].CopyFrom(sample)
        requests["missing"].ClearField(field.name)
    for index, value in enumerate(wrong_values(field)):
        request = type(sample)()
        request.CopyFrom(sample)
        put(request, field, value)
        requests[f"{index}: {str(value)[:60]!r}"] = request
    path = field.name
    before = await database.snapshot()

    said = {
        label: _said(await refused(call(vault, method, request)))
        for label, request in requests.items()
    }

    inside = "credential.name", "credential.display_name"
    expected = {
        label: (*INVALID, inside)
        if field.name == "credential" and label != "missing"
        else _wrong(path)
        for label in requests
    }
    assert said == expected
    assert await database.snapshot() == before


@pytest.mark.parametrize("method", METHODS)
async def test_an_empty_request_is_told_every_required_field(
    vault: Vault, database: Database, method: str
) -> None:
    empty = type(SAMPLES[method]("n"))()
    required = tuple(f.name for f in METHODS[method].input_type.fields if fields.is_required(f))
    before = await database.snapshot()

    refusal = await refused(call(vault, method, empty))

    assert _said(refusal) == (*INVALID, required) if required else refusal is None
    assert await database.snapshot() == before


@pytest.mark.parametrize(
    ("path", "credential", "mask"),
    [
        ("credential.name", {"display_name": "x"}, "display_name"),
        ("credential.name", {"name": "x", "display_name": "x"}, "display_name"),
        ("credential.display_name", {"display_name": ""}, "display_name"),
        ("credential.display_name", {"display_name": "x" * 129}, "display_name"),
        ("credential.display_name", {"display_name": "a\x00b"}, "display_name"),
        ("credential.credential_scope", {"credential_scope": 0}, "credential_scope"),
        ("credential.credential_scope", {"credential_scope": 3}, "credential_scope"),
        ("credential.credential_scope", {"credential_scope": -1}, "credential_scope"),
        ("credential.owner", {"owner": ""}, "owner"),
        ("credential.owner", {"owner": "x" * 257}, "owner"),
        ("credential.owner", {"owner": "a\nb"}, "owner"),
        ("credential.etag", {"display_name": "x", "etag": "x" * 65}, "display_name"),
        ("credential.etag", {"display_name": "x", "etag": "a\nb"}, "display_name"),
        ("credential.display_name", {"display_name": "x" * 129}, ""),
        ("update_mask", {}, ""),
    ],
)
async def test_a_wrong_field_of_the_credential_inside_is_named_by_its_path(
    vault: Vault,
    database: Database,
    name: str,
    path: str,
    credential: dict[str, Any],
    mask: str,
) -> None:
    named: dict[str, Any] = {} if path == "credential.name" else {"name": name}
    request = credential_vault_pb2.UpdateCredentialRequest(
        credential=credential_pb2.Credential(**named, **credential),
        update_mask=FieldMask(paths=[mask] if mask else []),
        user=USER,
    )
    before = await database.snapshot()

    refusal = await refused(call(vault, "UpdateCredential", request))

    assert _said(refusal) == _wrong(path)
    assert await database.snapshot() == before


@pytest.mark.parametrize(
    ("method", "path", "changes"),
    [
        ("BeginAuthorize", "connection_params.realm", {"connection_params": {"realm": "x"}}),
        ("CompleteCallback", "code", {"error": "access_denied"}),
        ("CompleteCallback", "code", {"code": ""}),
        ("GetAccessToken", "slot", {"slot": "bot"}),
        ("PutOAuthApp", "origins[0]", {"origins": ["https://*"]}),
        ("PutOAuthApp", "origins[1]", {"origins": ["https://a.example", "http://a.example"]}),
        ("PutOAuthApp", "origins[0]", {"origins": ["https://a.example/path"]}),
        ("PutOAuthApp", "origins[0]", {"origins": ["https://ada@a.example"]}),
    ],
)
async def test_what_only_the_use_case_can_judge_is_named_too(
    vault: Vault,
    database: Database,
    name: str,
    method: str,
    path: str,
    changes: dict[str, Any],
) -> None:
    request = SAMPLES[method](name)
    for key, value in changes.items():
        put(request, _field(request, key), value)
    before = await database.snapshot()

    refusal = await refused(call(vault, method, request))

    assert _said(refusal) == _wrong(path)
    assert await database.snapshot() == before


@pytest.mark.parametrize("method", NOT_SERVED)
async def test_a_valid_request_for_what_is_not_served_is_unimplemented(
    vault: Vault, database: Database, name: str, method: str
) -> None:
    before = await database.snapshot()

    refusal = await refused(call(vault, method, SAMPLES[method](name)))

    assert _said(refusal) == (grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_SERVED", ())
    assert await database.snapshot() == before


def _renamed(method: str, name: str, **changes: str) -> Message:
    request = SAMPLES[method](name)
    for key, value in changes.items():
        setattr(request, key, value)
    return request


@pytest.mark.parametrize("method", NAMING)
async def test_a_credential_does_not_exist_in_another_workspace(
    vault: Vault, database: Database, shared: str, method: str
) -> None:
    foreign = shared.replace(PARENT, ELSEWHERE)
    before = await database.snapshot()

    refusal = await refused(call(vault, method, SAMPLES[method](foreign)))

    assert _said(refusal) == (grpc.StatusCode.NOT_FOUND, "CREDENTIAL_NOT_FOUND", ())
    assert await database.snapshot() == before


@pytest.mark.parametrize("method", NAMING)
async def test_anothers_personal_credential_cannot_be_told_from_none(
    vault: Vault, database: Database, name: str, method: str
) -> None:
    nothing = f"{PARENT}/credentials/{uuid.uuid4()}"
    before = await database.snapshot()

    personal = await refused(call(vault, method, _renamed(method, name, user="grace")))
    absent = await refused(call(vault, method, _renamed(method, nothing, user="grace")))

    assert _reason(personal) == "CREDENTIAL_NOT_FOUND"
    assert personal == absent
    assert await database.snapshot() == before


@pytest.mark.parametrize("method", OWNER_ONLY)
async def test_only_the_owner_changes_and_ends_a_workspace_credential(
    vault: Vault, database: Database, shared: str, method: str
) -> None:
    before = await database.snapshot()

    refusal = await refused(call(vault, method, _renamed(method, shared, user="grace")))

    assert _said(refusal) == (grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED", ())
    assert await database.snapshot() == before


async def test_a_list_of_another_workspace_or_user_holds_nothing_of_this_one(
    vault: Vault, name: str, shared: str
) -> None:
    ask = credential_vault_pb2.ListCredentialsRequest
    elsewhere = await vault.rpc.ListCredentials(ask(parent=ELSEWHERE, user=USER))
    of_grace = await vault.rpc.ListCredentials(ask(parent=PARENT, user="grace"))
    by_filter = await vault.rpc.ListCredentials(
        ask(parent=PARENT, user="grace", filter=f'owner = "{USER}"')
    )

    assert list(elsewhere.credentials) == []
    for answer in (of_grace, by_filter):
        names = [credential.name for credential in answer.credentials]
        assert name not in names
        assert shared in names


async def test_a_state_does_not_work_under_another_workspace(
    vault: Vault, database: Database
) -> None:
    begun = await vault.begin("google")
    back = await vault.emulator.consent(begun.authorize_url)
    _, _, secret = back["state"].partition(".")
    before = await database.snapshot()

    refusal = await refused(vault.complete("google", back | {"state": f"elsewhere.{secret}"}))

    assert _reason(refusal) == "STATE_INVALID"
    assert await database.snapshot() == before


@pytest.mark.parametrize(
    "change",
    [{"user": "grace"}, {"browser_binding": BINDING + "x"}, {"connector": "slack"}],
    ids=["user", "browser", "connector"],
)
async def test_a_state_belongs_to_its_user_browser_and_connector(
    vault: Vault, database: Database, change: dict[str, str]
) -> None:
    begun = await vault.begin("google")
    back = await vault.emulator.consent(begun.authorize_url)
    before = await database.snapshot()

    connector = change.get("connector", "google")
    others = {key: value for key, value in change.items() if key != "connector"}
    refusal = await refused(vault.complete(connector, back, **others))

    assert _said(refusal) == (grpc.StatusCode.FAILED_PRECONDITION, "STATE_INVALID", ())
    assert await database.snapshot() == before
    assert (await vault.complete("google", back)).credential.name == begun.credential.name


async def _credential_page(vault: Vault) -> tuple[str, Message, dict[str, str]]:
    for _ in range(2):
        await vault.begin("slack")
    request = credential_vault_pb2.ListCredentialsRequest(parent=PARENT, user=USER, page_size=1)
    request.page_token = (await vault.rpc.ListCredentials(request)).next_page_token
    return "ListCredentials", request, {"parent": ELSEWHERE}


async def _app_page(vault: Vault) -> tuple[str, Message, dict[str, str]]:
    request = vault_admin_pb2.ListOAuthAppsRequest(parent="deployment", page_size=1)
    request.page_token = (await vault.admin.ListOAuthApps(request)).next_page_token
    return "ListOAuthApps", request, {"parent": PARENT}


async def _connector_page(vault: Vault) -> tuple[str, Message, dict[str, str]]:
    request = connector_catalog_pb2.ListConnectorsRequest(workspace=PARENT, page_size=1)
    request.page_token = (await vault.catalog.ListConnectors(request)).next_page_token
    return "ListConnectors", request, {"workspace": ELSEWHERE}


PAGES = [
    pytest.param(page, id=page.__name__.removeprefix("_"))
    for page in (_credential_page, _app_page, _connector_page)
]


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_token_continues_only_its_own_list(vault: Vault, page: Any) -> None:
    method, request, change = await page(vault)
    assert request.page_token
    assert await refused(call(vault, method, request)) is None

    for key, value in change.items():
        setattr(request, key, value)

    assert _said(await refused(call(vault, method, request))) == _wrong("page_token")


async def test_a_page_token_does_not_continue_another_users_or_filters_list(vault: Vault) -> None:
    for change in ({"user": "grace"}, {"filter": "status = ACTIVE"}):
        method, request, _ = await _credential_page(vault)
        for key, value in change.items():
            setattr(request, key, value)

        assert _said(await refused(call(vault, method, request))) == _wrong("page_token")


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    "token",
    [
        "x",
        "not-a-token",
        "====",
        _encoded("{}"),
        _encoded("null"),
        _encoded("[]"),
        _encoded("[" * 760),
        _encoded("1" * 700),
        _encoded("[1, 2, 3]"),
        _encoded('["\x00"]'),
        base64.urlsafe_b64encode(b"\xff\xfe\xfd").decode(),
    ],
    ids=lambda token: token[:12],
)
async def test_a_made_up_page_token_is_refused(vault: Vault, page: Any, token: str) -> None:
    method, request, _ = await page(vault)
    request.page_token = token

    assert _said(await refused(call(vault, method, request))) == _wrong("page_token")


@pytest.mark.parametrize(
    "position",
    [
        ("yesterday", "6f1d9f3e-6a55-4b0e-9f5c-0d7d2a9c1e11"),
        ("2026-01-01T00:00:00", "6f1d9f3e-6a55-4b0e-9f5c-0d7d2a9c1e11"),
        ("2026-01-01T00:00:00+00:00", "no-uuid"),
        ("0001-01-01T00:00:00+14:00", "6f1d9f3e-6a55-4b0e-9f5c-0d7d2a9c1e11"),
        ("9999-12-31T23:59:59-14:00", "6f1d9f3e-6a55-4b0e-9f5c-0d7d2a9c1e11"),
    ],
    ids=["no time", "no zone", "no id", "before all time", "after all time"],
)
async def test_a_page_token_with_a_position_that_cannot_be_is_refused(
    vault: Vault, position: tuple[str, str]
) -> None:
    request = credential_vault_pb2.ListCredentialsRequest(parent=PARENT, user=USER)
    request.page_token = paging.page_token(request, *position)

    refusal = await refused(call(vault, "ListCredentials", request))

    assert _said(refusal) == _wrong("page_token")


async def test_an_app_does_not_exist_under_another_parent(vault: Vault, database: Database) -> None:
    put_request = vault_admin_pb2.PutOAuthAppRequest(
        parent="workspaces/apps", connector="google", client_id="apps-own"
    )
    own = (await vault.admin.PutOAuthApp(put_request)).name
    listed = await vault.admin.ListOAuthApps(
        vault_admin_pb2.ListOAuthAppsRequest(parent="deployment")
    )
    deployments = listed.oauth_apps[0].name
    before = await database.snapshot()

    foreign = (
        own.replace("workspaces/apps", ELSEWHERE),
        own.replace("workspaces/apps", "deployment"),
        deployments.replace("deployment", PARENT),
    )
    said = [
        _said(await refused(call(vault, "DeleteOAuthApp", request)))
        for request in (vault_admin_pb2.DeleteOAuthAppRequest(name=name) for name in foreign)
    ]

    assert said == [(grpc.StatusCode.NOT_FOUND, "OAUTH_APP_NOT_FOUND", ())] * 3
    assert await database.snapshot() == before


async def test_a_workspace_cannot_name_the_deployments_own_place(
    vault: Vault, database: Database
) -> None:
    request = SAMPLES["BeginAuthorize"]("n")
    put(request, _field(request, "parent"), f"workspaces/{DEPLOYMENT}")
    before = await database.snapshot()

    refusal = await refused(call(vault, "BeginAuthorize", request))

    assert _said(refusal) == _wrong("parent")
    assert await database.snapshot() == before
