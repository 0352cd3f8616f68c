"""The channel: whom it trusts, how it retries, and how soon it finds a vault that is back.

- gRPC itself retries, and only what is safe to repeat (RETRIED), only after UNAVAILABLE and within
  the call's own deadline. A vault that knows better says so (`grpc-retry-pushback-ms`).
- UpdateCredential and DeleteCredential are not retried. If the first answer was lost, the
  repetition would meet its own change: ETAG_MISMATCH or CREDENTIAL_NOT_FOUND for what succeeded,
  and without an etag it would undo what somebody changed in between.
- WatchCredential is not retried by gRPC, which stops at the first message; the client resumes it.
- The calling service's own token never travels in the clear to another machine.
"""

import ipaddress
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import grpc
import grpc.aio

Metadata = Sequence[tuple[str, str]]

RECEIVE_MAX_BYTES: Final = 32 * 1024 * 1024
"""A batch of 1,000 tokens of 16 KiB, and as much again for what stands around them."""
METADATA_MAX_BYTES: Final = 32 * 1024
"""Errors come with their details in the trailers, and names in them may be in any script."""
KEEPALIVE_MS: Final = 30_000
KEEPALIVE_TIMEOUT_MS: Final = 10_000
RECONNECT_FIRST_MS: Final = 200
RECONNECT_MAX_MS: Final = 2_000
RESOLVE_AGAIN_MS: Final = 5_000

RETRIED: Final = {
    "flero.vault.v1.CredentialVault": (
        "BeginAuthorize",
        "CompleteCallback",
        "GetAccessToken",
        "BatchGetAccessTokens",
        "Reauthenticate",
        "Revoke",
        "GetCredential",
        "ListCredentials",
        "CheckCredential",
    ),
    "flero.vault.v1.ConnectorCatalog": ("ListConnectors", "GetConnector"),
}

_SERVICE_CONFIG: Final = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [
                {"service": service, "method": method}
                for service, methods in RETRIED.items()
                for method in methods
            ],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    # When about half of the calls fail, retries only add load: they stop until calls succeed.
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
}


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files of a TLS connection, read when the client is entered.

    Without `ca` the system's roots are trusted. `certificate` and `key` prove who calls.

    Raises:
        ValueError: only one of `certificate` and `key` is given.

    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        """Refuse half a proof."""
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both or neither")

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        Raises:
            OSError: one cannot be read.

        """
        ca, key, certificate = (
            path.read_bytes() if path else None for path in (self.ca, self.key, self.certificate)
        )
        return grpc.ssl_channel_credentials(
            root_certificates=ca, private_key=key, certificate_chain=certificate
        )


def bearer_from(path: Path) -> Callable[[], str]:
    """Return a `token` for VaultClient that reads a file again whenever it changed.

    Mounted service-account tokens rotate: the file is replaced while the process runs. The
    returned function raises OSError if the file cannot be read.
    """
    seen: tuple[int, int, int] | None = None
    value = ""

    def token() -> str:
        nonlocal seen, value
        # Follows links: a mounted secret is changed by pointing a link to another folder.
        found = path.stat()
        version = (found.st_ino, found.st_mtime_ns, found.st_size)
        if version != seen:
            value = path.read_text(encoding="ascii").strip()
            seen = version
        return value

    return token


def open_channel(target: str, tls: Tls | None) -> grpc.aio.Channel:
    """Open a channel; call it in the event loop that will use it.

    Raises:
        OSError: a file of `tls` cannot be read.

    """
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_FIRST_MS),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MAX_MS),
        ("grpc.dns_min_time_between_resolutions_ms", RESOLVE_AGAIN_MS),
        ("grpc.max_receive_message_length", RECEIVE_MAX_BYTES),
        ("grpc.max_metadata_size", METADATA_MAX_BYTES),
    ]
    if tls is not None:
        return grpc.aio.secure_channel(target, tls.credentials(), options=options)
    # Tokens in the clear must not take the way through a proxy of the environment.
    return grpc.aio.insecure_channel(target, options=[*options, ("grpc.enable_http_proxy", 0)])


def stays_here(target: str) -> bool:
    """Say whether a gRPC target leads to this machine only. What is not understood does not."""
    scheme, separator, rest = target.partition(":")
    if separator and scheme in {"unix", "unix-abstract"}:
        return True
    if separator and scheme in {"ipv4", "ipv6"}:
        return all(map(_is_loopback, rest.split(",")))
    if separator and scheme == "dns":
        # dns://authority/name: the authority is whom to ask, not where to go.
        rest = rest[2:].partition("/")[2] if rest.startswith("//") else rest
        return _is_loopback(rest)
    return _is_loopback(target)


def _is_loopback(address: str) -> bool:
    address = unquote(address)
    if address.startswith("["):
        host = address[1:].partition("]")[0]
    elif address.count(":") == 1:
        host = address.partition(":")[0]
    else:
        host = address
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_safe(target: str, *, tls: Tls | None, with_token: bool) -> None:
    """Refuse to send the caller's own token in the clear.

    Raises:
        ValueError: there is a token, no TLS, and the target is on another machine.

    """
    if with_token and tls is None and not stays_here(target):
        raise ValueError("a token needs TLS: it would travel in the clear to another machine")
