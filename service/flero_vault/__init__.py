"""The Flero credential vault: consent, tokens, refresh, re-authentication and revocation."""

__version__ = "0.1.0"
