"""The database: the only importer of asyncpg. SQL stands in `queries/*.sql`, by name."""
