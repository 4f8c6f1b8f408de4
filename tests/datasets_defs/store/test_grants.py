"""The loop's role on real PostgreSQL: it does its work, and cannot rewrite what it did."""

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import DBAPIError

from datasets_defs.core.errors import ContractError
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store.database import engine_for
from datasets_defs.store.grants import missing_privileges, require_privileges, rewritable
from datasets_defs.store.inference_log import Inference, append, drop_before
from datasets_defs.store.schema import migrate
from ops.stack.doctor import Grade, history_guard
from ops.stack.postgres import LOOP_ROLE, Cluster

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[str]:
    """The address, as superuser, of a database without a schema."""
    name = f"t_{secrets.token_hex(4)}"
    cluster.ensure_databases([name])
    yield cluster.url(name)
    server = engine_for(cluster.url("postgres")).execution_options(isolation_level="AUTOCOMMIT")
    with server.connect() as on:
        on.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


def as_role(url: str, role: str, password: str) -> str:
    return make_url(url).set(username=role, password=password).render_as_string(hide_password=False)


def test_the_loops_role_has_what_it_needs_and_no_more(engine: Engine):
    """Nothing is lacking, nothing is rewritable, and doctor says so."""
    require_privileges(engine)
    found = history_guard(engine)
    assert (found.grade, found.sentence) == (
        Grade.OK,
        "the loop's role appends to the history and cannot rewrite it",
    )


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE incident_event DISABLE TRIGGER ALL",
        "DROP TABLE incident_event",
        "UPDATE promotion SET reason = 'fine'",
        "DELETE FROM promotion",
        "UPDATE history_head SET seq = 0",
        "DELETE FROM history_head",
        "INSERT INTO history_head VALUES ('m', 1, 'x')",
        "DROP FUNCTION incident_event_follows_head CASCADE",
    ],
)
def test_the_record_is_out_of_the_loops_reach(engine: Engine, statement: str):
    """Whatever the loop's role tries on the record but reading and adding is denied by PostgreSQL."""
    Ledger(engine).change_champion("m", expected=None, to=1, kind="bootstrap", reason="first", actor="t")
    with pytest.raises(DBAPIError, match=r"permission denied|must be owner"), engine.begin() as on:
        on.execute(text(statement))


def test_a_shadowing_table_does_not_catch_the_head(engine: Engine):
    """A temporary table of the head's name is not what the trigger writes to."""
    with engine.begin() as on:
        on.execute(text("CREATE TEMP TABLE history_head (model text PRIMARY KEY, seq bigint, hash text)"))
        on.execute(
            text(
                "INSERT INTO incident_event (model, seq, at, kind, actor, reason, evidence, prev_hash, hash) "
                "VALUES ('m', 1, now(), 'note', 't', 'r', '{}', '0', 'h')"
            )
        )
        assert on.scalar(text("SELECT count(*) FROM history_head")) == 0
    with engine.connect() as on:
        assert on.execute(text("SELECT seq, hash FROM public.history_head")).all() == [(1, "h")]


def test_partitions_are_the_loops_own(engine: Engine):
    """The loop's role makes the log's partitions and drops them."""
    append(engine, [Inference(model="m", request_id="1", at=NOW, prompt="a")])
    assert drop_before(engine, NOW + timedelta(days=2)) == ["inference_20260501"]


def test_a_confirmation_fills_in_one_time_once(engine: Engine):
    """Serving's confirmation is the one thing that may be added to a promotion later."""
    ledger = Ledger(engine)
    champion = ledger.change_champion("m", expected=None, to=1, kind="bootstrap", reason="first", actor="t")
    ledger.confirm_champion(champion)
    with engine.connect() as on:
        assert on.scalar(text("SELECT confirmed_at IS NOT NULL FROM promotion"))


def test_a_home_of_before_is_handed_over(empty: str, cluster: Cluster):
    """A database that one role did everything in, with partitions and a history, is split by the next start."""
    migrate(empty)
    before = engine_for(empty)
    Ledger(before).note("m", "note", "old", {}, actor="t")
    append(before, [Inference(model="m", request_id="1", at=NOW, prompt="a")])
    before.dispose()
    cluster.ensure_role(LOOP_ROLE, "loop")
    for _ in range(2):
        migrate(empty, LOOP_ROLE)
    loop = engine_for(as_role(empty, LOOP_ROLE, "loop"))
    require_privileges(loop)
    Ledger(loop).note("m", "note", "new", {}, actor="t")
    assert Ledger(loop).verify("m") == []
    assert drop_before(loop, NOW + timedelta(days=2)) == ["inference_20260501"]
    loop.dispose()


def test_an_ordinary_owner_is_enough(empty: str, cluster: Cluster):
    """No superuser is needed: an owner of the database who is a member of the loop's role is enough."""
    name = make_url(empty).database
    cluster.ensure_role("an_owner", "own")
    cluster.ensure_role(LOOP_ROLE, "loop")
    with engine_for(empty).begin() as on:
        on.execute(text(f"ALTER DATABASE {name} OWNER TO an_owner"))
        on.execute(text(f"GRANT {LOOP_ROLE} TO an_owner"))
    owner = as_role(empty, "an_owner", "own")
    for _ in range(2):
        migrate(owner, LOOP_ROLE)
    loop = engine_for(as_role(empty, LOOP_ROLE, "loop"))
    require_privileges(loop)
    opened, _ = Ledger(loop).open_incident("m", signal="drift", degraded_since=NOW, reason="r", evidence={}, actor="t")
    assert [event.incident_id for event in Ledger(loop).events("m")] == [opened.id]
    loop.dispose()


def test_what_the_administrator_has_to_do_is_said(empty: str, cluster: Cluster):
    """A role that does not exist, or that the owner is no member of, is an error that names the statements."""
    with pytest.raises(ContractError, match=r"role nobody_yet does not exist.*CREATE ROLE nobody_yet LOGIN"):
        migrate(empty, "nobody_yet")
    cluster.ensure_role("a_stranger", "own")
    cluster.ensure_role(LOOP_ROLE, "loop")
    with engine_for(empty).begin() as on:
        on.execute(text(f"ALTER DATABASE {make_url(empty).database} OWNER TO a_stranger"))
    with pytest.raises(ContractError, match=f"a_stranger is no member of {LOOP_ROLE}.*GRANT {LOOP_ROLE} TO a_stranger"):
        migrate(as_role(empty, "a_stranger", "own"), LOOP_ROLE)


def test_the_loops_role_alone_cannot_migrate(cluster: Cluster, empty: str):
    """Without the owner's address a schema that is the owner's is left as it is, and the setting is named."""
    cluster.ensure_role(LOOP_ROLE, "loop")
    migrate(empty, LOOP_ROLE)
    with engine_for(empty).begin() as on:
        on.execute(text("DROP FUNCTION incident_event_follows_head CASCADE"))
        on.execute(text("DROP TABLE history_head"))
        on.execute(text("UPDATE alembic_version SET version_num = '0004'"))
    with pytest.raises(ContractError, match=r"may not migrate.*DRIFTLOOP_OWNER_DATABASE_URL"):
        migrate(as_role(empty, LOOP_ROLE, "loop"))


def test_lacking_and_excessive_privileges_are_named(engine: Engine, owner: Engine):
    """What the role lacks keeps it from working; what it has too much of is a warning."""
    with owner.begin() as on:
        on.execute(text(f"REVOKE INSERT ON incident_event FROM {LOOP_ROLE}"))
        on.execute(text(f"GRANT DELETE ON incident_event TO {LOOP_ROLE}"))
        on.execute(text("ALTER TABLE pause OWNER TO CURRENT_USER"))
    assert missing_privileges(engine) == [
        f"role {LOOP_ROLE} lacks INSERT on incident_event",
        f"role {LOOP_ROLE} lacks ownership of pause",
    ]
    assert rewritable(engine) == [f"role {LOOP_ROLE} may DELETE incident_event"]
    assert history_guard(engine).grade is Grade.BAD
    with pytest.raises(ContractError, match=r"lacks INSERT on incident_event.*may DELETE.*driftloop migrate"):
        require_privileges(engine)


def test_one_role_for_everything_is_warned_of(owner: Engine):
    """A superuser, or the owner, works and is not kept from rewriting the history: doctor warns."""
    assert missing_privileges(owner) == []
    found = history_guard(owner)
    assert (found.grade, "superuser" in found.sentence) == (Grade.WARN, True)


def test_doctor_says_nothing_wrong_of_a_database_that_is_down():
    """Before the first start there is no role to ask about."""
    found = history_guard(engine_for("postgresql://x@127.0.0.1:1/x"))
    assert (found.grade, "is asked at each start" in found.sentence) == (Grade.OK, True)
