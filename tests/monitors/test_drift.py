"""Watching drift, loss and data on real text in a real database."""

import pytest

from datasets_defs.artifacts import read_bytes
from datasets_defs.conditions import Condition, RingKey, Verdict
from datasets_defs.errors import ContractError
from datasets_defs.incidents import State
from datasets_defs.records import heartbeats, newest_verdicts, reference_of
from monitors.drift import watch
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation, licences

OLD, NEW = documentation(), licences()


def run(loop: Loop, number: int) -> tuple[RingKey | None, dict[str, Verdict]]:
    """Judge one window; give the ring and the verdicts by signal."""
    outcome = watch(MODEL, until=loop.until(number), db=loop.db, actor="watch_drift:test")
    return outcome.ring, {each.signal: each for each in newest_verdicts(loop.db, MODEL, now=loop.until(number))}


def conditions(verdicts: dict[str, Verdict]) -> dict[str, str]:
    """Give the conditions by signal."""
    return {name: str(each.condition) for name, each in verdicts.items()}


def test_healthy(loop: Loop) -> None:
    """Traffic like the reference is OK in all three signals, rings nobody, and is reported with its evidence."""
    loop.champion()
    loop.reference(OLD[:400])
    loop.traffic(1, OLD[400:500])
    ring, verdicts = run(loop, 1)
    assert ring is None
    assert conditions(verdicts) == {"data": "OK", "drift": "OK", "loss": "OK"}
    assert verdicts["drift"].evidence["columns"]["prompt_bits_per_byte"]["p_value"] > 0.001
    assert b"<html" in read_bytes(verdicts["drift"].evidence["report_html"])
    assert verdicts["loss"].evidence["reference_bits_per_byte"] == pytest.approx(2.5, abs=0.05)
    assert heartbeats(loop.db)[f"watch_drift:{MODEL}"][1] == {"window": str(loop.window(1))}
    assert loop.kinds() == []


def test_reports_on_warn(loop: Loop) -> None:
    """With `on_warn` a quiet window's report is not kept, and one is whose drift, or loss alone, is not OK."""
    loop.spec(drift={"min_rows": 60, "reports": "on_warn"})
    loop.champion()
    loop.reference(OLD[:400])
    kept = []
    for number, (prompts, loss) in enumerate(((OLD[400:500], 2.5), (NEW[:100], 2.5), (OLD[500:600], None)), start=1):
        loop.traffic(number, prompts, loss=loss)
    loop.traffic(4, OLD[600:700], loss=2.68)
    for number in (1, 2, 3, 4):
        _, verdicts = run(loop, number)
        kept.append((*conditions(verdicts).values(), "report_html" in verdicts["drift"].evidence))
    assert kept == [
        ("OK", "OK", "OK", False), ("OK", "BAD", "OK", True), ("BAD", "NO_DATA", "NO_DATA", False),
        ("OK", "OK", "WARN", True),
    ]  # fmt: skip
    assert len(list((loop.home / "artifacts" / "reports").rglob("*.html"))) == 2


def test_confirmed_shift_rings_once(loop: Loop) -> None:
    """A real shift opens an incident in its second window, and rings then; the same again changes nothing."""
    loop.champion()
    loop.reference(OLD[:400])
    for number in (1, 2, 3):
        loop.traffic(number, NEW[100 * number : 100 * number + 100], loss=4.5)
    ring, verdicts = run(loop, 1)
    assert (ring, conditions(verdicts)) == (None, {"data": "OK", "drift": "BAD", "loss": "BAD"})
    ring, _ = run(loop, 2)
    assert ring is not None
    incident = loop.ledger.incident(ring.incident_id)
    assert (incident.state, incident.degraded_since) == (State.OPEN, loop.window(1).start)
    assert set(incident.evidence) == {"drift", "loss"}
    assert incident.evidence["loss"]["loss_ratio"] > 1.5
    assert incident.evidence["drift"]["drift_share"] >= 0.5
    assert (run(loop, 2)[0], run(loop, 3)[0]) == (None, None)
    assert loop.kinds() == ["opened", "evidence"]


def test_ring_lost_to_a_crash_is_given_again(loop: Loop) -> None:
    """A try that ended between opening and ringing leaves an incident that the next try rings."""
    loop.champion()
    loop.reference(OLD[:400])
    loop.traffic(1, NEW[:100])
    loop.traffic(2, NEW[100:200])
    run(loop, 1)
    loop.ledger.open_incident(
        MODEL, signal="drift", degraded_since=loop.window(1).start, reason="r", evidence={}, actor="a"
    )
    assert run(loop, 2)[0] is not None


def test_harm_that_joins_rings(loop: Loop) -> None:
    """Drift alone rings once; the loss that follows rings again, as the drift that goes on does not."""
    loop.champion()
    loop.reference(OLD[:400])
    for number, loss in ((1, 2.5), (2, 2.5), (3, 4.5), (4, 4.5), (5, 4.5)):
        loop.traffic(number, NEW[100 * number : 100 * number + 100], loss=loss)
    rings = [run(loop, number)[0] is not None for number in (1, 2, 3, 4, 5)]
    assert rings == [False, True, False, True, False]


def test_no_ring_while_somebody_works(loop: Loop) -> None:
    """An incident that is not open takes the evidence and rings nobody; one in probation does not even take it."""
    loop.champion()
    loop.reference(OLD[:400])
    for number in (1, 2, 3, 4):
        loop.traffic(number, NEW[100 * number : 100 * number + 100], loss=4.5 if number > 1 else 2.5)
    run(loop, 1)
    ring, _ = run(loop, 2)
    assert ring is not None
    loop.ledger.claim(ring, frm={State.OPEN}, to=State.RETRAINING, actor="t", lease=loop.length, reason="r")
    assert run(loop, 3)[0] is None
    assert set(loop.ledger.incident(ring.incident_id).evidence) == {"drift", "loss"}
    incident = loop.ledger.incident(ring.incident_id)
    for state in (State.EVALUATING, State.APPROVING, State.PROMOTING, State.PROBATION):
        incident = loop.ledger.move(incident, state, actor="t", reason="r")
    assert run(loop, 4)[0] is None
    assert loop.ledger.incident(ring.incident_id).evidence["loss"]["window"] == str(loop.window(3))


def test_nothing_to_judge(loop: Loop) -> None:
    """No champion, and too few rows, are NO_DATA with the reason; people hear of it once, and once when it ends."""
    _, verdicts = run(loop, 0)
    assert conditions(verdicts) == {"data": "NO_DATA", "drift": "NO_DATA", "loss": "NO_DATA"}
    assert "no champion" in verdicts["drift"].reason
    loop.champion()
    loop.reference(OLD[:400])
    loop.traffic(1, OLD[:59])
    _, verdicts = run(loop, 1)
    assert "59 rows" in verdicts["drift"].reason
    run(loop, 1)
    run(loop, 2)
    assert loop.kinds() == ["blind"]
    loop.traffic(3, OLD[400:500])
    run(loop, 3)
    run(loop, 3)
    assert loop.kinds() == ["blind", "sighted"]


def test_rows_of_another_version_do_not_count(loop: Loop) -> None:
    """A window that two versions served is judged on the champion's rows alone."""
    loop.champion()
    loop.reference(OLD[:400])
    loop.traffic(1, OLD[400:460], version=1)
    loop.traffic(1, NEW[:200], version=2, loss=5)
    _, verdicts = run(loop, 1)
    assert (verdicts["drift"].condition, verdicts["drift"].evidence["rows"]) == (Condition.OK, 60)


@pytest.mark.parametrize(("prompts", "loss"), [(("",) * 30 + OLD[:70], 2.5), (OLD[400:500], None)])
def test_broken_data(loop: Loop, prompts: tuple[str, ...], loss: float | None) -> None:
    """Empty prompts or missing losses are a data break, not drift; confirmed, it opens an incident on the data."""
    loop.champion()
    loop.reference(OLD[:400])
    loop.traffic(1, prompts, loss=loss)
    loop.traffic(2, prompts, loss=loss)
    ring, verdicts = run(loop, 1)
    assert (ring, conditions(verdicts)) == (None, {"data": "BAD", "drift": "NO_DATA", "loss": "NO_DATA"})
    ring, _ = run(loop, 2)
    assert ring is not None
    assert "data_break" in loop.ledger.incident(ring.incident_id).evidence["data"]


def test_late_run_is_not_blind(loop: Loop) -> None:
    """Windows that ended before the champion began say nothing of it, and do not make the loop call itself blind."""
    loop.champion(2, since=loop.window(3).start)
    loop.reference(OLD[:400], version=2)
    for number in range(3):
        loop.traffic(number, OLD[400:500], version=1)
        _, verdicts = run(loop, number)
        assert conditions(verdicts) == {"data": "NO_DATA", "drift": "NO_DATA", "loss": "NO_DATA"}
    assert "after the window" in verdicts["drift"].reason
    assert loop.kinds() == []


def test_own_reference(loop: Loop) -> None:
    """A model without a reference gets one from its own log once there is enough, and is judged from then on."""
    loop.champion(7)
    loop.traffic(1, OLD[:300], version=None, loss=None)
    ring, verdicts = run(loop, 1)
    assert ring is None
    assert "300 of the 500" in verdicts["drift"].reason
    loop.traffic(2, OLD[300:600], version=None, loss=None)
    run(loop, 2)
    profile = reference_of(loop.db, MODEL, 7)
    assert profile is not None
    assert profile.rows == 600
    loop.traffic(3, OLD[600:700], version=None, loss=None)
    _, verdicts = run(loop, 3)
    assert conditions(verdicts) == {"data": "OK", "drift": "OK", "loss": "NO_DATA"}


def test_damaged_reference(loop: Loop) -> None:
    """A reference that is not what was written is an error in words, not a verdict."""
    loop.champion()
    loop.reference(OLD[:400])
    loop.traffic(1, OLD[400:500])
    next((loop.home / "artifacts" / "references").rglob("*.parquet")).write_bytes(b"x")
    with pytest.raises(ContractError, match="damaged"):
        run(loop, 1)
