"""customise: scripts, file drops and secrets for what is done after the image."""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=False)


def upgrade() -> None:
    """To this revision."""
    op.create_table(
        "script",
        sa.Column("id", sa.Integer(), nullable=False),
        *map(_text, ("name", "description", "phase", "system")),
        sa.Column("seconds", sa.Integer(), nullable=False),
        *map(_text, ("on_error", "text")),
        sa.Column("changed_at", sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_script")),
    )
    op.create_index(op.f("ix_script_name"), "script", ["name"], unique=True)
    op.create_table(
        "file_drop",
        sa.Column("id", sa.Integer(), nullable=False),
        *map(_text, ("name", "description", "path", "system", "mode", "owner")),
        sa.Column("template", sa.Boolean(), nullable=False),
        _text("hash"),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("changed_at", sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_file_drop")),
    )
    op.create_index(op.f("ix_file_drop_name"), "file_drop", ["name"], unique=True)
    op.create_index(op.f("ix_file_drop_hash"), "file_drop", ["hash"], unique=False)
    op.create_table(
        "secret",
        *map(_text, ("name", "sealed")),
        sa.Column("changed_at", sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        _text("changed_by"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_secret")),
    )


def downgrade() -> None:
    """Back to the one before."""
    op.drop_table("secret")
    op.drop_table("file_drop")
    op.drop_table("script")
