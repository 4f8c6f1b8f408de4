"""The newest event of each history, kept by the database itself, so that a history that was cut short shows."""

import sqlalchemy as sa
from alembic import op
revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('history_head',
    sa.Column('model', sa.Text(), nullable=False),
    sa.Column('seq', sa.BigInteger(), nullable=False),
    sa.Column('hash', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('model', name=op.f('pk_history_head')),
    comment="each history's newest event, written by a trigger that runs as the owner"
    )
    op.alter_column('promotion', 'kind', existing_type=sa.Text(), existing_nullable=False,
    comment='bootstrap | promote | roll_back | revert | drill | drill_end',
    existing_comment='bootstrap | promote | roll_back | revert')
    op.execute(
        "INSERT INTO history_head (model, seq, hash) "
        "SELECT DISTINCT ON (model) model, seq, hash FROM incident_event ORDER BY model, seq DESC"
    )
    schema = op.get_bind().dialect.identifier_preparer.quote(op.get_bind().scalar(sa.text("SELECT current_schema()")))
    op.execute(
        f"""
        CREATE FUNCTION incident_event_follows_head() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$
        BEGIN
            IF NEW.seq = 1 THEN
                INSERT INTO history_head (model, seq, hash) VALUES (NEW.model, NEW.seq, NEW.hash)
                ON CONFLICT DO NOTHING;
            ELSE
                UPDATE history_head SET seq = NEW.seq, hash = NEW.hash
                WHERE model = NEW.model AND seq = NEW.seq - 1 AND hash = NEW.prev_hash;
            END IF;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'event % of % does not follow its newest event', NEW.seq, NEW.model;
            END IF;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER follows_head AFTER INSERT ON incident_event "
        "FOR EACH ROW EXECUTE FUNCTION incident_event_follows_head()"
    )
    op.execute(
        "CREATE TRIGGER no_truncate BEFORE TRUNCATE ON incident_event "
        "FOR EACH STATEMENT EXECUTE FUNCTION incident_event_is_append_only()"
    )


def downgrade() -> None:
    op.alter_column('promotion', 'kind', existing_type=sa.Text(), existing_nullable=False,
    comment='bootstrap | promote | roll_back | revert',
    existing_comment='bootstrap | promote | roll_back | revert | drill | drill_end')
    op.execute("DROP TRIGGER no_truncate ON incident_event")
    op.execute("DROP TRIGGER follows_head ON incident_event")
    op.execute("DROP FUNCTION incident_event_follows_head")
    op.drop_table('history_head')
