"""Deadlines, retries, balancing, trust: what the channel promises."""

import asyncio
import ipaddress
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.client.conftest import BINDING
from tests.client.scripted import AWAY, scripted

from flero_vault_client import (
    AccessToken,
    CredentialScope,
    DeadlineExceeded,
    Tls,
    TokenRequest,
    VaultClient,
    VaultError,
    VaultUnreachable,
    bearer_from,
)
from flero_vault_client._channel import RETRIED, stays_here
from flero_vault_client.testing import FakeVault
from flero_vault_client.v1 import connector_catalog_pb2, credential_vault_pb2

NAME = "workspaces/demo/credentials/6f1c2f4e-9f43-4b1e-8d51-0a4b8f3f2c11"
NOT_REPEATED = {"UpdateCredential", "DeleteCredential"}
STREAMS = {"WatchCredential", "WatchEvents"}
NOT_CALLED = {"ListEvents"}


# Deadlines


async def test_a_call_ends_at_its_deadline() -> None:
    async with scripted(hangs=True) as server, VaultClient(server.target, timeout=0.2) as vault:
        with pytest.raises(DeadlineExceeded) as failed:
            await vault.get_credential(NAME, user="ada")

    assert failed.value.retryable
    assert failed.value.reason == "VAULT_UNAVAILABLE"


async def test_every_call_has_a_deadline_and_a_callback_a_longer_one() -> None:
    async with scripted() as server:
        async with VaultClient(server.target) as vault:
            await vault.get_credential(NAME, user="ada")
            await vault.complete_callback("google", state="s", user="u", browser_binding=BINDING)
            await vault.get_credential(NAME, user="ada", timeout=7)
        async with VaultClient(server.target, timeout=10) as vault:
            await vault.get_credential(NAME, user="ada")
            await vault.complete_callback("google", state="s", user="u", browser_binding=BINDING)

    # The whole seconds that were left when the call arrived.
    assert [round(each) for each in server.remaining] == [30, 60, 7, 10, 20]


async def test_cancellation_stays_cancellation() -> None:
    async with scripted(hangs=True) as server, VaultClient(server.target) as vault:
        call = asyncio.create_task(vault.get_credential(NAME, user="ada"))
        await server.arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


# Retries


def test_what_is_repeated_is_decided_for_every_method() -> None:
    vault = credential_vault_pb2.DESCRIPTOR.services_by_name["CredentialVault"]
    catalog = connector_catalog_pb2.DESCRIPTOR.services_by_name["ConnectorCatalog"]

    assert set(RETRIED) == {vault.full_name, catalog.full_name}
    assert {method.name for method in vault.methods} == {
        *RETRIED[vault.full_name],
        *NOT_REPEATED,
        *STREAMS,
        *NOT_CALLED,
    }
    assert {method.name for method in catalog.methods} == set(RETRIED[catalog.full_name])


async def test_a_vault_that_is_back_in_a_moment_is_waited_for() -> None:
    async with scripted(troubles=[AWAY] * 3) as server, VaultClient(server.target) as vault:
        found = await vault.get_credential(NAME, user="ada")

    assert found.name == NAME
    assert len(server.requests) == 4


async def test_a_fault_is_not_repeated() -> None:
    internal = (grpc.StatusCode.INTERNAL, ())
    async with scripted(troubles=[internal]) as server, VaultClient(server.target) as vault:
        with pytest.raises(VaultError):
            await vault.get_credential(NAME, user="ada")

    assert len(server.requests) == 1


async def test_a_vault_that_says_it_is_pointless_is_not_asked_again() -> None:
    pointless = (grpc.StatusCode.UNAVAILABLE, (("grpc-retry-pushback-ms", "-1"),))
    async with scripted(troubles=[pointless]) as server, VaultClient(server.target) as vault:
        with pytest.raises(VaultUnreachable):
            await vault.get_credential(NAME, user="ada")

    assert len(server.requests) == 1


@pytest.mark.parametrize("method", ["update_credential", "delete_credential"])
async def test_what_is_not_safe_to_repeat_is_not(method: str) -> None:
    async with scripted(troubles=[AWAY]) as server, VaultClient(server.target) as vault:
        with pytest.raises(VaultUnreachable):
            await getattr(vault, method)(NAME, user="ada")

    assert len(server.requests) == 1


async def test_a_repeated_begin_is_the_same_request() -> None:
    async with scripted(troubles=[AWAY]) as server, VaultClient(server.target) as vault:
        for _ in range(2):
            await vault.begin_authorize(
                "workspaces/demo",
                connector="google",
                display_name="x",
                credential_scope=CredentialScope.PERSONAL,
                user="ada",
                browser_binding=BINDING,
            )

    first, again, another = (each.request_id for each in server.requests)
    assert first == again != another
    assert uuid.UUID(first).version == 4


# Several vaults


async def test_calls_are_spread_and_outlive_one_vault() -> None:
    async with FakeVault() as one, FakeVault() as two:
        target = f"ipv4:{one.target},{two.target}"
        async with VaultClient(target) as vault, asyncio.timeout(10):
            while not (one.calls and two.calls):
                await vault.get_connector("connectors/google")
            await one.stop()
            for _ in range(20):
                await vault.get_connector("connectors/google")

    assert len(two.calls) >= 20


async def test_a_client_is_not_bound_to_the_loop_that_it_was_made_in() -> None:
    async with FakeVault() as fake:
        vault = VaultClient(fake.target)

        async def use() -> str:
            async with vault:
                return (await vault.get_connector("connectors/google")).key

        here = await use()
        again = await use()

    assert here == again == "google"


async def test_a_client_that_is_not_open_says_how_to_open_it() -> None:
    vault = VaultClient("127.0.0.1:1")
    with pytest.raises(RuntimeError, match="async with"):
        await vault.get_credential(NAME, user="ada")
    with pytest.raises(RuntimeError, match="async with"):
        await anext(vault.list_credentials("workspaces/demo", user="ada"))
    async with vault:
        with pytest.raises(RuntimeError, match="open already"):
            await vault.__aenter__()
    with pytest.raises(RuntimeError, match="async with"):
        await vault.get_credential(NAME, user="ada")


async def test_the_largest_batch_fits() -> None:
    largest = credential_vault_pb2.GetAccessTokenResponse(access_token="x" * 16 * 1024)
    result = credential_vault_pb2.BatchGetAccessTokensResponse.Result(token=largest)
    batch = credential_vault_pb2.BatchGetAccessTokensResponse(results=[result] * 1000)
    async with scripted(batch=batch) as server, VaultClient(server.target) as vault:
        results = await vault.batch_get_access_tokens(
            "workspaces/demo", [TokenRequest(name=NAME)] * 1000
        )

    assert len(results) == 1000
    assert all(isinstance(each, AccessToken) for each in results)


# Trust


@dataclass(frozen=True, slots=True)
class Party:
    certificate: Path
    key: Path


class Authority:
    """A certificate authority for one test."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder / name
        self._folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._folder / "ca.pem"
        self._write(self.certificate, self._signed(self._name, self._key, ca=True))

    def issue(self, name: str) -> Party:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        party = Party(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        self._write(party.certificate, self._signed(subject, key, ca=False))
        party.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return party

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, path: Path, certificate: x509.Certificate) -> None:
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


def server_credentials(authority: Authority) -> grpc.ServerCredentials:
    server = authority.issue("vault")
    return grpc.ssl_server_credentials(
        [(server.key.read_bytes(), server.certificate.read_bytes())],
        root_certificates=authority.certificate.read_bytes(),
        require_client_auth=True,
    )


async def test_both_sides_prove_who_they_are(authority: Authority, tmp_path: Path) -> None:
    ours = authority.issue("workflows")
    stranger = Authority(tmp_path, "strangers").issue("workflows")
    ca = authority.certificate
    async with FakeVault(credentials=server_credentials(authority)) as fake:
        tls = Tls(ca=ca, certificate=ours.certificate, key=ours.key)
        async with VaultClient(fake.target, tls=tls, token=lambda: "who-calls") as vault:
            assert (await vault.get_connector("connectors/google")).key == "google"
        for refused in (
            Tls(ca=ca),
            Tls(ca=ca, certificate=stranger.certificate, key=stranger.key),
            Tls(certificate=ours.certificate, key=ours.key),
            None,
        ):
            async with VaultClient(fake.target, tls=refused, timeout=5) as vault:
                with pytest.raises(VaultUnreachable):
                    await vault.get_connector("connectors/google")

    (call,) = fake.calls
    assert call.metadata["authorization"] == "Bearer who-calls"


def test_half_a_proof_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="belong together"):
        Tls(certificate=tmp_path)
    with pytest.raises(ValueError, match="belong together"):
        Tls(key=tmp_path)


async def test_a_missing_file_is_found_when_the_client_is_entered(tmp_path: Path) -> None:
    vault = VaultClient("vault:50051", tls=Tls(ca=tmp_path / "none.pem"))
    with pytest.raises(FileNotFoundError):
        await vault.__aenter__()


async def test_the_callers_token_is_read_again_when_its_file_changes(
    fake: FakeVault, tmp_path: Path
) -> None:
    # As Kubernetes does it: the file is a link, and what it leads to is replaced.
    for number in (1, 2):
        (tmp_path / f"v{number}").write_text(f"token-{number}\n")
    path = tmp_path / "token"
    path.symlink_to(tmp_path / "v1")

    async with VaultClient(fake.target, token=bearer_from(path)) as vault:
        await vault.get_connector("connectors/google")
        await vault.get_connector("connectors/google")
        (tmp_path / "link").symlink_to(tmp_path / "v2")
        (tmp_path / "link").replace(path)
        await vault.get_connector("connectors/google")

    assert [each.metadata["authorization"] for each in fake.calls] == [
        "Bearer token-1",
        "Bearer token-1",
        "Bearer token-2",
    ]


async def test_the_callers_token_goes_with_a_stream_too(fake: FakeVault) -> None:
    credential = await fake.connect(user="ada")
    async with VaultClient(fake.target, token=lambda: "t") as vault:
        stream = vault.watch_credential(credential.name, user="ada")
        await anext(stream)
        await stream.aclose()

    assert fake.calls[0].metadata["authorization"] == "Bearer t"


async def test_without_a_token_nothing_is_sent(fake: FakeVault) -> None:
    async with VaultClient(fake.target) as vault:
        await vault.get_connector("connectors/google")

    assert "authorization" not in fake.calls[0].metadata


HERE = [
    "127.0.0.1:50051",
    "localhost:50051",
    "localhost",
    "[::1]:50051",
    "::1",
    "unix:/run/vault.sock",
    "unix:///run/vault.sock",
    "unix-abstract:vault",
    "ipv4:127.0.0.1:1,127.0.0.2:2",
    "ipv6:[::1]:50051",
    "dns:localhost:50051",
    "dns:///127.0.0.1:50051",
    "dns:///%5B::1%5D:50051",
]
ELSEWHERE = [
    "vault:50051",
    "10.0.0.1:50051",
    "0.0.0.0:50051",
    "localhost.example.com:50051",
    "127.0.0.1.example.com:50051",
    "[2001:db8::1]:50051",
    "ipv4:127.0.0.1:1,10.0.0.1:2",
    "dns:///vault:50051",
    "dns://127.0.0.1/vault:50051",
    "dns:vault",
    "unixx:/run/vault.sock",
    "xds:///localhost",
    "",
]


@pytest.mark.parametrize("target", HERE)
def test_a_token_may_stay_on_this_machine_in_the_clear(target: str) -> None:
    assert stays_here(target)
    VaultClient(target, token=lambda: "t")


@pytest.mark.parametrize("target", ELSEWHERE)
def test_a_token_never_leaves_this_machine_in_the_clear(target: str) -> None:
    assert not stays_here(target)
    with pytest.raises(ValueError, match="needs TLS"):
        VaultClient(target, token=lambda: "t")
    VaultClient(target)
    VaultClient(target, token=lambda: "t", tls=Tls())


async def test_a_channel_in_the_clear_takes_no_proxy(
    fake: FakeVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "grpc_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)

    async with VaultClient(fake.target) as vault:
        assert (await vault.get_connector("connectors/google")).key == "google"
