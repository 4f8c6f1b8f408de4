"""Learns columns again: those that still fit stay exactly as they were."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from datasets_defs.spec.signals import DriftSpec
from monitors.counts.columns import ColumnEncoding, Encoding, Row, learn_encoding, values
from monitors.counts.embeddings import fingerprint
from monitors.evidence.indicators import KEPT_LEVEL_SHARE

MAX_OFF = 1.0
"""A column keeps its scale until its mean lies so many sd off."""
MAX_WIDER = 2.0
"""… or its sd is so many times as large, or as small."""


def followed(present: Encoding, rows: Sequence[Row], spec: DriftSpec, *, relearn: bool = False) -> Encoding:
    """Learn the columns again; those that still fit stay exactly as they were, and so does what texts are judged by."""
    space, path = present.space, spec.embedding
    same = space is not None and path == space.path and fingerprint(path) == space.model
    learned = learn_encoding(
        rows,
        exclude=spec.exclude,
        vocabulary=present.vocabulary,
        embedding=space if same else path,
        kinds=None if relearn else present.kinds,
    )
    before = {column.name: column for column in present.columns}
    now = values(learned, rows)
    columns = tuple(
        before[column.name]
        if column.name in before
        and (same or column.origin != "embedding")
        and _still_fits(before[column.name], column, now[column.name])
        else column
        for column in learned.columns
    )
    encoding = Encoding(columns, present.vocabulary, learned.space, learned.kinds)
    return present if encoding == present else encoding


def _still_fits(before: ColumnEncoding, now: ColumnEncoding, cells: Iterable[Any]) -> bool:
    """Say whether a column's scale, or its levels, still serve for what its cells hold now."""
    if before.kind != now.kind:
        return False
    if before.scale is not None and now.scale is not None:
        off = abs(now.scale.mean - before.scale.mean) / before.scale.sd
        return off <= MAX_OFF and 1 / MAX_WIDER <= now.scale.sd / before.scale.sd <= MAX_WIDER
    counts = Counter(level for level in cells if level is not None)
    unknown = frozenset(now.levels) - frozenset(before.levels)
    return not any(number >= KEPT_LEVEL_SHARE * counts.total() for level, number in counts.items() if level in unknown)
