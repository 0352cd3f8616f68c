"""Addresses: fills templates and says which ones may be asked at all. Pure."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from flero_vault.core.connector import Param

PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})

# No user info, backslash, space or control character: what one parser takes for the host, another
# takes for something else, and the origin check must mean the host that is connected to.
_PLAIN: Final = re.compile(
    r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?(?:/[\x21-\x5b\x5d-\x7e]*)?"
)
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_FILLING: Final = re.compile(r"[A-Za-z0-9._~-]{1,253}")


class UnfilledError(Exception):
    """A template whose parameter is missing or does not match its pattern."""


def is_loopback(url: str) -> bool:
    """Say whether the host is this machine by name."""
    try:
        return urlsplit(url).hostname in LOOPBACK_HOSTS
    except ValueError:
        return False


def is_acceptable(url: str, *, allow_loopback: bool) -> bool:
    """Say whether a request may go there: https to a public host, or this machine if allowed.

    A name that resolves to a private address is not seen here.
    """
    if not _PLAIN.fullmatch(url):
        return False
    if is_loopback(url):
        return allow_loopback
    return url.startswith("https://") and _is_public(urlsplit(url).hostname or "")


def _is_public(host: str) -> bool:
    """Say whether a host is a name, or an address that the whole Internet can reach."""
    host = host.rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        # Resolvers also read 2130706433, 127.1 and 0x7f.1 as addresses; no name ends in a number.
        return not _NUMBER.fullmatch(host.rpartition(".")[2])


def fill(template: str, params: Mapping[str, str], declared: Mapping[str, Param]) -> str:
    """Put connection parameters into a template; what is not declared is left standing.

    Whatever the pattern admits, a value holds only what cannot end a host or a path segment.

    Raises:
        UnfilledError: a declared parameter has no acceptable value.

    """

    def value(match: re.Match[str]) -> str:
        param = declared.get(match[1])
        if param is None:
            return match[0]
        text = params.get(match[1]) or param.default
        plain = _FILLING.fullmatch(text) and text.strip(".")
        if not plain or not re.fullmatch(param.pattern, text):
            raise UnfilledError(match[1])
        return text

    return PLACEHOLDER.sub(value, template)
