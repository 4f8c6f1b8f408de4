"""Windows are judged in the order of time, each once, whether or not a sensor was there when they ended."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from datasets_defs.core.errors import TransientError
from datasets_defs.core.windows import EPOCH, Window
from datasets_defs.store import tables
from datasets_defs.store.locks import held
from datasets_defs.store.sketch_log import sketch_of
from monitors import watch_drift
from monitors.incidents.turns import MOST, SensorTurn, turn
from ops.verify.reading import broken_invariants
from tests.monitors import loop as surroundings
from tests.monitors.loop import Loop
from tests.monitors.texts import documentation, licences

OLD, NEW = documentation(), licences()
HOUR = timedelta(hours=1)
AWAY, ON_TIME = "away", "on-time"


def window(number: int) -> Window:
    """Give an hour by its number."""
    return Window(EPOCH + number * HOUR, EPOCH + (number + 1) * HOUR)


def at(number: int) -> dict[str, object]:
    """Give what is known when a window was the newest that the sensor came to the end with."""
    return {"concluded": window(number).end, "is_known": False}


@pytest.mark.parametrize(
    ("last", "known", "judged", "filled_in"),
    [
        pytest.param(5, {"concluded": None, "is_known": False}, [5], [], id="the first run judges the newest alone"),
        pytest.param(5, at(4), [5], [], id="on time"),
        pytest.param(5, at(5), [5], [], id="a task that is cleared or tried again judges the same window"),
        pytest.param(9, at(3), [4, 5, 6, 7, 8, 9], [], id="what was missed is judged in order"),
        pytest.param(3, {**at(9), "is_known": True}, [], [], id="an older run judges nothing that was judged"),
        pytest.param(7, at(9), [], [7, 8, 9], id="a hole is filled in, and what follows is judged once more"),
        pytest.param(500, at(2), [*range(501 - MOST, 501)], [], id="a long absence has a bound: the newest count"),
        pytest.param(2, at(500), [], [], id="a hole too far back stays"),
    ],
)
def test_turn(last: int, known: dict[str, object], judged: list[int], filled_in: list[int]) -> None:
    """A run judges what came after the newest window that was concluded; whatever is unusual is said."""
    found = turn(window(last), **known)
    assert (found.judged, found.filled_in) == (tuple(map(window, judged)), tuple(map(window, filled_in)))
    assert (found.reason == "") is (found == SensorTurn(judged=(window(last),)))


def test_what_stays_unjudged_is_counted() -> None:
    """Beyond the bound the sentence says how many windows nobody will judge."""
    assert f"the {499 - MOST} before those stay unjudged" in turn(window(500), **at(1)).reason


@pytest.fixture
def both(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """Two models with the same reference and traffic; what users ask for changes in the third hour of six."""
    for name in (AWAY, ON_TIME):
        monkeypatch.setattr(surroundings, "MODEL", name)
        loop.spec(drift={"min_rows": 60, "burn_in_windows": 0, "carry_over_windows": 1})
        loop.champion()
        loop.reference(OLD[:300])
        for number in range(8):
            loop.traffic(number, (OLD if number < 3 else NEW)[300 + 70 * number : 370 + 70 * number])
    return loop


def judge(loop: Loop, model: str, number: int) -> str:
    """Run the sensor when a window is the newest."""
    return watch_drift.watch(model, until=loop.until(number), db=loop.db, actor="watch_drift:test").reason


def verdicts(loop: Loop, model: str) -> list[tuple[object, ...]]:
    """Read all that was judged of a model, in the order of time."""
    table = tables.verdict.c
    query = (
        select(table.window_end, table.signal, table.condition, table.score, table.limit, table.reason, table.evidence)
        .where(table.model == model)
        .order_by(table.window_end, table.signal)
    )
    with loop.db.connect() as on:
        return [tuple(rounded(cell) for cell in row) for row in on.execute(query)]


def rounded(value: object) -> object:
    """Give a value with figures of nine digits: one run in many differed in the later ones."""
    match value:
        case float():
            return float(f"{value:.9g}")
        case dict():
            return {name: rounded(each) for name, each in value.items()}
        case list():
            return [rounded(each) for each in value]
        case _:
            return value


@pytest.mark.slow
def test_six_hours_without_a_scheduler(both: Loop) -> None:
    """After six hours without any run, the first one gives the incident and the verdicts that runs on time gave.

    They are the same figure for figure, the detector is in the same state, and a late run changes nothing. A run for an
    hour that was left out before others fills it in, opens nothing, and ends in the same state.
    """
    for number in range(7):
        judge(both, ON_TIME, number)
    judge(both, AWAY, 0)
    assert "5 windows before it were judged afterwards, in order" in judge(both, AWAY, 6)
    assert verdicts(both, AWAY) == verdicts(both, ON_TIME)
    late, on_time = both.ledger.open_of(AWAY), both.ledger.open_of(ON_TIME)
    assert late is not None
    assert on_time is not None
    assert late.degraded_since == on_time.degraded_since == both.window(3).start
    assert late.signal == on_time.signal
    states = {name: sketch_of(both.db, name, 1, both.window(6).end).state for name in (AWAY, ON_TIME)}
    assert states[AWAY] == states[ON_TIME] is not None

    assert "its verdicts stand" in judge(both, AWAY, 2)
    assert verdicts(both, AWAY) == verdicts(both, ON_TIME)
    _fill_in_a_hole(both)
    assert broken_invariants(both.db)[1] == []


def _fill_in_a_hole(both: Loop) -> None:
    known = verdicts(both, AWAY)
    events = len(both.ledger.events(AWAY))
    gone = both.window(4)
    with both.db.begin() as on:
        on.execute(
            tables.verdict.delete().where(tables.verdict.c.model == AWAY, tables.verdict.c.window_end == gone.end)
        )
    assert "was never judged; it is now, and the 2 windows after it once more" in judge(both, AWAY, 4)
    assert verdicts(both, AWAY) == known
    assert len(both.ledger.events(AWAY)) == events


def test_two_runs_judge_one_after_the_other(loop: Loop) -> None:
    """While a run judges a model's windows another one waits and is tried again; that it waits is said."""
    loop.champion()
    with (
        held(loop.db, "sensor", "watch_drift:writer"),
        pytest.raises(TransientError, match="another run of watch_drift"),
    ):
        judge(loop, "writer", 1)
    assert "no reference yet" in judge(loop, "writer", 1)
