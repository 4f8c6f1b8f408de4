"""Each model's YAML as the loop last read it: what an edit is held against."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0015'
down_revision = '0014'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'spec_seen',
        sa.Column('model', sa.Text(), nullable=False),
        sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False, comment='when the loop first read it so'),
        sa.Column('version', sa.Text(), nullable=False, comment='of driftloop, which knows the fields and their defaults'),
        sa.Column('content', postgresql.JSONB(), nullable=False, comment="every field of the model's YAML, defaults included"),
        sa.PrimaryKeyConstraint('model', name=op.f('pk_spec_seen')),
        comment="each model's YAML as the loop last read it: what an edit is held against",
    )


def downgrade() -> None:
    op.drop_table('spec_seen')
