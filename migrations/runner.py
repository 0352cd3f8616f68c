"""Runs the migrations. Apart from the package itself, so that serving does not load Alembic."""

import alembic.command
from alembic import op
from alembic.config import Config
from flero_vault.migrations import FOLDER


def run_sql(name: str) -> None:
    """Run a whole SQL file of `versions/` in the present migration's transaction."""
    text = (FOLDER / "versions" / name).read_text(encoding="utf-8")
    # The driver prepares each statement, and a prepared statement is one statement: the file goes
    # to the raw connection, inside the transaction that Alembic opened.
    connection = op.get_bind().connection.dbapi_connection
    if connection is None:
        raise RuntimeError("migrations run on a live connection only")
    connection.run_async(lambda raw: raw.execute(text))


def migrate(database_url: str) -> None:
    """Bring the database to the newest revision. Blocks; call it outside an event loop."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["database_url"] = database_url
    alembic.command.upgrade(config, "head")
