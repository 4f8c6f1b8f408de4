"""Whether a window can be judged at all: enough rows, and whole ones. What fails here is never called drift. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from monitors.breaks.finding import ACCEPTED, COLUMN, NOTE, ROWS, Break
from monitors.counts.rollup import WindowSketch
from monitors.counts.sketch import CategorySketch, NumericSketch, Sketch, is_hashed
from monitors.evidence.indicators import KEPT_LEVEL_SHARE
from monitors.profiles.profile import Profile

MAX_EMPTY_SHARE = 0.2
"""More empty prompts are a broken log."""
MAX_NULL_RISE = 0.2
"""The share of rows without a finite value may lie so much above the reference's."""
MAX_WRONG_RISE = 0.01
"""The share of values of another type may lie so much above the reference's."""
MIN_WRONG = 5
"""Fewer such values are a slip."""
MAX_UNSEEN_RISE = 0.5
"""The share of levels that the reference never had may lie so much above what it itself had of unknown ones.

Below that a new level is drift, as any other; above it, the column says something else than it did.
"""
ROWS_PER_LEVEL = 50
"""A category column needs so many rows for each level that is watched."""
_TOLD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What hinders a judgement, in words; nothing where all is None and empty."""

    too_few: str | None = None
    """The rows do not suffice: they are to be judged together with the next window's."""
    broken: str | None = None
    """The rows are not what they should be: an incident of the data, and no judgement."""
    about_columns: str | None = None
    """Columns are not what they should be: an incident of the data, and the other columns and the loss are judged."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Columns, by name, that are passed over in this window, and why."""
    breaks: tuple[Break, ...] = ()
    """What is broken, by name, and columns that were replaced as a whole."""


def gate(sketch: WindowSketch, profile: Profile | None, *, min_rows: int) -> Gate:
    """Say whether a window can be judged, against a profile if there is one."""
    if sketch.rows < min_rows:
        return Gate(too_few=f"{sketch.rows} rows in {sketch.window}, {min_rows} are needed")
    named = [Break.of(plain) for plain in sketch.breaks]
    problems = list(_empty(sketch)) or [finding.reason for finding in named if finding.scope == ROWS]
    if profile is None:
        return Gate(broken=_sentence(problems), breaks=tuple(named))
    texts = {column.name for column in profile.encoding.of("text", "embedding")}
    left_out = {}
    by_column = {finding.column: finding for finding in named if finding.column is not None}
    for name, reference in profile.reference.items():
        window = sketch.columns.get(name)
        if name not in by_column and (broken := _column_break(name, window, reference, levels=name not in texts)):
            by_column[name] = broken
        if name not in by_column and window is not None and (reason := _few_for_levels(window, reference)):
            left_out[name] = reason
    left_out |= {name: finding.reason for name, finding in by_column.items() if name in profile.reference}
    return Gate(
        broken=_sentence(problems),
        about_columns=_sentence([finding.reason for finding in by_column.values() if finding.scope == COLUMN]),
        left_out=left_out,
        breaks=tuple(
            finding
            for finding in (*(some for some in named if some.column is None), *by_column.values())
            if finding.scope != ACCEPTED
        ),
    )


def _column_break(name: str, window: Sketch | None, reference: Sketch, *, levels: bool) -> Break | None:
    """Name what has become of a column, from its counts over all rows; None where it is as before."""
    if _is_missing(window, reference):
        return Break(
            kind="gone", share=1.0, reason=f"{name} is missing: no row has it", key=name, scope=COLUMN, column=name
        )
    return next(_changed(name, window, reference, levels=levels), None) if window is not None else None


def _empty(sketch: WindowSketch) -> Iterator[str]:
    share = sketch.empty_prompts / max(sketch.rows, 1)
    if share > MAX_EMPTY_SHARE:
        yield f"{share:.0%} of the prompts are empty, more than {MAX_EMPTY_SHARE:.0%}"


def _is_missing(window: Sketch | None, reference: Sketch) -> bool:
    """Say whether a column that the reference has holds nothing any more, not even something wrong."""
    is_empty = window is None or not (_finite(window) or window.wrong)
    return is_empty and _absent_share(reference) < MAX_NULL_RISE


def _changed(name: str, window: Sketch, reference: Sketch, *, levels: bool) -> Iterator[Break]:
    """Say what has become of a column that is there."""

    def broken(kind: str, share: float, reason: str, scope: str = COLUMN) -> Break:
        return Break(kind=kind, share=share, reason=reason, key=name, scope=scope, column=name)

    wrong, before = _share(window.wrong, window), _share(reference.wrong, reference)
    if wrong > before + MAX_WRONG_RISE and window.wrong >= MIN_WRONG:
        kind = "numbers" if isinstance(reference, NumericSketch) else "texts"
        yield broken("retyped", wrong, f"{name} changed its type: {wrong:.0%} of its values are no {kind}")
    absent, before = _absent_share(window), _absent_share(reference)
    if absent > before + MAX_NULL_RISE:
        what = "no finite value" if isinstance(reference, NumericSketch) else "no value"
        yield broken(
            "nulls", absent, f"{absent:.0%} of the rows have {what} of {name}, {before:.0%} of the reference's"
        )
    if levels and isinstance(window, CategorySketch) and isinstance(reference, CategorySketch):
        unseen = _unseen_share(window, reference)
        if unseen > _unseen_share(reference, reference) + MAX_UNSEEN_RISE and window.present >= ROWS_PER_LEVEL:
            reason = f"{unseen:.0%} of the values of {name} are levels that the reference never had"
            yield broken("replaced", unseen, reason, NOTE)


def _few_for_levels(window: Sketch, reference: Sketch) -> str | None:
    if not isinstance(reference, CategorySketch):
        return None
    least = KEPT_LEVEL_SHARE * reference.present
    kept = sum(n >= least for level, n in zip(reference.levels, reference.counts, strict=True) if not is_hashed(level))
    needed = ROWS_PER_LEVEL * kept
    return None if window.rows >= needed else f"{window.rows} rows, its {kept} levels need {needed}"


def _absent_share(sketch: Sketch) -> float:
    return _share(sketch.rows - _finite(sketch) - sketch.wrong, sketch)


def _finite(sketch: Sketch) -> int:
    return sketch.present - (sketch.infinities if isinstance(sketch, NumericSketch) else 0)


def _unseen_share(sketch: CategorySketch, reference: CategorySketch) -> float:
    """Give the share of levels that are not among the reference's by name, of the values that are there."""
    named = [level for level in reference.levels if not is_hashed(level)]
    return 1 - int(sketch.count_of(named).sum()) / sketch.present if sketch.present else 0.0


def _share(count: int, sketch: Sketch) -> float:
    return count / max(sketch.rows, 1)


def _sentence(problems: list[str]) -> str | None:
    if not problems:
        return None
    more = f"; and {len(problems) - _TOLD} more" if len(problems) > _TOLD else ""
    return "; ".join(problems[:_TOLD]) + more
