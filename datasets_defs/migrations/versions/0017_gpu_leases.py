"""Leases of GPUs, jobs on them, and capacity that is added for a time."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0017'
down_revision = '0016'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('gpu_job',
    sa.Column('key', sa.Text(), nullable=False, comment='dag/task/run/map index: the same for every try'),
    sa.Column('job', sa.Text(), nullable=False, comment='dag.task'),
    sa.Column('machine', sa.Text(), nullable=False),
    sa.Column('gpus', sa.Integer(), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False, comment='1, 2 …: each process of the job has its own'),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('devices', postgresql.JSONB(astext_type=sa.Text()), nullable=True, comment='GPUs that it leased; null: none yet'),
    sa.Column('progress', postgresql.JSONB(astext_type=sa.Text()), nullable=True, comment='numbers that it said last'),
    sa.Column('message', sa.Text(), server_default='', nullable=False, comment='what it waits for, or how it ended'),
    sa.Column('exit_code', sa.Integer(), nullable=True),
    sa.Column('result', postgresql.JSONB(astext_type=sa.Text()), nullable=True, comment='what it returned'),
    sa.Column('submitted_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('begun_at', sa.DateTime(timezone=True), nullable=True, comment='when this attempt had its GPUs'),
    sa.Column('beat_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False, comment='when it was last heard of'),
    sa.Column('ended_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('taken_at', sa.DateTime(timezone=True), nullable=True, comment='when a task took its result; run again afterwards, it begins anew'),
    sa.CheckConstraint("state IN ('waiting', 'running', 'ended')", name=op.f('ck_gpu_job_state')),
    sa.PrimaryKeyConstraint('key', name=op.f('pk_gpu_job')),
    comment='jobs of GPUJobOperator'
    )
    op.create_index('ix_gpu_job_beat_at', 'gpu_job', ['beat_at'], unique=False)
    op.create_table('gpu_lease',
    sa.Column('machine', sa.Text(), nullable=False),
    sa.Column('device', sa.Text(), nullable=False, comment='as CUDA_VISIBLE_DEVICES names it'),
    sa.Column('holder', sa.Text(), nullable=False, comment='who took it last; a lock says whether it is still held'),
    sa.Column('since', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('machine', 'device', name=op.f('pk_gpu_lease')),
    comment='who took each GPU of a machine last'
    )
    op.create_table('gpu_scaling',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('key', sa.Text(), nullable=False, comment='of the request that began it'),
    sa.Column('newest_key', sa.Text(), nullable=False, comment='of the request that changed it last'),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('before', sa.Integer(), nullable=False, comment='replicas to return to'),
    sa.Column('replicas', sa.Integer(), nullable=False, comment='replicas while it lasts'),
    sa.Column('gpus_per_replica', sa.Integer(), nullable=False),
    sa.Column('target', postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="the YAML's section `scale` as it was when this began"),
    sa.Column('begun_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('changed_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('until', sa.DateTime(timezone=True), nullable=False, comment='when it comes down by itself'),
    sa.Column('ended_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('actor', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.CheckConstraint("state IN ('rising', 'up', 'falling', 'down')", name=op.f('ck_gpu_scaling_state')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_gpu_scaling')),
    sa.UniqueConstraint('key', name=op.f('uq_gpu_scaling_key')),
    comment='capacity that was added for a time; one at a time per model'
    )
    op.create_index('uq_gpu_scaling_one_per_model', 'gpu_scaling', ['model'], unique=True, postgresql_where=sa.text("state <> 'down'"))
    op.create_table_comment(
        'gpu_charge',
        "what trainings, jobs and added capacity took from the fleet's budget of GPU-hours",
        existing_comment="what trainings took from the fleet's budget of GPU-hours",
        schema=None
    )


def downgrade() -> None:
    op.create_table_comment(
        'gpu_charge',
        "what trainings took from the fleet's budget of GPU-hours",
        existing_comment="what trainings, jobs and added capacity took from the fleet's budget of GPU-hours",
        schema=None
    )
    op.drop_index('uq_gpu_scaling_one_per_model', table_name='gpu_scaling', postgresql_where=sa.text("state <> 'down'"))
    op.drop_table('gpu_scaling')
    op.drop_table('gpu_lease')
    op.drop_index('ix_gpu_job_beat_at', table_name='gpu_job')
    op.drop_table('gpu_job')
