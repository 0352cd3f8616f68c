"""`flero-vault connectors` against a real vault."""

import json
import re

import pytest
from tests.cli.program import flero_vault
from tests.stack import Vault

from flero_vault_client import VaultClient

WIDTH = 100


async def test_connectors_are_listed_for_people_and_for_programs(vault: Vault) -> None:
    people = await flero_vault("connectors", "list", "--target", vault.target)
    programs = await flero_vault(
        "connectors", "list", "--workspace", "acme", "--target", vault.target, "--output", "json"
    )

    head, *rows = people.out.splitlines()
    listed = json.loads(programs.out)["connectors"]
    assert people.code == programs.code == 0
    assert head.startswith("CONNECTOR")
    assert max(map(len, people.out.splitlines())) <= WIDTH
    assert [row.split()[0] for row in rows] == [
        each["name"].removeprefix("connectors/") for each in listed
    ]
    assert {"connectors/google", "connectors/slack"} <= {each["name"] for each in listed}
    assert all(each["configured"] is True for each in listed)


async def test_one_connector_tells_people_all_that_they_need_to_set_it_up(vault: Vault) -> None:
    async with VaultClient(vault.target) as client:
        known = await client.get_connector("connectors/salesforce")

    done = await flero_vault("connectors", "show", "salesforce", "--target", vault.target)

    said = re.sub(r"\s+", " ", done.out)
    assert done.code == 0
    assert re.search(rf"^redirect URI +{re.escape(known.redirect_uri)}$", done.out, re.MULTILINE)
    assert known.permissions
    assert known.setup_steps
    assert known.connection_params
    assert all(f"{each.scope}: {each.description}" in said for each in known.permissions)
    assert all(f"{n}. {step}" in said for n, step in enumerate(known.setup_steps, 1))
    assert all(f"pattern {each.pattern}" in said for each in known.connection_params)
    assert known.verification_url in said
    assert "access token lives" in said
    assert "unused refresh token lives" in said
    assert all(len(line) <= WIDTH or " " not in line.strip() for line in done.out.splitlines())


async def test_one_connector_is_a_document_for_programs(vault: Vault) -> None:
    done = await flero_vault(
        "connectors", "show", "connectors/google", "--target", vault.target, "--output", "json"
    )

    shown = json.loads(done.out)
    assert shown["name"] == "connectors/google"
    assert shown["refresh_token_idle_lifetime"] == "15552000s"
    assert shown["access_token_lifetime"] is None
    assert shown["verification"] == "METADATA"
    assert {"permissions", "setup_steps", "connection_params", "slots"} <= shown.keys()


async def test_an_unknown_connector_is_refused(vault: Vault) -> None:
    done = await flero_vault("connectors", "show", "nothing", "--target", vault.target)

    assert (done.code, done.out) == (1, "")
    assert "(CONNECTOR_NOT_FOUND)" in done.err


@pytest.mark.parametrize("key", ["Not A Key", "a/b"])
async def test_a_key_of_another_form_is_a_usage_error(vault: Vault, key: str) -> None:
    done = await flero_vault("connectors", "show", key, "--target", vault.target)

    assert done.code == 2
    assert "'KEY'" in done.err
