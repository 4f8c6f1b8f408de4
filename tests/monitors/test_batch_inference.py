"""What a batch asked, held against the champion's reference: real text, a real database, apart from live traffic."""

from datetime import UTC, datetime

import numpy as np
import pytest

from datasets_defs.core.conditions import Condition
from datasets_defs.core.streams import batch_stream
from datasets_defs.store.batch_runs import batch_run, open_batch
from datasets_defs.store.inference_log import Inference, append
from datasets_defs.store.verdicts import newest_verdicts
from monitors.batch_inference import compare_input
from monitors.watch_drift import watch
from tests.monitors.loop import MODEL, Loop
from tests.monitors.texts import documentation, licences

OLD, NEW = documentation(), licences()


def asked(loop: Loop, number: int, prompts: tuple[str, ...], *, loss: float | None = 2.5, version: int = 1) -> str:
    """Open a run, log its prompts as its shards would, and compare them."""
    values = {
        "model": MODEL, "number": number, "key": f"run {number}", "opened_by": "test", "why": "test", "section": {},
        "version": version, "asked_model": MODEL, "rows": len(prompts), "output": "/nowhere", "figures": {},
    }  # fmt: skip
    open_batch(loop.db, values, ["0"])
    noise = np.random.default_rng(number).normal(size=len(prompts))
    append(loop.db, [
        Inference(model=batch_stream(MODEL), request_id=f"{number}-{at}", at=datetime.now(UTC), prompt=prompt,
                  model_version=version, prompt_bits_per_byte=None if loss is None else loss + 0.2 * float(noise[at]))
        for at, prompt in enumerate(prompts)
    ])  # fmt: skip
    return compare_input([{"model": MODEL, "run": number}], db=loop.db)


@pytest.fixture
def champion(loop: Loop) -> Loop:
    """A champion with a reference and a judged window."""
    loop.champion()
    loop.reference(OLD[:400])
    loop.traffic(1, OLD[400:500])
    watch(MODEL, until=loop.until(1), db=loop.db, actor="watch_drift:test")
    return loop


def test_other_prompts_than_the_champion_knows_are_told_of(champion: Loop) -> None:
    """Licences are not documentation: the comparison names what moved; it opens no incident and touches no verdict."""
    said = asked(champion, 1, NEW[:200])
    assert said.startswith(f"{MODEL}|batch|1: evidence for drift 10^")
    run = batch_run(champion.db, MODEL, 1)
    assert run is not None
    found = run.figures["input"]
    assert (found["condition"], found["rows"]) == ("BAD", 200)
    assert 0 < len(found["columns"]) <= 5
    verdicts = {each.signal: each for each in newest_verdicts(champion.db, MODEL, now=champion.until(1))}
    assert verdicts["drift"].condition is Condition.OK
    assert champion.ledger.open_incidents() == []
    champion.traffic(2, OLD[500:600])
    watch(MODEL, until=champion.until(2), db=champion.db, actor="watch_drift:test")
    verdicts = {each.signal: each for each in newest_verdicts(champion.db, MODEL, now=champion.until(2))}
    assert (verdicts["drift"].condition, verdicts["drift"].evidence["rows"]) == (Condition.OK, 100)


def test_prompts_like_the_champions_are_fine_with_and_without_a_loss(champion: Loop) -> None:
    """A server that tells no loss leaves the texts to be compared: that it is missing is no drift."""
    asked(champion, 1, OLD[500:600])
    first = batch_run(champion.db, MODEL, 1)
    assert first is not None
    assert first.figures["input"]["condition"] == "OK"
    assert first.figures["input"]["bits_per_byte"] == pytest.approx(2.5, abs=0.1)
    asked(champion, 2, OLD[600:700], loss=None)
    second = batch_run(champion.db, MODEL, 2)
    assert second is not None
    assert (second.figures["input"]["condition"], second.figures["input"]["bits_per_byte"]) == ("OK", None)


def test_what_cannot_be_compared_is_said(loop: Loop) -> None:
    """No run, no champion, no reference, too few rows: each is a sentence."""
    assert compare_input(None, db=loop.db) == "no run was opened, so there is nothing to compare"
    assert "not of the present champion" in asked(loop, 1, OLD[:30])
    loop.champion()
    assert "has no reference yet" in asked(loop, 2, OLD[:30])
    loop.reference(OLD[:400])
    assert "3 rows are in the log; 20 are needed" in asked(loop, 3, OLD[:3])
