"""The replay of stored windows is the policy itself, stepped window by window."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from datasets_defs.core.conditions import Verdict
from datasets_defs.core.windows import Window
from datasets_defs.spec.signals import DriftSpec
from monitors.counts.columns import learn_encoding, sketches
from monitors.counts.moments import Moments
from monitors.counts.rollup import WindowSketch
from monitors.drift.loss import LossSeen
from monitors.drift.policy import judge_window
from monitors.drift.subject import LEAST_ROWS, Subject
from monitors.profiles.profile import Profile
from monitors.replay.outcome import Judged
from monitors.replay.replay import Stored, replay

START = datetime(2026, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPEC = DriftSpec(season="none", min_rows=100, burn_in_windows=0)


def rows(count: int, seed: int, *, shift: float = 0.0) -> list[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    return [
        {
            "prompt": "a prompt",
            "prompt_bits_per_byte": 2.5 + 0.2 * float(draw.normal()),
            "attributes": {"a": float(draw.normal()) + shift, "b": float(draw.normal())},
        }
        for _ in range(count)
    ]


REFERENCE = rows(5_000, 99)
ENCODING = learn_encoding(REFERENCE)
PROFILE = Profile(
    model="m", version=1, revision=1, effective_from=None, source="s", rows=5_000, encoding=ENCODING,
    reference=sketches(ENCODING, REFERENCE), eps=dict.fromkeys([c.name for c in ENCODING.columns], 0.04),
    icc=dict.fromkeys([c.name for c in ENCODING.columns], 0.0), loss=Moments.of([2.5] * 5_000), loss_tolerance=0.02,
)  # fmt: skip


def stored(number: int, count: int = 300, *, start: int | None = None, shift: float = 0.0, **more: Any) -> Stored:
    """Make window `number`; with `start` it was counted from that window on."""
    window = Window(START + number * HOUR, START + (number + 1) * HOUR)
    some = rows(count, number, shift=shift)
    sketch = WindowSketch(
        window=Window(START + (number if start is None else start) * HOUR, window.end),
        rows=count,
        columns=sketches(ENCODING, some),
        loss=Moments.of([row["prompt_bits_per_byte"] for row in some]),
    )
    usual = {"version": 1, "served_since": START, "promoted": False, "was_judged": count >= LEAST_ROWS}
    return Stored(**{**usual, "window": window, "sketch": sketch, "profile": PROFILE, "recorded": {}, **more})


def drift(found: list[Judged]) -> list[float | None]:
    return [each.verdicts["drift"].score for each in found]


def stepped(windows: list[Stored], log_m: Any = None) -> list[tuple[Verdict, Verdict, Verdict]]:
    """Judge windows one by one, as the sensor does."""
    found, losses, carried = [], [], 0
    for each in windows:
        subject = Subject(model="m", window=each.window, champion_version=1)
        step = judge_window(
            subject, each.sketch, each.profile, SPEC, log_m=log_m, losses=losses, in_burn_in=False,
            brought=each.sketch.rows - carried,
        )  # fmt: skip
        carried = 0 if each.was_judged else each.sketch.rows
        log_m = step.log_m if step.log_m is not None else log_m
        seen = LossSeen.of(step.loss)
        losses = [*losses, *([] if seen is None else [seen])]
        found.append(step.verdicts)
    return found


def test_the_same_policy_gives_the_same_verdicts() -> None:
    """With a shift, and with a window that was too small and counted again, each verdict is the step's own."""
    windows = [stored(0), stored(1, 15), stored(2, 115, start=1), *(stored(n, shift=0.5) for n in range(3, 7))]
    found = replay("m", windows, SPEC, losses=[])
    assert [tuple(each.verdicts.values()) for each in found] == stepped(windows)
    assert [str(each.verdicts["drift"].condition) for each in found][-2:] == ["BAD", "BAD"]
    assert all(each.is_state_known and each.is_replayed for each in found)


def test_it_goes_on_from_what_was_known() -> None:
    """From the middle on, with the state and the losses before it, the verdicts are those of the whole."""
    windows = [stored(n, shift=0.3) for n in range(6)]
    whole = replay("m", windows, SPEC, losses=[])
    log_m = None
    for each in windows[:3]:
        subject = Subject(model="m", window=each.window, champion_version=1)
        log_m = judge_window(
            subject, each.sketch, PROFILE, SPEC, log_m=log_m, losses=[], in_burn_in=False, brought=each.sketch.rows
        ).log_m  # fmt: skip
    later = [replace(windows[3], continues=False, log_m=log_m), *windows[4:]]
    losses = [each.verdicts["loss"] for each in whole[:3]]
    assert [each.verdicts for each in replay("m", later, SPEC, losses=losses)] == [each.verdicts for each in whole[3:]]
    lost = [replace(windows[3], continues=False, is_state_known=False), *windows[4:]]
    found = replay("m", lost, SPEC, losses=losses)
    assert not any(each.is_state_known for each in found)
    assert drift(found)[0] < drift(whole)[3]
    assert [each.verdicts["loss"] for each in found] == [each.verdicts["loss"] for each in whole[3:]]


@pytest.mark.parametrize("what", ["version", "revision"])
def test_a_new_champion_or_profile_begins_anew(what: str) -> None:
    """What was gathered against one reference says nothing of the next."""
    windows = [stored(n, shift=0.3) for n in range(3)]
    more = {"version": 2} if what == "version" else {"profile": replace(PROFILE, revision=2)}
    fresh = [stored(n, shift=0.3, **more) for n in (3, 4)]
    assert drift(replay("m", [*windows, *fresh], SPEC, losses=[]))[3:] == drift(replay("m", fresh, SPEC, losses=[]))


def test_thin_windows_are_judged_and_say_so() -> None:
    """Under a higher least number of rows every window is still judged, by the same evidence, and is called thin."""
    windows = [stored(n) for n in range(6)]
    usual, thin = (replay("m", windows, SPEC.model_copy(update={"min_rows": rows}), losses=[]) for rows in (100, 500))
    assert drift(usual) == drift(thin)
    for found, state in ((usual, "good"), (thin, "thin")):
        sight = [each.verdicts["data"].evidence["sight"] for each in found]
        assert {each["state"] for each in sight} == {state}
        assert all(0 < each["drift_sd"] < 1 and each["loss_ratio"] > 1 for each in sight)


def test_few_rows_that_look_broken_are_added_up() -> None:
    """A thin window that looks broken waits for the next one's rows, and is judged together with them."""
    windows = [stored(n) for n in range(4)]
    broken = [replace(each, sketch=replace(each.sketch, empty_prompts=200)) for each in windows]
    found = replay("m", broken, SPEC.model_copy(update={"min_rows": 500}), losses=[])
    assert [each.verdicts["data"].evidence["rows"] for each in found] == [300, 600, 300, 600]
    assert [str(each.verdicts["data"].condition) for each in found] == ["NO_DATA", "BAD"] * 2


def test_broken_windows_are_not_added_up() -> None:
    """A broken window that was enough is passed over; the next is judged alone, from the state before."""
    whole, after = stored(0, shift=0.3), stored(2, shift=0.3)
    broken = stored(1)
    broken = replace(broken, sketch=replace(broken.sketch, empty_prompts=200))
    found = replay("m", [whole, broken, after], SPEC, losses=[])
    assert [str(each.verdicts["data"].condition) for each in found] == ["OK", "BAD", "OK"]
    assert drift(found)[2] == drift(replay("m", [whole, after], SPEC, losses=[]))[1]


def test_smaller_windows_cannot_be_tried() -> None:
    """A window that was too small stays unknown, since its rows are in the next one's counts."""
    windows = [stored(0), stored(1, 15), stored(2, 115, start=1)]
    found = replay("m", windows, SPEC.model_copy(update={"min_rows": 20}), losses=[])
    assert drift(found)[1] is None
    assert "15 rows" in found[1].verdicts["drift"].reason
    assert drift(found)[2] == drift(replay("m", windows, SPEC, losses=[]))[2]


def test_columns_left_unwatched() -> None:
    """A shift in a column that is not looked at is none."""
    windows = [stored(n, shift=0.5) for n in range(5)]
    assert str(replay("m", windows, SPEC, losses=[])[-1].verdicts["drift"].condition) == "BAD"
    found = replay("m", windows, SPEC, losses=[], unwatched={"attribute:a", "attribute:gone"})
    assert str(found[-1].verdicts["drift"].condition) == "OK"
    assert "attribute:a" not in found[-1].verdicts["drift"].evidence["columns"]


def test_windows_without_counts_keep_what_was_said() -> None:
    """Their recorded verdicts stand, signals that have none are unknown, and what follows goes on."""
    said = Subject(model="m", window=stored(1).window, champion_version=1).unknown("said then").drift
    gone = replace(stored(1), sketch=None, recorded={"drift": said})
    found = replay("m", [stored(0), gone, stored(2)], SPEC, losses=[])
    assert found[1].verdicts["drift"] == said
    assert (found[1].verdicts["loss"].reason, found[1].is_replayed) == ("nothing is kept of the window", False)
    assert drift(found)[2] == drift(replay("m", [stored(0), stored(2)], SPEC, losses=[]))[1]


def test_burn_in() -> None:
    """Within the burn-in of a policy drift is at most a warning."""
    windows = [stored(n, shift=0.5) for n in range(6)]
    found = replay("m", windows, SPEC.model_copy(update={"burn_in_windows": 5}), losses=[])
    assert [str(each.verdicts["drift"].condition) for each in found][3:] == ["WARN", "WARN", "BAD"]
