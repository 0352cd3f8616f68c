"""Connection parameters, and the origins that secrets may go to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.values import connector

from flero_vault.core.apps import origin_allowed, own_origins
from flero_vault.core.authorize import checked_params, fill
from flero_vault.core.connector import Param, Revocation, Token
from flero_vault.core.errors import InvalidField

SHOP = Param(description="The shop", pattern=r"[a-z0-9-]{1,20}", example="flowers")
REGION = Param(description="The region", pattern="eu|us", default="eu")
SERVICE = connector(connection_params={"shop": SHOP, "region": REGION})


def wrong(given_params: dict[str, str]) -> list[str]:
    with pytest.raises(InvalidField) as refused:
        checked_params(SERVICE, given_params)
    return sorted(violation.field for violation in refused.value.violations)


def test_parameters_that_match_come_back_with_the_defaults() -> None:
    assert checked_params(SERVICE, {"shop": "roses"}) == {"shop": "roses", "region": "eu"}
    assert checked_params(SERVICE, {"shop": "roses", "region": "us"})["region"] == "us"
    assert checked_params(SERVICE, {"shop": "roses", "region": ""})["region"] == "eu"


def test_everything_that_is_wrong_is_named_at_once() -> None:
    fields = wrong({"shop": "No!", "region": "mars", "extra": "x"})
    assert fields == [f"connection_params.{key}" for key in ("extra", "region", "shop")]
    assert wrong({}) == ["connection_params.shop"]


@pytest.mark.parametrize(
    "value", ["roses\n", "roses.evil.com", "roses/", "roses@evil", "ros es", "{shop}", "RÖSES"]
)
def test_the_whole_value_must_match(value: str) -> None:
    assert wrong({"shop": value}) == ["connection_params.shop"]


def test_a_refused_value_is_not_in_the_error() -> None:
    with pytest.raises(InvalidField) as refused:
        checked_params(SERVICE, {"shop": "Planted!"})
    assert "Planted" not in str(refused.value)


def test_every_placeholder_is_filled_and_others_stay() -> None:
    url = "https://{shop}.example.com/{shop}/{region}/{other}"
    filled = fill(url, {"shop": "roses", "region": "eu"})
    assert filled == "https://roses.example.com/roses/eu/{other}"


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://api.example.com/token", True),
        ("https://a.b.example.com/token", True),
        ("https://api.example.com?x=y", True),
        ("https://example.com/token", False),
        ("https://.example.com/token", False),
        ("https://evil-example.com/token", False),
        ("https://evilexample.com/token", False),
        ("https://example.com.evil.com/token", False),
        ("https://evil.com/.example.com", False),
        ("https://evil.com?.example.com", False),
        ("https://evil.com#.example.com", False),
        ("https://evil.com\\.example.com", False),
        ("https://evil.com:.example.com", False),
        ("https://evil.com@api.example.com/token", False),
        ("https://user:pw@api.example.com/token", False),
        ("https://api.example.com@evil.com/token", False),
        ("https://api.example.com:8443/token", False),
        ("http://api.example.com/token", False),
        ("ftp://api.example.com/token", False),
        ("//api.example.com/token", False),
        ("", False),
    ],
)
def test_a_wildcard_is_every_host_below_and_nothing_else(*, url: str, allowed: bool) -> None:
    assert origin_allowed(url, ("https://*.example.com",)) is allowed


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://example.com/token", True),
        ("https://example.com:443/token", False),
        ("https://example.com:8443/token", False),
        ("https://api.example.com/token", False),
        ("https://x@example.com/token", False),
        ("https://example.com@evil.com/token", False),
        ("http://example.com/token", False),
        ("https://example.com.evil.com", False),
    ],
)
def test_an_origin_without_a_wildcard_is_exact(*, url: str, allowed: bool) -> None:
    assert origin_allowed(url, ("https://example.com",)) is allowed


def test_a_wildcard_with_a_port_allows_that_port_only() -> None:
    origins = ("https://*.example.com:8443",)
    assert origin_allowed("https://api.example.com:8443/token", origins)
    assert not origin_allowed("https://api.example.com/token", origins)
    assert not origin_allowed("https://api.example.com:18443/token", origins)


def test_without_origins_nothing_is_allowed() -> None:
    assert not origin_allowed("https://example.com", ())


@given(
    st.text(alphabet=st.characters(codec="ascii", exclude_characters="\t\r\n/?#[]"), max_size=30)
)
def test_no_host_that_is_not_below_the_wildcard_gets_through(authority: str) -> None:
    if origin_allowed(f"https://{authority}/", ("https://*.example.com",)):
        head, _, tail = authority.partition(".")
        assert head.replace("-", "").replace("_", "").isalnum() or set(head) <= {"-", "_"}
        assert f".{tail}".endswith(".example.com")


def test_a_connectors_own_origins_are_its_fixed_endpoints_and_those_it_names() -> None:
    service = connector(
        token=Token(endpoint="https://login.example.com/token"),
        revocation=Revocation(endpoint="https://{shop}.example.com/revoke"),
        discovery="https://login.example.com/.well-known/openid-configuration",
        app_origins=("https://*.example.com",),
    )
    assert own_origins(service) == ("https://login.example.com", "https://*.example.com")
