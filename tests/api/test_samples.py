"""The samples that wrong requests are made from are right ones."""

import pytest
from tests.api.samples import METHODS, NOT_SERVED, SAMPLES, call, refused
from tests.stack import Vault

OTHERWISE = {
    "CompleteCallback": "STATE_INVALID",
    "DeleteOAuthApp": "OAUTH_APP_NOT_FOUND",
    **dict.fromkeys(NOT_SERVED, "METHOD_NOT_SERVED"),
}


@pytest.mark.parametrize("method", METHODS)
async def test_the_sample_of_a_method_is_accepted(vault: Vault, method: str) -> None:
    name = (await vault.connect("google")).name

    refusal = await refused(call(vault, method, SAMPLES[method](name)))

    assert (refusal.reason if refusal else "") == OTHERWISE.get(method, "")
