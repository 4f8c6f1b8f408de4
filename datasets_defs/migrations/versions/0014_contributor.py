"""References and scores say whose word they are: a key's, the operator's, or nobody's."""

import sqlalchemy as sa
from alembic import op
revision = '0014'
down_revision = '0013'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('feedback', sa.Column('contributor', sa.Text(), nullable=True, comment="whose word it is: key:NAME, user:ID, ingest:WHO, anonymous; null: kept before this was"))


def downgrade() -> None:
    op.drop_column('feedback', 'contributor')
