"""What a caller learns of a failure, and what it does not."""

import copy
import pickle
import traceback

import grpc
import pytest
from tests.client.conftest import BINDING
from tests.client.scripted import scripted

import flero_vault_client
from flero_vault_client import (
    CredentialExpired,
    CredentialScope,
    DeadlineExceeded,
    VaultClient,
    VaultError,
    VaultUnavailable,
    VaultUnreachable,
)
from flero_vault_client._errors import ERRORS, error_in
from flero_vault_client.testing import FakeVault
from flero_vault_client.testing._refused import Refused
from flero_vault_client.v1 import error_reason_pb2

REASONS = [
    name.removeprefix("ERROR_REASON_")
    for name, number in error_reason_pb2.ErrorReason.items()
    if number
]
RETRYABLE = {
    "SERVICE_UNAVAILABLE",
    "SERVICE_RATE_LIMITED",
    "REFRESH_PENDING",
    "VAULT_UNAVAILABLE",
    "VAULT_OVERLOADED",
}
NAME = "workspaces/demo/credentials/6f1c2f4e-9f43-4b1e-8d51-0a4b8f3f2c11"


def test_every_reason_has_a_class_and_every_class_a_reason() -> None:
    everything = {
        each
        for each in vars(flero_vault_client).values()
        if isinstance(each, type) and issubclass(each, VaultError)
    }

    assert set(ERRORS) == set(REASONS)
    assert len(set(ERRORS.values())) == len(ERRORS)
    assert everything == {*ERRORS.values(), VaultError, VaultUnreachable, DeadlineExceeded}


@pytest.mark.parametrize("reason", REASONS)
async def test_a_reason_is_raised_as_its_class(fake: FakeVault, reason: str) -> None:
    fake.fail_next(
        reason, retry_after=1.5, user_message="For a person.", help_url="https://help.example"
    )

    async with VaultClient(fake.target) as vault:
        with pytest.raises(VaultError) as failed:
            await vault.get_credential(NAME, user="ada")

    error = failed.value
    assert type(error) is ERRORS[reason]
    assert error.reason == reason
    assert error.user_message == "For a person."
    assert error.retry_after == 1.5
    assert error.help_url == "https://help.example"
    assert error.retryable == (reason in RETRYABLE)
    assert len(fake.calls) == 1


async def test_a_reason_of_a_newer_vault_is_kept(fake: FakeVault) -> None:
    fake.fail_next("A_REASON_OF_NEXT_YEAR")

    async with VaultClient(fake.target) as vault:
        with pytest.raises(VaultError) as failed:
            await vault.get_credential(NAME, user="ada")

    assert type(failed.value) is VaultError
    assert failed.value.reason == "A_REASON_OF_NEXT_YEAR"


async def test_a_long_sentence_in_any_script_arrives_whole(fake: FakeVault) -> None:
    sentence = "語" * 3000
    fake.fail_next("CREDENTIAL_EXPIRED", user_message=sentence)

    async with VaultClient(fake.target) as vault:
        with pytest.raises(CredentialExpired) as failed:
            await vault.get_credential(NAME, user="ada")

    assert failed.value.user_message == sentence


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, VaultUnreachable),
        (grpc.StatusCode.CANCELLED, VaultUnreachable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
        (grpc.StatusCode.INTERNAL, VaultError),
        (grpc.StatusCode.UNIMPLEMENTED, VaultError),
        # A message that is too large stays too large.
        (grpc.StatusCode.RESOURCE_EXHAUSTED, VaultError),
    ],
)
async def test_an_answer_without_details_is_not_the_vaults(
    code: grpc.StatusCode, kind: type[VaultError]
) -> None:
    async with scripted(troubles=[(code, ())] * 4) as server, VaultClient(server.target) as vault:
        with pytest.raises(VaultError) as failed:
            await vault.get_credential(NAME, user="ada")

    assert type(failed.value) is kind
    assert failed.value.retryable == issubclass(kind, VaultUnavailable)
    assert failed.value.code is code
    assert failed.value.user_message.endswith(".")
    assert "as the test says" not in str(failed.value)


async def test_nothing_of_a_request_stands_in_an_error(fake: FakeVault) -> None:
    fake.fail_next("VAULT_OVERLOADED")

    async with VaultClient(fake.target) as vault:
        with pytest.raises(VaultError) as failed:
            await vault.begin_authorize(
                "workspaces/demo",
                connector="google",
                display_name="canary-name",
                credential_scope=CredentialScope.PERSONAL,
                user="canary-user",
                browser_binding=f"canary-{BINDING}",
            )

    assert "canary" not in "".join(traceback.format_exception(failed.value))


def test_an_error_survives_the_way_to_another_process() -> None:
    error = error_in(
        Refused(
            "INVALID_FIELD",
            "The request is not valid.",
            metadata={"credential": NAME},
            violations=[("name", "must be set")],
            retry_after=2,
        ).status()
    )

    for other in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):  # noqa: S301
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert other.credential == NAME
        assert other.violations == (("name", "must be set"),)
        assert other.retry_after == 2
        assert other.code is grpc.StatusCode.INVALID_ARGUMENT
