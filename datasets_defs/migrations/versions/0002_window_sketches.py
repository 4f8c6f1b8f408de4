"""Counts of each window's rows, and the profiles that they are compared with."""

import sqlalchemy as sa
from alembic import op
revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('window_sketch',
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False, comment='model version that answered the rows'),
    sa.Column('window_end', sa.DateTime(timezone=True), nullable=False),
    sa.Column('window_start', sa.DateTime(timezone=True), nullable=False, comment="earlier than the window's own, if it carries others over"),
    sa.Column('encoding', sa.Text(), nullable=False, comment='how rows became counts; only equal ones add up'),
    sa.Column('rows', sa.BigInteger(), nullable=False),
    sa.Column('content', sa.LargeBinary(), nullable=False, comment='counts of every column'),
    sa.Column('state', sa.LargeBinary(), nullable=True, comment="the detector's after this window; null if drift was not judged"),
    sa.Column('judged', sa.Boolean(), nullable=False, comment='false: too few rows, which the next window counts again'),
    sa.Column('windows', sa.Integer(), server_default=sa.text('1'), nullable=False, comment="more than 1: a day's, added up"),
    sa.PrimaryKeyConstraint('model', 'version', 'window_end', name=op.f('pk_window_sketch')),
    comment="what is kept of each window's rows: counts that add up"
    )
    op.create_table('drift_profile',
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('revision', sa.Integer(), nullable=False, comment='1, 2, 3 … per version'),
    sa.Column('effective_from', sa.DateTime(timezone=True), nullable=True, comment='windows that begin earlier have the one before; null: all windows'),
    sa.Column('source', sa.Text(), nullable=False, comment='what it was made from, in words'),
    sa.Column('rows', sa.BigInteger(), nullable=False),
    sa.Column('encoding', sa.Text(), nullable=False, comment='SHA-256 of the encoding that its content begins with'),
    sa.Column('content', sa.LargeBinary(), nullable=False, comment='encoding, reference counts and tolerances'),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('model', 'version', 'revision', name=op.f('pk_drift_profile')),
    comment='what windows are compared with; bound to a model version, and never changed, only followed by another'
    )


def downgrade() -> None:
    op.drop_table('drift_profile')
    op.drop_table('window_sketch')
