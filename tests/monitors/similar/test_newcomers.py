"""New kinds of prompts that harm are named in the open incident, once: what they are about, and if they were asked."""

import os
import signal
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pytest

from alerts.topics import TOPIC_NAMED, topic_of
from datasets_defs.core.conditions import Condition
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.faults import KILL_AT
from datasets_defs.core.settings import ROOT
from datasets_defs.core.windows import Window
from datasets_defs.ledger.events import Event
from datasets_defs.store.verdicts import recent_verdicts
from monitors.profiles.first import first_profile
from monitors.similar.index import keep_up
from monitors.similar.newcomers import Earlier, Newcomers, core_of, name_newcomers, newcomers
from monitors.watch_drift import watch
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation, licences

NAME = """
import sys
from datetime import datetime
from datasets_defs.core.windows import Window
from datasets_defs.spec.files import spec_of
from datasets_defs.store.database import engine_for
from monitors.similar.newcomers import name_newcomers
from monitors.watch_drift import watch
window = Window(*map(datetime.fromisoformat, sys.argv[3:5]))
name_newcomers(engine_for(sys.argv[1]), spec_of(sys.argv[2]), window=window, actor="test")
"""


def shifted(loop: Loop, *, before: tuple[str, ...] = (), harm: str | None = "new") -> Window:
    """Give a model whose newest window asks about licences, as `before` did, with an incident about its loss."""
    spec = loop.spec()
    loop.champion()
    loop.reference(documentation()[:300])
    champion = loop.ledger.champion(MODEL)
    assert champion is not None
    first_profile(loop.db, spec, champion, until=loop.window(1).start)
    loop.traffic(1, documentation()[300:340] + before)
    loop.traffic(2, documentation()[340:360] + licences()[:25])
    keep_up(loop.db, spec, until=loop.window(2).end)
    loop.verdict(2, "loss", Condition.BAD, evidence={} if harm is None else {"harm": harm})
    loop.ledger.open_incident(
        MODEL, signal="loss", degraded_since=loop.window(2).start, reason="r", evidence={}, actor="t"
    )
    return loop.window(2)


def named(loop: Loop) -> list[Event]:
    """Read what the history says of new kinds."""
    return loop.ledger.events_of(MODEL, EventKind.TOPIC_NAMED)


def test_a_topic_that_was_never_asked(loop: Loop) -> None:
    """The history names it by its words, in the incident, once; no text and no request stands there."""
    window = shifted(loop)
    found = name_newcomers(loop.db, loop.spec(), window=window, actor="test")
    assert found is not None
    assert found.new >= 15
    assert not found.was_asked
    name_newcomers(loop.db, loop.spec(), window=window, actor="test")
    (event,) = named(loop)
    incident = loop.ledger.open_of(MODEL)
    assert incident is not None
    assert event.incident_id == incident.id
    assert topic_of(event, incident) is TOPIC_NAMED
    assert "nothing as near was asked before" in event.reason
    words = event.evidence["words"].split()
    assert len(words) == 3
    assert all(sum(word in text.lower() for text in licences()[:25]) >= 3 for word in words)
    assert set(event.evidence["earlier"][0]) == {"at", "similarity", "kind"}


def test_a_topic_that_comes_back(loop: Loop) -> None:
    """Prompts as near as its own that were asked before are said with their time and kind."""
    window = shifted(loop, before=licences()[25:35])
    found = name_newcomers(loop.db, loop.spec(), window=window, actor="test")
    assert found is not None
    assert found.was_asked
    assert f"the like was asked before: the nearest earlier one, of {loop.window(1).start:%Y-%m-%d}" in found.reason
    assert all(each.at < window.start for each in found.earlier)


def test_killed_after_the_word_it_is_not_said_twice(loop: Loop, database_url: str) -> None:
    """A run that dies right after leaves one event, and the next run none."""
    window = shifted(loop)
    arguments = [database_url, MODEL, window.start.isoformat(), window.end.isoformat()]
    environment = {**os.environ, KILL_AT: "similar.named"}
    killed = subprocess.run([sys.executable, "-c", NAME, *arguments], cwd=ROOT, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    name_newcomers(loop.db, loop.spec(), window=window, actor="test")
    assert len(named(loop)) == 1


@pytest.mark.parametrize("harm", [None, "same"])
def test_without_harmful_new_kinds_nothing_is_said(loop: Loop, harm: str | None) -> None:
    """Known prompts that cost more have no new topic; nor has a window without an incident, or without a profile."""
    window = shifted(loop, harm=harm)
    assert name_newcomers(loop.db, loop.spec(), window=window, actor="test") is None
    assert name_newcomers(loop.db, loop.spec(), window=loop.window(1), actor="test") is None
    assert named(loop) == []


def test_few_new_prompts_are_no_topic(loop: Loop) -> None:
    """Of the prompts of an ordinary window, of which a few are always like none, nothing is said."""
    shifted(loop)
    spec, champion = loop.spec(), loop.ledger.champion(MODEL)
    assert champion is not None
    profile = first_profile(loop.db, spec, champion, until=loop.window(1).start)
    assert not isinstance(profile, str)
    assert profile.encoding.kinds is not None
    assert newcomers(loop.db, spec, profile.encoding.kinds, Window(loop.window(5).start, loop.window(6).end)) is None


def test_the_core_is_the_nearer_half() -> None:
    """Odd prompts beside a topic do not move its middle far, and do not count for how near its own lie."""
    rng = np.random.default_rng(3)
    topic = np.zeros((12, 40), dtype=np.float32)
    topic[:, 0] = 1
    vectors = np.concatenate([topic + 0.1 * rng.normal(size=(12, 40)), rng.normal(size=(6, 40))]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    middle, inside, own = core_of(vectors)
    assert middle[0] > 0.95
    assert set(np.flatnonzero(inside)) <= set(range(12))
    assert own > 0.8


@pytest.mark.parametrize(
    ("similarities", "asked", "said"),
    [
        ((), False, "no earlier prompt is indexed"),
        ((0.9, 0.9), False, "nothing as near was asked before"),
        ((0.9, 0.8, 0.7), True, "the like was asked before"),
        ((0.9, 0.8, 0.69), False, "nothing as near was asked before"),
    ],
)
def test_when_it_was_asked_before(loop: Loop, similarities: tuple[float, ...], *, asked: bool, said: str) -> None:
    """Three earlier prompts at least have to lie as near as the topic's own core; one may be chance."""
    at = loop.window(0).start
    earlier = tuple(Earlier(at=at + timedelta(hours=1), similarity=each, kind="“a b c”") for each in similarities)
    found = Newcomers(words="x y z", new=9, sampled=50, own=0.7, earlier=earlier)
    assert found.was_asked == asked
    assert said in found.reason


def test_the_sensor_names_what_it_found_itself(loop: Loop) -> None:
    """Licences at four times the cost come among questions about Python: the loss is BAD for new kinds, and named."""
    texts = documentation()
    loop.champion()
    loop.reference(texts[:400])
    for number in range(1, 7):
        loop.traffic(number, texts[100 * number : 100 * number + 100])
        if number >= 3:
            loop.traffic(number, licences()[50 * number : 50 * number + 60], version=None, loss=9.0)
        watch(MODEL, until=loop.until(number), db=loop.db, actor="test")
        if named(loop):
            break
    (event,) = named(loop)
    verdict = recent_verdicts(loop.db, MODEL, "loss", until=loop.window(number).end, count=1)[0]
    assert verdict.evidence["harm"] == "new"
    assert event.evidence["new"] >= 10
    assert not event.evidence["was_asked"]
