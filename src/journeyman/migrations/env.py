"""Alembic's entry: run the migrations on the connection that `journeyman.database` hands over."""

from alembic import context

from journeyman.database import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
