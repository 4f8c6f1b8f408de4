"""A model may come from another installation: its events keep the numbers of incidents that they were hashed with."""

import sqlalchemy as sa
from alembic import op
revision = '0024'
down_revision = '0023'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('incident_event', sa.Column('origin_incident_id', sa.BigInteger(), nullable=True, comment="the incident's number in the installation that wrote the event; null: it is this one"))


def downgrade() -> None:
    op.drop_column('incident_event', 'origin_incident_id')
