"""Requests do not go to private addresses, whichever way they are written."""

import pytest

from flero_vault.oauth.urls import is_acceptable


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "169.254.169.254",
        "192.168.0.1:8443",
        "[::1]",
        "[fd00::1]",
        "127.0.0.1",
        "localhost",
        "localhost.",
        "a.localhost",
        "2130706433",
        "127.1",
        "0x7f.1",
        "0x7f000001",
    ],
)
def test_a_private_host_is_refused_over_https_too(host: str) -> None:
    assert not is_acceptable(f"https://{host}/token", allow_loopback=False)


@pytest.mark.parametrize("host", ["slack.com", "8.8.8.8", "id.example.com:8443", "x1.example"])
def test_a_public_host_is_accepted(host: str) -> None:
    assert is_acceptable(f"https://{host}/token", allow_loopback=False)


def test_this_machine_is_accepted_where_that_is_allowed() -> None:
    assert is_acceptable("http://localhost:9400/oidc/token", allow_loopback=True)
