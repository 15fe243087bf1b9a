"""images: current version, tags, defaults of capture and deploy, what is done after the image."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_JSON = {
    "image": ("params", "customise"),
    "image_version": ("tags", "summary"),
    "group": ("customise",),
    "host": ("customise",),
}


def upgrade() -> None:
    """To this revision."""
    # Columns with a default need no new table, which a batch would make.
    for table, columns in _JSON.items():
        for name in columns:
            op.add_column(table, sa.Column(name, sa.JSON(), server_default=sa.text("'{}'"), nullable=False))
    op.add_column("image", sa.Column("current_number", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Back to the one before."""
    with op.batch_alter_table("image", schema=None) as batch_op:
        batch_op.drop_column("current_number")
    for table, columns in _JSON.items():
        with op.batch_alter_table(table, schema=None) as batch_op:
            for name in columns:
                batch_op.drop_column(name)
