"""What a window reads does not grow with a model's history: counted by PostgreSQL itself."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from prometheus_client import Metric
from sqlalchemy import Engine, text

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.incidents import State
from datasets_defs.store.database import engine_for
from datasets_defs.store.partitions import ensure_days
from datasets_defs.store.verdicts import save_verdict
from monitors import watch_drift
from monitors.exporter import LoopCollector
from monitors.labels.judge import judge as labels
from monitors.verdicts.conclude import conclude, judged_window
from ops.stack.postgres import USER
from tests.monitors.loop import MODEL, Loop
from training import reconcile, watchdog

EVENTS = 50_000
_LIVED = text(
    "INSERT INTO incident_event (model, seq, incident_id, at, kind, actor, reason, evidence, prev_hash, hash) "
    "SELECT :model, seq, NULL, now(), kinds[1 + seq % 4], 'test', 'r', evidences[1 + seq % 4], '', '' "
    "FROM generate_series(CAST(:first AS bigint), :first + :count - 1) AS seq, "
    "(SELECT ARRAY['note', 'champion', 'rung', 'aliases'] AS kinds, "
    "ARRAY['{}', '{\"a\": 1}', '{\"ring\": 1}', '{}']::jsonb[] AS evidences)"
)
_JUDGED = text(
    "INSERT INTO verdict (model, signal, window_start, window_end, condition, reason, method, evidence) "
    "SELECT :model, signal, :until - (n + 1) * :length, :until - n * :length, 'OK', 'r', 'test', '{}' "
    "FROM generate_series(1, :count) AS n, unnest(ARRAY['data', 'drift', 'loss', 'gpu']) AS signal"
)
_READ = text("SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables WHERE relname LIKE :table")


def owner_of(loop: Loop) -> Engine:
    """Connect as the tables' owner, which the loop is not."""
    return engine_for(loop.db.url.set(username=USER, password="test").render_as_string(hide_password=False))


def rows_read(loop: Loop, step: Callable[[], object], *, table: str = "incident_event") -> int:
    """Count the rows of tables that PostgreSQL reads, by index or not, while a step runs."""

    def total() -> int:
        loop.db.dispose()  # a session tells what it read at its end, at the latest
        owner = owner_of(loop)
        with owner.connect() as on:
            while on.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")) != 1:
                on.rollback()
            read = int(on.scalar(_READ, {"table": table}))
        owner.dispose()
        return read

    before = total()
    step()
    return total() - before


def lived(loop: Loop) -> None:
    """Give the model a long history, and let PostgreSQL know of it."""
    owner = owner_of(loop)
    head = loop.ledger.head(MODEL)
    assert head is not None
    with owner.begin() as on:
        on.execute(text("ALTER TABLE incident_event DISABLE TRIGGER USER"))
        on.execute(_LIVED, {"model": MODEL, "first": head.seq + 1, "count": EVENTS})
        on.execute(text("ALTER TABLE incident_event ENABLE TRIGGER USER"))
        on.execute(text("UPDATE history_head SET seq = seq + :count, hash = ''"), {"count": EVENTS})
    with owner.connect().execution_options(isolation_level="AUTOCOMMIT") as on:
        on.execute(text("VACUUM ANALYZE incident_event"))
    owner.dispose()


def test_a_window_reads_as_much_after_years(loop: Loop) -> None:
    """After 50,000 events a sensor's window, reconcile and the watchdog read no more events than in the first hour."""
    spec = loop.spec()
    loop.champion()
    loop.verdict(1, "loss", Condition.BAD)
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(1).start, reason="r", evidence={}, actor="t"
    )
    rules = dict.fromkeys(("drift", "loss"), spec.drift.confirm)
    champion = loop.ledger.champion(MODEL)
    assert champion is not None

    def sense(number: int) -> None:
        verdicts = [loop.verdict(number, signal, Condition.NO_DATA) for signal in rules]
        conclude(verdicts, rules, blind_after=2, db=loop.db, actor="t")

    def look() -> None:
        memory = {"awake": loop.window(0).start.isoformat()}
        watchdog.look(MODEL, champion, db=loop.db, beats={}, memory=memory, now=loop.until(9), actor="t")

    def ring() -> None:
        reconcile.rings_due(db=loop.db, actor="t", now=incident.updated_at + 9 * loop.length)

    for number in (1, 2):
        sense(number)
    look()
    ring()
    young = [rows_read(loop, step) for step in (lambda: sense(3), look, ring)]
    lived(loop)
    old = [rows_read(loop, step) for step in (lambda: sense(4), look, ring)]
    assert loop.kinds().count("blind") == 1
    assert all(after <= before + 5 for before, after in zip(young, old, strict=True)), (young, old)
    assert max(old) < 50


def test_a_scrape_reads_as_much_after_years(loop: Loop) -> None:
    """With 20,000 verdicts and a window of 500 requests a scrape touches under 100 rows of all tables together."""
    loop.champion()
    loop.champion(2, kind="promote")
    window = judged_window(datetime.now(UTC))
    lately = (window.end - loop.window(0).end) // loop.length
    loop.traffic(lately, ("a prompt",) * 500, version=2)
    values = {"model": MODEL, "until": window.end, "length": loop.length, "count": 5_000}
    with loop.db.begin() as on:
        on.execute(_JUDGED, values)
    owner = owner_of(loop)
    with owner.connect().execution_options(isolation_level="AUTOCOMMIT") as on:
        on.execute(text("VACUUM ANALYZE"))
    owner.dispose()
    collector = LoopCollector(loop.db)

    def scraped() -> dict[str, Metric]:
        return {family.name: family for family in collector.collect()}

    assert [sample.value for sample in scraped()["driftloop_inference_rows"].samples] == [500]
    families: dict[str, Metric] = {}
    assert rows_read(loop, lambda: families.update(scraped()), table="%") < 100
    shown = {sample.labels["signal"] for sample in families["driftloop_verdict_age_seconds"].samples}
    assert shown == {"data", "drift", "loss", "gpu"}
    assert [sample.value for sample in families["driftloop_inference_rows"].samples] == [500]


_LOGGED = text(
    "INSERT INTO inference (model, request_id, at, model_version, prompt) "
    "SELECT :model, 'r' || n, :start + n * interval '3 minutes', CASE WHEN n % 20 = 0 THEN 1 ELSE 7 END, 'a prompt' "
    "FROM generate_series(0, :count - 1) AS n"
)
_LABELLED = text(
    "INSERT INTO feedback (model, request_id, score) SELECT model, request_id, 1 FROM inference WHERE model_version = 1"
)


def test_without_a_reference_a_window_reads_as_much_after_weeks(loop: Loop) -> None:
    """Until there is enough for a reference a window reads its own rows and labels, not all since the promotion."""
    hours = 1_000
    spec = loop.spec(labels=[{"name": "thumbs", "min_labels": 500, "maturity_windows": 0}], drift={"min_rows": 1_000})
    loop.champion()
    start = loop.window(0).start
    ensure_days(loop.db, [(start + timedelta(days=day)).date() for day in range(hours // 24 + 2)])
    with loop.db.begin() as on:
        on.execute(_LOGGED, {"model": MODEL, "start": start, "count": 20 * hours})
        on.execute(_LABELLED)
    owner = owner_of(loop)
    with owner.connect().execution_options(isolation_level="AUTOCOMMIT") as on:
        on.execute(text("VACUUM ANALYZE"))
    owner.dispose()
    champion = loop.ledger.champion(MODEL)
    assert champion is not None

    def judge(number: int) -> list[Verdict]:
        window = loop.window(number)
        verdicts = [*watch_drift.judge(spec, champion, window, db=loop.db), *labels(spec, champion, window, db=loop.db)]
        for verdict in verdicts:
            save_verdict(loop.db, verdict)
        return verdicts

    read = []
    for number in (30, hours - 1):
        judge(number - 1)
        for table in ("inference%", "feedback"):
            with loop.db.begin() as on:
                on.execute(text("DELETE FROM verdict WHERE window_end = :at"), {"at": loop.window(number).end})
            read.append(rows_read(loop, lambda at=number: judge(at), table=table))
    found = {verdict.signal: verdict for verdict in judge(hours - 1)}
    assert "1000 of the 5000 logged requests" in found["data"].reason
    assert "1000 of the 2500 labels" in found["label:thumbs"].reason
    assert (read[2] <= read[0] + 20, read[3] <= read[1] + 20, max(read) < 3_000) == (True, True, True), read


def test_what_is_blind_is_known_from_the_newest_event(loop: Loop) -> None:
    """Signals that go blind and are seen again one by one are each told once; events of earlier releases count."""
    spec = loop.spec()
    loop.champion()
    loop.ledger.note(MODEL, "blind", "r", {"signals": ["drift", "loss"], "signal": "drift, loss"}, actor="t")
    rules = dict.fromkeys(("drift", "loss", "data"), spec.drift.confirm)
    for number in range(1, 4):
        verdicts = [
            loop.verdict(number, "drift", Condition.NO_DATA),
            loop.verdict(number, "loss", Condition.OK),
            loop.verdict(number, "data", Condition.NO_DATA),
        ]
        conclude(verdicts, rules, blind_after=2, db=loop.db, actor="t")
    told = [(event.kind, event.evidence["signals"]) for event in loop.ledger.events_of(MODEL, "blind", "sighted")]
    assert told == [("blind", ["drift", "loss"]), ("sighted", ["loss"]), ("blind", ["data"])]
    newest = loop.ledger.newest_of(MODEL, "blind", "sighted")
    assert newest is not None
    assert newest.evidence["blind"] == ["data", "drift"]
    assert State.OPEN not in {event.state for event in loop.ledger.events(MODEL)}
