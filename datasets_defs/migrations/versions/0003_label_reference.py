"""What a version's labels are compared with."""

import sqlalchemy as sa
from alembic import op
revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('label_reference',
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('label', sa.Text(), nullable=False, comment='name in the spec'),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('window_start', sa.DateTime(timezone=True), nullable=False),
    sa.Column('window_end', sa.DateTime(timezone=True), nullable=False, comment='rows up to here are in it; later ones are judged'),
    sa.Column('labels', sa.BigInteger(), nullable=False),
    sa.Column('total', sa.Float(), nullable=False, comment='sum of the scores'),
    sa.Column('squares', sa.Float(), nullable=False, comment='sum of their squares'),
    sa.Column('icc', sa.Float(), nullable=False, comment='how much alike the scores of one user are, 0..1'),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('model', 'label', 'version', name=op.f('pk_label_reference')),
    comment="scores of a version's first labels, which its later ones are compared with; never changed"
    )


def downgrade() -> None:
    op.drop_table('label_reference')
