"""Pauses, the fleet's budget of GPU-hours, and what a champion on probation is compared by."""

import sqlalchemy as sa
from alembic import op
revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('pause',
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('actor', sa.Text(), nullable=False),
    sa.Column('since', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('until', sa.DateTime(timezone=True), nullable=False, comment='when it ends by itself'),
    sa.PrimaryKeyConstraint('model', name=op.f('pk_pause')),
    comment='models for which the loop watches and tells, and does nothing else; no row: it acts'
    )
    op.create_table('gpu_charge',
    sa.Column('key', sa.Text(), nullable=False, comment='model|incident|attempt: an attempt is charged once'),
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False, comment='when it was taken from the budget'),
    sa.Column('gpu_hours', sa.Float(), nullable=False, comment='what was set aside; once settled, what was used'),
    sa.Column('settled', sa.Boolean(), server_default=sa.text('false'), nullable=False),
    sa.CheckConstraint('gpu_hours >= 0', name=op.f('ck_gpu_charge_gpu_hours')),
    sa.PrimaryKeyConstraint('key', name=op.f('pk_gpu_charge')),
    comment="what trainings took from the fleet's budget of GPU-hours"
    )
    op.create_index('ix_gpu_charge_at', 'gpu_charge', ['at'], unique=False)
    op.create_table('shadow_score',
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('champion_version', sa.Integer(), nullable=False),
    sa.Column('request_id', sa.Text(), nullable=False),
    sa.Column('previous_version', sa.Integer(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), nullable=False, comment='when the request was answered'),
    sa.Column('user_id', sa.Text(), nullable=True),
    sa.Column('bytes', sa.Integer(), nullable=False, comment='of the prompt, UTF-8'),
    sa.Column('champion_bits', sa.Float(), nullable=False),
    sa.Column('previous_bits', sa.Float(), nullable=False),
    sa.Column('scored_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint('bytes > 0', name=op.f('ck_shadow_score_bytes')),
    sa.PrimaryKeyConstraint('model', 'champion_version', 'request_id', name=op.f('pk_shadow_score')),
    comment='prompts answered by a champion on probation, scored by the champion before it as well'
    )


def downgrade() -> None:
    op.drop_table('shadow_score')
    op.drop_table('gpu_charge')
    op.drop_table('pause')
