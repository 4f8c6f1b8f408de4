"""How a version's profile is learned, renewed from accepted windows, and moved to a harmless shift; on real tables."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from datasets_defs.core.conditions import Condition
from datasets_defs.core.errors import ContractError
from datasets_defs.ledger.champions import Champion
from datasets_defs.store.artifacts import artifact_url, write_rows
from datasets_defs.store.inference_log import Inference, append
from datasets_defs.store.references import ReferenceProfile, reference_of, save_reference
from datasets_defs.store.sketch_log import StoredSketch, profile_revision, save_profile, save_sketch
from monitors.breaks.named import breaks_of
from monitors.counts import embeddings
from monitors.counts.columns import ColumnEncoding, Encoding
from monitors.counts.moments import Moments
from monitors.counts.rollup import WindowSketch, add_up, roll_up
from monitors.counts.sketch import NumericSketch, Scale, Sketch
from monitors.profiles import gathered
from monitors.profiles.first import first_profile
from monitors.profiles.profile import Profile, keep_profile, profile_of
from monitors.profiles.reference import build_reference
from monitors.profiles.renewal import rebaseline, renew, renew_champion
from tests.monitors.counts.test_embeddings import make_model
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation

LOGGED = {"attribute:score", "attribute:tier", "latency_seconds", "prompt_bits_per_byte"}
Draw = Callable[[np.random.Generator, int], dict[str, Any]]


def usual(draw: np.random.Generator, number: int) -> dict[str, Any]:
    """Give the attributes of an ordinary request."""
    return {"score": float(draw.normal()), "tier": "free" if number % 3 else "paid"}


def log(loop: Loop, number: int, *, count: int = 100, attributes: Draw = usual, **more: Any) -> None:
    """Log a window's requests."""
    draw = np.random.default_rng(number)
    window = loop.window(number)
    append(
        loop.db,
        [
            Inference(
                model=MODEL, request_id=f"{number}-{place}", at=window.start + (place + 0.5) / count * window.length,
                prompt=documentation()[draw.integers(500)][:80], latency_seconds=float(draw.lognormal()),
                attributes=attributes(draw, place),
                **{"model_version": 1, "prompt_bits_per_byte": 2.5 + 0.2 * float(draw.normal()), **more},
            )
            for place in range(count)
        ],
    )  # fmt: skip


def champion(loop: Loop) -> Champion:
    """Give the champion, made if there is none."""
    if loop.ledger.champion(MODEL) is None:
        loop.champion()
    found = loop.ledger.champion(MODEL)
    assert found is not None
    return found


def keep(loop: Loop, number: int, profile: Profile, condition: Condition = Condition.OK) -> WindowSketch:
    """Count a window and keep its counts and verdict, as the sensor does."""
    counted = roll_up(loop.db, MODEL, 1, loop.window(number), profile.encoding, text_rows=500)
    store(loop, counted, profile)
    loop.verdict(number, "drift", condition)
    return counted


def store(loop: Loop, counted: WindowSketch, profile: Profile, *, windows: int = 1) -> None:
    """Keep the counts of a window."""
    save_sketch(
        loop.db,
        StoredSketch(
            model=MODEL, version=1, window=counted.window, encoding=profile.encoding.digest, rows=counted.rows,
            content=counted.to_bytes(), state=b"state", windows=windows,
        ),
    )  # fmt: skip


def ready(loop: Loop, *, windows: int = 24, first: int = 1) -> Profile:
    """Give a first profile of training's reference, and accepted windows."""
    loop.reference(documentation()[:300])
    found = first_profile(loop.db, loop.spec(), champion(loop), until=loop.until(0))
    assert isinstance(found, Profile)
    for number in range(first, first + windows):
        log(loop, number)
        keep(loop, number, found)
    return found


def names(profile: Profile, *origins: Any) -> set[str]:
    return {column.name for column in profile.encoding.of(*origins)}


def made(found: Profile | str) -> Profile:
    """Take a profile, or show what was said instead."""
    assert isinstance(found, Profile), found
    return found


# --- first profiles --------------------------------------------------------------------------------------------------


def test_a_first_profile_of_trainings_rows(loop: Loop):
    """Rows that training left are a reference of their text and loss, with the tolerance that so few rows need."""
    profile = ready(loop, windows=0)
    assert (profile.revision, profile.effective_from, profile.rows, profile.source) == (1, None, 300, "test")
    assert names(profile, "log", "attribute") == {"prompt_bits_per_byte"}
    assert "oov_share" in names(profile, "text")
    assert set(profile.eps) == set(profile.icc) == set(profile.reference) == names(profile, "log", "text")
    assert set(profile.eps.values()) == {0.15}  # 2 / sqrt(300), and a step more as nothing was replayed
    assert profile.loss.mean == pytest.approx(2.5, abs=0.05)
    assert profile.loss.rows == 300
    assert profile.detector(loop.window(1).start).columns == tuple(sorted(profile.reference))
    assert profile_of(loop.db, champion(loop), at=loop.window(1).start) == profile


def test_a_first_profile_is_made_once(loop: Loop):
    """Asking again, with another spec and later, gives the same."""
    profile = ready(loop, windows=0)
    spec = loop.spec(drift={"exclude": ["words"]})
    assert first_profile(loop.db, spec, champion(loop), until=loop.until(9)) == profile


def test_a_first_profile_of_the_own_log(loop: Loop):
    """A version without a reference gets one when its log suffices, with that log's figures and attributes."""
    serving = champion(loop)
    log(loop, 1, count=300, user_id="someone")
    said = first_profile(loop.db, loop.spec(), serving, until=loop.until(1))
    assert said == "300 of the 500 logged requests that make version 1's reference"
    log(loop, 2, count=300)
    spec = loop.spec(drift={"min_rows": 60, "exclude": ["words"]})
    profile = made(first_profile(loop.db, spec, serving, until=loop.until(2)))
    assert names(profile, "log", "attribute") == LOGGED
    assert "words" not in profile.reference
    assert profile.rows == 600
    assert first_profile(loop.db, loop.spec(), serving, until=loop.until(3)) == profile


def test_a_try_that_was_killed_is_taken_up(loop: Loop):
    """A reference that was made from the log, and no profile yet: the next try makes the same of the same rows."""
    serving = champion(loop)
    log(loop, 1, count=600)
    build_reference(loop.db, loop.spec(), serving, until=loop.until(1))
    log(loop, 2, count=600)
    profile = made(first_profile(loop.db, loop.spec(), serving, until=loop.until(2)))
    assert names(profile, "log", "attribute") == LOGGED
    assert profile.rows == 600


def test_nothing_before_the_champion(loop: Loop):
    """A window from before the champion gives no reference, and none of its figures."""
    loop.champion(since=loop.window(5).start)
    said = first_profile(loop.db, loop.spec(), champion(loop), until=loop.window(5).start)
    assert isinstance(said, str)
    loop.reference(documentation()[:300])
    profile = made(first_profile(loop.db, loop.spec(), champion(loop), until=loop.window(5).start))
    assert names(profile, "log") == {"prompt_bits_per_byte"}


def test_a_reference_without_recent_rows(loop: Loop):
    """It cannot be judged against; the version's own log will have to do, and what it lacks is said."""
    url = artifact_url("references", MODEL, "v1.parquet")
    sha256 = write_rows(url, [{"request_id": "r", "prompt": "p", "prompt_bits_per_byte": 1.0, "role": "anchor"}])
    save_reference(
        loop.db, ReferenceProfile(model=MODEL, version=1, uri=url, sha256=sha256, rows=1, source="s")
    )  # fmt: skip
    said = first_profile(loop.db, loop.spec(), champion(loop), until=loop.until(1))
    assert "0 of the 500 logged requests" in said


# --- renewed profiles ------------------------------------------------------------------------------------------------


def test_renewed_from_accepted_windows(loop: Loop):
    """After a day of accepted windows all columns are watched, tolerances fit the traffic, and the loss stays put."""
    first = ready(loop, windows=23)
    said = renew(loop.db, loop.spec(), champion(loop), until=loop.until(23))
    assert said == "23 of the 24 accepted windows that a new profile needs"
    log(loop, 24)
    keep(loop, 24, first)
    profile = made(renew(loop.db, loop.spec(), champion(loop), until=loop.until(24)))
    assert (profile.revision, profile.effective_from, profile.rows) == (2, loop.window(24).end, 2_400)
    assert (profile.windows, profile.loss, profile.begins) == (24, first.loss, None)
    assert profile.source == f"24 accepted windows up to {loop.window(24).end:%Y-%m-%d %H:%M}Z"
    assert names(profile, "log", "attribute") == LOGGED
    assert profile.encoding.vocabulary == first.encoding.vocabulary
    assert max(profile.eps.values()) <= 0.05
    assert profile.unsteady == ()
    score = profile.reference["attribute:score"]
    assert (score.rows, score.mean) == (2_400, pytest.approx(0, abs=0.1))
    again = [made(renew(loop.db, loop.spec(), champion(loop), until=loop.until(24))) for _ in range(2)]
    assert again == [profile, profile]
    assert profile_of(loop.db, champion(loop), at=loop.window(24).start) == first
    assert profile_of(loop.db, champion(loop), at=loop.window(25).start) == profile
    assert renew(loop.db, loop.spec(), champion(loop), until=loop.until(3)) == profile


@pytest.mark.slow
def test_when_it_is_renewed_again(loop: Loop):
    """With twice the windows, or after a week, or when a person asks."""
    ready(loop)
    second = made(renew(loop.db, loop.spec(), champion(loop), until=loop.until(24)))
    for number in range(25, 30):
        log(loop, number)
        keep(loop, number, second)
    said = renew(loop.db, loop.spec(), champion(loop), until=loop.until(29))
    assert said == "revision 2, of 24 windows, is young, and 29 are accepted by now"
    third = made(renew(loop.db, loop.spec(), champion(loop), until=loop.until(29), force=True))
    assert (third.revision, third.windows, third.rows) == (3, 29, 2_900)
    log(loop, 29 + 7 * 24)
    keep(loop, 29 + 7 * 24, third)
    fourth = made(renew(loop.db, loop.spec(), champion(loop), until=loop.until(29 + 7 * 24)))
    assert (fourth.revision, fourth.windows) == (4, 30)


@pytest.mark.slow
def test_equal_columns_are_added_up(loop: Loop):
    """Where no column has changed, stored counts are added up: the log is not needed any more, and days count, too."""
    ready(loop)
    second = made(renew(loop.db, loop.spec(), champion(loop), until=loop.until(24)))
    counted = []
    for number in range(25, 74):
        log(loop, number)
        counted.append(keep(loop, number, second))
    with loop.db.begin() as on:
        on.execute(text("DELETE FROM inference"))
    day = add_up(counted[:24])
    with loop.db.begin() as on:
        on.execute(text("DELETE FROM window_sketch WHERE window_end <= :at"), {"at": loop.window(48).end})
    store(loop, day, second, windows=24)
    third = made(renew(loop.db, loop.spec(), champion(loop), until=loop.until(73)))
    assert (third.revision, third.windows, third.encoding, third.icc) == (3, 25, second.encoding, second.icc)
    assert third.reference == add_up(counted).columns
    assert third.rows == 4_900


@pytest.mark.slow
@pytest.mark.parametrize("season", ["week", "none"])
def test_what_is_usual_is_learned_with_the_profile(loop: Loop, season: str):
    """Training's rows know no attributes: from the renewal on one that vanishes is called gone, season or not."""
    ready(loop)
    for number in range(1, 25):
        loop.verdict(number, "data", Condition.OK)
    spec = loop.spec(drift={"season": season})
    log(loop, 25, attributes=lambda draw, number: {"score": usual(draw, number)["score"]})
    first = made(profile_of(loop.db, champion(loop), at=loop.window(24).start))
    renewed = made(renew(loop.db, spec, champion(loop), until=loop.until(24), force=True))
    before, after = (breaks_of(loop.db, champion(loop), loop.window(25), of.usual, None) for of in (first, renewed))
    assert "gone" not in {each["kind"] for each in before}
    assert [(each["kind"], each["key"]) for each in after] == [("gone", "attribute:tier")]


@pytest.mark.slow
def test_windows_that_are_never_taken_in(loop: Loop):
    """A window that was not OK, that an incident overlaps, or that another version answered, goes into no profile."""
    ready(loop, windows=30)
    loop.verdict(3, "drift", Condition.WARN)
    loop.verdict(4, "drift", Condition.OK, version=2)
    incident, _ = loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(7).start, reason="r", evidence={}, actor="a"
    )
    assert renew(loop.db, loop.spec(), champion(loop), until=loop.until(30)) == (
        "4 of the 24 accepted windows that a new profile needs"
    )
    with loop.db.begin() as on:
        on.execute(
            text("UPDATE incident SET state = 'resolved', closed_at = :at, opened_at = :opened"),
            {"at": loop.window(8).start + timedelta(seconds=1), "opened": loop.window(7).end},
        )
    profile = made(renew(loop.db, loop.spec(), champion(loop), until=loop.until(30)))
    assert (incident.id, profile.windows, profile.rows) == (1, 26, 2_600)


def test_not_while_something_speaks_against_it(loop: Loop):
    """A shift is not taken in before it is recognised: with a newest window that is not OK nothing is renewed."""
    first = ready(loop, windows=26)
    log(loop, 27)
    keep(loop, 27, first, Condition.WARN)
    said = renew(loop.db, loop.spec(), champion(loop), until=loop.until(27), force=True)
    assert isinstance(said, str)
    assert "not accepted" in said


def test_a_column_that_is_excluded(loop: Loop):
    """A column that the spec has come to exclude goes at once, though it may be what speaks against the window."""
    ready(loop)
    second = made(renew(loop.db, loop.spec(), champion(loop), until=loop.until(24)))
    log(loop, 25)
    keep(loop, 25, second, Condition.BAD)
    spec = loop.spec(drift={"exclude": ["words", "attribute:tier"]})
    third = made(renew(loop.db, spec, champion(loop), until=loop.until(25)))
    assert (third.revision, third.effective_from, third.windows) == (3, loop.window(25).end, 24)
    assert set(second.reference) - set(third.reference) == {"words", "attribute:tier"}
    assert set(third.reference) == set(third.eps) == set(third.icc) == names(third, "log", "attribute", "text")
    assert third.source == f"{second.source}, without attribute:tier, words"
    assert renew(loop.db, spec, champion(loop), until=loop.until(25)) == third
    assert "not accepted" in str(renew(loop.db, spec, champion(loop), until=loop.until(26)))


@pytest.mark.slow
def test_columns_that_changed_are_counted_again(loop: Loop):
    """A new attribute, a new level, another scale: only those columns change, counted from the log."""
    ready(loop)
    second = made(renew(loop.db, loop.spec(), champion(loop), until=loop.until(24)))

    def grown(draw: np.random.Generator, number: int) -> dict[str, Any]:
        return {
            "score": 100 * float(draw.normal()), "tier": ("free", "paid", "trial")[number % 3], "new": number % 2 == 0
        }  # fmt: skip

    for number in range(25, 49):
        log(loop, number, attributes=grown)
        keep(loop, number, second)
    third = made(renew(loop.db, loop.spec(), champion(loop), until=loop.until(48)))
    before, after = ({column.name: column for column in each.encoding.columns} for each in (second, third))
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed == {"attribute:score", "attribute:tier", "attribute:new"}
    assert third.windows == 48
    tier, new = third.reference["attribute:tier"], third.reference["attribute:new"]
    assert (tier.count_of(["trial"]).tolist(), new.rows, new.nulls) == ([24 * 33], 4_800, 2_400)


@pytest.mark.slow
def test_an_embedding_model(loop: Loop, tmp_path: Path):
    """Where texts lie is learned once; a model that was put in its place, or taken out, changes those columns."""
    path = make_model(tmp_path / "model")
    spec = loop.spec(drift={"min_rows": 60, "embedding": path})
    loop.reference(documentation()[:60])
    first = made(first_profile(loop.db, spec, champion(loop), until=loop.until(0)))
    for number in range(1, 26):
        log(loop, number, count=20)
        keep(loop, number, first)
    second = made(renew(loop.db, spec, champion(loop), until=loop.until(24)))
    assert second.encoding.space == first.encoding.space is not None
    assert second.reference["embedding_distance"].present == 480
    shutil.rmtree(path)
    make_model(Path(path), seed=1)
    embeddings._fingerprint.cache_clear()
    embeddings._encoder.cache_clear()
    third = made(renew(loop.db, spec, champion(loop), until=loop.until(25), force=True))
    assert third.encoding.space is not None
    assert third.encoding.space.model != first.encoding.space.model
    assert third.reference["embedding_distance"].present == 500
    keep(loop, 26, third)
    without = made(renew(loop.db, loop.spec(), champion(loop), until=loop.until(26), force=True))
    assert (without.encoding.space, names(without, "embedding")) == (None, set())


def test_what_is_no_longer_in_the_log(loop: Loop, monkeypatch: pytest.MonkeyPatch):
    """Windows to be counted again whose rows are gone, or that are more than can be read, are left out."""
    ready(loop, windows=25)
    with loop.db.begin() as on:
        on.execute(text("DELETE FROM inference WHERE at < :at"), {"at": loop.window(2).end})
    said = renew(loop.db, loop.spec(), champion(loop), until=loop.until(25))
    assert said == "23 of the 24 accepted windows that a new profile needs are in the log"
    monkeypatch.setattr(gathered, "MOST_ROWS_AGAIN", 400)
    said = renew(loop.db, loop.spec(), champion(loop), until=loop.until(25))
    assert said == "4 of the 24 accepted windows that a new profile needs are in the log"


def test_who_is_first_wins(loop: Loop):
    """A revision that another writer made meanwhile is the one."""
    profile = ready(loop, windows=0)
    assert keep_profile(loop.db, replace(profile, source="other")) == profile


def test_the_champions_profile(loop: Loop):
    """The daily step says what became of it, with and without a champion."""
    loop.spec()
    assert renew_champion(MODEL, until=loop.until(1), db=loop.db) == "no champion serves yet"
    ready(loop)
    assert renew_champion(MODEL, until=loop.until(23), db=loop.db).startswith("23 of the 24")
    said = renew_champion(MODEL, until=loop.until(24), db=loop.db)
    assert said.startswith("version 1 is compared with revision 2: 24 accepted windows up to")


def test_the_daily_step_makes_the_first(loop: Loop):
    """A champion that the sensor has not judged yet gets its first profile, or is told what it lacks."""
    loop.spec()
    champion(loop)
    assert renew_champion(MODEL, until=loop.until(1), db=loop.db).startswith("0 of the 500")
    assert reference_of(loop.db, MODEL, 1) is None
    loop.reference(documentation()[:300])
    assert renew_champion(MODEL, until=loop.until(1), db=loop.db).startswith("version 1 is compared with revision 1")


# --- counts made by hand ---------------------------------------------------------------------------------------------

SCALE = Scale(0, 1)
BY_HAND = Encoding((ColumnEncoding("a", "numeric", "log", SCALE), ColumnEncoding("b", "numeric", "log", SCALE)))


def by_hand(loop: Loop, means: Sequence[tuple[float, float]], *, rows: int = 1_000) -> Profile:
    """Keep a profile of two columns, and accepted windows in which they have these means."""
    champion(loop)
    loop.spec()
    draw = np.random.default_rng(1)

    def columns(*mean: float) -> dict[str, Sketch]:
        return {name: NumericSketch.of(draw.normal(at, 1, rows), SCALE) for name, at in zip("ab", mean, strict=True)}

    profile = Profile(
        model=MODEL, version=1, revision=1, effective_from=None, source="s", rows=rows, encoding=BY_HAND,
        reference=columns(0, 0), eps={"a": 0.1, "b": 0.1}, icc={"a": 0.0, "b": 0.0}, loss=Moments(5, 4, 3, 2, 1, 1),
        loss_tolerance=0.02,
    )  # fmt: skip
    save_profile(loop.db, profile.stored())
    for number, mean in enumerate(means):
        counted = WindowSketch(window=loop.window(number), rows=rows, columns=columns(*mean), loss=Moments())
        store(loop, counted, profile)
        loop.verdict(number, "drift", Condition.OK)
    return profile


def test_hours_of_the_day(loop: Loop):
    """Where the day's course would need a wide tolerance, each hour is compared with its own reference."""
    course = [(0.6 * float(np.sin(np.pi * number / 12)), 0.0) for number in range(8 * 24)]
    by_hand(loop, course)
    profile = made(renew(loop.db, loop.spec(), champion(loop), until=loop.until(8 * 24 - 1)))
    assert sorted(profile.by_hour) == list(range(24))
    assert max(profile.eps.values()) <= 0.05
    morning, evening = loop.window(6).start, loop.window(18).start
    assert profile.reference_at(morning)["a"].mean == pytest.approx(0.6, abs=0.05)
    assert profile.reference_at(evening)["a"].mean == pytest.approx(-0.6, abs=0.05)
    assert profile.reference["a"].mean == pytest.approx(0, abs=0.05)
    again = profile_of(loop.db, champion(loop), at=loop.window(8 * 24).start)
    assert again == profile
    assert (len(again.by_hour), 24 in again.by_hour) == (24, False)
    state, columns = None, {"a": profile.reference_at(morning)["a"]}
    found = []
    for at in (morning, evening):
        detector = profile.detector(at)
        state = detector.step(detector.start(), columns, rows_per_user=1)
        found.append(detector.evidence(state).by_column["a"])
    assert found[0] < 0 < found[1]


def test_a_column_that_moves_by_itself(loop: Loop):
    """A column that no tolerance makes quiet is not watched for drift, only by the gate; all of them would be."""
    jumps = [(3.0 * (number // 6 % 3), 0.0) for number in range(48)]
    by_hand(loop, jumps)
    profile = made(renew(loop.db, loop.spec(), champion(loop), until=loop.until(47)))
    assert profile.unsteady == ("a",)
    assert profile.detector(loop.window(48).start).columns == ("b",)
    assert set(profile.reference) == {"a", "b"}
    alone = replace(profile, unsteady=("a", "b"))
    assert alone.detector(loop.window(48).start).columns == ("a", "b")


def test_a_harmless_shift_becomes_the_reference(loop: Loop):
    """The shifted windows are the new reference, earlier ones never come back, and the loss stays anchored."""
    present = by_hand(loop, [(0.0, 0.0)] * 30 + [(1.0, 0.0)] * 72)
    for number in range(30, 102):
        loop.verdict(number, "drift", Condition.BAD)
    moved = rebaseline(loop.db, loop.spec(), champion(loop), until=loop.until(101))
    assert (moved.revision, moved.effective_from, moved.windows) == (2, loop.window(101).end, 72)
    assert (moved.begins, moved.loss, moved.rows) == (loop.window(30).start, present.loss, 72_000)
    assert moved.reference["a"].mean == pytest.approx(1, abs=0.05)
    assert "harmless drift" in moved.source
    assert rebaseline(loop.db, loop.spec(), champion(loop), until=loop.until(101)) == moved
    for number in range(30, 102):
        loop.verdict(number, "drift", Condition.OK)
    renewed = made(renew(loop.db, loop.spec(), champion(loop), until=loop.until(102), force=True))
    assert (renewed.windows, renewed.begins) == (72, moved.begins)
    assert renewed.reference["a"].mean == pytest.approx(1, abs=0.05)


def test_nothing_to_move_to(loop: Loop):
    """Without a profile, or without judged windows, there is no new normal: an error in words."""
    with pytest.raises(ContractError, match="no drift profile"):
        rebaseline(loop.db, loop.spec(), champion(loop), until=loop.until(3))
    by_hand(loop, [])
    with pytest.raises(ContractError, match="no judged window"):
        rebaseline(loop.db, loop.spec(), champion(loop), until=loop.until(3))


def test_a_damaged_profile(loop: Loop):
    """What is no profile is refused in words, with whose it is."""
    by_hand(loop, [])
    stored = profile_revision(loop.db, MODEL, 1, 1)
    assert stored is not None
    without = stored.content.replace(b'"unsteady"', b'"unsteadx"')
    for content, told in (
        (b"P0", "begin with"),
        (stored.content[:-1], "bytes"),
        (without, "writer version 1 revision 1"),
    ):
        with pytest.raises(ContractError, match=told):
            Profile.of(replace(stored, content=content))
