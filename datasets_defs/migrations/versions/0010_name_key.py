"""The key of the names that stand for users in snapshots, references and evaluations."""

import secrets

import sqlalchemy as sa
from alembic import op
revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None


def upgrade() -> None:
    table = op.create_table('name_key',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('key', sa.LargeBinary(), nullable=False, comment='32 random bytes'),
    sa.CheckConstraint('id = 1', name=op.f('ck_name_key_one_row')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_name_key')),
    comment='the key of the names that stand for users in files; one row, made with the table'
    )
    op.bulk_insert(table, [{'id': 1, 'key': secrets.token_bytes(32)}])


def downgrade() -> None:
    op.drop_table('name_key')
