"""A challenger may take the users over step by step: who answers whom, and what users got."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0019'
down_revision = '0018'
branch_labels = None
depends_on = None

BEFORE = "state IN ('open', 'retraining', 'evaluating', 'approving', 'promoting', 'probation', 'quarantined', 'rejected', 'escalated', 'resolved', 'rolled_back')"
AFTER = "state IN ('open', 'retraining', 'evaluating', 'approving', 'rollout', 'promoting', 'probation', 'quarantined', 'rejected', 'escalated', 'resolved', 'rolled_back')"


def upgrade() -> None:
    op.drop_constraint(op.f('ck_incident_state'), 'incident', type_='check')
    op.create_check_constraint(op.f('ck_incident_state'), 'incident', AFTER)
    op.create_table('route',
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('incident_id', sa.BigInteger(), nullable=False),
    sa.Column('champion_version', sa.Integer(), nullable=False),
    sa.Column('challenger_version', sa.Integer(), nullable=False),
    sa.Column('step', sa.Integer(), nullable=False, comment="0, 1, 2 … of the steps in the YAML; the one that is wanted"),
    sa.Column('share', sa.Float(), nullable=False, comment="of users whom the challenger answers now"),
    sa.Column('replicas', postgresql.JSONB(), nullable=False, comment="addresses that hold the challenger; empty: the one server both"),
    sa.Column('held', postgresql.JSONB(), nullable=False, comment="addresses that answer nobody while they are brought to a version"),
    sa.Column('since', sa.DateTime(timezone=True), nullable=True, comment="when the wanted step's share was reached; null: it is not yet"),
    sa.Column('ending', sa.Boolean(), nullable=False, comment="whether the challenger leaves, and nobody is answered by it"),
    sa.Column('token', sa.BigInteger(), nullable=False, comment="grows with every change"),
    sa.CheckConstraint('share >= 0 AND share <= 1', name=op.f('ck_route_share')),
    sa.ForeignKeyConstraint(['incident_id'], ['incident.id'], name=op.f('fk_route_incident_id_incident')),
    sa.PrimaryKeyConstraint('model', name=op.f('pk_route')),
    comment="which users two versions of a model answer, while both serve; no row: the champion answers all"
    )
    op.create_table('arm_tally',
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('incident_id', sa.BigInteger(), nullable=False),
    sa.Column('step', sa.Integer(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False, comment="whose users asked"),
    sa.Column('bucket', sa.Integer(), nullable=False, comment="of a hash of the user: users cannot be told from it"),
    sa.Column('requests', sa.BigInteger(), nullable=False),
    sa.Column('errors', sa.BigInteger(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False, comment="when it last grew"),
    sa.CheckConstraint('errors >= 0 AND errors <= requests', name=op.f('ck_arm_tally_errors')),
    sa.PrimaryKeyConstraint('model', 'incident_id', 'step', 'version', 'bucket', name=op.f('pk_arm_tally')),
    comment="requests and failures of both versions in a step of a rollout, as gateways counted them"
    )


def downgrade() -> None:
    op.drop_table('arm_tally')
    op.drop_table('route')
    op.execute("UPDATE incident SET state = 'escalated' WHERE state = 'rollout'")
    op.drop_constraint(op.f('ck_incident_state'), 'incident', type_='check')
    op.create_check_constraint(op.f('ck_incident_state'), 'incident', BEFORE)
