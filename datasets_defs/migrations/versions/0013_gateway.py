"""The gateway's log holds conversations, choices, why an answer ended and when it began; clients have keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0013'
down_revision = '0012'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('inference', sa.Column('messages', postgresql.JSONB(), nullable=True, comment="the conversation as it was asked; null for a prompt"))
    op.add_column('inference', sa.Column('choices', postgresql.JSONB(), nullable=True, comment="every choice, where there were several or a tool was called"))
    op.add_column('inference', sa.Column('finish_reason', sa.Text(), nullable=True, comment="why the answer ended; cancelled: the caller went away"))
    op.add_column('inference', sa.Column('first_token_seconds', sa.Float(), nullable=True, comment="from arrival to the first text of a stream"))
    op.add_column('inference', sa.Column('client', sa.Text(), nullable=True, comment="name of the key that asked; null: without keys"))
    op.create_table('client_key',
    sa.Column('id', sa.Text(), nullable=False, comment="the part of the key that is no secret"),
    sa.Column('name', sa.Text(), nullable=False, comment="who holds it"),
    sa.Column('sha256', sa.LargeBinary(), nullable=False, comment="of the whole key, whose secret is 256 random bits"),
    sa.Column('scopes', postgresql.JSONB(), nullable=False, comment="list of ask, references, read"),
    sa.Column('models', postgresql.JSONB(), nullable=True, comment="names of the models it is for; null: all"),
    sa.Column('requests_per_minute', sa.Integer(), nullable=True, comment="null: no limit"),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('created_by', sa.Text(), nullable=False),
    sa.Column('revoked_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('revoked_by', sa.Text(), nullable=True),
    sa.CheckConstraint('requests_per_minute > 0', name=op.f('ck_client_key_requests_per_minute')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_client_key')),
    sa.UniqueConstraint('name', name=op.f('uq_client_key_name')),
    comment="who may ask the gateway, and for what; the keys themselves are kept nowhere"
    )


def downgrade() -> None:
    op.drop_table('client_key')
    for name in ('client', 'first_token_seconds', 'finish_reason', 'choices', 'messages'):
        op.drop_column('inference', name)
