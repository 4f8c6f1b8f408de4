"""Image-text pairs: what was taken from a source, and which files of which version."""

import sqlalchemy as sa
from alembic import op
revision = '0018'
down_revision = '0017'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('pairs_take',
    sa.Column('pairs_set', sa.Text(), nullable=False, comment='name of its file in models/pairs'),
    sa.Column('number', sa.Integer(), nullable=False, comment='1, 2, ... of the set'),
    sa.Column('pairs', sa.Integer(), nullable=False),
    sa.Column('batches', sa.Integer(), nullable=False),
    sa.Column('manifest', sa.Text(), nullable=False, comment='URL of the list of its files; the name holds its hash'),
    sa.Column('manifest_sha256', sa.Text(), nullable=False),
    sa.Column('opened_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('finished_at', sa.DateTime(timezone=True), comment='when its shards, index and report stood'),
    sa.Column('kept', sa.Integer()),
    sa.Column('index', sa.Text(), comment='URL of the list of its pairs: shard, place, hashes; the name holds its hash'),
    sa.Column('index_sha256', sa.Text()),
    sa.Column('announced_at', sa.DateTime(timezone=True), comment='when its event was out, or was not to be'),
    sa.PrimaryKeyConstraint('pairs_set', 'number', name=op.f('pk_pairs_take')),
    comment='image-text pairs that came in together and are prepared together'
    )
    op.create_table('pairs_key',
    sa.Column('pairs_set', sa.Text(), nullable=False),
    sa.Column('key', sa.Text(), nullable=False, comment='path in the source'),
    sa.Column('version', sa.Text(), nullable=False, comment='of its files, as the source tells: ETag, or size and time'),
    sa.Column('take', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('pairs_set', 'key', 'version', name=op.f('pk_pairs_key')),
    comment='which files of which version were taken: nothing is prepared twice'
    )


def downgrade() -> None:
    op.drop_table('pairs_key')
    op.drop_table('pairs_take')
