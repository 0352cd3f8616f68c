"""Whom a command asks and as whom: TLS, the caller's token, and vaults that do not answer."""

import ipaddress
import json
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.cli.program import NOBODY, flero_vault, unused_target

from flero_vault_client.testing import FakeVault

TOKEN = "the-callers-own-token-4711"


@dataclass(frozen=True, slots=True)
class Files:
    """An authority, and a certificate that it signed for this machine and its key."""

    ca: Path
    cert: Path
    key: Path

    def server(self) -> grpc.ServerCredentials:
        return grpc.ssl_server_credentials(
            [(self.key.read_bytes(), self.cert.read_bytes())],
            root_certificates=self.ca.read_bytes(),
            require_client_auth=True,
        )


def certificate(
    subject: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, *, ca: bool
) -> bytes:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.now(UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name("authority"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(here, critical=False)
        .sign(signer, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def made(folder: Path) -> Files:
    folder.mkdir()
    authority, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    files = Files(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    files.ca.write_bytes(certificate("authority", authority, authority, ca=True))
    files.cert.write_bytes(certificate("party", own, authority, ca=False))
    files.key.write_bytes(
        own.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return made(tmp_path / "ours")


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n", encoding="ascii")
    return path


LIST = ("connectors", "list")


async def test_over_tls_both_prove_who_they_are_and_the_token_arrives(
    files: Files, token_file: Path
) -> None:
    async with FakeVault(credentials=files.server()) as fake:
        done = await flero_vault(
            *(*LIST, "--target", fake.target, "--ca", str(files.ca), "--cert", str(files.cert)),
            *("--key", str(files.key), "--token-file", str(token_file), "--output", "json"),
        )

        assert done.code == 0, done.err
        assert json.loads(done.out)["connectors"]
        assert [call.metadata["authorization"] for call in fake.calls] == [f"Bearer {TOKEN}"]
    assert TOKEN not in done.out + done.err


async def test_an_authority_that_did_not_sign_the_vaults_certificate_is_not_asked(
    files: Files, tmp_path: Path, token_file: Path
) -> None:
    other = made(tmp_path / "other")
    async with FakeVault(credentials=files.server()) as fake:
        done = await flero_vault(
            *(*LIST, "--target", fake.target, "--ca", str(other.ca), "--cert", str(files.cert)),
            *("--key", str(files.key), "--token-file", str(token_file)),
        )

        assert fake.calls == []
    assert done.code == 3
    assert "--ca" in done.err
    assert TOKEN not in done.out + done.err


async def test_on_this_machine_the_token_may_travel_in_the_clear(token_file: Path) -> None:
    async with FakeVault() as fake:
        done = await flero_vault(*LIST, "--target", fake.target, "--token-file", str(token_file))

        assert done.code == 0
        assert fake.calls[0].metadata["authorization"] == f"Bearer {TOKEN}"


async def test_to_another_machine_the_token_needs_tls(token_file: Path) -> None:
    done = await flero_vault(
        *LIST, "--target", "vault.example.com:50051", "--token-file", str(token_file)
    )

    assert (done.code, done.out) == (2, "")
    assert "'--token-file'" in done.err
    assert "--ca" in done.err
    assert TOKEN not in done.err


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--ca", "{folder}/missing"], "'--ca'"),
        (["--token-file", "{folder}/missing"], "'--token-file'"),
        (["--token-file", "{folder}"], "'--token-file'"),
        (["--cert", "{cert}"], "--key"),
        (["--key", "{key}"], "--cert"),
        (["--ca", "{key}"], "'--ca'"),
        (["--cert", "{cert}", "--key", "{cert}"], "'--cert'"),
        (["--cert", "{ca}", "--key", "{key}"], "'--cert'"),
        (["--token-file", "{empty}"], "'--token-file'"),
        (["--token-file", "{words}"], "'--token-file'"),
        (["--token-file", "{binary}"], "'--token-file'"),
        (["--target", "http://127.0.0.1:50051"], "'--target'"),
        (["--target", "localhost"], "'--target'"),
        (["--target", ""], "'--target'"),
        (["--timeout", "0"], "'--timeout'"),
        (["--output", "xml"], "'--output'"),
    ],
)
async def test_what_cannot_work_is_a_usage_error_that_names_the_option(
    files: Files, tmp_path: Path, given: list[str], named: str
) -> None:
    contents = {"empty": b"", "words": b"two words", "binary": b"\xff\xfe"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    known = {"folder": tmp_path, "ca": files.ca, "cert": files.cert, "key": files.key}
    known |= {name: tmp_path / name for name in contents}

    done = await flero_vault(*LIST, *(each.format_map(known) for each in given))

    assert (done.code, done.out) == (2, "")
    assert named in done.err
    assert "Traceback" not in done.err
    assert "two words" not in done.err


@pytest.mark.parametrize("command", ["list", "show", "watch", "revoke"])
async def test_a_vault_that_is_not_there_is_unreachable(command: str) -> None:
    what = ["--workspace", "acme"] if command == "list" else [NOBODY]
    more = ["--yes"] if command == "revoke" else []

    done = await flero_vault(
        *("credentials", command, *what, *more), *("--user", "ada", "--target", unused_target())
    )

    assert (done.code, done.out) == (3, "")
    assert "--target" in done.err
    assert "Traceback" not in done.err


async def test_a_vault_that_never_answers_is_unreachable_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"

        done = await flero_vault(*LIST, "--target", target, "--timeout", "0.5")

    assert done.code == 3
    assert "in time" in done.err
