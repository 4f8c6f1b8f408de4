"""The ids of logged requests in a table of their own: unique over all days, and known without touching every day."""

import sqlalchemy as sa
from alembic import op
revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('request_key',
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('request_id', sa.Text(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), nullable=False, comment='when the request was answered, as it was logged first'),
    sa.PrimaryKeyConstraint('model', 'request_id', name=op.f('pk_request_key')),
    comment="ids of logged requests, unique over all days; they go with the log's days"
    )
    op.create_index('ix_request_key_model_at', 'request_key', ['model', 'at'], unique=False)
    op.execute('INSERT INTO request_key (model, request_id, at) SELECT model, request_id, min(at) FROM inference GROUP BY 1, 2')
    op.create_table_comment('inference', 'the inference log; one partition a day; request_key keeps (model, request_id) unique over all days', existing_comment='the inference log; one partition a day; (model, request_id) is kept unique across days on writing')


def downgrade() -> None:
    op.create_table_comment('inference', 'the inference log; one partition a day; (model, request_id) is kept unique across days on writing', existing_comment='the inference log; one partition a day; request_key keeps (model, request_id) unique over all days')
    op.drop_table('request_key')
