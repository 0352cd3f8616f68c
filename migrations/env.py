"""How Alembic reaches the database: over asyncpg, one replica at a time."""

import asyncio

from alembic import context
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

LOCK_TABLE = "flero_vault_migration_lock"


def run(connection: Connection) -> None:
    """Run what is missing, each revision in its own transaction."""
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


async def ensure_lock_table(engine: AsyncEngine) -> None:
    """Create the table that is locked; two replicas may try it in the same moment."""
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"CREATE TABLE IF NOT EXISTS {LOCK_TABLE} ()"))
    except DBAPIError:
        # IF NOT EXISTS checks before it creates: the slower of two gets a unique violation of the
        # catalogue. Anything else that is wrong shows in the next statement.
        return


async def main(database_url: str) -> None:
    """Hold the lock on one connection while the migrations run on another.

    A table lock, not an advisory one, which not every PostgreSQL-compatible database has; it ends
    with its connection, so a killed replica blocks nobody.
    """
    url = make_url(database_url).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, poolclass=NullPool)
    await ensure_lock_table(engine)
    async with engine.begin() as locked:
        await locked.execute(text(f"LOCK TABLE {LOCK_TABLE} IN ACCESS EXCLUSIVE MODE"))
        async with engine.connect() as connection:
            await connection.run_sync(run)
            await connection.commit()
    await engine.dispose()


asyncio.run(main(context.config.attributes["database_url"]))
