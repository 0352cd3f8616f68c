"""A value that must never be printed.

- `repr`, `str` and formatting show nothing of it; pickling and hashing are refused.
- Comparison takes constant time.
- `git grep reveal` lists every place where a secret leaves its wrapper.

    token = Secret("ya29.…")
    f"{token}"            # 'Secret(…)'
    token.reveal()        # the text, on its way to the wire or the sealer
"""

import hmac
from typing import NoReturn


class Secret:
    """A secret text."""

    __slots__ = ("_text",)
    __hash__ = None  # type: ignore[assignment]  # a hash of a secret in a dict key outlives it

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text. Every caller of this is on the audit list."""
        return self._text

    def encode(self) -> bytes:
        """Return the UTF-8 of the text, for the sealer."""
        return self._text.encode()

    def __repr__(self) -> str:
        return "Secret(…)"

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.encode(), other.encode())

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: that would write it out in plain")
