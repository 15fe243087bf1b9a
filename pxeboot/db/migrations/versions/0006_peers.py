"""peers: what came from neighbours, by which way chunks come, and why."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


COLUMNS = (("bytes_peers", sa.Integer(), "0"), ("way", sa.String(), ""), ("way_reason", sa.String(), ""))


def upgrade() -> None:
    """To this revision. Not in batch mode: that would make the table anew, and lose its partial index."""
    for name, kind, default in COLUMNS:
        op.add_column("task", sa.Column(name, kind, nullable=False, server_default=default))


def downgrade() -> None:
    """Back to the one before."""
    for name, _, _ in reversed(COLUMNS):
        op.drop_column("task", name)
