"""rescue: archives of files that were copied out of machines."""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=False)


def upgrade() -> None:
    """To this revision."""
    op.create_table(
        "rescue",
        *map(_text, ("id", "host", "operation_id")),
        sa.Column("size", sa.Integer(), nullable=False),
        _text("blake3"),
        sa.Column("facts", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        _text("created_by"),
        sa.Column("created_at", sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.Column("expires_at", sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rescue")),
    )
    for name in ("host", "created_at", "expires_at"):
        op.create_index(op.f(f"ix_rescue_{name}"), "rescue", [name], unique=False)


def downgrade() -> None:
    """Back to the one before."""
    op.drop_table("rescue")
