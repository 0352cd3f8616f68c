"""Every error: its code, its details, and that it leaves the credential as it should be."""

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2
from tests.api.samples import NO_SUCH_APP, SAMPLES, call, refused
from tests.stack import BINDING, PARENT, USER, Refusal, Vault, fresh_name

from flero_vault.api.status import CODES, to_status
from flero_vault.core.errors import Reason, VaultError
from flero_vault_client.v1 import (
    credential_pb2,
    credential_vault_pb2,
    error_reason_pb2,
    vault_admin_pb2,
)

pytestmark = pytest.mark.usefixtures("reset")

KEYS = {
    "credential",
    "connector",
    "display_name",
    "since",
    "missing_scopes",
    "expected_account",
    "actual_account",
    "cause",
    "component",
}
ABOUT = {"credential", "connector", "display_name"}
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
ACTIVE = credential_pb2.CREDENTIAL_STATUS_ACTIVE


async def _refusal(answer: Awaitable[Any]) -> Refusal:
    """Return how a call was refused, having checked what every refusal must say."""
    refusal = await refused(answer)
    assert refusal is not None
    assert refusal.code.value[0] == CODES[Reason(refusal.reason)]
    assert set(refusal.metadata) <= KEYS
    assert all(refusal.metadata.values())
    assert refusal.message.endswith(".")
    assert " " in refusal.message
    assert refusal.reason not in refusal.message
    if refusal.code is grpc.StatusCode.UNAVAILABLE:
        assert refusal.retry_after
    return refusal


async def _get(vault: Vault, name: str) -> Any:
    request = credential_vault_pb2.GetCredentialRequest(name=name, user=USER)
    return await vault.rpc.GetCredential(request)


async def _reauthenticate(vault: Vault, name: str, **fields: Any) -> Any:
    request = {"name": name, "user": USER, "browser_binding": BINDING, **fields}
    return await vault.rpc.Reauthenticate(credential_vault_pb2.ReauthenticateRequest(**request))


async def _short_lived(vault: Vault, connector: str = "google") -> str:
    """Return a credential whose access token has just run out."""
    await vault.emulator.control(connector, access_ttl_s=1)
    credential = await vault.connect(connector)
    async with asyncio.timeout(10):
        while credential.access_token_expire_time.ToDatetime(UTC) > datetime.now(UTC):
            credential = await _get(vault, credential.name)
    return str(credential.name)


def test_every_reason_has_a_code() -> None:
    assert set(CODES) == set(Reason)
    assert set(CODES.values()) <= set(code_pb2.Code.values()) - {code_pb2.OK, code_pb2.UNKNOWN}


def test_the_reasons_are_those_of_the_proto() -> None:
    listed = {
        name.removeprefix("ERROR_REASON_")
        for name, number in error_reason_pb2.ErrorReason.items()
        if number
    }

    assert listed == {reason.value for reason in Reason}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_becomes_a_status_with_its_details(reason: Reason) -> None:
    status = to_status(
        VaultError(reason, "A sentence.", help_url="https://help.example", retry_after=1.5)
    )

    info, said, retry, link = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.LocalizedMessage(),
        error_details_pb2.RetryInfo(),
        error_details_pb2.Help(),
    )
    unpacked = [
        detail.Unpack(kind)
        for detail, kind in zip(status.details, (info, said, retry, link), strict=True)
    ]
    assert unpacked == [True] * 4
    assert (status.code, status.message) == (CODES[reason], "A sentence.")
    assert (info.reason, info.domain) == (reason.value, "vault.flero.ai")
    assert (said.locale, said.message) == ("en-US", "A sentence.")
    assert retry.retry_delay.ToMilliseconds() == 1500
    assert [one.url for one in link.links] == ["https://help.example"]


async def test_an_invalid_field_is_refused_with_a_remedy(vault: Vault) -> None:
    refusal = await _refusal(vault.begin("google", user=""))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert refusal.fields == ("user",)


async def test_an_invalid_value_is_not_repeated_in_the_refusal(vault: Vault) -> None:
    planted = "planted secret canary"

    refusal = await _refusal(vault.begin("google", browser_binding=planted))

    assert planted not in refusal.message


async def test_an_unknown_credential_is_not_found(vault: Vault) -> None:
    refusal = await _refusal(vault.token(fresh_name()))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "CREDENTIAL_NOT_FOUND")
    assert refusal.metadata == {}


async def test_an_unknown_connector_is_not_found(vault: Vault) -> None:
    for answer in (
        vault.begin("nothing"),
        call(vault, "GetConnector", _connector("nothing")),
        vault.admin.PutOAuthApp(
            vault_admin_pb2.PutOAuthAppRequest(parent=PARENT, connector="nothing", client_id="x")
        ),
    ):
        refusal = await _refusal(answer)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "CONNECTOR_NOT_FOUND")
        assert refusal.metadata == {"connector": "nothing"}


def _connector(key: str) -> Any:
    request: Any = SAMPLES["GetConnector"]("")
    request.name = f"connectors/{key}"
    return request


async def test_an_unknown_app_is_not_found(vault: Vault) -> None:
    request = vault_admin_pb2.DeleteOAuthAppRequest(name=NO_SUCH_APP)

    refusal = await _refusal(vault.admin.DeleteOAuthApp(request))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "OAUTH_APP_NOT_FOUND")


async def test_a_pending_credential_has_no_token(vault: Vault) -> None:
    begun = await vault.begin("google")

    refusal = await _refusal(vault.token(begun.credential.name))

    assert (refusal.code, refusal.reason) == (PRECONDITION, "CREDENTIAL_PENDING")
    assert set(refusal.metadata) >= ABOUT


async def test_a_dead_grant_expires_the_credential(vault: Vault) -> None:
    name = await _short_lived(vault, "google")
    await vault.emulator.control("google", kill_refresh_tokens=True)

    refusal = await _refusal(vault.token(name))

    assert (refusal.code, refusal.reason) == (PRECONDITION, "CREDENTIAL_EXPIRED")
    assert set(refusal.metadata) == {*ABOUT, "since", "cause"}
    assert (await _get(vault, name)).status == credential_pb2.CREDENTIAL_STATUS_EXPIRED


async def test_an_expired_credential_comes_with_help_where_its_service_has_a_page(
    vault: Vault,
) -> None:
    connectors = await vault.catalog.ListConnectors(SAMPLES["ListConnectors"](""))
    pages = {one.name.removeprefix("connectors/"): one.manage_url for one in connectors.connectors}
    name = await _short_lived(vault, "google")
    await vault.emulator.control("google", kill_refresh_tokens=True)

    assert (await _refusal(vault.token(name))).help_url == pages["google"]


async def test_a_revoked_credential_has_no_token(vault: Vault) -> None:
    name = (await vault.connect("google")).name
    await vault.rpc.Revoke(credential_vault_pb2.RevokeRequest(name=name, user=USER))

    refusal = await _refusal(vault.token(name))

    assert (refusal.code, refusal.reason) == (PRECONDITION, "CREDENTIAL_REVOKED")
    assert set(refusal.metadata) >= ABOUT


async def test_an_unknown_state_is_invalid(vault: Vault) -> None:
    for state in ("acme.unknown", "unknown", ".", "acme.", ".unknown"):
        refusal = await _refusal(vault.complete("google", {"state": state, "code": "x"}))
        assert (refusal.code, refusal.reason) == (PRECONDITION, "STATE_INVALID")
        assert refusal.metadata == {}


async def test_a_cancelled_consent_is_denied_and_can_be_tried_again(vault: Vault) -> None:
    begun = await vault.begin("google")
    back = await vault.emulator.consent(begun.authorize_url, decision="deny")

    refusal = await _refusal(vault.complete("google", back))

    name = begun.credential.name
    assert (refusal.code, refusal.reason) == (PRECONDITION, "CONSENT_DENIED")
    assert set(refusal.metadata) >= ABOUT
    assert (await _get(vault, name)).status == credential_pb2.CREDENTIAL_STATUS_PENDING
    again = await _reauthenticate(vault, name)
    done = await vault.complete("google", await vault.emulator.consent(again.authorize_url))
    assert done.credential.status == ACTIVE


async def test_an_administrators_approval_is_asked_for(vault: Vault) -> None:
    begun = await vault.begin("google")
    back = await vault.emulator.consent(begun.authorize_url, decision="deny")
    back["error"] = "admin_policy_enforced"

    refusal = await _refusal(vault.complete("google", back))

    pending = await _get(vault, begun.credential.name)
    assert (refusal.code, refusal.reason) == (PRECONDITION, "ADMIN_APPROVAL_REQUIRED")
    assert pending.status == credential_pb2.CREDENTIAL_STATUS_PENDING
    assert pending.status_reason.reason == "ADMIN_APPROVAL_REQUIRED"


async def test_another_account_is_refused_and_the_old_grant_serves_on(vault: Vault) -> None:
    credential = await vault.connect("google")
    again = await _reauthenticate(vault, credential.name)
    back = await vault.emulator.consent(again.authorize_url, account="grace")

    refusal = await _refusal(vault.complete("google", back))

    assert (refusal.code, refusal.reason) == (PRECONDITION, "ACCOUNT_MISMATCH")
    assert set(refusal.metadata) >= {*ABOUT, "expected_account", "actual_account"}
    token = await vault.token(credential.name)
    assert await vault.emulator.accepts("google", token.access_token)
    assert (await _get(vault, credential.name)).account == credential.account


async def test_a_rejected_code_leaves_the_credential_pending(vault: Vault) -> None:
    begun = await vault.begin("google")
    back = await vault.emulator.consent(begun.authorize_url)
    await vault.emulator.control("google", fail="invalid_grant", fail_grant="authorization_code")

    refusal = await _refusal(vault.complete("google", back))

    pending = await _get(vault, begun.credential.name)
    assert (refusal.code, refusal.reason) == (PRECONDITION, "CODE_REJECTED")
    assert set(refusal.metadata) >= ABOUT
    assert pending.status == credential_pb2.CREDENTIAL_STATUS_PENDING


async def test_missing_scopes_are_named(vault: Vault) -> None:
    name = (await vault.connect("google")).name

    refusal = await _refusal(vault.token(name, required_scopes=["openid", "one", "two"]))

    assert (refusal.code, refusal.reason) == (PRECONDITION, "SCOPES_MISSING")
    assert refusal.metadata["missing_scopes"] == "one two"
    assert set(refusal.metadata) >= ABOUT


async def test_an_app_for_another_origin_does_not_configure_a_connector(vault: Vault) -> None:
    await vault.admin.PutOAuthApp(
        vault_admin_pb2.PutOAuthAppRequest(
            parent="workspaces/misled",
            connector="google",
            client_id="x",
            origins=["https://elsewhere.example"],
        )
    )

    refusal = await _refusal(vault.begin("google", parent="workspaces/misled"))

    assert (refusal.code, refusal.reason) == (PRECONDITION, "OAUTH_APP_NOT_CONFIGURED")
    assert refusal.metadata == {"connector": "google"}


async def test_a_service_that_nobody_registered_at_is_not_configured(vault: Vault) -> None:
    listing = vault_admin_pb2.ListOAuthAppsRequest(parent="deployment")
    apps = (await vault.admin.ListOAuthApps(listing)).oauth_apps
    app = next(app for app in apps if app.connector == "hubspot")
    await vault.admin.DeleteOAuthApp(vault_admin_pb2.DeleteOAuthAppRequest(name=app.name))

    refusal = await _refusal(vault.begin("hubspot"))

    assert (refusal.code, refusal.reason) == (PRECONDITION, "OAUTH_APP_NOT_CONFIGURED")
    assert refusal.metadata == {"connector": "hubspot"}


async def test_an_app_with_grants_is_not_deleted(vault: Vault) -> None:
    await vault.connect("slack")
    listing = vault_admin_pb2.ListOAuthAppsRequest(parent="deployment")
    apps = (await vault.admin.ListOAuthApps(listing)).oauth_apps
    app = next(app for app in apps if app.connector == "slack")

    request = vault_admin_pb2.DeleteOAuthAppRequest(name=app.name)
    refusal = await _refusal(vault.admin.DeleteOAuthApp(request))

    assert refusal.code is PRECONDITION
    assert refusal.metadata == {"cause": "in_use"}
    assert (await vault.admin.ListOAuthApps(listing)).oauth_apps == apps


@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [
        ("invalid_client", PRECONDITION, "OAUTH_APP_REJECTED"),
        ("html_502", grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE"),
        ("server_error_500", grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE"),
        ("html_200", grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE"),
        ("empty", grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE"),
        ("rate_limited_429", grpc.StatusCode.UNAVAILABLE, "SERVICE_RATE_LIMITED"),
    ],
)
async def test_trouble_of_the_service_or_of_our_app_does_not_expire_a_credential(
    vault: Vault, fault: str, code: grpc.StatusCode, reason: str
) -> None:
    name = await _short_lived(vault, "google")
    await vault.emulator.control("google", fail=fault)

    refusal = await _refusal(vault.token(name))

    assert (refusal.code, refusal.reason) == (code, reason)
    assert set(refusal.metadata) >= ABOUT
    assert (await _get(vault, name)).status == ACTIVE


async def test_a_rate_limit_passes_on_how_long_the_service_wants_to_be_left_alone(
    vault: Vault,
) -> None:
    name = await _short_lived(vault, "google")
    await vault.emulator.control("google", fail="rate_limited_429")

    refusal = await _refusal(vault.token(name))

    assert refusal.retry_after is not None
    assert 6 < refusal.retry_after <= 7


@pytest.mark.parametrize(
    ("fault", "reason", "retry_after"),
    [
        ("invalid_client", "OAUTH_APP_REJECTED", None),
        ("html_502", "SERVICE_UNAVAILABLE", 5.0),
        ("rate_limited_429", "SERVICE_RATE_LIMITED", 7.0),
    ],
)
async def test_trouble_at_the_code_exchange_leaves_the_old_grant_serving(
    vault: Vault, fault: str, reason: str, retry_after: float | None
) -> None:
    name = (await vault.connect("google")).name
    again = await _reauthenticate(vault, name)
    back = await vault.emulator.consent(again.authorize_url)
    await vault.emulator.control("google", fail=fault, fail_grant="authorization_code")

    refusal = await _refusal(vault.complete("google", back))

    assert (refusal.reason, refusal.retry_after) == (reason, retry_after)
    assert (await _get(vault, name)).status == ACTIVE
    assert (await vault.token(name)).access_token


async def test_a_caller_with_little_time_is_told_that_a_refresh_is_under_way(
    vault: Vault,
) -> None:
    name = await _short_lived(vault, "google")
    await vault.emulator.control("google", hang_s=3)
    request = credential_vault_pb2.GetAccessTokenRequest(name=name, user=USER)

    # The server answers a little before the caller's deadline.
    refusal = await _refusal(vault.rpc.GetAccessToken(request, timeout=1))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "REFRESH_PENDING")


async def test_an_old_etag_changes_and_deletes_nothing(vault: Vault) -> None:
    credential = await vault.connect("google")
    update: Any = SAMPLES["UpdateCredential"](credential.name)
    renamed = await call(vault, "UpdateCredential", update)
    update.credential.etag = credential.etag
    delete = credential_vault_pb2.DeleteCredentialRequest(
        name=credential.name, user=USER, etag=credential.etag
    )

    for answer in (call(vault, "UpdateCredential", update), vault.rpc.DeleteCredential(delete)):
        refusal = await _refusal(answer)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
        assert set(refusal.metadata) >= ABOUT

    assert (await _get(vault, credential.name)).etag == renamed.etag


async def test_a_request_id_with_other_fields_is_refused(vault: Vault) -> None:
    request_id = "5f0c1f5e-7d43-4b62-9d5e-60c3f8a5a001"
    await vault.begin("google", request_id=request_id)

    refusal = await _refusal(vault.begin("google", request_id=request_id, display_name="Other"))

    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "REQUEST_ID_REUSED",
    )


async def test_a_personal_credential_is_not_handed_over(vault: Vault) -> None:
    name = (await vault.connect("google")).name
    update = credential_vault_pb2.UpdateCredentialRequest(
        credential=credential_pb2.Credential(name=name, owner="grace"), user=USER
    )

    refusal = await _refusal(call(vault, "UpdateCredential", update))

    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "CALLER_NOT_ALLOWED",
    )
    assert (await _get(vault, name)).owner == USER


async def test_a_method_that_is_not_served_says_so(vault: Vault) -> None:
    refusal = await _refusal(call(vault, "ListEvents", SAMPLES["ListEvents"]("")))

    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.UNIMPLEMENTED,
        "METHOD_NOT_SERVED",
    )
