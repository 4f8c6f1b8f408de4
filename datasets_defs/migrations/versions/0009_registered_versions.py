"""What each version is, by the hash of its manifest: the loop can add to this table and cannot change it."""

import sqlalchemy as sa
from alembic import op
revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('registered_version',
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('manifest_sha256', sa.Text(), nullable=False),
    sa.Column('actor', sa.Text(), nullable=False, comment='who registered it, or how the loop came to know it'),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('model', 'version', name=op.f('pk_registered_version')),
    comment='what each version is: nothing else is loaded under its number; added to, never changed'
    )


def downgrade() -> None:
    op.drop_table('registered_version')
