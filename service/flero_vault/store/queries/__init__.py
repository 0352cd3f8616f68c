"""Loads the named queries.

A file holds queries that each begin with `-- name: NAME` and one comment line of purpose. Names
are unique over all files.
"""

import importlib.resources
import re
from collections.abc import Mapping
from functools import cache

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def load() -> Mapping[str, str]:
    """Return the text of every query by name."""
    found: dict[str, str] = {}
    files = [f for f in importlib.resources.files(__name__).iterdir() if f.name.endswith(".sql")]
    for file in sorted(files, key=lambda f: f.name):
        parts = _NAME.split(file.read_text(encoding="utf-8"))
        for name, text in zip(parts[1::2], parts[2::2], strict=True):
            if name in found:
                raise ValueError(f"the query {name} is named twice")
            found[name] = text.strip().rstrip(";")
    return found
