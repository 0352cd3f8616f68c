"""Client of the Flero credential vault."""

__version__ = "0.1.0"
