"""Windows, schedules, model specs, due work, history: the pure parts of the shared language."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets_defs.core import incidents
from datasets_defs.core.conditions import Condition, RingKey, Verdict
from datasets_defs.core.errors import ContractError
from datasets_defs.core.incidents import Action, Incident, State, Wake, due
from datasets_defs.core.plain import plain
from datasets_defs.core.schedule import cron_every
from datasets_defs.core.settings import ROOT
from datasets_defs.core.windows import Window
from datasets_defs.ledger.events import GENESIS, Event, broken_links
from datasets_defs.spec.files import load, load_all

NOW = datetime(2026, 5, 1, 12, 0, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
PATIENCE = timedelta(minutes=10)


def test_the_last_complete_window_has_ended():
    """Windows are aligned to the epoch; one that ends now is complete."""
    assert Window(NOW.replace(hour=11, second=0), NOW.replace(second=0)) == Window.last_complete(NOW, HOUR)
    assert NOW.replace(second=0) == Window.last_complete(NOW.replace(second=0), HOUR).end


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)), st.integers(5, 86_400))  # noqa: DTZ001 hypothesis wants naive bounds
def test_windows_tile_time(now: datetime, seconds: int):
    """Neighbouring windows touch and none reaches past now."""
    window = Window.last_complete(now, timedelta(seconds=seconds))
    assert window.end <= now < window.end + window.length
    assert window.before(1).end == window.start


@pytest.mark.parametrize("end", [NOW, NOW - HOUR], ids=["empty", "backwards"])
def test_an_impossible_window_dies_at_birth(end: datetime):
    """A window without length is an error where it is made."""
    with pytest.raises(ValueError, match="at or before its start"):
        Window(NOW, end)


def test_a_naive_time_is_refused():
    """A time without zone is refused, not guessed."""
    with pytest.raises(ValueError, match="no time zone"):
        Window(datetime(2026, 5, 1), NOW)  # noqa: DTZ001 the naive time under test


@pytest.mark.parametrize(
    ("interval", "offset", "cron"),
    [
        pytest.param(30, 3, "* * * * * 3,33", id="half a minute"),
        pytest.param(600, 0, "0,10,20,30,40,50 * * * * 0", id="ten minutes"),
        pytest.param(3600, 60, "1 * * * * 0", id="an hour, a minute later"),
        pytest.param(86400, 0, "0 0 * * * 0", id="a day"),
    ],
)
def test_intervals_become_cron(interval: int, offset: int, cron: str):
    """Intervals that divide a minute, an hour or a day have a cron expression."""
    assert cron == cron_every(interval, offset)


@pytest.mark.parametrize(("interval", "offset"), [(25, 0), (7000, 0), (30, 30), (0.5, 0)])
def test_odd_intervals_are_refused(interval: float, offset: float):
    """An interval that would drift against the clock is an error with a way out."""
    with pytest.raises(ValueError, match="s "):
        cron_every(interval, offset)


def test_ring_keys_read_back():
    """A key survives being text."""
    assert RingKey("a-b", 17, 3) == RingKey.parse(str(RingKey("a-b", 17, 3)))


@pytest.mark.parametrize("text", ["", "a|b|1", "a|1", "|1|1", "a|1|1|1", "a|-1|1"])
def test_a_foreign_key_is_refused(text: str):
    """A partition key of another form is a contract error that shows the right form."""
    with pytest.raises(ContractError, match=r"expected 'model\|incident\|ring'"):
        RingKey.parse(text)


INCIDENT = Incident(
    id=1, model="m", state=State.OPEN, signal="drift", opened_at=NOW, updated_at=NOW, degraded_since=NOW
)


@pytest.mark.parametrize(
    ("changes", "wake"),
    [
        pytest.param({}, Wake.TRIAGE, id="open and never rung"),
        pytest.param({"rung_at": NOW - timedelta(minutes=9)}, None, id="rung just now"),
        pytest.param({"rung_at": NOW - timedelta(minutes=11)}, Wake.TRIAGE, id="the wake-up was lost"),
        pytest.param({"not_before": NOW + HOUR}, None, id="too early"),
        pytest.param({"state": State.RETRAINING, "lease_until": NOW + HOUR}, None, id="in hands"),
        pytest.param({"state": State.RETRAINING, "lease_until": NOW - HOUR}, Wake.RETRAIN, id="holder gone"),
        pytest.param({"state": State.RETRAINING, "challenger_version": 2}, Wake.EVALUATE, id="not evaluated"),
        pytest.param({"state": State.EVALUATING, "challenger_version": 2}, Wake.EVALUATE, id="evaluator gone"),
        pytest.param({"state": State.APPROVING}, Wake.APPROVE, id="nobody was asked"),
        pytest.param({"state": State.APPROVING, "lease_until": NOW + HOUR}, None, id="a person is asked"),
        pytest.param({"state": State.APPROVING, "approved": True}, Wake.PROMOTE, id="approved"),
        pytest.param({"state": State.PROMOTING}, Wake.PROMOTE, id="promoter gone"),
        pytest.param({"state": State.PROBATION}, None, id="under probation"),
        pytest.param({"state": State.PROBATION, "action": Action.ROLL_BACK}, Wake.ROLL_BACK, id="failed probation"),
        pytest.param({"state": State.QUARANTINED}, None, id="quarantined"),
        pytest.param({"state": State.ESCALATED}, None, id="a person's turn"),
        pytest.param({"state": State.REJECTED}, Wake.TRIAGE, id="next attempt"),
        pytest.param({"state": State.RESOLVED}, None, id="ended"),
    ],
)
def test_what_is_due(changes: dict, wake: Wake | None):
    """Every state has its wake-up, and none is sent while somebody works or waits."""
    work = due(replace(INCIDENT, **changes), NOW, PATIENCE)
    assert wake == (work.wake if work else None)


def test_a_whole_chain_has_no_breaks_and_a_changed_one_does():
    """The check is about content, order and completeness."""
    first = Event(
        model="m", seq=1, incident_id=None, at=NOW, kind="note", from_state=None, state=None, actor="t", reason="a",
        evidence={"x": 1.0}, prev_hash=GENESIS,
    )  # fmt: skip
    first = replace(first, hash=first.digest())
    second = replace(first, seq=2, reason="b", prev_hash=first.hash)
    second = replace(second, hash=second.digest())
    assert broken_links([first, second]) == []
    assert len(broken_links([first, replace(second, reason="c")])) == 1
    assert broken_links([second], is_part=True) == []
    assert len(broken_links([replace(second, reason="c")], is_part=True)) == 1
    assert len(broken_links([second]) + broken_links([replace(first, evidence={})])) == 2


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_plain_is_stable(value):
    """Making a value plain twice changes nothing more."""
    assert plain(value) == plain(plain(value))


def test_the_shipped_models_are_valid():
    """Every YAML in models/ loads."""
    specs, problems = load_all(ROOT / "models")
    assert problems == []
    assert "docs-writer" in specs


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param("name: x\nbase_model: [", "not readable as YAML", id="not YAML"),
        pytest.param("- a", "expected a mapping", id="a list"),
        pytest.param("name: x\ntraining_text: t", "field base_model: Field required", id="missing"),
        pytest.param("name: y\nbase_model: b\ntraining_text: t", "must equal the file's name", id="other name"),
        pytest.param("name: x\nbase_model: b\ntraining_text: t\ndrit: {}", "field drit", id="unknown field"),
        pytest.param(
            "name: x\nbase_model: b\ntraining_text: t\ndrift: {harm_ratio: 1}",
            "field drift.harm_ratio: Input should be greater than 1 (found 1)",
            id="out of range",
        ),
        pytest.param(
            "name: x\nbase_model: b\ntraining_text: t\nquality: vlmm",
            "field quality.0: Value error, no preset of that name; quality has vllm, tgi, sglang, nim, triton, "
            "driftloop, or write",
            id="no preset",
        ),
        pytest.param(
            "name: x\nbase_model: b\ntraining_text: t\nquality: [vllm, {name: y, promql: z}]",
            "field quality.1.bad: Field required",
            id="beside a preset",
        ),
        pytest.param(
            "name: x\nbase_model: b\ntraining_text: t\ndrift: {confirm: {bad: 4, of: 3}}",
            "bad (4) of the last 3 windows can never happen",
            id="impossible",
        ),
    ],
)
def test_a_wrong_spec_says_file_field_and_fix(tmp_path: Path, content: str, says: str):
    """The error of a wrong YAML names the file, the field, what was found and what was needed."""
    path = tmp_path / "x.yaml"
    path.write_text(content)
    with pytest.raises(ContractError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


def test_the_others_load_beside_a_wrong_spec(tmp_path: Path):
    """One wrong file takes no other model down."""
    (tmp_path / "good.yaml").write_text("name: good\nbase_model: b\ntraining_text: t")
    (tmp_path / "wrong.yaml").write_text("name: [")
    specs, problems = load_all(tmp_path)
    assert list(specs) == ["good"]
    assert len(problems) == 1


def test_every_state_can_be_left_or_is_an_end():
    """The table of transitions speaks of every state."""
    assert set(State) == set(incidents.TRANSITIONS)


def test_an_old_verdict_says_nothing_of_the_present():
    """A newest verdict whose window ended too long ago is STALE, with what it was."""
    verdict = Verdict(
        model="m", signal="drift", window=Window(NOW - HOUR, NOW), condition=Condition.OK, reason="fine", method="t"
    )
    assert verdict.as_of(NOW + 3 * HOUR, patience=3 * HOUR) is verdict
    old = verdict.as_of(NOW + 4 * HOUR, patience=3 * HOUR)
    assert old.condition is Condition.STALE
    assert "as OK; nothing since" in old.reason
