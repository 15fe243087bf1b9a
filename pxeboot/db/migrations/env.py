"""Alembic's entry: always online, over the connection `pxeboot.db.migrate` hands it."""

from alembic import context
from sqlalchemy import create_engine
from sqlmodel import SQLModel

from pxeboot.db import models  # noqa: F401  (fills the metadata)

connection = context.config.attributes.get("connection")
if connection is None:  # `alembic` called by a developer
    connection = create_engine(context.config.get_main_option("sqlalchemy.url") or "sqlite://").connect()

context.configure(
    connection=connection,
    target_metadata=SQLModel.metadata,
    render_as_batch=True,  # SQLite changes a table by copying it
    compare_type=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
