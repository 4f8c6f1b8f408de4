"""Broken data of many kinds, with the loss it causes, through the log, the sensor and triage: what each is called.

Short real texts are logged with users, attributes and figures. What the prompts cost is measured by a model of bytes
that learned other texts of the same kinds. After a day of healthy windows, from which a profile is made, each kind of
damage goes on for some windows in a copy of that database.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import mean
from typing import Any

import numpy as np
from sqlalchemy import create_engine, text

from datasets_defs.core.conditions import Condition
from datasets_defs.core.incidents import Action
from datasets_defs.store.database import engine_for
from datasets_defs.store.inference_log import Inference, append
from datasets_defs.store.verdicts import recent_verdicts
from monitors.breaks.finding import NOTE
from monitors.profiles.profile import Profile
from monitors.profiles.renewal import renew
from monitors.triage import decide
from monitors.watch_drift import watch
from tests.benchmarks.byte_model import ByteModel
from tests.benchmarks.figures import Figure
from tests.benchmarks.stack import fresh_loop
from tests.monitors.breaks.damage import TEXT_DAMAGE, Damage
from tests.monitors.breaks.short_texts import kinds
from tests.monitors.loop import MODEL, Loop

ROWS = 200
HEALTHY = 32
BROKEN = 6
"""Windows that the damage goes on for: enough to confirm drift and loss, and to decide on them."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Broken:
    """One kind of broken data."""

    name: str
    names: tuple[str, ...]
    """Each of them is right."""
    change: Callable[[Row, int], None]
    """Damages a row in place, given its number."""


@dataclass(frozen=True, slots=True)
class Called:
    """What the loop made of one kind."""

    name: str
    named: bool
    """Whether the verdict on the data is bad and has a right name, in every window."""
    retrained: bool
    drift_alone: bool
    """Whether in some window drift or loss was bad, and the data was not."""


def broken_kinds() -> list[Broken]:
    """List the kinds: of texts, of columns, of who sends."""
    texts = [Broken(name, damage.names, partial(_prompt, damage)) for name, damage in TEXT_DAMAGE.items()]
    return [*texts, *_COLUMNS]


def _prompt(damage: Damage, row: Row, number: int) -> None:
    row["prompt"] = damage.change(row["prompt"], number)


def _tenant(row: Row, number: int) -> None:
    if number % 5:
        row["attributes"] = {**row["attributes"], "tenant": "t1"}


def _user(row: Row, number: int) -> None:
    if number % 5:
        row["user_id"] = "batch"


def _attribute(name: str, change: Callable[[Any], Any]) -> Callable[[Row, int], None]:
    def changed(row: Row, _: int) -> None:
        row["attributes"] = {**row["attributes"], name: change(row["attributes"][name])}

    return changed


def _renamed(row: Row, _: int) -> None:
    row["attributes"] = {**row["attributes"], "plan": row["attributes"]["tier"], "tier": None}


_COLUMNS = (
    Broken("latency in ms", ("unit",), lambda row, _: row.update(latency_seconds=row["latency_seconds"] * 1000)),
    Broken("tokens by ten", ("unit",), lambda row, _: row.update(prompt_tokens=row["prompt_tokens"] * 10)),
    Broken("no tokens", ("zeros",), lambda row, _: row.update(prompt_tokens=0)),
    Broken("score stuck", ("stuck",), _attribute("score", lambda _: 0.25)),
    Broken("score as text", ("retyped",), _attribute("score", str)),
    Broken("tier gone", ("gone",), _attribute("tier", lambda _: None)),
    Broken("tier renamed", ("renamed",), _renamed),
    Broken("tier in capitals", ("case",), _attribute("tier", str.upper)),
    Broken("one user", ("one-user",), _user),
    Broken("one tenant", ("one-key",), _tenant),
)


def figures(repeats: int, *, names: Sequence[str] | None = None) -> Iterator[Figure]:
    """Every kind, so many times with other rows: shares named right, retrained on, and called drift or loss alone."""
    some = [each for each in broken_kinds() if names is None or each.name in names]
    found = [called for seed in range(repeats) for called in _called(some, seed)]
    yield Figure(name="decision.broken.kinds", value=len(some), unit="kinds")
    named = mean(each.named for each in found)
    yield Figure(name="decision.broken.named_right", value=named, unit="of the kinds", gate=0.95, exact=True)
    for what, count in (
        ("retrained", sum(each.retrained for each in found)),
        ("drift_alone", sum(each.drift_alone for each in found)),
    ):
        yield Figure(name=f"decision.broken.{what}", value=count, unit="runs", gate=0, better="less", exact=True)
    for each in found:
        if not each.named or each.retrained or each.drift_alone:
            yield Figure(name=f"decision.broken.missed_{each.name.replace(' ', '_')}", value=1, unit=_what(each))


def _what(called: Called) -> str:
    said = {"not named": not called.named, "retrained": called.retrained, "drift alone": called.drift_alone}
    return ", ".join(name for name, is_so in said.items() if is_so)


def _called(some: Sequence[Broken], seed: int) -> Iterator[Called]:
    rng = random.Random(seed)
    pool = [prompt for of_kind in kinds().values() for prompt in rng.sample(of_kind, min(len(of_kind), 1_500))]
    rng.shuffle(pool)
    learned, live = pool[: len(pool) // 2], pool[len(pool) // 2 :]
    model = ByteModel(learned)
    with fresh_loop() as loop:
        spec = loop.spec(drift={"burn_in_windows": 0, "reports": "on_warn"})
        loop.champion()
        for number in range(HEALTHY):
            _live(loop, number, _rows(live, rng), model)
        champion = loop.ledger.champion(MODEL)
        assert champion is not None
        made = renew(loop.db, spec, champion, until=loop.until(HEALTHY - 1), force=True)
        assert isinstance(made, Profile), made
        for each in some:
            with _copied(loop) as copy:
                yield _call(copy, each, live, model, rng)


@contextmanager
def _copied(loop: Loop) -> Iterator[Loop]:
    """Give the loop with a copy of its database, which is dropped afterwards."""
    loop.db.dispose()
    server = create_engine(loop.db.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with server.connect() as on:
        on.execute(text("DROP DATABASE IF EXISTS copy WITH (FORCE)"))
        on.execute(text(f'CREATE DATABASE copy TEMPLATE "{loop.db.url.database}"'))
    server.dispose()
    db = engine_for(loop.db.url.set(database="copy").render_as_string(hide_password=False))
    yield Loop(db, loop.home)
    db.dispose()


def _call(loop: Loop, broken: Broken, live: Sequence[str], model: ByteModel, rng: random.Random) -> Called:
    named, drift_alone, retrained = [], False, False
    for number in range(HEALTHY, HEALTHY + BROKEN):
        rows = _rows(live, rng)
        for place, row in enumerate(rows):
            broken.change(row, place)
        _live(loop, number, rows, model)
        verdicts = {
            signal: recent_verdicts(loop.db, MODEL, signal, until=loop.window(number).end, count=1)[0]
            for signal in ("data", "drift", "loss")
        }
        breaks = verdicts["data"].evidence.get("breaks", ())
        names = {each["kind"] for each in breaks if each["scope"] != NOTE}
        empty = "emptied" in broken.names and "empty" in verdicts["data"].reason
        is_bad = verdicts["data"].condition is Condition.BAD
        named.append(is_bad and (bool(names & set(broken.names)) or empty))
        drift_alone |= not is_bad and any(verdicts[each].condition is Condition.BAD for each in ("drift", "loss"))
        incident = loop.ledger.open_of(MODEL)
        if incident is not None:
            key = str(loop.ledger.ring(incident.id))
            decided = decide(key, db=loop.db, actor="benchmark", now=loop.until(number))
            retrained |= decided["action"] == Action.RETRAIN
    return Called(broken.name, all(named), retrained, drift_alone)


def _rows(live: Sequence[str], rng: random.Random) -> list[Row]:
    draw = np.random.default_rng(rng.randrange(2**32))
    return [
        {
            "prompt": prompt, "user_id": f"u{int(draw.zipf(1.3)) % 500}", "latency_seconds": float(draw.lognormal()),
            "prompt_tokens": int(draw.lognormal(3, 0.8)) + 1,
            "attributes": {
                "tier": ("free", "paid", "trial")[int(draw.integers(3))], "score": float(draw.normal()),
                "tenant": f"t{int(draw.integers(40))}",
            },
        }
        for prompt in rng.choices(live, k=ROWS)
    ]  # fmt: skip


def _live(loop: Loop, number: int, rows: Sequence[Row], model: ByteModel) -> None:
    window = loop.window(number)
    append(
        loop.db,
        [
            Inference(
                model=MODEL, request_id=f"{number}-{place}", model_version=1,
                at=window.start + (place + 0.5) / len(rows) * window.length,
                prompt_bits_per_byte=model.bits_per_byte(row["prompt"]), **row,
            )
            for place, row in enumerate(rows)
        ],
    )  # fmt: skip
    watch(MODEL, until=loop.until(number), db=loop.db, actor="benchmark")
