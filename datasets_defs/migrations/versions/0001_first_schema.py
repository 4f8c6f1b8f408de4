"""The first schema of the loop."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('alert_outbox',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('key', sa.Text(), nullable=False, comment='what the message is about; one message per key'),
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('incident_id', sa.BigInteger(), nullable=True),
    sa.Column('severity', sa.Text(), nullable=False),
    sa.Column('text', sa.Text(), nullable=False, comment='plain text for notifications and for `driftloop status`'),
    sa.Column('blocks', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('attempts', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('next_attempt_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('last_error', sa.Text(), nullable=True),
    sa.Column('sent_at', sa.DateTime(timezone=True), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_alert_outbox')),
    sa.UniqueConstraint('key', name=op.f('uq_alert_outbox_key')),
    comment='messages to people; written with the work, delivered apart from it'
    )
    op.create_index('ix_alert_outbox_waiting', 'alert_outbox', ['next_attempt_at'], unique=False, postgresql_where=sa.text('sent_at IS NULL'))
    op.create_table('champion',
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('previous_version', sa.Integer(), nullable=True, comment='where a rollback goes'),
    sa.Column('since', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('token', sa.BigInteger(), server_default=sa.text('1'), nullable=False, comment='grows with every change'),
    sa.PrimaryKeyConstraint('model', name=op.f('pk_champion')),
    comment="which version serves; the registry's aliases are copies of this"
    )
    op.create_table('feedback',
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('request_id', sa.Text(), nullable=False),
    sa.Column('reference', sa.Text(), nullable=True, comment='what a person wrote for the prompt'),
    sa.Column('score', sa.Float(), nullable=True, comment="a person's rating, 0..1"),
    sa.Column('received_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint('reference IS NOT NULL OR score IS NOT NULL', name=op.f('ck_feedback_says_something')),
    sa.PrimaryKeyConstraint('model', 'request_id', name=op.f('pk_feedback')),
    comment='late references and scores; they join the log by request id, and may arrive before it'
    )
    op.create_table('heartbeat',
    sa.Column('component', sa.Text(), nullable=False, comment='e.g. serving:docs-writer, watch_drift'),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('details', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.PrimaryKeyConstraint('component', name=op.f('pk_heartbeat')),
    comment='who is alive, and what it says of itself'
    )
    op.create_table('incident',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('signal', sa.Text(), nullable=False),
    sa.Column('opened_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('degraded_since', sa.DateTime(timezone=True), nullable=False),
    sa.Column('attempt', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('rings', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('rung_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('token', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('claimed_by', sa.Text(), nullable=True),
    sa.Column('lease_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('not_before', sa.DateTime(timezone=True), nullable=True),
    sa.Column('cause', sa.Text(), nullable=True),
    sa.Column('action', sa.Text(), nullable=True),
    sa.Column('challenger_version', sa.Integer(), nullable=True),
    sa.Column('approved', sa.Boolean(), server_default=sa.text('false'), nullable=False),
    sa.Column('closed_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('evidence', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.CheckConstraint("state IN ('open', 'retraining', 'evaluating', 'approving', 'promoting', 'probation', 'quarantined', 'rejected', 'escalated', 'resolved', 'rolled_back')", name=op.f('ck_incident_state')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_incident')),
    comment='the ledger: one row per incident, moved only by compare-and-set'
    )
    op.create_index('uq_incident_one_open_per_model', 'incident', ['model'], unique=True, postgresql_where=sa.text("state NOT IN ('resolved', 'rolled_back')"))
    op.create_table('inference',
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('request_id', sa.Text(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), nullable=False, comment='when the request was answered'),
    sa.Column('model_version', sa.Integer(), nullable=True, comment='registry version that answered; null in a foreign log'),
    sa.Column('prompt', sa.Text(), nullable=False),
    sa.Column('completion', sa.Text(), nullable=True),
    sa.Column('prompt_bits_per_byte', sa.Float(), nullable=True, comment='loss on text the model did not write; needs no label'),
    sa.Column('completion_bits_per_byte', sa.Float(), nullable=True),
    sa.Column('prompt_tokens', sa.Integer(), nullable=True),
    sa.Column('completion_tokens', sa.Integer(), nullable=True),
    sa.Column('latency_seconds', sa.Float(), nullable=True),
    sa.Column('user_id', sa.Text(), nullable=True),
    sa.Column('session_id', sa.Text(), nullable=True),
    sa.Column('attributes', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.PrimaryKeyConstraint('model', 'request_id', 'at', name=op.f('pk_inference')),
    comment='the inference log; one partition a day; (model, request_id) is kept unique across days on writing',
    postgresql_partition_by='RANGE (at)'
    )
    op.create_index('ix_inference_model_at', 'inference', ['model', 'at'], unique=False)
    op.create_table('quarantined_row',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('source', sa.Text(), nullable=False, comment='file that held the row'),
    sa.Column('row_number', sa.BigInteger(), nullable=False, comment='1-based line or row'),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('content', sa.Text(), nullable=True, comment='the row as found, cut to 10,000 characters'),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_quarantined_row')),
    sa.UniqueConstraint('model', 'source', 'row_number', name=op.f('uq_quarantined_row_model_source_row_number')),
    comment='rows that could not be ingested, and why'
    )
    op.create_table('reference_profile',
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False, comment='model version that the rows are a reference for'),
    sa.Column('uri', sa.Text(), nullable=False, comment='Parquet: request_id, prompt, reference, prompt_bits_per_byte, role'),
    sa.Column('sha256', sa.Text(), nullable=False),
    sa.Column('rows', sa.Integer(), nullable=False),
    sa.Column('source', sa.Text(), nullable=False, comment='where the rows come from, in words'),
    sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('model', 'version', name=op.f('pk_reference_profile')),
    comment='what each champion is judged against; bound to its version, so it changes with promotion and rollback'
    )
    op.create_table('verdict',
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('signal', sa.Text(), nullable=False),
    sa.Column('window_start', sa.DateTime(timezone=True), nullable=False),
    sa.Column('window_end', sa.DateTime(timezone=True), nullable=False),
    sa.Column('condition', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('method', sa.Text(), nullable=False),
    sa.Column('score', sa.Float(), nullable=True),
    sa.Column('limit', sa.Float(), nullable=True),
    sa.Column('champion_version', sa.Integer(), nullable=True),
    sa.Column('evidence', postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
    sa.Column('judged_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("condition IN ('OK', 'WARN', 'BAD', 'NO_DATA', 'STALE')", name=op.f('ck_verdict_condition')),
    sa.PrimaryKeyConstraint('model', 'signal', 'window_end', 'window_start', name=op.f('pk_verdict')),
    comment='one judgement per model, signal and window'
    )
    op.create_table('evaluation',
    sa.Column('incident_id', sa.BigInteger(), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('champion_version', sa.Integer(), nullable=False),
    sa.Column('challenger_version', sa.Integer(), nullable=False),
    sa.Column('rows_uri', sa.Text(), nullable=False, comment='the frozen rows both were scored on'),
    sa.Column('rows_sha256', sa.Text(), nullable=False),
    sa.Column('scores', postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment='bits per byte of both, by slice, with intervals'),
    sa.Column('decision', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.CheckConstraint("decision IN ('accept', 'reject', 'inconclusive')", name=op.f('ck_evaluation_decision')),
    sa.ForeignKeyConstraint(['incident_id'], ['incident.id'], name=op.f('fk_evaluation_incident_id_incident')),
    sa.PrimaryKeyConstraint('incident_id', 'attempt', name=op.f('pk_evaluation')),
    comment="one evaluation per attempt, with the gate's decision"
    )
    op.create_table('incident_event',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('seq', sa.BigInteger(), nullable=False, comment='1, 2, 3 … per model'),
    sa.Column('incident_id', sa.BigInteger(), nullable=True, comment='null for what concerns the model alone'),
    sa.Column('at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('from_state', sa.Text(), nullable=True),
    sa.Column('state', sa.Text(), nullable=True),
    sa.Column('actor', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('evidence', postgresql.JSONB(astext_type=sa.Text()), nullable=False),
    sa.Column('prev_hash', sa.Text(), nullable=False),
    sa.Column('hash', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['incident_id'], ['incident.id'], name=op.f('fk_incident_event_incident_id_incident')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_incident_event')),
    sa.UniqueConstraint('model', 'seq', name=op.f('uq_incident_event_model_seq')),
    comment="what happened, in order; each row's hash covers the one before; never updated"
    )
    op.create_table('promotion',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('incident_id', sa.BigInteger(), nullable=True),
    sa.Column('kind', sa.Text(), nullable=False, comment='bootstrap | promote | roll_back | revert'),
    sa.Column('from_version', sa.Integer(), nullable=True),
    sa.Column('to_version', sa.Integer(), nullable=False),
    sa.Column('token', sa.BigInteger(), nullable=False, comment='champion token that this change set'),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('actor', sa.Text(), nullable=False),
    sa.Column('at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('confirmed_at', sa.DateTime(timezone=True), nullable=True, comment='when serving reported the version'),
    sa.ForeignKeyConstraint(['incident_id'], ['incident.id'], name=op.f('fk_promotion_incident_id_incident')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_promotion')),
    sa.UniqueConstraint('model', 'token', name=op.f('uq_promotion_model_token')),
    comment='every change of champion, in order'
    )
    op.execute(
        """
        CREATE FUNCTION incident_event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'incident_event is append-only: % refused', TG_OP;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON incident_event "
        "FOR EACH ROW EXECUTE FUNCTION incident_event_is_append_only()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER append_only ON incident_event")
    op.execute("DROP FUNCTION incident_event_is_append_only")
    op.drop_table('promotion')
    op.drop_table('incident_event')
    op.drop_table('evaluation')
    op.drop_table('verdict')
    op.drop_table('reference_profile')
    op.drop_table('quarantined_row')
    op.drop_index('ix_inference_model_at', table_name='inference')
    op.drop_table('inference')
    op.drop_index('uq_incident_one_open_per_model', table_name='incident', postgresql_where=sa.text("state NOT IN ('resolved', 'rolled_back')"))
    op.drop_table('incident')
    op.drop_table('heartbeat')
    op.drop_table('feedback')
    op.drop_table('champion')
    op.drop_index('ix_alert_outbox_waiting', table_name='alert_outbox', postgresql_where=sa.text('sent_at IS NULL'))
    op.drop_table('alert_outbox')
