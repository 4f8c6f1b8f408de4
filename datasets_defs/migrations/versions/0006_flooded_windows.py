"""Whether one prompt filled a window's rows, found out once, as they were counted."""

import sqlalchemy as sa
from alembic import op
revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('window_sketch', sa.Column('flooded', sa.Text(), nullable=True, comment='that one prompt filled the rows, in words; null: none did'))


def downgrade() -> None:
    op.drop_column('window_sketch', 'flooded')
