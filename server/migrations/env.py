"""How Alembic runs the migrations: on the connection that it is given, within the caller's transaction."""

from alembic import context

from server.db.opening import VERSION_TABLE
from server.db.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite alters little by itself
)
context.run_migrations()
