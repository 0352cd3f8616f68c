"""`flero-vault credentials` against a real vault; a fake one where a real one has to be ill."""

import asyncio
import json
import os
import pty
import re
import signal
from typing import Any

import pytest
from tests.cli.program import NOBODY, PATIENCE_S, Done, flero_vault, next_line, started
from tests.stack import USER, Vault

from flero_vault_client import VaultClient
from flero_vault_client.testing import FakeVault

WIDTH = 100
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def asked(vault: Vault | FakeVault, *more: str) -> tuple[str, ...]:
    return ("--target", vault.target, "--user", USER, *more)


async def status(vault: Vault, name: str) -> str:
    async with VaultClient(vault.target) as client:
        return (await client.get_credential(name, user=USER)).status


# List


async def test_a_list_is_one_document_with_the_names_of_the_protos(vault: Vault) -> None:
    workspace = "workspaces/in-json"
    first = await vault.connect("google", parent=workspace, display_name="First")
    pending = (await vault.begin("slack", parent=workspace, display_name="Second")).credential

    done = await flero_vault(
        "credentials", "list", "--workspace", "in-json", *asked(vault, "--output", "json")
    )

    listed = json.loads(done.out)["credentials"]
    assert done.code == 0
    assert [each["name"] for each in listed] == [first.name, pending.name]
    assert listed[0]["status"] == "ACTIVE"
    assert listed[0]["credential_scope"] == "PERSONAL"
    assert listed[0]["account"]["email"] == first.account.email
    assert STAMP.fullmatch(listed[0]["create_time"])
    assert listed[1]["account"] is None
    assert listed[1]["authorized_by"] is None
    assert listed[0].keys() == listed[1].keys()


async def test_a_list_for_people_fits_and_says_why_one_is_not_active(vault: Vault) -> None:
    workspace = "workspaces/for-people"
    title = "A name that is so long that a table of it would not fit in any terminal"
    long = await vault.connect("google", parent=workspace, display_name=title)
    await vault.begin("slack", parent=workspace, display_name="Second")
    stopped = await vault.connect("google", parent=workspace, display_name="Third")
    async with VaultClient(vault.target) as client:
        gone = (await client.revoke(stopped.name, user=USER)).credential

    done = await flero_vault("credentials", "list", "--workspace", "for-people", *asked(vault))

    lines = done.out.splitlines()
    assert done.code == 0
    assert max(map(len, lines)) <= WIDTH
    assert f"  {long.name}" in lines
    assert "  Nobody has finished authorizing it." in lines
    assert gone.status_reason is not None
    assert gone.status_reason.message in re.sub(r"\s+", " ", done.out)
    starts = {line.index(line.split("  ")[1].strip()) for line in lines if line[0] != " "}
    assert len(starts) == 1, "the second column begins where it begins in every row"


async def test_a_list_is_what_the_filter_and_the_limit_say(vault: Vault) -> None:
    workspace = "workspaces/filtered"
    await vault.begin("google", parent=workspace)
    for at in range(3):
        await vault.begin("slack", parent=workspace, display_name=f"Slack {at}")

    done = await flero_vault(
        *("credentials", "list", "--workspace", workspace),
        *asked(vault, "--filter", "status=PENDING AND connector=slack", "--limit", "2"),
        *("--output", "json"),
    )

    names = [each["display_name"] for each in json.loads(done.out)["credentials"]]
    assert names == ["Slack 0", "Slack 1"]


async def test_an_empty_list_prints_nothing_that_a_program_would_take_for_a_row(
    vault: Vault,
) -> None:
    done = await flero_vault("credentials", "list", "--workspace", "empty", *asked(vault))

    assert (done.code, done.out) == (0, "")
    assert "no such credential" in done.err


async def test_a_filter_that_the_vault_does_not_understand_is_a_usage_error(vault: Vault) -> None:
    done = await flero_vault(
        *("credentials", "list", "--workspace", "acme"), *asked(vault, "--filter", "colour=red")
    )

    assert (done.code, done.out) == (2, "")
    assert "'--filter'" in done.err


# Show


async def test_one_credential_is_shown_to_people_and_to_programs(vault: Vault) -> None:
    made = await vault.connect("google", display_name="Ada's Google")

    people = await flero_vault("credentials", "show", made.name, *asked(vault))
    programs = await flero_vault(
        "credentials", "show", made.name, *asked(vault, "--output", "json")
    )

    assert people.code == programs.code == 0
    assert re.search(rf"^name +{made.name}$", people.out, re.MULTILINE)
    assert re.search(r"^status +ACTIVE$", people.out, re.MULTILINE)
    assert re.search(rf"^account +.*{made.account.email}$", people.out, re.MULTILINE)
    assert re.search(r"^made +\d{4}-\d\d-\d\d \d\d:\d\dZ$", people.out, re.MULTILINE)
    assert json.loads(programs.out)["display_name"] == "Ada's Google"


async def test_what_expired_says_so_and_since_when() -> None:
    async with FakeVault() as fake:
        made = await fake.connect("google", user=USER)
        fake.expire(made.name)

        done = await flero_vault("credentials", "show", made.name, *asked(fake))

        why = fake.credential(made.name).status_reason
    assert why is not None
    assert why.message in re.sub(r"\s+", " ", done.out)
    assert re.search(r"^reason +" + why.reason, done.out, re.MULTILINE)
    assert re.search(r"^since +\d{4}-", done.out, re.MULTILINE)


async def test_what_a_service_calls_an_account_cannot_move_the_cursor() -> None:
    async with FakeVault() as fake:
        made = await fake.connect("google", user=USER, account="eve\x1b[2J\u202e")

        for command in ("show", "watch"):
            async with started("credentials", command, made.name, *asked(fake)) as process:
                line = await next_line(process)
                while "eve" not in line.lower():
                    line = await next_line(process)
            assert "\x1b" not in line
            assert "\u202e" not in line


@pytest.mark.parametrize("command", ["show", "revoke", "watch"])
async def test_a_refusal_is_a_sentence_with_its_reason(vault: Vault, command: str) -> None:
    more = ["--yes"] if command == "revoke" else []

    done = await flero_vault("credentials", command, NOBODY, *asked(vault, *more))

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("flero-vault: ")
    assert done.err.endswith("(CREDENTIAL_NOT_FOUND)\n")
    assert "Traceback" not in done.err


async def test_a_refusal_names_the_page_that_helps() -> None:
    async with FakeVault() as fake:
        fake.fail_next("ADMIN_APPROVAL_REQUIRED", help_url="https://help.example.com/approve")

        done = await flero_vault("credentials", "show", NOBODY, *asked(fake))

    assert done.code == 1
    assert "ADMIN_APPROVAL_REQUIRED" in done.err
    assert "https://help.example.com/approve" in done.err


async def test_a_vault_without_its_database_is_unreachable() -> None:
    async with FakeVault() as fake:
        for _ in range(4):  # as often as the client tries
            fake.fail_next("VAULT_UNAVAILABLE")

        done = await flero_vault("credentials", "show", NOBODY, *asked(fake))

    assert done.code == 3


@pytest.mark.parametrize(
    "name",
    ["", "google", "acme/credentials/1", "workspaces/acme/credentials/", "workspaces/a/b/c/d",
     "workspaces/acme/credentials/not-a-uuid"],
)  # fmt: skip
async def test_a_name_of_another_form_is_a_usage_error(vault: Vault, name: str) -> None:
    done = await flero_vault("credentials", "show", name, *asked(vault))

    assert (done.code, done.out) == (2, "")
    assert "'NAME'" in done.err
    assert "credentials/" in done.err


@pytest.mark.parametrize("workspace", ["", "acme/credentials", "workspaces/", "Not A Workspace"])
async def test_a_workspace_of_another_form_is_a_usage_error(vault: Vault, workspace: str) -> None:
    done = await flero_vault("credentials", "list", "--workspace", workspace, *asked(vault))

    assert done.code == 2
    assert "'--workspace'" in done.err


# Revoke


async def test_revoking_says_what_became_of_it(vault: Vault) -> None:
    here = await vault.connect("google", display_name="Here")
    there = await vault.connect("google", display_name="There")

    people = await flero_vault("credentials", "revoke", here.name, *asked(vault, "--yes"))
    programs = await flero_vault(
        *("credentials", "revoke", there.name),
        *asked(vault, "--yes", "--at-service", "--output", "json"),
    )

    answer = json.loads(programs.out)
    assert people.code == programs.code == 0
    assert f"Here (google: {here.account.email}) is REVOKED." in people.out
    assert "The service was not told" in people.out
    assert answer["credential"]["status"] == "REVOKED"
    assert answer["service_revocation"] in {"DONE", "PENDING"}
    assert "manage_url" in answer


async def test_without_a_terminal_revoking_needs_a_yes(vault: Vault) -> None:
    made = await vault.connect("google")

    done = await flero_vault("credentials", "revoke", made.name, *asked(vault))

    assert done.code == 2
    assert "--yes" in done.err
    assert await status(vault, made.name) == "ACTIVE"


@pytest.mark.parametrize(("answer", "code", "after"), [("y", 0, "REVOKED"), ("n", 1, "ACTIVE")])
async def test_on_a_terminal_revoking_asks_about_this_very_credential(
    vault: Vault, answer: str, code: int, after: str
) -> None:
    made = await vault.connect("google", display_name="Precious")
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        done = await flero_vault("credentials", "revoke", made.name, *asked(vault), stdin=theirs)
    finally:
        os.close(ours)
        os.close(theirs)

    assert done.code == code
    assert f"Revoke Precious (google: {made.account.email})" in done.err
    assert await status(vault, made.name) == after


# Watch


async def test_a_watch_sees_a_revocation_and_ends_well_when_interrupted(vault: Vault) -> None:
    made = await vault.connect("google", display_name="Watched")
    async with (
        started("credentials", "watch", made.name, *asked(vault)) as people,
        started("credentials", "watch", made.name, *asked(vault, "--output", "json")) as programs,
    ):
        first = await next_line(people), json.loads(await next_line(programs))
        await flero_vault("credentials", "revoke", made.name, *asked(vault, "--yes"))
        then = await next_line(people), json.loads(await next_line(programs))

        for process in (people, programs):
            process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE_S):
            ends = [await process.communicate() for process in (people, programs)]

    assert "  ACTIVE  Watched (google: " in first[0]
    assert "  REVOKED  Watched (google: " in then[0]
    assert (first[1]["status"], then[1]["status"]) == ("ACTIVE", "REVOKED")
    assert then[1]["status_reason"]["message"] in then[0]
    assert ends == [(b"", b"")] * 2
    assert (people.returncode, programs.returncode) == (0, 0)


async def test_a_watch_ends_when_the_credential_is_gone(vault: Vault) -> None:
    made = await vault.connect("google")
    async with started("credentials", "watch", made.name, *asked(vault)) as process:
        await next_line(process)
        async with VaultClient(vault.target) as client:
            await client.delete_credential(made.name, user=USER)
        async with asyncio.timeout(PATIENCE_S):
            _, err = await process.communicate()

    assert process.returncode == 1
    assert b"(CREDENTIAL_NOT_FOUND)" in err
    assert b"Traceback" not in err


# All of them


async def test_a_reader_who_has_seen_enough_is_no_error(vault: Vault) -> None:
    await vault.begin("slack", parent="workspaces/piped")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        async with started(
            *("credentials", "list", "--workspace", "piped", *asked(vault)), stdout=writing
        ) as process:
            _, err = await process.communicate()
    finally:
        os.close(writing)

    assert (process.returncode, err) == (0, b"")


async def test_no_command_ever_prints_a_token(vault: Vault) -> None:
    made: Any = await vault.connect("google", parent="workspaces/silent")
    token = (await vault.token(made.name)).access_token
    printed: list[Done] = []
    for output in ("table", "json"):
        how = asked(vault, "--output", output)
        printed += [
            await flero_vault("credentials", "list", "--workspace", "silent", *how),
            await flero_vault("credentials", "show", made.name, *how),
        ]
        async with started("credentials", "watch", made.name, *how) as watching:
            printed.append(Done(0, await next_line(watching), ""))
        printed.append(await flero_vault("credentials", "revoke", made.name, "--yes", *how))

    assert all(each.code == 0 and each.out for each in printed)
    assert not any(token in each.out + each.err for each in printed)
