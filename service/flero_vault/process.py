"""Time and chance of the real world, for the core's Clock and Entropy."""

import gc
import random
import secrets
import time
import uuid

_RANDOM = random.SystemRandom()
_STATE_BYTES = 32


class SystemClock:
    """The machine's monotonic clock."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start."""
        return time.monotonic()


class SystemEntropy:
    """The operating system's randomness."""

    def token(self) -> str:
        """Return 256 bits, base64url without padding: 43 characters."""
        return secrets.token_urlsafe(_STATE_BYTES)

    def uuid(self) -> uuid.UUID:
        """Return a random UUID."""
        return uuid.uuid4()

    def jitter(self) -> float:
        """Return a number from 0 up to 1."""
        return _RANDOM.random()


def settle_memory() -> None:
    """Tell the garbage collector what stays. Call it when everything is loaded and listening.

    A call makes objects that its end frees, hardly ever a cycle. Looking through all modules after
    each few hundred of them would take a fifth of the time of a batch.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
