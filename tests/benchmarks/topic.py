"""Hours until the sensor sees that a part of the traffic is on a new topic: real texts through the real log."""

import random
from collections.abc import Iterator, Sequence
from statistics import median

from datasets_defs.core.conditions import Condition
from datasets_defs.store.verdicts import recent_verdicts
from monitors.profiles.profile import Profile
from monitors.profiles.renewal import renew
from monitors.verdicts.confirm import is_confirmed
from monitors.watch_drift import watch
from tests.benchmarks.figures import Figure
from tests.benchmarks.stack import fresh_loop
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation, licences

NEW_SHARE = 0.3
KINDS = {"delay": True, "delay_first_profile": False}
"""Judged by a profile renewed from the hours before, and by the first one of a version, made of 500 texts."""
_REFERENCE = 500
_LONGEST = 48


def delays(rows: int, hours_before: int, repeats: int, *, kinds: Sequence[str] = tuple(KINDS)) -> Iterator[Figure]:
    """Python's documentation, of which some share gives way to licences; the medians of independent repeats."""
    for name in kinds:
        renewed = KINDS[name]
        found = [_delay(rows, hours_before, seed, renewed=renewed) for seed in range(repeats)]
        first, confirmed = (median(each[at] for each in found) for at in (0, 1))
        yield Figure(name=f"drift.topic.{name}_to_first", value=first, unit="hours")
        gate = 6 if renewed else None
        yield Figure(name=f"drift.topic.{name}", value=confirmed, unit="hours", gate=gate, better="less")


def _delay(rows: int, hours_before: int, seed: int, *, renewed: bool) -> tuple[int, int]:
    """Give the hours until drift is bad, and until that is confirmed."""
    rng = random.Random(seed)
    old = rng.sample(documentation(), len(documentation()))
    with fresh_loop() as loop:
        spec = loop.spec(drift={})
        loop.champion()
        loop.reference(tuple(old[:_REFERENCE]), loss=None)
        for hour in range(hours_before):
            _live(loop, hour, rng.choices(old[_REFERENCE:], k=rows))
        champion = loop.ledger.champion(MODEL)
        if renewed and champion is not None:
            made = renew(loop.db, spec, champion, until=loop.until(hours_before - 1), force=True)
            assert isinstance(made, Profile), made
        first = _LONGEST
        for hour in range(_LONGEST):
            fresh = rng.choices(licences(), k=round(NEW_SHARE * rows))
            _live(loop, hours_before + hour, rng.choices(old[_REFERENCE:], k=rows - len(fresh)) + fresh)
            end = loop.window(hours_before + hour).end
            verdicts = recent_verdicts(loop.db, MODEL, "drift", until=end, count=spec.drift.confirm.of)
            if verdicts[0].condition is Condition.BAD:
                first = min(first, hour + 1)
            if is_confirmed(verdicts, spec.drift.confirm):
                return first, hour + 1
    return first, _LONGEST


def _live(loop: Loop, hour: int, prompts: list[str]) -> None:
    loop.traffic(hour, tuple(prompts), loss=None)
    watch(MODEL, until=loop.until(hour), db=loop.db, actor="benchmark")
