"""Values that keep their secrets and take what a newer vault sends."""

import copy
import hashlib
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import flero_vault_client
import flero_vault_client.testing
from flero_vault_client import (
    AccessToken,
    Begun,
    Connector,
    Credential,
    CredentialScope,
    CredentialStatus,
    Revoked,
    ServiceRevocation,
    TokenRequest,
    VaultClient,
    Verification,
)
from flero_vault_client.testing import FakeVault
from flero_vault_client.v1 import connector_catalog_pb2, credential_pb2, credential_vault_pb2

CANARY = "canary-3f9a"


def token(token_type: str = "Bearer") -> AccessToken:
    return AccessToken.of(
        credential_vault_pb2.GetAccessTokenResponse(
            access_token=CANARY,
            token_type=token_type,
            granted_scopes=["a"],
            connection={"team_id": "T1"},
        )
    )


def test_a_token_does_not_show_itself() -> None:
    assert CANARY not in repr(token())
    assert CANARY not in str(token())
    assert CANARY not in f"{[token()]}"


@pytest.mark.parametrize("keep", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_token_cannot_be_kept(keep: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match="fetched when it is used"):
        keep(token())
    with pytest.raises(TypeError):
        keep({"job": [token()]} if keep is not copy.copy else token())


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "bot", "user", ""])
def test_the_header_is_the_same_for_every_kind_of_token(token_type: str) -> None:
    assert token(token_type).headers == {"Authorization": f"Bearer {CANARY}"}


def test_an_absent_time_is_none_and_a_present_one_is_aware() -> None:
    answer = credential_vault_pb2.GetAccessTokenResponse()
    assert AccessToken.of(answer).expire_time is None

    answer.expire_time.FromDatetime(datetime(2030, 1, 1, tzinfo=UTC))
    assert AccessToken.of(answer).expire_time == datetime(2030, 1, 1, tzinfo=UTC)


def test_a_consent_url_does_not_show_itself() -> None:
    begun = Begun.of(
        credential_vault_pb2.BeginAuthorizeResponse(authorize_url=f"https://x/?state={CANARY}")
    )

    assert CANARY in begun.authorize_url
    assert CANARY not in repr(begun)


def test_a_rejected_token_is_neither_shown_nor_sent() -> None:
    asked = TokenRequest(name="n", rejected_token=CANARY, min_ttl=timedelta(minutes=5))
    message = asked.to_message()

    assert CANARY not in repr(asked)
    assert CANARY.encode() not in message.SerializeToString()
    assert message.rejected_token_sha256 == hashlib.sha256(CANARY.encode()).digest()
    assert message.min_ttl.seconds == 300
    assert not TokenRequest(name="n").to_message().HasField("min_ttl")


async def test_one_string_is_not_taken_for_a_list_of_scopes(fake: FakeVault) -> None:
    async with VaultClient(fake.target) as vault:
        for call in (
            vault.get_access_token("n", required_scopes="openid"),
            vault.batch_get_access_tokens("p", [TokenRequest(name="n", required_scopes="openid")]),  # type: ignore[arg-type]  # the mistake
            vault.reauthenticate("n", user="u", browser_binding="b", requested_scopes="openid"),
        ):
            with pytest.raises(TypeError, match="not one string"):
                await call

    assert fake.calls == []


def test_a_number_of_a_newer_vault_is_unspecified() -> None:
    tomorrow: Any = 99
    credential = Credential.of(
        credential_pb2.Credential(status=tomorrow, credential_scope=tomorrow)
    )
    revoked = Revoked.of(credential_vault_pb2.RevokeResponse(service_revocation=tomorrow))
    connector = Connector.of(connector_catalog_pb2.Connector(verification=tomorrow))

    assert credential.status is CredentialStatus.UNSPECIFIED
    assert credential.credential_scope is CredentialScope.UNSPECIFIED
    assert revoked.service_revocation is ServiceRevocation.UNSPECIFIED
    assert connector.verification is Verification.UNSPECIFIED


@pytest.mark.parametrize(
    ("kind", "enum", "prefix"),
    [
        ("CredentialStatus", credential_pb2.CredentialStatus, "CREDENTIAL_STATUS_"),
        ("CredentialScope", credential_pb2.CredentialScope, "CREDENTIAL_SCOPE_"),
        ("ServiceRevocation", credential_pb2.ServiceRevocation, "SERVICE_REVOCATION_"),
        ("Verification", connector_catalog_pb2.Verification, "VERIFICATION_"),
    ],
)
def test_every_number_of_the_protocol_has_its_short_name(kind: str, enum: Any, prefix: str) -> None:
    names = [name.removeprefix(prefix) for name in enum.keys()]  # noqa: SIM118 - not a mapping

    assert list(getattr(flero_vault_client, kind).__members__) == names


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Credential, credential_pb2.Credential),
        (AccessToken, credential_vault_pb2.GetAccessTokenResponse),
        (Begun, credential_vault_pb2.BeginAuthorizeResponse),
        (Begun, credential_vault_pb2.ReauthenticateResponse),
        (flero_vault_client.Completed, credential_vault_pb2.CompleteCallbackResponse),
        (Revoked, credential_vault_pb2.RevokeResponse),
        (Connector, connector_catalog_pb2.Connector),
        (flero_vault_client.ConnectionParam, connector_catalog_pb2.ConnectionParam),
        (flero_vault_client.Permission, credential_pb2.Permission),
        (flero_vault_client.Account, credential_pb2.Account),
        (flero_vault_client.StatusReason, credential_pb2.StatusReason),
    ],
)
def test_a_value_has_every_field_of_its_message(value: Any, message: Any) -> None:
    assert list(value.__dataclass_fields__) == [field.name for field in message.DESCRIPTOR.fields]


@pytest.mark.parametrize("module", [flero_vault_client, flero_vault_client.testing])
def test_everything_public_is_named_in_order_and_there(module: Any) -> None:
    assert module.__all__ == sorted(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)
    found = {
        name
        for name, each in vars(module).items()
        if not name.startswith("_") and getattr(each, "__module__", "").startswith(module.__name__)
    }
    assert found == set(module.__all__)
