"""The schema, as Alembic revisions: forward only, each a plain SQL file beside a few lines.

- `known()` lists the revisions that this version of the server understands; a server refuses a
  database that stands anywhere else.
- `runner.migrate()` may be started by several replicas at once: the first takes the lock, the
  others wait for it and find nothing left to do.
- Each revision commits alone, so a killed migration goes on where it stopped.
"""

import importlib.resources
from pathlib import Path

FOLDER = Path(str(importlib.resources.files("flero_vault.migrations")))


def known() -> tuple[str, ...]:
    """Return the revisions from the first to the newest, by the numbers of their files."""
    return tuple(sorted(path.name.partition("_")[0] for path in FOLDER.glob("versions/*.sql")))
