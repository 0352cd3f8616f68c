"""Connector files: what is shipped, what a deployment adds, and everything that can be wrong."""

import re
from pathlib import Path

import pytest

from flero_vault.core.apps import own_origins
from flero_vault.core.connector import Connector, IdentitySource, RevocationStyle
from flero_vault.oauth.catalogue import ConnectorFilesInvalid, load

HEAD = 'display_name = "X"\nverified = "vendor"\nverified_by = "https://x.example"\n'
ENDPOINTS = """
[authorization]
endpoint = "https://x.example/authorize"
[token]
endpoint = "https://x.example/token"
"""


def only(folder: Path, text: str, key: str = "x", *, allow_loopback: bool = False) -> Connector:
    (folder / f"{key}.toml").write_text(text)
    connector = load(folder, allow_loopback=allow_loopback).find(key)
    assert connector is not None
    return connector


def problems(folder: Path, text: str, key: str = "x") -> tuple[str, ...]:
    (folder / f"{key}.toml").write_text(text)
    with pytest.raises(ConnectorFilesInvalid) as caught:
        load(folder, allow_loopback=False)
    return caught.value.problems


def test_five_are_shipped_in_order() -> None:
    catalogue = load(None, allow_loopback=False)
    keys = [connector.key for connector in catalogue.all()]
    assert keys == ["google", "hubspot", "microsoft", "salesforce", "slack"]
    assert catalogue.find("nowhere") is None


def test_every_shipped_connector_explains_itself() -> None:
    for connector in load(None, allow_loopback=False).all():
        assert set(connector.default_scopes) <= set(connector.scopes), connector.key
        assert set(connector.slot_scopes) <= set(connector.scopes), connector.key
        steps = " ".join(connector.setup_steps)
        assert "{redirect_uri}" in steps, connector.key
        assert not re.findall(r"\{(?!redirect_uri\})", steps), connector.key
        assert all(sentence[0].isupper() for sentence in connector.scopes.values())
        assert own_origins(connector), connector.key


def test_an_openid_provider_takes_five_lines(tmp_path: Path) -> None:
    text = HEAD + 'discovery = "https://x.example/.well-known/openid-configuration"\n'
    connector = only(tmp_path, text)
    assert connector.default_scopes == ("openid", "email", "profile", "offline_access")
    assert set(connector.scopes) == set(connector.default_scopes)
    assert connector.identity.source is IdentitySource.ID_TOKEN
    assert connector.identity.probe.id == ("sub",)
    assert connector.revocation.style is RevocationStyle.RFC7009
    assert own_origins(connector) == ("https://x.example",)


def test_an_openid_file_can_say_otherwise(tmp_path: Path) -> None:
    text = (
        HEAD
        + 'discovery = "https://x.example/.well-known/openid-configuration"\n'
        + 'default_scopes = ["openid"]\n[revocation]\nstyle = "none"\n[identity]\nlabel = "upn"\n'
    )
    connector = only(tmp_path, text)
    assert connector.default_scopes == ("openid",)
    assert connector.revocation.style is RevocationStyle.NONE
    assert (connector.identity.source, connector.identity.label) == (IdentitySource.ID_TOKEN, "upn")


def test_a_file_extends_a_shipped_one(tmp_path: Path) -> None:
    text = 'extends = "slack"\ndisplay_name = "Slack Gov"\norigin = "https://slack-gov.com"\n'
    text += '[token]\nclient_auth = "post"\n[scopes]\n"users:read" = "See people"\n'
    gov = only(tmp_path, text, "slack-gov")
    slack = load(None, allow_loopback=False).find("slack")
    assert slack is not None
    assert gov.token.endpoint == "https://slack-gov.com/api/oauth.v2.access"
    assert gov.authorization.endpoint == "https://slack-gov.com/oauth/v2/authorize"
    assert gov.token.client_auth == "post"
    assert gov.token.errors == slack.token.errors
    assert set(gov.scopes) == {*slack.scopes, "users:read"}
    assert (gov.callback_key, gov.slots) == ("slack-gov", slack.slots)
    assert own_origins(gov) == ("https://slack-gov.com",)


def test_an_origin_replaces_templated_hosts_and_patterns(tmp_path: Path) -> None:
    text = 'extends = "salesforce"\norigin = "http://localhost:9400/salesforce"\n'
    moved = only(tmp_path, text, "salesforce", allow_loopback=True)
    assert moved.token.endpoint == "http://localhost:9400/salesforce/services/oauth2/token"
    pattern = moved.connection["instance_url"].pattern
    assert re.fullmatch(pattern, "http://localhost:9400/salesforce")
    assert not re.fullmatch(pattern, "http://localhost:9400.evil.com/")
    assert not re.fullmatch(pattern, "https://acme.my.salesforce.com")
    assert moved.app_origins == ("http://localhost:9400",)


def test_loopback_only_where_it_is_allowed(tmp_path: Path) -> None:
    found = problems(tmp_path, 'extends = "slack"\norigin = "http://localhost:9400"\n')
    assert any("token.endpoint: must be an https URL" in problem for problem in found)
    far = HEAD + ENDPOINTS.replace("https", "http")
    (tmp_path / "x.toml").write_text(far)
    with pytest.raises(ConnectorFilesInvalid):
        load(tmp_path, allow_loopback=True)


def test_all_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("nonsense =")
    (tmp_path / "B_x.toml").write_text(HEAD)
    (tmp_path / "c.toml").write_text('extends = "nowhere"')
    (tmp_path / "d.toml").write_text(HEAD + "colour = 3\n[token]\nclient_auth = 'magic'\n")
    found = problems(tmp_path, HEAD)
    text = "\n".join(found)
    assert "a.toml: is not TOML" in text
    assert "B_x.toml: its name" in text
    assert "c.toml: extends" in text
    assert "d.toml: colour" in text
    assert "d.toml: token.client_auth" in text
    assert "x.toml: authorization.endpoint: is missing" in text
    assert "x.toml: token.endpoint: is missing" in text


def test_a_folder_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ConnectorFilesInvalid, match="cannot be read"):
        load(tmp_path / "nowhere", allow_loopback=False)


WRONG = {
    "key = 'y'\n": "key:",
    "issuer = 'https://x.example'\n": "issuer:",
    "issuer = 'https://{tid}.x.example'\njwks_uri = 'https://x.example/k'\n": "issuer: its host",
    "jwks_uri = 'https://{host}/k'\nissuer = 'https://x.example'\n": "jwks_uri: {host}",
    "jwks_uri = 'https://a@x.example/k'\nissuer = 'https://x.example'\n": "jwks_uri: must be",
    "app_origins = ['https://x.example/path']\n": "app_origins:",
    "app_origins = ['http://x.example']\n": "app_origins:",
    "redirect_as = 'nowhere'\n": "redirect_as:",
    "manage_url = 'javascript:alert(1)'\n": "manage_url:",
    "slots = []\n": "slots:",
    "slot_scopes = { a = 'b' }\n": "slot_scopes.a:",
    "extends = 7\n": "extends:",
    "origin = 'here'\n": "origin:",
    "[connection_params.p]\ndescription = 'P'\npattern = '('\n": "connection_params.p.pattern:",
    "[connection_params.p]\ndescription = 'P'\npattern = ''\n": "connection_params.p.pattern:",
    "[connection_params.p]\ndescription = 'P'\npattern = 'a'\ndefault = 'b'\n": "p.default:",
    "[connection.c]\npath = 'x'\npattern = '('\n": "connection.c.pattern:",
    "[connection.c]\npath = ''\n": "connection.c.path:",
    "[revocation]\nstyle = 'rfc7009'\n": "revocation.endpoint:",
    "[revocation]\ntoken = 'all'\n": "revocation.token:",
    "[identity]\nsource = 'id_token'\n": "identity.source:",
    "[identity]\nsource = 'endpoint'\n": "identity.source:",
    "[refresh]\nreuse = 'grace'\n": "refresh.grace_s:",
    "[lifetimes]\naccess_token_s = nan\n": "lifetimes.access_token_s:",
    "[lifetimes]\naccess_token_s = -1\n": "lifetimes.access_token_s:",
    "[refresh]\ncolour = 1\n": "refresh.colour:",
}


@pytest.mark.parametrize("addition", WRONG)
def test_each_mistake_is_named(tmp_path: Path, addition: str) -> None:
    text = HEAD + (ENDPOINTS + addition if addition.startswith("[") else addition + ENDPOINTS)
    found = problems(tmp_path, text)
    assert any(WRONG[addition] in problem for problem in found), found
    assert all(problem.startswith("x.toml: ") for problem in found)
