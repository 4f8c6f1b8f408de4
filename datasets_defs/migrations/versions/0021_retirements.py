"""A person may retire a model: the loop leaves it alone, and nothing of it is erased."""

import sqlalchemy as sa
from alembic import op
revision = '0021'
down_revision = '0019'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'retirement',
        sa.Column('model', sa.Text(), nullable=False),
        sa.Column('reason', sa.Text(), nullable=False),
        sa.Column('actor', sa.Text(), nullable=False),
        sa.Column('since', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.Column('closes_route', sa.Boolean(), nullable=False, comment='whether the gateway answers no requests for it'),
        sa.Column('drops_aliases', sa.Boolean(), nullable=False, comment="whether the registry's aliases are taken away"),
        sa.PrimaryKeyConstraint('model', name=op.f('pk_retirement')),
        comment='models that the loop leaves alone until a person brings them back; no row: it acts',
    )


def downgrade() -> None:
    op.drop_table('retirement')
