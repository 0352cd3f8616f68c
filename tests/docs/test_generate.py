"""The reference is what the code says, and the check notices when it is not."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import click
import pytest
from docs import generate
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from pydantic import AfterValidator, Field, SecretStr
from tests.docs.markdown import ROOT, anchors

from flero_vault import cli
from flero_vault.settings import Settings

PROTOS = ROOT / "protos"


@pytest.fixture(scope="module")
def files() -> list[FileDescriptorProto]:
    return generate.descriptors()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "reference"
    assert generate.main([], folder) == 0
    return folder


@pytest.fixture
def reference(written: Path, tmp_path: Path) -> Path:
    """A reference of its own, to spoil."""
    return Path(shutil.copytree(written, tmp_path / "reference"))


def test_what_is_committed_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs/generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_what_was_just_written_is_fresh(reference: Path) -> None:
    assert generate.main(["--check"], reference) == 0


@pytest.mark.parametrize("name", ["api.md", "settings.md", "cli.md"])
def test_a_page_that_differs_is_named_with_the_command(
    reference: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with (reference / name).open("a", encoding="utf-8") as file:
        file.write("by hand\n")

    assert generate.main(["--check"], reference) == 1
    assert capsys.readouterr().out == f"stale: docs/reference/{name} (run `make docs`)\n"

    assert generate.main([], reference) == 0
    assert generate.main(["--check"], reference) == 0


def test_a_page_that_is_missing_or_left_over_is_named(
    reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (reference / "api.md").rename(reference / "old.md")

    assert generate.main(["--check"], reference) == 1
    assert re.findall(r"reference/(\S+)", capsys.readouterr().out) == ["api.md", "old.md"]

    assert generate.main([], reference) == 0
    assert not (reference / "old.md").exists()


def test_two_runs_write_the_same(written: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from docs import generate; print(generate.generate())"],
        cwd=ROOT,
        # Another order of sets and another terminal must not show.
        env={"PYTHONHASHSEED": "7", "COLUMNS": "40"},
        capture_output=True,
        text=True,
        check=False,
    )

    pages = {p.name: p.read_text(encoding="utf-8") for p in written.iterdir()}
    names = ("api.md", "settings.md", "cli.md")
    assert done.stdout == f"{ {name: pages[name] for name in names} }\n", done.stderr


# api.md


def test_the_api_has_every_element_of_the_protos(files: list[FileDescriptorProto]) -> None:
    text = generate.api(files)

    names = anchors(text)
    for file in files:
        for service in file.service:
            assert {service.name.lower(), *(r.name.lower() for r in service.method)} <= names
        for message in file.message_type:
            assert message.name.lower() in names
            assert all(f"| `{field.name}` |" in text for field in message.field)
        for enum in file.enum_type:
            assert enum.name.lower() in names
            assert all(f"| `{value.name}` |" in text for value in enum.value)


def test_a_row_says_what_the_proto_says(files: list[FileDescriptorProto]) -> None:
    text = generate.api(files)

    section = text.partition("### PutOAuthAppRequest\n")[2].partition("\n### ")[0]
    assert (
        "| `parent` | string | required |  | `workspaces/{workspace}` or `deployment`. |" in section
    )
    assert "| `client_secrets` | list of string |  | secret | The client secrets" in section
    section = text.partition("### ImportCredentialsRequest\n")[2].partition("\n### ")[0]
    assert "| `connection_params` | map of string to string |" in section
    assert "| [CredentialScope](#credentialscope) | required |" in section
    assert "stream of [ImportCredentialsRequest](#importcredentialsrequest) →" in text
    assert "`google.protobuf.Timestamp` | output only |" in text


@pytest.mark.parametrize(
    ("comment", "name"),
    [
        ("// Only its owner can see", "CredentialScope.CREDENTIAL_SCOPE_PERSONAL"),
        ("// Who in the workspace may", "CredentialScope"),
        ("// The resource name, `workspaces", "Credential.name"),
        ("// An account at the service", "Account"),
        ("// Lists the connectors by key", "ConnectorCatalog.ListConnectors"),
        ("// Describes the services", "ConnectorCatalog"),
    ],
)
def test_an_element_without_a_comment_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    comment: str,
    name: str,
) -> None:
    protos = Path(shutil.copytree(PROTOS, tmp_path / "protos"))
    for path in (protos / "flero/vault/v1").glob("*.proto"):
        lines = path.read_text(encoding="utf-8").splitlines()
        first = next((i for i, line in enumerate(lines) if comment in line), len(lines))
        last = first
        while last < len(lines) and lines[last].lstrip().startswith("//"):
            last += 1
        path.write_text("\n".join(lines[:first] + lines[last:]) + "\n", encoding="utf-8")
    real = generate.descriptors
    monkeypatch.setattr(generate, "descriptors", lambda: real(protos))

    assert generate.main(["--check"], ROOT / "docs/reference") == 1

    out = capsys.readouterr().out
    assert out.startswith(f"undocumented: flero.vault.v1.{name} (")
    assert len(out.splitlines()) == 1


def test_two_elements_that_would_share_an_anchor_are_refused() -> None:
    file = FileDescriptorProto(name="twins.proto", package=generate.PACKAGE)
    file.message_type.add(name="Twin")
    file.enum_type.add(name="Twin")
    for number in (4, 5):  # messages, enums
        file.source_code_info.location.add(path=[number, 0], leading_comments=" One of two.")

    with pytest.raises(ValueError, match="Twin"):
        generate.api([file])


# settings.md


def test_every_setting_is_there_with_its_default() -> None:
    text = generate.settings_page()

    for name in Settings.model_fields:
        assert f"| `FLERO_VAULT_{name.upper()}` |" in text
    assert "| `FLERO_VAULT_CONFIG` |" in text
    assert "| `FLERO_VAULT_LOG_FORMAT` | `json` or `text` | `json` |" in text
    assert "| `FLERO_VAULT_REFRESH_LEASE` | seconds, 3 to 120 | `24` |" in text


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


def _local(value: str) -> str:
    if value == "x":
        raise ValueError("must be a name")
    return value


class _Other(Settings):
    """Forms that the settings may take one day."""

    optional_pairs: Annotated[int, AfterValidator(_even), Field(ge=2)] | None = Field(
        default=None, description="pairs"
    )
    local_secret: Annotated[SecretStr, AfterValidator(lambda s: s)] = Field(
        default=SecretStr("hidden|default"), description="a | b"
    )
    local_name: Annotated[str, AfterValidator(_local)] = Field(description="must be there")
    mode: Literal["a", "b"] | None = Field(default=None, description="a mode")


def test_a_setting_says_what_it_allows() -> None:
    text = generate.settings_page(_Other)

    assert "| `FLERO_VAULT_OPTIONAL_PAIRS` | whole number, at least 2 |  | pairs |" in text
    assert "| `FLERO_VAULT_LOCAL_NAME` | a name | none, must be set | must be there |" in text
    assert "| `FLERO_VAULT_MODE` | `a` or `b` |  | a mode |" in text
    assert "| secret text | set | a \\| b |" in text
    assert "hidden" not in text


def test_a_setting_without_a_description_is_named() -> None:
    class Undescribed(Settings):
        mystery: int = 1

    with pytest.raises(generate.Undocumented) as caught:
        generate.settings_page(Undescribed)

    assert caught.value.names == ("FLERO_VAULT_MYSTERY",)


# cli.md


def test_every_command_and_option_is_there() -> None:
    text = generate.cli_page()

    def walk(command: click.Command, path: str) -> None:
        assert f"# {path}\n" in text
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert any(option in text for option in parameter.opts)
        if isinstance(command, click.Group):
            for name, below in command.commands.items():
                if not below.hidden:
                    walk(below, f"{path} {name}")

    walk(cli.main, "flero-vault")


def test_groups_arguments_and_hidden_commands() -> None:
    @click.group()
    def main() -> None:
        """Do all."""

    @main.group()
    def keys() -> None:
        """Handle keys."""

    @keys.command()
    @click.argument("name")
    @click.option("--loud/--quiet", default=False, help="How loud | quiet.")
    @click.option("--internal", hidden=True)
    def rotate(name: str, loud: bool, internal: str) -> None:  # noqa: FBT001 - click calls it
        """Make a new key.

        \b
        for example
          rotate a
        """

    @main.command(hidden=True)
    def secret() -> None:
        """Be not there."""

    text = generate.cli_page(main)

    assert "flero-vault keys rotate [OPTIONS] NAME" in text
    assert "| `--loud / --quiet` | How loud \\| quiet. |" in text
    assert "```\nfor example\n  rotate a\n```" in text
    assert "internal" not in text
    assert "secret" not in text
