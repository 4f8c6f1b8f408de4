"""Watch what people say of a model's answers afterwards: the `labels` of its spec.

A verdict has the window in which it is given, so that confirmation and age go by the clock, and speaks of the rows of
the window `maturity_windows` before, whose labels are due by then. Labels that come later still count when the window
is judged again (`rescore`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.errors import ContractError
from datasets_defs.core.plain import plain
from datasets_defs.core.windows import EPOCH, Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.signals import LabelSpec
from datasets_defs.store.inference_log import oldest_row
from datasets_defs.store.label_log import (
    LabelReference,
    LabelScores,
    label_reference_of,
    read_scores,
    read_single_scores,
    save_label_reference,
    time_of_label,
)
from datasets_defs.store.verdicts import recent_verdicts, save_verdict
from monitors.drift.subject import Subject
from monitors.evidence.harm import WINDOWS as HARM_WINDOWS
from monitors.labels.policy import METHOD, judge_label, judged_scores, left_out, span
from monitors.profiles.clusters import intraclass_correlation
from monitors.profiles.collected import COLLECTED, Collected, collected
from monitors.verdicts.conclude import judged_window

REFERENCE_TIMES = 5
"""A reference has at least this many times `min_labels`."""
_SINGLE_LABELS = 20_000
"""Labels of a reference from which it is estimated how much alike a user's are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelAssessment:
    """What one label says, before anything is kept of it."""

    verdict: Verdict
    stretch: Window
    """The rows that it speaks of."""
    made: LabelReference | None = None
    """A reference for which there is enough by now, to be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescored:
    """A window's verdict on a label that came out otherwise."""

    before: Verdict | None
    """None when the window had none."""
    after: Verdict


def judge(spec: ModelSpec, champion: Champion | None, window: Window, *, db: Engine) -> list[Verdict]:
    """Give the verdicts on a model's labels at one window; keep the references for which there is enough by now."""
    return [assessment.verdict for assessment in _judge(spec, champion, window, db)]


def assess(spec: ModelSpec, champion: Champion | None, window: Window, *, db: Engine) -> list[Verdict]:
    """Judge a model's labels at one window, and write nothing."""
    return [_assess(spec.name, label, champion, window, db).verdict for label in spec.labels]


def rescore(model: str, *, since: datetime, until: datetime, db: Engine) -> list[Rescored]:
    """Judge the labels of past windows again, by the present spec and all labels there are; give what changed.

    All windows that ended after `since` and could be judged by `until` are, oldest first, each for the version that
    served it; those whose rows the log no longer holds stay as they are. The verdicts are replaced, and made where the
    sensor gave none; no incident opens here. Doing it again without new labels changes nothing.

    Raises:
        ContractError: the spec is wrong, or names no labels.
        TransientError: PostgreSQL is away.
    """
    spec, ledger = spec_of(model), Ledger(db)
    if not spec.labels:
        raise ContractError(f"{model}: its spec names no `labels`; there is nothing to judge again")
    first, oldest = ledger.first_served(model), oldest_row(db, model)
    if first is None or oldest is None:
        return []
    day = oldest.replace(hour=0, minute=0, second=0, microsecond=0)  # the log is dropped by days
    changes = (
        _replace(assessment.verdict, db)
        for window in _windows(max(since, first), until)
        for assessment in _judge(spec, ledger.champion_at(model, window.end), window, db)
        if assessment.stretch.start >= day
    )
    return [change for change in changes if change is not None]


def _windows(since: datetime, until: datetime) -> Iterator[Window]:
    """Give the windows that ended after `since` and are judged by `until`, oldest first."""
    last = judged_window(until)
    for count in range(max((last.end - since) // last.length, -1), -1, -1):
        if (window := last.before(count)).end > since:
            yield window


def _replace(verdict: Verdict, db: Engine) -> Rescored | None:
    """Keep a verdict if it says something else than the one there is."""
    newest = recent_verdicts(db, verdict.model, verdict.signal, until=verdict.window.end, count=1)
    before = newest[0] if newest and newest[0].window == verdict.window else None
    news = verdict.condition.is_known if before is None else _substance(before) != _substance(verdict)
    if not news:
        return None
    save_verdict(db, verdict)
    return Rescored(before=before, after=verdict)


def _substance(verdict: Verdict) -> tuple[Any, ...]:
    """Give what a verdict says, but not why nothing is known: a reference may have come about since."""
    evidence = {name: value for name, value in plain(verdict.evidence).items() if name not in ("waits", COLLECTED)}
    return verdict.condition, verdict.score, verdict.limit, verdict.champion_version, evidence


def _judge(spec: ModelSpec, champion: Champion | None, window: Window, db: Engine) -> Iterator[LabelAssessment]:
    for label in spec.labels:
        assessment = _assess(spec.name, label, champion, window, db)
        if assessment.made is not None:
            save_label_reference(db, assessment.made)
        yield assessment


def _assess(model: str, label: LabelSpec, champion: Champion | None, window: Window, db: Engine) -> LabelAssessment:
    subject = Subject(model=model, window=window, champion_version=None if champion is None else champion.version)
    due = window.before(label.maturity_windows)
    if champion is None:
        assessment = _waiting(subject, label, due, "no champion serves yet; `driftloop bootstrap` makes the first")
    elif due.end <= champion.since:
        reason = f"{span(due)}, whose labels are due by now, was before version {champion.version} served"
        assessment = _waiting(subject, label, due, f"{reason} (since {champion.since:%Y-%m-%d %H:%M:%S}Z)")
    else:
        assessment = _of_champion(subject, label, champion, due, db)
    evidence = {**assessment.verdict.evidence, "lag_seconds": (window.end - due.end).total_seconds()}
    return replace(assessment, verdict=replace(assessment.verdict, evidence=evidence))


def _of_champion(subject: Subject, label: LabelSpec, champion: Champion, due: Window, db: Engine) -> LabelAssessment:
    reference = label_reference_of(db, champion.model, label.name, champion.version)
    if reference is None:
        return _first_reference(subject, label, champion, due, db)
    if due.end <= reference.window.end:
        return _waiting(subject, label, due, f"the labels of {span(due)} are part of the reference")
    verdicts = recent_verdicts(
        db, champion.model, f"label:{label.name}", until=subject.window.start, count=HARM_WINDOWS - 1, having="scores"
    )
    earlier = judged_scores(verdicts, champion.version, until=due.start)
    earliest = due.before(label.carry_over_windows - 1).start
    start = max(earliest, earlier[-1][0].end) if earlier else earliest
    stretch = Window(max(start, champion.since, reference.window.end), due.end)
    verdict = judge_label(
        subject,
        label,
        stretch,
        read_scores(db, champion.model, champion.version, stretch, anonymous=bool(label.anonymous)),
        reference,
        [scores for _, scores in earlier],
        may_wait=stretch.start > earliest,
    )
    return LabelAssessment(verdict=verdict, stretch=stretch)


def _first_reference(
    subject: Subject, label: LabelSpec, champion: Champion, due: Window, db: Engine
) -> LabelAssessment:
    """Make the reference of the version's first labels that are due, if they are enough; else say how many there are.

    While labels come, the windows that go into the reference are no sign that the model cannot be judged.
    """
    model, version, needed = champion.model, champion.version, REFERENCE_TIMES * label.min_labels
    there = _collected(subject, label, champion, due, db)
    last = None
    if there.counts["labels"] >= needed:
        last = time_of_label(
            db, model, version, Window(champion.since, due.end), number=needed, anonymous=bool(label.anonymous)
        )
    if last is None:
        return _too_few_for_a_reference(subject, label, champion, due, db, there=there)
    window = Window(champion.since, EPOCH + ((last - EPOCH) // due.length + 1) * due.length)
    single = read_single_scores(db, model, version, window, limit=_SINGLE_LABELS, anonymous=bool(label.anonymous))
    made = LabelReference(
        model=model,
        label=label.name,
        version=version,
        window=window,
        scores=read_scores(db, model, version, window, anonymous=bool(label.anonymous)),
        icc=intraclass_correlation([score for score, _ in single], [who for _, who in single]),
    )
    reason = f"{made.scores.labels} labels of {span(window)} became version {version}'s reference just now"
    return replace(_waiting(subject, label, due, reason), made=made)


def _collected(subject: Subject, label: LabelSpec, champion: Champion, due: Window, db: Engine) -> Collected:
    def count(window: Window) -> dict[str, int]:
        scores = read_scores(db, champion.model, champion.version, window, anonymous=bool(label.anonymous))
        return {"labels": scores.labels, "wrong": scores.wrong}

    return collected(db, champion, f"label:{label.name}", due.end, at=subject.window.end, count=count)


def _too_few_for_a_reference(
    subject: Subject, label: LabelSpec, champion: Champion, due: Window, db: Engine, *, there: Collected
) -> LabelAssessment:
    model, version = champion.model, champion.version
    scores = LabelScores(labels=there.counts["labels"], total=0, squares=0, wrong=there.counts["wrong"])
    earliest = due.before(label.carry_over_windows - 1).start
    recent = Window(max(earliest, champion.since), due.end)
    comes = (
        recent.start > earliest
        or read_scores(db, model, version, recent, anonymous=bool(label.anonymous)).labels >= label.min_labels
    )
    reason = (
        f"no reference yet: {scores.labels} of the {REFERENCE_TIMES * label.min_labels} labels that make version "
        f"{version}'s, up to {due.end:%Y-%m-%d %H:%M:%S}Z{left_out(scores)}"
    )
    return _waiting(subject, label, due, reason, waits=comes, more=there.plain())


def _waiting(
    subject: Subject,
    label: LabelSpec,
    due: Window,
    reason: str,
    *,
    waits: bool = True,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> LabelAssessment:
    evidence = {"waits": waits, **more}
    verdict = subject.verdict(f"label:{label.name}", Condition.NO_DATA, reason, METHOD, evidence=evidence)
    return LabelAssessment(verdict=verdict, stretch=due)
