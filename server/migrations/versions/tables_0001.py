"""The first tables: runs, their metrics, what they noted, places in their events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def words(length: int | None = None) -> sa.types.TypeEngine[str]:
    """Text ordered by code points on every database."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "meta",
        sa.Column("content", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("probe", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "runs",
        sa.Column("id", words(63), primary_key=True),
        sa.Column("created_at", words(32), nullable=False),
        sa.Column("state", words(16), nullable=False),
        sa.Column("priority", sa.BigInteger, nullable=False),
        sa.Column("place", sa.Float, nullable=False),
        sa.Column("waiting", words()),
        sa.Column("tags", words(), nullable=False),
        sa.Column("idempotency_key", words(300)),
        sa.Column("max_steps", sa.BigInteger),
        sa.Column("record", words(), nullable=False),
        sa.Column("facts", words(), nullable=False),
        sa.Column("cursor_seq", sa.BigInteger, nullable=False),
        sa.Column("cursor_first_seq", sa.BigInteger, nullable=False),
        sa.Column("cursor_offset", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_runs_state", "runs", ["state"])
    op.create_index("ix_runs_idempotency_key", "runs", ["idempotency_key"])
    op.create_index("runs_by_creation", "runs", ["created_at", "id"])
    op.create_table(
        "metric_keys",
        sa.Column("run_id", words(63), primary_key=True),
        sa.Column("key", words(300), primary_key=True),
    )
    op.create_table(
        "chunks",
        sa.Column("run_id", words(63), primary_key=True),
        sa.Column("key", words(300), primary_key=True),
        sa.Column("attempt", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("first_step", sa.BigInteger, nullable=False),
        sa.Column("last_step", sa.BigInteger, nullable=False),
        sa.Column("num_points", sa.Integer, nullable=False),
        sa.Column("num_null", sa.Integer, nullable=False),
        sa.Column("smallest", sa.Float),
        sa.Column("largest", sa.Float),
        sa.Column("points", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "notes",
        sa.Column("run_id", words(63), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", words(16), nullable=False),
        sa.Column("attempt", sa.BigInteger, nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("event", words(), nullable=False),
    )
    op.create_table(
        "marks",
        sa.Column("run_id", words(63), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("first_seq", sa.BigInteger, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
    )
