"""`driftloop backtest` and `driftloop calibrate`, on windows that the real sensor judged in a real database."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from datasets_defs.core.conditions import Condition
from datasets_defs.core.settings import ROOT, settings
from datasets_defs.store.sketch_log import SINGLE_DAYS
from monitors.maintain import compact
from monitors.watch_drift import watch
from ops.cli.main import app
from ops.cli.watch.calibration import as_plain, calibrated, tell
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation, licences

OLD, NEW = documentation(), licences()
Command = Callable[..., Result]


@pytest.fixture
def loop(engine: Engine, home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """A model in a database that the commands use, too."""
    monkeypatch.setenv("DRIFTLOOP_DATABASE_URL", database_url)
    settings.cache_clear()
    found = Loop(engine, home)
    found.spec()
    return found


def driftloop(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def backtest(loop: Loop, first: int, last: int, *more: object) -> Result:
    """Replay windows `first` to `last`."""
    since, until = loop.window(first).start.isoformat(), loop.window(last).end.isoformat()
    return driftloop("backtest", MODEL, "--since", since, "--until", until, *more)


def told(result: Result) -> dict:
    assert result.exit_code == 0, result.output or result.exception
    return json.loads(result.stdout)


def seen(loop: Loop, windows: dict[int, tuple[str, ...]], *, loss: float = 2.5, version: int = 1) -> None:
    """Log and judge windows, as they would be hour by hour."""
    for number, prompts in windows.items():
        if prompts:
            loop.traffic(number, prompts, loss=loss, version=version)
        watch(MODEL, until=loop.until(number), db=loop.db, actor="test")


def part(texts: tuple[str, ...], number: int, rows: int = 100) -> tuple[str, ...]:
    """Give the prompts of a window; none of them is among the first 500, the reference."""
    return tuple(texts[500 + (rows * number + at) % (len(texts) - 500)] for at in range(rows))


@pytest.fixture
def lived(loop: Loop) -> Loop:
    """A model that saw all kinds of windows: quiet, small, empty, broken, shifted; then another version came."""
    loop.champion()
    loop.reference(OLD[:500])
    seen(loop, {number: part(OLD, number) for number in range(4)})
    seen(loop, {4: part(OLD, 4, 30), 5: (), 6: part(OLD, 6, 40), 7: part(OLD, 7)})
    seen(loop, {8: ("",) * 60 + part(OLD, 8, 40), 9: part(OLD, 9, 300), 10: part(OLD, 10)})
    seen(loop, {number: part(NEW, number) for number in range(11, 16)}, loss=4.5)
    loop.champion(2, since=loop.window(16).start, kind="promote")
    loop.served_since(1, loop.window(0).start)
    loop.reference(NEW[:500], version=2, loss=2.6)
    seen(loop, {number: part(NEW, number) for number in range(16, 19)}, loss=2.6, version=2)
    return loop


def conditions(found: dict, signal: str) -> str:
    letters = {"OK": "o", "WARN": "w", "BAD": "B", "NO_DATA": "-"}
    return "".join(letters[each["signals"][signal]["condition"]] for each in found["windows"])


@pytest.mark.slow
def test_the_live_policy_gives_the_recorded_verdicts(lived: Loop) -> None:
    """All verdicts come out again exactly: from the beginning, and from the middle of what was seen."""
    found = told(backtest(lived, 0, 18, "--json", "--strict"))
    assert (found["differences"], found["compared"], len(found["windows"])) == ([], 57, 19)
    assert conditions(found, "data").count("B") == 1
    assert conditions(found, "drift")[4:7] == "o-o"  # few rows are judged, none are not
    assert conditions(found, "drift")[11:16].endswith("BBB")
    assert conditions(found, "loss")[11:16].endswith("BBB")
    for first in (3, 5, 7, 9, 13, 17):
        again = told(backtest(lived, first, 18, "--json", "--strict"))
        assert again["differences"] == []
        assert again["windows"] == found["windows"][first:]
    said = backtest(lived, 0, 18).stdout
    assert "all 57 recorded verdicts come out again exactly" in said
    assert "1 incident, 1 retrain\n" in said


@pytest.mark.slow
def test_incidents_and_truth(lived: Loop, tmp_path: Path) -> None:
    """With the truth given, delay and false alarms are told; the incident ends when the next version serves."""
    window = lived.window
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps([[window(11).start.isoformat(), window(16).start.isoformat()]]))
    found = told(backtest(lived, 0, 18, "--json", "--truth", truth))
    (incident,) = [each for each in found["incidents"] if "drift" in each["signals"]]
    assert incident["closed_at"] == window(16).start.isoformat()
    assert set(incident["signals"]) >= {"drift", "loss"}
    assert (found["retrains"], found["score"]["false_retrains"], found["score"]["false_alarms"]) == (1, 0, 0)
    (shift,) = found["score"]["shifts"]
    assert 0 < shift["delay_seconds"] <= 4 * 3600
    truth.write_text(f"start, end\n{window(0).start.isoformat()}, {window(2).start.isoformat()}\n")
    other = told(backtest(lived, 0, 18, "--json", "--truth", truth))["score"]
    assert (other["false_alarms"], other["false_retrains"]) == (len(found["incidents"]), 1)
    assert other["shifts"][0]["delay_seconds"] is None
    assert "not seen" in backtest(lived, 0, 18, "--truth", truth).stdout


@pytest.mark.slow
def test_another_policy(lived: Loop, tmp_path: Path) -> None:
    """A policy of other limits judges the same windows, and is compared with what was recorded."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("min_rows: 150\nharm_ratio: 3.0\n")
    found = told(backtest(lived, 0, 18, "--json", "--policy", policy))
    assert found["policy"]["min_rows"] == 150
    assert conditions(found, "drift")[:4] == "oooo"
    assert "B" not in conditions(found, "loss")
    assert found["windows"][1]["signals"]["drift"]["evidence"]["rows"] == 100
    assert found["differences"]
    result = backtest(lived, 0, 18, "--policy", policy, "--strict")
    assert result.exit_code == 1
    assert "recorded verdicts come out differently" in result.stdout
    policy.write_text("drift: {min_rows: 20, max_rows: 100, reports: on_warn}\n")
    found = told(backtest(lived, 0, 18, "--json", "--policy", policy))
    assert [each for each in found["differences"] if not {"reason", "evidence"} >= set(each["fields"])] == []
    assert len(found["without_effect"]) == 2
    policy.write_text("exclude: [oov_share]\nconfirm: {bad: 1, of: 1}\nburn_in_windows: 48\n")
    found = told(backtest(lived, 0, 18, "--json", "--policy", policy))
    assert "B" not in conditions(found, "drift")
    assert all("oov_share" not in each["signals"]["drift"]["evidence"].get("columns", {}) for each in found["windows"])


@pytest.mark.slow
def test_a_changed_verdict_is_found(lived: Loop) -> None:
    """A recorded verdict that the policy does not give is listed with both, and --strict fails."""
    lived.verdict(9, "drift", Condition.BAD)
    assert backtest(lived, 0, 18).exit_code == 0
    result = backtest(lived, 0, 18, "--strict", "--json")
    assert result.exit_code == 1
    (difference,) = json.loads(result.stdout)["differences"]
    assert (difference["signal"], difference["start"]) == ("drift", lived.window(9).start.isoformat())
    assert "condition" in difference["fields"]
    assert difference["recorded"] == "BAD: drift is BAD"


@pytest.mark.slow
def test_counts_that_are_gone(lived: Loop) -> None:
    """Windows whose counts are gone keep their recorded verdicts, and the replay goes on exactly after them."""
    with lived.db.begin() as on:
        on.execute(text("DELETE FROM window_sketch WHERE window_end = :at"), {"at": lived.window(2).end})
    found = told(backtest(lived, 0, 18, "--json", "--strict"))
    assert [each["replayed"] for each in found["windows"]] == [True, True, False] + 16 * [True]
    unknown = 12  # drift of the first version's windows after that: what its detector had gathered is gone, too
    assert found["compared"] == 57 - 3 - unknown - 1
    with lived.db.begin() as on:
        on.execute(text("DELETE FROM window_sketch"))
    result = backtest(lived, 0, 18)
    assert (result.exit_code, "no counts of them are kept" in str(result.exception)) == (1, True)


@pytest.mark.slow
def test_windows_that_went_into_a_day(loop: Loop) -> None:
    """Of windows that were added up the recorded verdicts stand; those after them come out again exactly."""
    loop.champion()
    loop.reference(OLD[:500])
    seen(loop, {number: part(OLD, number) for number in range(20, 28)})
    assert compact(loop.db, before=loop.window(30).end) == 3
    found = told(backtest(loop, 20, 27, "--json", "--strict"))
    assert [each["replayed"] for each in found["windows"]] == 4 * [False] + 4 * [True]
    assert (found["differences"], found["compared"], conditions(found, "drift")) == ([], 12, "oooooooo")
    assert "4 more had no counts, or have none any more" in backtest(loop, 20, 27).stdout
    text = Path(ROOT / "docs" / "how-to" / "backtest.md").read_text()
    for said in (text, driftloop("backtest", "--help").stdout):
        assert f"one by one for {SINGLE_DAYS} days" in " ".join(said.replace("│", " ").split())


def test_what_no_policy_can_judge_is_said(loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows older than those that are kept one by one keep their verdict under any policy, and the output says so."""
    monkeypatch.setattr("datasets_defs.store.sketch_log.SINGLE_DAYS", 0)
    loop.champion()
    loop.reference(OLD[:500])
    seen(loop, {number: part(OLD, number) for number in range(20, 28)})
    compact(loop.db, before=loop.window(30).end)
    policy = tmp_path / "policy.yaml"
    policy.write_text("harm_ratio: 1.5\n")
    said = " ".join(backtest(loop, 20, 27, "--policy", policy).stdout.split())
    assert "4 more ended by " in said
    assert "Their recorded verdicts stand, under any policy" in said
    assert told(backtest(loop, 20, 27, "--policy", policy, "--json"))["one_by_one_since"] > loop.until(23).isoformat()


@pytest.mark.slow
def test_the_plot(lived: Loop, tmp_path: Path) -> None:
    """The evidence is drawn into a PNG, and into the terminal with both limits."""
    path = tmp_path / "evidence.png"
    said = backtest(lived, 0, 18, "--plot", path).stdout
    assert path.read_bytes().startswith(b"\x89PNG")
    assert "█" in said
    assert "BAD" in said
    result = backtest(lived, 0, 18, "--plot", tmp_path / "no" / "folder.png")
    assert (result.exit_code, "cannot be written" in str(result.exception)) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["backtest", "nobody"], "no model 'nobody'"),
        (["backtest", MODEL], "was looked at"),
        (["backtest", MODEL, "--since", "yesterday"], "--since 'yesterday' is no ISO 8601 time"),
        (["backtest", MODEL, "--until", "2999-01-01"], "lies in the future"),
        (["backtest", MODEL, "--since", "2026-05-02", "--until", "2026-05-01"], "is not before --until"),
        (["backtest", MODEL, "--policy", "{}/gone.yaml"], "cannot be read"),
        (["backtest", MODEL, "--policy", "{}/list.yaml"], "expected fields of a model's `drift:`, found list"),
        (["backtest", MODEL, "--policy", "{}/wrong.yaml"], "field min_rowz"),
        (["backtest", MODEL, "--policy", "{}/torn.yaml"], "not readable as YAML"),
        (["backtest", MODEL, "--truth", "{}/gone.csv"], "cannot be read"),
        (["backtest", MODEL, "--truth", "{}/torn.json"], "not readable as JSON"),
        (["backtest", MODEL, "--truth", "{}/object.json"], "expected a list"),
        (["backtest", MODEL, "--truth", "{}/three.json"], "shift 1: expected a start and an end"),
        (["backtest", MODEL, "--truth", "{}/other.csv"], "columns start and end"),
        (["backtest", MODEL, "--truth", "{}/turned.csv"], "shift 1: window ends"),
        (["calibrate", "nobody"], "no model 'nobody'"),
        (["calibrate", MODEL], "no champion serves yet"),
    ],
)
def test_mistakes_are_said_in_words(loop: Loop, tmp_path: Path, arguments: list[str], says: str) -> None:
    """What cannot be done is one sentence."""
    for name, content in {
        "list.yaml": "[1]", "wrong.yaml": "min_rowz: 1", "torn.yaml": "a: [", "torn.json": "[[", "object.json": "{}",
        "three.json": "[[1, 2]]", "other.csv": "from,to\n1,2\n",
        "turned.csv": "start,end\n2026-05-02,2026-05-01\n",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(content)
    result = driftloop(*(each.replace("{}", str(tmp_path)) for each in arguments))
    assert result.exit_code == 1
    assert says in str(result.exception)


def test_calibrate(loop: Loop) -> None:
    """The first profile is made from the reference; a person and a program are told what it means."""
    loop.champion()
    assert "no reference yet" in str(driftloop("calibrate", MODEL).exception)
    loop.reference(OLD[:500])
    first = told(driftloop("calibrate", MODEL, "--json"))
    assert (first["revision"], first["rows"], first["windows"], first["not_renewed"]) == (1, 500, 0, None)
    assert 0 < first["columns"]["words"]["tolerance"] < 0.5
    assert (first["harm_limit_ratio"], first["false_alarms_per_year"]) == (1.02, pytest.approx(0.1))
    said = driftloop("calibrate", MODEL).stdout
    assert "not renewed: 0 of the 24 accepted windows" in said
    assert "too few for any judgement" in said


@pytest.mark.slow
def test_calibrate_again(loop: Loop) -> None:
    """After a day of good windows tolerances are narrower, and smaller shifts are seen sooner than large ones were."""
    spec = loop.spec()
    loop.champion()
    loop.reference(OLD[:500])
    seen(loop, {number: part(OLD, number) for number in range(26)})
    before, after = (calibrated(loop.db, spec, now=loop.until(number)) for number in (10, 25))
    assert (before.profile.revision, after.profile.revision, after.profile.windows) == (1, 2, 26)
    assert before.kept_because is not None
    assert after.kept_because is None
    assert after.profile.eps["words"] < before.profile.eps["words"]
    assert (round(after.rows_per_window), after.carried) == (100, 1)
    small, middle, large = (after.detected_after[shift] for shift in (0.2, 0.5, 1.0))
    assert large is not None
    assert middle is not None
    assert small is None or small >= middle >= large
    tell(after)
    assert as_plain(after)["detected_after_seconds"]["1 sd"] == large.total_seconds()
