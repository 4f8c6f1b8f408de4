"""A person's word stays with the incident until what was ordered is done, whoever takes it up, in a pause too."""

import sqlalchemy as sa
from alembic import op
revision = '0012'
down_revision = '0011'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('incident', sa.Column('ordered_by', sa.Text(), nullable=True, comment="person at whose word the next step is taken; null: at the loop's own"))


def downgrade() -> None:
    op.drop_column('incident', 'ordered_by')
