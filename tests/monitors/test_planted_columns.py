"""Keys, addresses, telephone numbers and users in prompts and attributes: none in what sensors keep, report or say."""

import json
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine

from alerts.outbox import enqueue_new
from datasets_defs.core.conditions import Condition
from datasets_defs.store.inference_log import Inference, append
from datasets_defs.store.sketch_log import profile_revision
from datasets_defs.store.verdicts import recent_verdicts
from monitors.breaks.look import learn
from monitors.counts.columns import learn_encoding
from monitors.maintain import compact
from monitors.profiles.profile import Profile
from monitors.profiles.renewal import rebaseline
from monitors.reports.drift_report import write
from monitors.watch_drift import watch
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation, licences
from tests.planted import ADDRESS, KEY, PLANTED, TELEPHONE, USER, leaks_in_files, leaks_in_tables

WHO = (ADDRESS, TELEPHONE, KEY, USER, "shop", "bank")


def traffic(
    loop: Loop, number: int, *, rows: int = 120, who: tuple[str, ...] = WHO, shifted: bool = False, template: str = ""
) -> None:
    """Log a window whose prompts and attributes hold what must not be kept; every third prompt has all of it."""
    window, texts, draw = loop.window(number), licences() if shifted else documentation(), np.random.default_rng(number)
    rude = f"I am {ADDRESS}, my key is {KEY}. "
    append(loop.db, [
        Inference(
            model=MODEL, request_id=f"{number}-{n}", at=window.start + (n + 0.5) / rows * window.length,
            prompt=template + (rude if n % 3 == 0 else "") + texts[draw.integers(500)][:80], model_version=1,
            prompt_bits_per_byte=2.5 + 0.2 * float(draw.normal()) + 2 * shifted, session_id=f"{USER}/{n}",
            user_id=f"{USER}-{n % 40}" if n % 2 else USER,
            attributes={name: who[draw.integers(len(who))] for name in ("customer", "contact")} | {"tier": "ab"[n % 2]},
        )
        for n in range(rows)
    ])  # fmt: skip


@pytest.mark.slow
def test_what_sensors_keep(engine: Engine, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Reference, profiles, counts, verdicts, incident, reports, messages and the log of the process hold none of it.

    The columns are watched all the same: a customer who takes over is a break, and a shift is drift.
    """
    caplog.set_level("DEBUG")
    loop = Loop(engine, home)
    spec = loop.spec(drift={"min_rows": 60, "burn_in_windows": 0, "reports": "always"})
    loop.champion()
    for number in range(10):
        traffic(loop, number)
        watch(MODEL, until=loop.until(number), db=engine, actor="test")
    first = Profile.of(profile_revision(engine, MODEL, 1, 1))
    levels = {column.name: column.levels for column in first.encoding.of("attribute")}
    assert levels["attribute:customer"] == ("bank", "shop")
    assert set(first.usual.columns["attribute:customer"]["levels"]) > {"bank", "shop"}
    drift = recent_verdicts(engine, MODEL, "drift", until=loop.window(9).end, count=3)
    assert {each.condition for each in drift} == {Condition.OK}, [each.reason for each in drift]
    again = rebaseline(engine, spec, loop.ledger.champion(MODEL), until=loop.until(9), windows=4)
    assert again.revision == 2
    for number in range(10, 14):
        traffic(loop, number, who=(*WHO[:1] * 20, "bank"), shifted=number > 10)
        watch(MODEL, until=loop.until(number), db=engine, actor="test")
    for number in (14, 15):
        traffic(loop, number, template=f"Mail from {ADDRESS}, whose key is {KEY}, about your last order: ")
        watch(MODEL, until=loop.until(number), db=engine, actor="test")
    told = [each.reason for each in recent_verdicts(engine, MODEL, "data", until=loop.window(15).end, count=2)]
    assert all("“Mail from <email>, whose key is <secret>" in reason for reason in told), told
    written = [write(MODEL, until=loop.until(number), db=engine) for number in (9, 13)]
    assert list(home.rglob("*.html")), written
    enqueue_new(engine)
    incident = loop.ledger.open_of(MODEL)
    assert incident is not None
    compact(engine, before=loop.window(16).end)
    assert leaks_in_tables(engine) == {}
    assert leaks_in_files(home) == {}
    assert not [planted for planted in PLANTED if planted in caplog.text]


def test_a_level_that_tells_has_no_name() -> None:
    """Of a column's values those that tell are counted without a name; that they are many, or new, is still seen."""
    rows = [
        {"prompt": f"p {n}", "user_id": USER, "attributes": {"who": WHO[n % 6], "when": f"2026-05-{n % 9 + 10}"}}
        for n in range(300)
    ]
    encoding = learn_encoding(rows)
    assert {column.name: column.levels for column in encoding.of("attribute")} == {
        "attribute:when": tuple(f"2026-05-{day}" for day in range(10, 19)), "attribute:who": ("bank", "shop"),
    }  # fmt: skip
    known = learn(rows).columns["attribute:who"]["levels"]
    assert sum(known.values()) == pytest.approx(1)
    assert not [planted for planted in PLANTED if planted in json.dumps(known)]
