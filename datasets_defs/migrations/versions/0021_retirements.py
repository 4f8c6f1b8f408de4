"""A person may retire a model, and a version is known by the base that it descends from."""

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
    op.add_column('registered_version', sa.Column('base', sa.Text(), nullable=True, comment='the base model that it descends from; null: not known'))


def downgrade() -> None:
    op.drop_column('registered_version', 'base')
    op.drop_table('retirement')
