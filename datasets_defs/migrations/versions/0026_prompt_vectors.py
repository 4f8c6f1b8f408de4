"""Some prompts of each window are kept as vectors; pgvector compares them where the server has it."""

import sqlalchemy as sa
from alembic import op
revision = '0026'
down_revision = '0024'
branch_labels = None
depends_on = None

# Only a superuser may create it. Elsewhere an administrator does, at any time; until then numpy compares.
PGVECTOR = """
DO $$ BEGIN
  IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')
     AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    CREATE EXTENSION IF NOT EXISTS vector;
  END IF;
END $$
"""


def upgrade() -> None:
    op.create_table('prompt_vector',
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('window_end', sa.DateTime(timezone=True), nullable=False),
    sa.Column('request_id', sa.Text(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), nullable=False, comment='when the request was answered; with it the log is read'),
    sa.Column('space', sa.Text(), nullable=False, comment='what made the vector; only those of one space are compared'),
    sa.Column('vector', sa.ARRAY(sa.REAL()), nullable=False, comment='of the redacted prompt, of length 1; no text stands here'),
    sa.PrimaryKeyConstraint('model', 'window_end', 'request_id', name=op.f('pk_prompt_vector')),
    comment='where some prompts of each window lie; the texts stay in the log'
    )
    op.create_index('ix_prompt_vector_at', 'prompt_vector', ['at'])
    op.execute(PGVECTOR)


def downgrade() -> None:
    op.drop_table('prompt_vector')
