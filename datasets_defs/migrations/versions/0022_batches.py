"""Rows of users are completed in batches: which runs there were, and which of their shards are answered."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0022'
down_revision = '0021'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('batch_run',
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False, comment='1, 2, ... of the model'),
    sa.Column('key', sa.Text(), nullable=False, comment='why there is this run and not another: a version, or a run of Airflow'),
    sa.Column('opened_by', sa.Text(), nullable=False, comment='the run of Airflow that opened it'),
    sa.Column('why', sa.Text(), nullable=False),
    sa.Column('section', postgresql.JSONB(), nullable=False, comment="the YAML's section as it was: the run keeps it"),
    sa.Column('version', sa.Integer(), nullable=True, comment='champion when it was opened; null: the answers are not of a version of ours'),
    sa.Column('asked_model', sa.Text(), nullable=False, comment="the model's name at the API"),
    sa.Column('rows', sa.Integer(), nullable=False),
    sa.Column('shards', sa.Integer(), nullable=False),
    sa.Column('output', sa.Text(), nullable=False, comment='folder of its files'),
    sa.Column('figures', postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('opened_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True, comment='when its manifest stood'),
    sa.PrimaryKeyConstraint('model', 'number', name=op.f('pk_batch_run')),
    sa.UniqueConstraint('model', 'key', name=op.f('uq_batch_run_model_key')),
    comment='runs of batch_inference'
    )
    op.create_table('batch_shard',
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('run', sa.Integer(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False, comment='0, 1, ... of the run'),
    sa.Column('input_sha256', sa.Text(), nullable=False),
    sa.Column('output_sha256', sa.Text(), nullable=True, comment='null: it is not answered yet'),
    sa.Column('figures', postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False, comment='rows, tokens, times, faults'),
    sa.Column('opened_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('done_at', sa.DateTime(timezone=True), nullable=True),
    sa.PrimaryKeyConstraint('model', 'run', 'number', name=op.f('pk_batch_shard')),
    comment='shards of a run of batch_inference: what is done is never asked again'
    )


def downgrade() -> None:
    op.drop_table('batch_shard')
    op.drop_table('batch_run')
