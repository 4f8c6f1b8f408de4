"""Watching drift, loss and data on real text in a real database."""

import random
from collections import Counter

import pytest
from sqlalchemy import text

from datasets_defs.core.conditions import Condition, RingKey, Verdict
from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.incidents import State
from datasets_defs.core.windows import Window
from datasets_defs.spec.files import spec_of
from datasets_defs.store.artifacts import read_rows
from datasets_defs.store.heartbeats import heartbeats
from datasets_defs.store.references import reference_of
from datasets_defs.store.sketch_log import sketch_of
from datasets_defs.store.verdicts import newest_verdicts
from monitors import watch_drift
from monitors.profiles.renewal import renew
from monitors.watch_drift import assess, watch
from tests.disks import fill, small_disk
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
    """Traffic like the reference is OK in all three signals, rings nobody, and leaves its counts and its evidence."""
    loop.champion()
    loop.reference(OLD[:400])
    loop.traffic(1, OLD[400:500])
    ring, verdicts = run(loop, 1)
    assert ring is None
    assert conditions(verdicts) == {"data": "OK", "drift": "OK", "loss": "OK"}
    column = verdicts["drift"].evidence["columns"]["prompt_bits_per_byte"]
    assert (column["drifted"], column["statistic"]) == (False, "ks")
    assert column["reference_mean"] == pytest.approx(2.5, abs=0.05)
    assert verdicts["drift"].evidence["drift_share"] == 0
    assert verdicts["loss"].evidence["reference_bits_per_byte"] == pytest.approx(2.5, abs=0.05)
    assert heartbeats(loop.db)[f"watch_drift:{MODEL}"][1] == {
        "window": str(loop.window(1)),
        "end": loop.window(1).end.isoformat(),
    }
    kept = sketch_of(loop.db, MODEL, 1, loop.window(1).end)
    assert kept is not None
    assert (kept.rows, kept.judged, kept.window) == (100, True, Window(loop.window(0).start, loop.window(1).end))
    assert loop.kinds() == []


def test_a_window_is_judged_once_and_for_all(loop: Loop) -> None:
    """Judging a window again, even after rows came late, gives the very same verdicts: its counts are kept."""
    loop.champion()
    loop.reference(OLD[:400])
    for number in (1, 2, 3):
        loop.traffic(number, OLD[100 * number + 400 : 100 * number + 500])
        run(loop, number)
    before = run(loop, 2)[1], run(loop, 3)[1]
    loop.traffic(2, NEW[:300], version=None, loss=9.0)
    assert (run(loop, 2)[1], run(loop, 3)[1]) == before
    spoken = spec_of(MODEL)
    champion = loop.ledger.champion(MODEL)
    state = sketch_of(loop.db, MODEL, 1, loop.window(3).end)
    assert assess(spoken, champion, loop.window(3), db=loop.db).counted == state


def test_a_flood_is_found_once_as_the_rows_are_counted(loop: Loop) -> None:
    """One prompt that fills a window is a data break, kept with its counts: rows that come late do not take it back."""
    loop.champion()
    loop.reference(OLD[:400])
    loop.traffic(1, OLD[400:500])
    run(loop, 1)
    loop.traffic(2, OLD[:1] * 90 + OLD[500:520])
    found = run(loop, 2)[1]["data"]
    assert found.condition is Condition.BAD
    assert "one and the same prompt makes up 82% of 110 rows" in found.reason
    kept = sketch_of(loop.db, MODEL, 1, loop.window(2).end)
    assert kept is not None
    assert kept.flooded is not None
    loop.traffic(2, OLD[520:720], version=None)
    assert run(loop, 2)[1]["data"] == found
    with loop.db.begin() as on:  # and no verdict is needed to know it, as after a death between counts and verdict
        on.execute(text("DELETE FROM verdict WHERE window_end = :at"), {"at": loop.window(2).end})
    assert run(loop, 2)[1]["data"].reason == found.reason


def test_few_rows_are_carried_over(loop: Loop) -> None:
    """Windows with too few rows are judged together, with what came late, as soon as they have enough; not again."""
    loop.champion()
    loop.reference(OLD[:400])
    loop.traffic(1, OLD[400:410])
    _, verdicts = run(loop, 1)
    assert "10 rows" in verdicts["drift"].reason
    loop.traffic(1, OLD[410:415], version=None)
    loop.traffic(2, OLD[415:425])
    _, verdicts = run(loop, 2)
    assert (verdicts["drift"].condition, verdicts["drift"].evidence["rows"]) == (Condition.OK, 25)
    assert verdicts["data"].evidence["sight"]["state"] == "thin"
    assert verdicts["drift"].evidence["stretch"] == str(Window(loop.window(0).start, loop.window(2).end))
    loop.traffic(3, OLD[500:510])
    _, verdicts = run(loop, 3)
    assert "10 rows" in verdicts["drift"].reason


def test_carry_over_has_an_end(loop: Loop) -> None:
    """Rows older than the spec's carry-over are not judged with the present."""
    loop.spec(drift={"min_rows": 60, "burn_in_windows": 0, "carry_over_windows": 2})
    loop.champion()
    loop.reference(OLD[:400])
    for number in (1, 2, 3):
        loop.traffic(number, OLD[400 + 9 * number : 409 + 9 * number])
        _, verdicts = run(loop, number)
    assert "18 rows" in verdicts["drift"].reason


def test_a_harmless_shift_becomes_the_reference(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """After enough windows of drift that cost nothing, told once even if the first try dies before it tells."""
    monkeypatch.setattr(watch_drift, "REBASELINE_WINDOWS", 5)
    loop.champion()
    loop.reference(OLD[:400])
    for number in range(1, 6):
        loop.traffic(number, NEW[100 * number : 100 * number + 100])
        if number == 5:
            with monkeypatch.context() as broken:
                broken.setattr(watch_drift.Ledger, "note", lambda *_, **__: pytest.fail("killed"))
                with pytest.raises(pytest.fail.Exception, match="killed"):
                    run(loop, number)
        _, verdicts = run(loop, number)
        assert (verdicts["drift"].condition, verdicts["loss"].condition) == (Condition.BAD, Condition.OK)
    run(loop, 5)
    assert loop.kinds().count("rebaselined") == 1
    loop.traffic(6, NEW[700:800])
    _, verdicts = run(loop, 6)
    assert (verdicts["drift"].condition, verdicts["loss"].condition) == (Condition.OK, Condition.OK)
    assert loop.kinds().count("rebaselined") == 1


@pytest.mark.slow
def test_a_new_normal_is_taken_once(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows that wait for rows after it make no revision and no message, and their rows are judged at last."""
    monkeypatch.setattr(watch_drift, "REBASELINE_WINDOWS", 5)
    loop.champion()
    loop.reference(OLD[:400])
    for number in range(1, 6):
        loop.traffic(number, NEW[100 * number : 100 * number + 100])
        run(loop, number)
    loop.traffic(6, NEW[700:712])
    _, verdicts = run(loop, 6)
    assert (verdicts["drift"].condition, verdicts["drift"].waits) == (Condition.NO_DATA, True)
    loop.traffic(7, NEW[712:727])
    _, verdicts = run(loop, 7)
    assert loop.kinds().count("rebaselined") == 1
    assert (verdicts["drift"].condition, verdicts["drift"].evidence["rows"]) == (Condition.OK, 27)


@pytest.mark.slow
def test_a_renewal_cuts_no_rows_off(loop: Loop) -> None:
    """A profile that is renewed between two windows with few rows leaves both to be judged together."""
    loop.champion()
    loop.reference(OLD[:400])
    for number in range(25):
        loop.traffic(number, OLD[400 + 12 * number : 430 + 12 * number])
        run(loop, number)
    loop.traffic(25, OLD[:12])
    assert run(loop, 25)[1]["drift"].waits
    renewed = renew(loop.db, spec_of(MODEL), loop.ledger.champion(MODEL), until=loop.until(25), force=True)
    assert not isinstance(renewed, str), renewed
    loop.traffic(26, OLD[12:27])
    _, verdicts = run(loop, 26)
    assert (renewed.effective_from, verdicts["drift"].evidence["rows"]) == (loop.window(25).end, 27)


def test_burn_in(loop: Loop) -> None:
    """While the champion is new a shift is a warning at most; its loss is judged all the same."""
    loop.spec(drift={"min_rows": 60, "burn_in_windows": 3})
    loop.champion()
    loop.reference(OLD[:400])
    found = []
    for number in (1, 2, 3):
        loop.traffic(number, NEW[100 * number : 100 * number + 100], loss=4.5)
        found.append(conditions(run(loop, number)[1]))
    assert [each["drift"] for each in found] == ["WARN", "WARN", "BAD"]
    assert {each["loss"] for each in found} == {"BAD"}


@pytest.mark.parametrize(("share", "most"), [(1.0, 1), (0.3, 6)])
def test_a_share_of_new_text_is_found(loop: Loop, share: float, most: int) -> None:
    """Real text of another kind among 100 rows an hour is found, a third of it within six windows."""
    loop.champion()
    loop.reference(OLD[:700], loss=None)
    new = round(100 * share)
    for number in range(1, most + 1):
        old = [OLD[700 + (100 * number + at) % (len(OLD) - 700)] for at in range(100 - new)]
        fresh = [NEW[(new * number + at) % len(NEW)] for at in range(new)]
        loop.traffic(number, (*old, *fresh), loss=None)
        _, verdicts = run(loop, number)
        if verdicts["drift"].condition is Condition.BAD:
            break
    assert verdicts["drift"].condition is Condition.BAD, verdicts["drift"].reason


@pytest.mark.slow
def test_a_tenth_of_new_text_is_found_by_a_learned_profile(loop: Loop) -> None:
    """Once the profile is made of a day's ordinary windows it tolerates less, and sees a tenth of other text."""
    loop.champion()
    loop.reference(OLD[:700], loss=None)
    rng = random.Random(3)
    for number in range(1, 31):
        loop.traffic(number, tuple(rng.choices(OLD[700:], k=300)), loss=None)
        run(loop, number)
    champion = loop.ledger.champion(MODEL)
    learned = renew(loop.db, spec_of(MODEL), champion, until=loop.until(30), force=True)
    assert not isinstance(learned, str), learned
    assert (learned.revision, max(learned.eps.values()) < 0.1) == (2, True)
    for number in range(31, 55):
        loop.traffic(number, (*rng.choices(OLD[700:], k=270), *rng.sample(NEW, 30)), loss=None)
        _, verdicts = run(loop, number)
        if verdicts["drift"].condition is Condition.BAD:
            break
    assert verdicts["drift"].condition is Condition.BAD, verdicts["drift"].reason


@pytest.mark.slow
def test_ordinary_text_raises_no_alarm_for_days(loop: Loop) -> None:
    """Forty windows of the reference's own kind of text, at 100 rows: not even a warning that it is drift."""
    loop.champion()
    loop.reference(OLD[:700])
    rng = random.Random(7)
    for number in range(1, 41):
        loop.traffic(number, tuple(rng.sample(OLD[700:], 100)))
        _, verdicts = run(loop, number)
        assert verdicts["drift"].condition is not Condition.BAD, verdicts["drift"].reason
        assert verdicts["loss"].condition is Condition.OK, verdicts["loss"].reason
    assert loop.kinds() == []


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
    assert incident.evidence["drift"]["drift_share"] >= 0.3
    assert (run(loop, 2)[0], run(loop, 3)[0]) == (None, None)
    assert loop.kinds() == ["opened", "evidence", "topic_named"]


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
    loop.traffic(1, OLD[:19])
    _, verdicts = run(loop, 1)
    assert "19 rows" in verdicts["drift"].reason
    assert verdicts["drift"].waits
    for number in (1, 2, 3):
        run(loop, number)
    assert loop.kinds() == ["blind"]
    loop.traffic(4, OLD[400:500])
    run(loop, 4)
    run(loop, 4)
    assert loop.kinds() == ["blind", "sighted"]


def test_little_traffic_is_neither_blind_nor_never_confirmed(loop: Loop) -> None:
    """With a third of the rows that a verdict needs, three windows count as one, and two or three such confirm."""
    loop.champion()
    loop.reference(OLD[:400])
    rung, bad = [], {"drift": list[int](), "loss": list[int]()}
    for number in range(1, 10):
        loop.traffic(number, NEW[7 * number : 7 * number + 7], loss=4.5)
        ring, verdicts = run(loop, number)
        rung += [number] if ring is not None else []
        for signal, numbers in bad.items():
            if verdicts[signal].condition is Condition.BAD:
                numbers.append(number)
        if number % 3:
            assert verdicts["drift"].waits
    assert rung == [min(numbers[1] for numbers in bad.values() if len(numbers) > 1)]  # the second, of either
    assert "blind" not in loop.kinds()
    assert verdicts["drift"].evidence["covers"] == 3


def test_a_trickle_that_never_suffices_is_told(loop: Loop) -> None:
    """Rows that come too slowly for any verdict are blindness, once the carry-over is used up."""
    loop.spec(drift={"min_rows": 60, "burn_in_windows": 0, "carry_over_windows": 3})
    loop.champion()
    loop.reference(OLD[:400])
    for number in range(1, 6):
        loop.traffic(number, OLD[400 + 5 * number : 405 + 5 * number])
        run(loop, number)
    assert loop.kinds() == ["blind"]


def test_rows_of_another_version_do_not_count(loop: Loop) -> None:
    """A window that two versions served is judged on the champion's rows alone."""
    loop.champion()
    loop.reference(OLD[:400])
    loop.traffic(1, OLD[400:460], version=1)
    loop.traffic(1, NEW[:200], version=2, loss=5)
    _, verdicts = run(loop, 1)
    assert (verdicts["drift"].condition, verdicts["drift"].evidence["rows"]) == (Condition.OK, 60)


@pytest.mark.parametrize(
    ("prompts", "loss", "drift"), [(("",) * 30 + OLD[:70], 2.5, "NO_DATA"), (OLD[400:500], None, "OK")]
)
def test_broken_data(loop: Loop, prompts: tuple[str, ...], loss: float | None, drift: str) -> None:
    """Empty prompts or missing losses are a data break, not drift; confirmed, it opens an incident on the data.

    Empty prompts leave nothing to judge; a column that is gone is left out alone.
    """
    loop.champion()
    loop.reference(OLD[:400])
    loop.traffic(1, prompts, loss=loss)
    loop.traffic(2, prompts, loss=loss)
    ring, verdicts = run(loop, 1)
    assert (ring, conditions(verdicts)) == (None, {"data": "BAD", "drift": drift, "loss": "NO_DATA"})
    ring, _ = run(loop, 2)
    assert ring is not None
    assert "data_break" in loop.ledger.incident(ring.incident_id).evidence["data"]


def test_a_broken_window_ends_with_itself(loop: Loop) -> None:
    """Broken rows are not judged again with the next window's, and the detector goes on from before them."""
    loop.champion()
    loop.reference(OLD[:400])
    loop.traffic(1, OLD[400:500])
    loop.traffic(2, ("",) * 100)
    loop.traffic(3, OLD[500:600])
    found = [run(loop, number)[1] for number in (1, 2, 3)]
    assert [conditions(each)["data"] for each in found] == ["OK", "BAD", "OK"]
    assert found[2]["drift"].evidence["rows"] == 100
    first, second, third = (sketch_of(loop.db, MODEL, 1, loop.window(number).end) for number in (1, 2, 3))
    assert second.state is None
    assert third.state != first.state


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


def test_a_sensor_goes_on_after_a_full_disk(loop: Loop) -> None:
    """While the artifacts' disk is full the sensor's task fails and is tried again; with space it does all its work."""
    loop.champion(7)
    loop.traffic(2, OLD[:600], version=None, loss=None)
    with small_disk(loop.home / "artifacts") as disk:
        others = fill(disk)
        for _ in range(2):
            with pytest.raises(TransientError, match="the disk is full"):
                run(loop, 2)
        assert loop.kinds() == []
        others.unlink()
        run(loop, 2)
        assert reference_of(loop.db, MODEL, 7) is not None
        loop.traffic(3, OLD[600:700], version=None, loss=None)
        _, verdicts = run(loop, 3)
        assert conditions(verdicts) == {"data": "OK", "drift": "OK", "loss": "NO_DATA"}


@pytest.mark.parametrize("jump", [-1, 1], ids=["an hour back", "an hour on"])
def test_a_clock_that_jumps_an_hour_changes_no_verdict(loop: Loop, jump: int) -> None:
    """A sensor whose clock jumped judges that window, and once the clock is right all others as ever."""
    loop.champion()
    loop.reference(OLD[:400])
    for number in range(4):
        loop.traffic(number, OLD[400 + 100 * number : 500 + 100 * number])
    for number in (1, 2, 2 + jump, 3):
        run(loop, number)
    assert conditions(run(loop, 3)[1]) == {"data": "OK", "drift": "OK", "loss": "OK"}
    assert loop.kinds() == []


def test_a_model_from_elsewhere_is_judged_by_its_own_traffic(loop: Loop) -> None:
    """Older text that must not be forgotten is no reference; the version's own log becomes one, and the text stays."""
    loop.champion()
    loop.reference(NEW[:300], role="anchor")
    loop.traffic(1, OLD[:600])
    _, verdicts = run(loop, 1)
    assert conditions(verdicts) == {"data": "NO_DATA", "drift": "NO_DATA", "loss": "NO_DATA"}
    assert "are the reference from" in verdicts["drift"].reason
    loop.traffic(2, OLD[600:700])
    _, verdicts = run(loop, 2)
    assert conditions(verdicts) == {"data": "OK", "drift": "OK", "loss": "OK"}
    rows = read_rows(reference_of(loop.db, MODEL, 1).uri)
    assert Counter(row["role"] for row in rows) == {"recent": 600, "anchor": 301}


def test_damaged_reference(loop: Loop) -> None:
    """A reference that is not what was written is an error in words, not a verdict."""
    loop.champion()
    loop.reference(OLD[:400])
    loop.traffic(1, OLD[400:500])
    next((loop.home / "artifacts" / "references").rglob("*.parquet")).write_bytes(b"x")
    with pytest.raises(ContractError, match="damaged"):
        run(loop, 1)
