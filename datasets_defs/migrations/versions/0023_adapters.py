"""Versions may be adapters: which version's weights one is for stands with it."""

import sqlalchemy as sa
from alembic import op
revision = '0023'
down_revision = '0022'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('registered_version', sa.Column('adapter_of', sa.Integer(), nullable=True, comment='version whose weights its adapter is for; null: it has weights of its own'))


def downgrade() -> None:
    op.drop_column('registered_version', 'adapter_of')
