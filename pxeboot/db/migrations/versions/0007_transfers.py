"""transfers: keys of multicast sessions, the interface they send from, and the record of each stream."""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """To this revision."""
    for name in ("address", "key"):
        op.add_column("multicast_session", sa.Column(name, sa.String(), nullable=False, server_default=""))
    encrypt: sa.Column[bool] = sa.Column("encrypt", sa.Boolean(), nullable=False, server_default=sa.text("0"))
    op.add_column("multicast_session", encrypt)
    op.create_table(
        "transfer_log",
        sa.Column("operation_id", sa.String(), nullable=False),
        sa.Column("session_id", sa.Integer(), nullable=False),
        sa.Column("data", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("changed_at", sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["operation_id"],
            ["operation.id"],
            name=op.f("fk_transfer_log_operation_id_operation"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("operation_id", "session_id", name=op.f("pk_transfer_log")),
    )


def downgrade() -> None:
    """Back to the one before."""
    op.drop_table("transfer_log")
    for name in ("encrypt", "key", "address"):
        op.drop_column("multicast_session", name)
