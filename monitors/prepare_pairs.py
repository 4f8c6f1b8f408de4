"""Compare a take of image-text pairs with the takes before it, by the statistics that sensors use for prompts."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.windows import Window
from datasets_defs.store.artifacts import read_batches, write_bytes
from datasets_defs.store.takes import Take, take_of, takes_of
from monitors.counts.columns import ATTRIBUTE, Row, learn_encoding, sketches
from monitors.counts.moments import Moments
from monitors.counts.rollup import WindowSketch
from monitors.counts.sketch import Sketch
from monitors.drift.policy import drift_verdict, evidence_of
from monitors.drift.subject import LEAST_ROWS, Subject
from monitors.evidence.e_detector import Detector, Reference
from monitors.profiles.calibration import Replayed, calibrate

log = logging.getLogger(__name__)
MOST_ROWS, MOST_TAKES = 2_000, 10
"""Pairs of a take that are looked at, and takes before it that it is held against, the newest."""
_READ = ("caption", "format", "width", "height", "source_width", "source_height", "brightness", "contrast", "sharpness")


def compare_take(named: Mapping[str, Any], *, db: Engine) -> str:
    """Say whether a take's captions and images are like those of the takes before it; keep it beside the report.

    How much takes may differ is learned from those before. Nobody is woken and nothing is held back: a person who reads
    `drift.json` or the task's log decides. Doing it again says the same.

    Raises:
        ContractError: there is no such take, or its index is gone.
        TransientError: PostgreSQL is away.
    """
    take = take_of(db, str(named["pairs_set"]), int(named["number"]))
    if take is None:
        raise ContractError(f"take {named['number']} of {named['pairs_set']} is not in the table pairs_take any more")
    if take.index is None or not take.kept:
        return f"{take.ring}: nothing was kept, so there is nothing to compare"
    before = [
        past_take
        for past_take in takes_of(db, take.pairs_set)
        if past_take.number < take.number and past_take.index and past_take.kept
    ]
    comparison = _compared(take, before[-MOST_TAKES:])
    write_bytes(f"{take.index.rpartition('/')[0]}/drift.json", json.dumps(comparison, indent=1).encode())
    sentence = f"{take.ring}: {comparison['reason']}"
    log.info("%s", sentence)
    return sentence


def _compared(take: Take, before: Sequence[Take]) -> dict[str, Any]:
    rows, earlier = _pairs(take), [_pairs(past_take) for past_take in before]
    known = [row for pairs in earlier for row in pairs]
    if min(len(rows), len(known)) < LEAST_ROWS:
        few = f"{len(rows)} pairs and {len(known)} before them; {LEAST_ROWS} of each are needed to compare them"
        return {"condition": "NO_DATA", "reason": few}
    encoding = learn_encoding(known)
    reference = _named(sketches(encoding, known, own=True))
    current = _named(sketches(encoding, rows))
    alone = dict.fromkeys(reference, 0.0)  # no pair says that it is like another one
    eps = calibrate([Replayed(0, _named(sketches(encoding, pairs))) for pairs in earlier if pairs], alone).eps
    detector = Detector.of(
        {name: Reference(sketch=sketch, eps=eps[name], icc=0.0) for name, sketch in reference.items()}
    )
    after = detector.step(detector.start(), current, rows_per_user=1.0)
    evidence = evidence_of(detector.evidence(after), current, reference)
    window = Window(take.opened_at, take.opened_at + timedelta(seconds=1))
    subject = Subject(model=take.pairs_set, window=window, champion_version=None)
    sketch = WindowSketch(window=window, rows=len(rows), columns=current, loss=Moments())
    verdict = drift_verdict(subject, sketch, evidence, in_burn_in=False)
    return {
        "condition": str(verdict.condition),
        "reason": verdict.reason,
        "log10_m": verdict.score,
        "rows": len(rows),
        "reference_rows": len(known),
        "reference_takes": [past_take.number for past_take in before],
        "columns": evidence["columns"],
    }


def _named(columns: Mapping[str, Sketch]) -> dict[str, Sketch]:
    """Call a picture's figures what they are, and what is said of prompts what it is here: of captions."""
    return {
        f"image {name.removeprefix(ATTRIBUTE)}" if name.startswith(ATTRIBUTE) else f"caption {name}": sketch
        for name, sketch in columns.items()
    }


def _pairs(take: Take) -> list[Row]:
    """Read a take's pairs as rows of the log: the caption as text, what is known of the image as attributes."""
    return list(islice(_rows(str(take.index)), MOST_ROWS))


def _rows(index: str) -> Iterator[Row]:
    for batch in read_batches(index, columns=_READ):
        for pair in batch.to_pylist():
            image = {name: pair[name] for name in ("format", "brightness", "contrast", "sharpness")}
            sides = {"source width": pair["source_width"], "source height": pair["source_height"]}
            aspect = pair["width"] / pair["height"] if pair["height"] else None
            yield {"prompt": pair["caption"] or "", "attributes": {**image, **sides, "aspect": aspect}}
