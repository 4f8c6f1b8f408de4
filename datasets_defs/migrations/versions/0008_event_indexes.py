"""A history is asked for its newest events of a kind, or of an incident, without reading it whole."""

from alembic import op
revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index('ix_incident_event_kind', 'incident_event', ['model', 'kind', 'seq'])
    op.create_index('ix_incident_event_incident', 'incident_event', ['incident_id', 'seq'])


def downgrade() -> None:
    op.drop_index('ix_incident_event_incident', 'incident_event')
    op.drop_index('ix_incident_event_kind', 'incident_event')
