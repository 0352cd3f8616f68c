"""A value that must never be printed.

- `repr`, `str` and formatting show nothing of it; pickling and hashing are refused.
- Comparison takes constant time.
- A text without UTF-8 (half of a surrogate pair) is refused, by an error that does not hold it.
- `git grep reveal` lists every place where a secret leaves its wrapper.

    token = Secret("ya29.…")
    f"{token}"            # 'Secret(…)'
    token.reveal()        # the text, on its way to the wire or the sealer
"""

import hmac
from typing import NoReturn, Self


def _decoded(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _has_utf8(text: str) -> bool:
    # Its own function, so that the codec's error, which holds the text, is nobody's context.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Secret:
    """A secret text."""

    __slots__ = ("_text",)
    __hash__ = None  # type: ignore[assignment]  # a hash of a secret in a dict key outlives it

    def __init__(self, text: str) -> None:
        if not _has_utf8(text):
            raise ValueError("a Secret is made of text that has UTF-8")
        self._text = text

    @classmethod
    def decoded(cls, data: bytes) -> Self:
        """Return the secret of some UTF-8.

        Raises:
            ValueError: it is none; the error does not hold it.

        """
        text = _decoded(data)
        if text is None:
            raise ValueError("a Secret is made of text that has UTF-8")
        # Text that was decoded has UTF-8; `__init__` would encode it again to find out.
        secret = cls.__new__(cls)
        secret._text = text  # noqa: SLF001 - its own
        return secret

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
