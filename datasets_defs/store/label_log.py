"""The scores that people gave, joined to the log as sums over rows, and what a version's scores are compared with."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Engine,
    Numeric,
    Select,
    and_,
    case,
    cast,
    func,
    not_,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import insert

from datasets_defs.core.contributors import ANONYMOUS
from datasets_defs.core.windows import Window
from datasets_defs.store import tables
from datasets_defs.store.database import database_errors

_log, _late = tables.inference.c, tables.feedback.c
_who = func.coalesce(_log.user_id, _log.session_id)
_valid = _late.score.between(0, 1)  # PostgreSQL's NaN is above every number


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScores:
    """Sums over the labelled rows of a stretch of the log."""

    labels: int
    total: float
    squares: float
    wrong: int = 0
    """Scores outside 0..1 or NaN; they are in nothing else."""
    labels_per_user: float = 1.0
    """Squares of users' labels over their sum, by user id or else session id; others stand for one."""

    @property
    def mean(self) -> float | None:
        """Mean score; None without labels."""
        return self.total / self.labels if self.labels else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelReference:
    """The scores of a version's first labels."""

    model: str
    label: str
    version: int
    window: Window
    """The stretch of the log whose labels these are."""
    scores: LabelScores
    icc: float
    """How much alike the scores of one user are, 0..1."""


def read_scores(engine: Engine, model: str, version: int, within: Window, *, anonymous: bool = True) -> LabelScores:
    """Add up the scores of the stretch's rows that the version answered; a foreign log, without versions, counts, too.

    Scores that came without a key count if `anonymous`. The sums are exact, so that the same labels give the same sums
    whatever the order they are read in.
    """
    score = cast(_late.score, Numeric)
    users = (
        _labelled(model, version, within, anonymous=anonymous)
        .with_only_columns(
            _who.label("who"),
            func.count().filter(_valid).label("labels"),
            func.sum(score).filter(_valid).label("total"),
            func.sum(score * score).filter(_valid).label("squares"),
            func.count().filter(not_(_valid)).label("wrong"),
        )
        .group_by(_who)
        .subquery()
        .c
    )
    alike = case((users.who.is_(None), users.labels), else_=users.labels * users.labels)
    query = select(
        func.coalesce(func.sum(users.labels), 0).label("labels"),
        func.coalesce(func.sum(users.total), 0).label("total"),
        func.coalesce(func.sum(users.squares), 0).label("squares"),
        func.coalesce(func.sum(users.wrong), 0).label("wrong"),
        func.coalesce(func.sum(alike) / func.nullif(func.sum(users.labels), 0), 1).label("labels_per_user"),
    )
    with database_errors("reading labels"), engine.connect() as on:
        row = on.execute(query).one()
    return LabelScores(
        labels=int(row.labels),
        total=float(row.total),
        squares=float(row.squares),
        wrong=int(row.wrong),
        labels_per_user=float(row.labels_per_user),
    )


def time_of_label(
    engine: Engine, model: str, version: int, within: Window, *, number: int, anonymous: bool = True
) -> datetime | None:
    """Give when the row with the stretch's label number `number` (1, 2, 3 …) was answered; None if it has fewer."""
    query = (
        _labelled(model, version, within, anonymous=anonymous)
        .with_only_columns(_log.at)
        .where(_valid)
        .order_by(_log.at)
    )
    with database_errors("reading labels"), engine.connect() as on:
        return on.scalar(query.offset(number - 1).limit(1))


def read_single_scores(
    engine: Engine, model: str, version: int, within: Window, *, limit: int, anonymous: bool = True
) -> list[tuple[float, str | None]]:
    """Read the first labels of a stretch, at most `limit`, each with its user (or else session) if that is known."""
    query = _labelled(model, version, within, anonymous=anonymous).with_only_columns(_late.score, _who).where(_valid)
    with database_errors("reading labels"), engine.connect() as on:
        rows = on.execute(query.order_by(_log.at, _log.request_id).limit(limit))
        return [(score, who) for score, who in rows]


def save_label_reference(engine: Engine, reference: LabelReference) -> None:
    """Bind a reference to its version; a version's reference is never replaced."""
    values = {
        **{name: getattr(reference, name) for name in ("model", "label", "version", "icc")},
        "window_start": reference.window.start,
        "window_end": reference.window.end,
        **{name: getattr(reference.scores, name) for name in ("labels", "total", "squares")},
    }
    with database_errors("saving a reference of labels"), engine.begin() as on:
        on.execute(insert(tables.label_reference).values(values).on_conflict_do_nothing())


def label_reference_of(engine: Engine, model: str, label: str, version: int) -> LabelReference | None:
    """Read what a version's labels are compared with, if that is known yet."""
    table = tables.label_reference
    query = select(table).where(table.c.model == model, table.c.label == label, table.c.version == version)
    with database_errors("reading a reference of labels"), engine.connect() as on:
        row = on.execute(query).one_or_none()
    if row is None:
        return None
    return LabelReference(
        model=model,
        label=label,
        version=version,
        window=Window(row.window_start, row.window_end),
        scores=LabelScores(labels=row.labels, total=row.total, squares=row.squares),
        icc=row.icc,
    )


def _labelled(model: str, version: int, within: Window, *, anonymous: bool) -> Select[Any]:
    same = and_(_log.model == _late.model, _log.request_id == _late.request_id)
    answered = or_(_log.model_version == version, _log.model_version.is_(None))
    return (
        select(_log.at)
        .join_from(tables.inference, tables.feedback, same)
        .where(_log.model == model, _log.at >= within.start, _log.at < within.end, answered)
        .where(_late.score.is_not(None), *([] if anonymous else [_late.contributor.is_distinct_from(ANONYMOUS)]))
    )
