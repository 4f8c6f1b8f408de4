"""What reconcile finds beside late work: claims of the dead, a silent server or sensor, aliases that differ."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from datasets_defs.core.incidents import Action, Incident, State, Wake
from datasets_defs.core.settings import settings
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store.heartbeats import SENSORS, beat, heartbeats
from monitors.triage import decide
from tests.monitors.loop import MODEL, Loop
from tests.proxy import proxy
from tests.training.uploads import Uploads
from training.reconcile import MAX_RINGS, find_due, free_the_held, mend, rings_due
from training.registry.registry import Registry
from training.watchdog import Standing, awake_since, sensor_finding, serving_finding

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)
LIMIT = timedelta(minutes=3)
CHAMPION = Champion(MODEL, 2, 1, AT - timedelta(hours=9), 2)
HOUR = timedelta(hours=1)
OLD = (datetime.now(UTC) - timedelta(days=1)).isoformat()


@pytest.fixture
def registry(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The run's registry, whose aliases are in line with a first champion."""
    monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", uploads.url)
    settings.cache_clear()
    return uploads.anew(MODEL, champion=1)


@pytest.fixture
def loop(engine: Engine, home: Path, registry: Registry) -> Loop:
    """A model with its first champion, a registry that is in line, a server and sensors that were just heard of."""
    loop = Loop(engine, home)
    loop.spec()
    loop.champion(since=datetime.now(UTC) - timedelta(days=1))
    loop.reference(("a", "b"))
    heard(loop)
    return loop


def heard(loop: Loop, *, version: int | None = 1) -> None:
    beat(loop.db, f"serving:{MODEL}", {"loaded_version": version})
    for sensor in SENSORS:
        beat(loop.db, f"{sensor}:{MODEL}")


def aged(loop: Loop, component: str, by: timedelta) -> None:
    """Let a component have been heard of last some time ago."""
    with loop.db.begin() as on:
        on.execute(text("UPDATE heartbeat SET at = now() - :by WHERE component = :name"), {"by": by, "name": component})


def heard_of_late(loop: Loop) -> None:
    """Let the server have fallen silent a day ago."""
    aged(loop, f"serving:{MODEL}", timedelta(days=1))


def told(loop: Loop) -> list[str]:
    return [kind for kind in loop.kinds() if kind.endswith(("_trouble", "_mended"))]


@pytest.mark.parametrize(
    ("beats", "said"),
    [
        pytest.param({"loaded_version": 2}, None, id="the champion"),
        pytest.param({"loaded_version": 1}, "serving has version 1 loaded", id="another"),
        pytest.param({"loaded_version": None, "load_error": "damaged"}, "no version loaded: damaged", id="none"),
        pytest.param(None, "never heard of", id="silence"),
    ],
)
def test_what_serving_says_is_held_against_the_ledger(beats: dict | None, said: str | None):
    """Only a server that says it has the champion loaded serves it."""
    known = {} if beats is None else {f"serving:{MODEL}": (AT, beats)}
    finding = serving_finding(CHAMPION, known, now=AT, limit=LIMIT)
    assert finding.standing is (Standing.FINE if said is None else Standing.WRONG)
    assert (said or "") in finding.reason


def test_a_server_that_fell_silent_is_not_healthy():
    """What it said last is not what it does now."""
    known = {f"serving:{MODEL}": (AT - 2 * LIMIT, {"loaded_version": 2})}
    assert "last heard of" in serving_finding(CHAMPION, known, now=AT, limit=LIMIT).reason


def test_a_new_champion_is_given_time():
    """Until serving had time to load it nobody can say: nothing is wrong, and nothing is mended."""
    new = Champion(MODEL, 2, 1, AT - LIMIT / 2, 2)
    for beats in ({}, {f"serving:{MODEL}": (AT, {"loaded_version": 1})}, {f"serving:{MODEL}": (AT - 2 * LIMIT, {})}):
        assert serving_finding(new, beats, now=AT, limit=LIMIT).standing is Standing.UNKNOWN
    loaded = {f"serving:{MODEL}": (AT, {"loaded_version": 2})}
    assert serving_finding(new, loaded, now=AT, limit=LIMIT).standing is Standing.FINE


@pytest.mark.parametrize(("windows", "late"), [(2.4, False), (2.6, True)])
def test_a_sensor_is_late_when_it_missed_two_windows(windows: float, late: bool):  # noqa: FBT001 parametrized
    """One missed window may be a restart; the time before anybody could expect it does not count."""
    known = {f"watch_drift:{MODEL}": (AT - windows * HOUR, {})}
    expected_since = {"now": AT, "window": HOUR}

    def standing(beats: dict, since: datetime) -> Standing:
        return sensor_finding(MODEL, "watch_drift", beats, since=since, **expected_since).standing

    assert standing(known, AT - 9 * HOUR) is (Standing.WRONG if late else Standing.FINE)
    assert standing({}, AT - windows * HOUR) is (Standing.WRONG if late else Standing.UNKNOWN)
    assert standing(known, AT - HOUR) is (Standing.UNKNOWN if late else Standing.FINE)


@pytest.mark.parametrize(
    ("ago", "awake"),
    [
        pytest.param(None, AT, id="first look"),
        pytest.param(timedelta(minutes=10), AT - 5 * HOUR, id="regular"),
        pytest.param(9 * HOUR, AT, id="after a night"),
        pytest.param(-HOUR, AT, id="clock set back"),
    ],
)
def test_after_a_night_nobody_is_late_at_once(ago: timedelta | None, awake: datetime):
    """A loop that stood still, or whose clock jumped, gives its parts time before it calls them late."""
    before = {"memory": {"awake": (AT - 5 * HOUR).isoformat()}}
    previous = None if ago is None else (AT - ago, before)
    assert awake_since(previous, now=AT, period=timedelta(minutes=10)) == awake


def test_serving_that_differs_is_told_once_and_once_when_mended(loop: Loop):
    """A difference has to last, is one event however often it is seen, and its end is another."""
    heard(loop, version=7)
    now, limit = datetime.now(UTC), timedelta(seconds=settings().serving_confirm_seconds)
    mend(db=loop.db, actor="reconcile:1", now=now)
    assert told(loop) == []
    for _ in range(3):
        heard(loop, version=7)
        mend(db=loop.db, actor="reconcile:1", now=now + limit)
    assert told(loop) == ["serving_trouble"]
    heard(loop)
    for _ in range(2):
        mend(db=loop.db, actor="reconcile:1", now=now + limit)
    assert told(loop) == ["serving_trouble", "serving_mended"]


def test_a_restart_of_serving_is_nobodys_trouble(loop: Loop):
    """A server that has nothing loaded at one look and the champion at the next differs from nothing."""
    now, limit = datetime.now(UTC), timedelta(seconds=settings().serving_confirm_seconds)
    for version, after in ((None, 0), (1, 1), (None, 2)):
        heard(loop, version=version)
        mend(db=loop.db, actor="reconcile:1", now=now + after * limit / 2)
    assert told(loop) == []


def test_another_server_is_not_asked_for_its_version(loop: Loop):
    """A server that is not ours beats no heart."""
    loop.spec(serving={"kind": "external"})
    with loop.db.begin() as on:
        on.execute(text("DELETE FROM heartbeat WHERE component LIKE 'serving:%'"))
    now = datetime.now(UTC)
    for after in (0, 1, 2):
        mend(db=loop.db, actor="reconcile:1", now=now + after * timedelta(minutes=5))
    assert told(loop) == []


def test_a_late_sensor_is_told_once_and_once_when_it_is_back(loop: Loop):
    """A sensor that is paused, fails or hangs is told of by the loop itself, by name."""
    start = datetime.now(UTC) - 9 * loop.length
    beat(loop.db, "reconcile", {"memory": {"awake": start.isoformat()}})
    aged(loop, f"watch_gpu:{MODEL}", 3 * loop.length)
    for _ in range(2):
        mend(db=loop.db, actor="reconcile:1", now=datetime.now(UTC))
    assert told(loop) == ["sensor_trouble"]
    assert "watch_gpu last finished" in loop.ledger.events(MODEL)[-1].reason
    heard(loop)
    mend(db=loop.db, actor="reconcile:1", now=datetime.now(UTC))
    assert told(loop) == ["sensor_trouble", "sensor_mended"]


@pytest.mark.parametrize("beat_of", ["missing", "old", "newer than the run"])
def test_no_all_clear_while_nobody_can_say(loop: Loop, beat_of: str):
    """A dead sensor and a dead server stay troubles after a gap of reconcile's, in its retry, and after a rollback."""
    now, limit = datetime.now(UTC), timedelta(seconds=settings().serving_confirm_seconds)
    aged(loop, f"watch_gpu:{MODEL}", 9 * loop.length)
    heard_of_late(loop)
    beat(loop.db, "reconcile", {"memory": {"awake": (now - 9 * loop.length).isoformat()}})
    mend(db=loop.db, actor="reconcile:1", now=datetime.now(UTC))
    beat(loop.db, "reconcile", {"memory": {"awake": (now - 9 * loop.length).isoformat(), f"serving:{MODEL}": OLD}})
    mend(db=loop.db, actor="reconcile:1", now=datetime.now(UTC))
    assert sorted(told(loop)) == ["sensor_trouble", "serving_trouble"]
    with loop.db.begin() as on:
        if beat_of == "missing":
            on.execute(text("DELETE FROM heartbeat WHERE component = 'reconcile'"))
        else:
            shift = -limit if beat_of == "newer than the run" else 9 * loop.length
            on.execute(text("UPDATE heartbeat SET at = now() - :by WHERE component = 'reconcile'"), {"by": shift})
    loop.champion(2, since=datetime.now(UTC), kind="promote")  # within the confirmation's time
    mend(db=loop.db, actor="reconcile:2", now=datetime.now(UTC))
    assert sorted(told(loop)) == ["sensor_trouble", "serving_trouble"]


def test_a_champion_without_a_reference_is_recorded_once(loop: Loop):
    """What it is judged by is made from its own traffic, and the record says since when."""
    loop.champion(2, since=datetime.now(UTC) - timedelta(days=1), kind="promote")
    heard(loop, version=2)
    for _ in range(2):
        mend(db=loop.db, actor="reconcile:1", now=datetime.now(UTC))
    assert told(loop) == ["reference_trouble"]


def test_mended_aliases_are_recorded_and_aliases_in_line_are_not(loop: Loop, uploads: Uploads):
    """Only what was changed is an event, with both states; an alias of somebody else's stays as it was."""
    mend(db=loop.db, actor="reconcile:1", now=datetime.now(UTC))
    assert "aliases" not in loop.kinds()
    registry = uploads.anew(MODEL, champion=2, challenger=3, somebodys=3)
    mend(db=loop.db, actor="reconcile:1", now=datetime.now(UTC))
    event = loop.ledger.events(MODEL)[-1]
    assert (event.kind, event.reason) == (
        "aliases",
        "the registry's aliases were challenger 3, champion 2; by the ledger they are champion 1 now",
    )
    assert registry.aliases(MODEL) == {"champion": 1, "somebodys": 3}


def test_messages_that_cannot_be_sent_are_counted(loop: Loop):
    """A message that was tried and is old counts; a new one, or one that was never tried, does not."""
    rows = [("a", 1, 40), ("b", 1, 10), ("c", 0, 40)]
    with loop.db.begin() as on:
        for key, attempts, minutes in rows:
            on.execute(
                text(
                    "INSERT INTO alert_outbox (key, model, severity, text, blocks, attempts, created_at) "
                    "VALUES (:key, 'm', 'info', 't', '{}', :attempts, now() - make_interval(mins => :minutes))"
                ),
                {"key": key, "attempts": attempts, "minutes": minutes},
            )
    mend(db=loop.db, actor="reconcile:1", now=datetime.now(UTC))
    assert heartbeats(loop.db)["reconcile"][1]["stuck_messages"] == 1


def test_a_dead_runs_claim_is_taken_back_before_its_lease_ends(loop: Loop):
    """The next wake-up follows at once, and a holder that lives after all can no longer write."""
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(0).start, reason="r", evidence={}, actor="t"
    )
    key = loop.ledger.ring(incident.id)
    take = {"frm": {State.OPEN}, "to": State.RETRAINING, "lease": HOUR, "reason": "due"}
    held = loop.ledger.claim(key, actor="retrain:1", **take).incident
    now = datetime.now(UTC)
    assert free_the_held(db=loop.db, actor="reconcile:1", ended=lambda name: name == "retrain:2") == []
    rings = find_due(db=loop.db, actor="reconcile:1", now=now, ended=lambda name: name == "retrain:1")
    assert [len(rings[wake]) for wake in (Wake.RETRAIN, Wake.TRIAGE)] == [1, 0]
    assert loop.kinds() == ["opened", "moved", "released", "rung"]
    with pytest.raises(Exception, match="must stop"):
        loop.ledger.renew(held, HOUR)
    assert loop.ledger.verify(MODEL) == []


def test_a_claim_that_changed_hands_meanwhile_is_left_alone(loop: Loop):
    """Between the question and the answer another run may have taken over."""
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(0).start, reason="r", evidence={}, actor="t"
    )
    key = loop.ledger.ring(incident.id)
    take = {"frm": {State.OPEN}, "to": State.RETRAINING, "reason": "due"}
    old = loop.ledger.claim(key, actor="retrain:1", lease=timedelta(0), **take).incident
    loop.ledger.claim(key, actor="retrain:2", lease=HOUR, **take)
    assert loop.ledger.release(old, actor="reconcile:1", reason="r") is None
    assert loop.ledger.incident(incident.id).claimed_by == "retrain:2"


def test_every_ring_says_why(loop: Loop):
    """A wake-up that reconcile sends is an event with its reason and its number."""
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(0).start, reason="r", evidence={}, actor="t"
    )
    loop.ledger.ring(incident.id)
    rings_due(db=loop.db, actor="reconcile:1", now=datetime.now(UTC) + timedelta(seconds=31))
    event = loop.ledger.events(MODEL)[-1]
    assert (event.kind, event.evidence) == ("rung", {"wake": "triage_due", "ring": 2})
    assert "nobody answered the last wake-up" in event.reason


def other_model(loop: Loop, name: str) -> Incident:
    """A second model with an open incident whose bell is old."""
    path = Path(settings().models_dir) / f"{MODEL}.yaml"
    (path.parent / f"{name}.yaml").write_text(path.read_text().replace(f"name: {MODEL}", f"name: {name}"))
    incident, _ = loop.ledger.open_incident(
        name, signal="loss", degraded_since=loop.window(0).start, reason="r", evidence={}, actor="t"
    )
    return incident


def test_a_registry_that_hangs_holds_up_no_bell(loop: Loop, monkeypatch: pytest.MonkeyPatch):
    """What lost its wake-up is found without the registry; once that was away for one model no other waits for it."""
    other_model(loop, "second")
    loop.ledger.change_champion("second", expected=None, to=1, kind="bootstrap", reason="r", actor="t")
    with proxy(int(settings().mlflow_url.rsplit(":", 1)[1])) as between:
        between.freeze()
        monkeypatch.setenv("DRIFTLOOP_MLFLOW_URL", f"http://127.0.0.1:{between.port}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        settings.cache_clear()
        rings = find_due(db=loop.db, actor="reconcile:1", now=datetime.now(UTC))
        assert len(rings[Wake.TRIAGE]) == 1
        assert between.accepted == 0
        done = mend(db=loop.db, actor="reconcile:1", now=datetime.now(UTC))
        assert between.accepted == 1
    away = f"reading the aliases of second: MLflow at http://127.0.0.1:{between.port}"
    assert f"failed: {away}" in done["second"]
    assert f"aliases not looked at: {away}" in done[MODEL]


def test_one_models_bug_stops_no_others_bell(loop: Loop, monkeypatch: pytest.MonkeyPatch):
    """An unexpected error about one model is told, and the other's incident is rung."""
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(0).start, reason="r", evidence={}, actor="t"
    )
    other_model(loop, "second")
    real = Ledger.ring

    def broken(self: Ledger, incident_id: int, **rest: object) -> object:
        if incident_id == incident.id:
            raise ZeroDivisionError("a bug")
        return real(self, incident_id, **rest)

    monkeypatch.setattr(Ledger, "ring", broken)
    rings = find_due(db=loop.db, actor="reconcile:1", now=datetime.now(UTC))
    assert [key.model for key in rings[Wake.TRIAGE]] == ["second"]


def test_what_never_begins_is_not_rung_for_ever(loop: Loop):
    """Twenty rounds in which every run fails before it claims: one event of ringing, then a person is called."""
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(0).start, reason="r", evidence={}, actor="t"
    )
    now = datetime.now(UTC)
    rung = [
        len(rings_due(db=loop.db, actor="reconcile:1", now=now + number * timedelta(minutes=10))[Wake.TRIAGE])
        for number in range(20)
    ]
    assert sum(rung) == MAX_RINGS
    assert loop.kinds() == ["opened", "rung", "moved"]
    escalated = loop.ledger.incident(incident.id)
    assert escalated.state is State.ESCALATED
    assert "wake-ups in a row began nothing" in loop.ledger.events(MODEL)[-1].reason


def test_a_step_that_begins_again_starts_the_count_anew(loop: Loop):
    """A claim between two silences answers the first one."""
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(0).start, reason="r", evidence={}, actor="t"
    )
    now = datetime.now(UTC)
    for number in range(MAX_RINGS - 1):
        rings_due(db=loop.db, actor="reconcile:1", now=now + number * timedelta(minutes=10))
    key = loop.ledger.ring(incident.id)
    loop.ledger.claim(
        key, frm={State.OPEN}, to=State.OPEN, actor="scale_gpu:1", lease=timedelta(), reason="a webhook was called"
    )
    for number in range(MAX_RINGS - 1):
        later = now + timedelta(days=1) + number * timedelta(minutes=10)
        assert len(rings_due(db=loop.db, actor="reconcile:1", now=later)[Wake.TRIAGE]) == 1
    assert loop.ledger.incident(incident.id).state is State.OPEN


def test_a_rollback_that_was_cut_short_goes_on(loop: Loop):
    """Killed after the change of champion, a rollback of an open incident is rung again, not triaged anew."""
    loop.champion(2, since=datetime.now(UTC) - timedelta(hours=2), kind="promote")
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(0).start, reason="r", evidence={}, actor="t"
    )
    ordered = loop.ledger.move(incident, State.OPEN, actor="cli:ann", reason="worse", action=Action.ROLL_BACK)
    claim = loop.ledger.claim(
        loop.ledger.ring(ordered.id), frm={State.OPEN}, to=State.OPEN, actor="cli:ann", lease=timedelta(), reason="r"
    )
    loop.ledger.change_champion(
        MODEL, expected=2, to=1, kind="roll_back", reason="worse", actor="cli:ann", incident=claim.incident
    )
    rings = find_due(db=loop.db, actor="reconcile:1", now=datetime.now(UTC) + timedelta(minutes=1))
    assert [len(rings[wake]) for wake in (Wake.ROLL_BACK, Wake.TRIAGE)] == [1, 0]
    decision = decide(str(loop.ledger.ring(incident.id)), db=loop.db, actor="triage:1")
    assert decision["action"] == Action.ROLL_BACK


@pytest.mark.parametrize("jump", [-HOUR, timedelta(), HOUR], ids=["an hour back", "no jump", "an hour on"])
def test_a_lost_wake_up_is_repaired_whatever_the_clock_did(loop: Loop, jump: timedelta):
    """A clock that jumps by an hour between a ring and the next look delays nothing."""
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(0).start, reason="r", evidence={}, actor="t"
    )
    loop.ledger.ring(incident.id)
    now = datetime.now(UTC) + timedelta(seconds=31) + jump
    assert len(rings_due(db=loop.db, actor="reconcile:1", now=now)[Wake.TRIAGE]) == 1
