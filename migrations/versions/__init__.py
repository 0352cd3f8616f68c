"""The first and every later revision, each a `.sql` file beside its `.py`."""
