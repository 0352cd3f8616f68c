"""Finds secrets in texts, however they were written down.

Only the last characters of a secret are looked for, in every encoding at every alignment: whoever
wrote the whole of it wrote those too, and so did whoever cut off its beginning.
"""

import base64
from collections.abc import Iterable, Mapping
from urllib.parse import quote_plus

TAIL = 20
SHORTEST = 16


def base64_cores(data: bytes) -> set[str]:
    """Return the characters that every base64 text with these bytes somewhere in it has."""
    cores = set()
    for shift, spoilt in ((0, 0), (1, 2), (2, 3)):
        padded = bytes(shift) + data
        whole = base64.b64encode(padded).decode()
        core = whole.rstrip("=")[spoilt:]
        cores.add(core if len(padded) % 3 == 0 else core[:-1])
    return cores | {core.replace("+", "-").replace("/", "_") for core in cores}


def forms(secret: str) -> set[str]:
    """Return what a secret looks like in plain, reversed, in hex, base64 and in a URL."""
    tail = secret[-TAIL:]
    data = tail.encode()
    written = {tail, tail[::-1], data.hex(), data.hex().upper(), data[::-1].hex(), quote_plus(tail)}
    return written | base64_cores(data) | base64_cores(data[::-1])


def find(texts: Mapping[str, str], secrets: Iterable[tuple[str, str]]) -> list[str]:
    """Return `kind in place` for every secret found. Says where, never what."""
    found = []
    for kind, secret in sorted(set(secrets)):
        assert len(secret) >= SHORTEST, f"a {kind} is too short to be looked for"
        needles = forms(secret)
        found += [
            f"{kind} in {place}"
            for place, text in texts.items()
            if any(needle in text for needle in needles)
        ]
    return found
