"""Watch a model's input: the newest window of its inference log against the champion's reference rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from datasets_defs.artifacts import artifact_url, write_bytes
from datasets_defs.conditions import Condition, Outcome, Verdict
from datasets_defs.ledger import Champion, Ledger
from datasets_defs.models import DriftSpec, ModelSpec, spec_of
from datasets_defs.records import beat
from datasets_defs.windows import Window
from monitors.descriptors import Column, Vocabulary, describe
from monitors.drift_policy import Subject, data_break, judge_data, judge_drift, judge_loss
from monitors.evidently_report import DriftReport, drift_report
from monitors.reference import Texts, build_reference, load_reference, rows_of_champion, texts_of
from monitors.sensing import conclude, judged_window


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What a window showed, before anything is kept of it."""

    data: Verdict
    drift: Verdict
    loss: Verdict
    report: DriftReport | None = None
    """Evidently's, when drift could be measured."""
    lacks_reference: bool = False
    """Whether the champion has nothing yet that it could be judged against."""

    @property
    def verdicts(self) -> tuple[Verdict, Verdict, Verdict]:
        """The verdicts on data, drift and loss."""
        return (self.data, self.drift, self.loss)

    def is_worth_keeping(self, spec: DriftSpec) -> bool:
        """Say whether the spec wants the window's report kept; a loss that is not known is not OK."""
        quiet = self.drift.condition is Condition.OK and self.loss.condition is Condition.OK
        return spec.reports == "always" or not quiet


def watch(model: str, *, until: datetime, db: Engine, actor: str) -> Outcome:
    """Judge data, drift and loss of the newest window that ended by `until`; a confirmed one rings triage.

    Raises:
        ContractError: the spec or the reference is wrong.
        TransientError: PostgreSQL is away.
    """
    spec = spec_of(model)
    window = judged_window(until)
    champion = Ledger(db).champion(model)
    verdicts = judge(spec, champion, window, db=db)
    confirm = {verdict.signal: spec.drift.confirm for verdict in verdicts}
    outcome = conclude(verdicts, confirm, blind_after=spec.blind_after_windows, db=db, actor=actor)
    beat(db, f"watch_drift:{model}", {"window": str(window)})
    return outcome


def judge(spec: ModelSpec, champion: Champion | None, window: Window, *, db: Engine) -> Sequence[Verdict]:
    """Give the verdicts on one window; keep its report if wanted, or make the champion's reference if there is none."""
    found = assess(spec, champion, window, db=db)
    if found.lacks_reference and champion is not None:
        reason = f"no reference yet: {build_reference(db, spec, champion, until=window.end)}"
        return (found.data, replace(found.drift, reason=reason), replace(found.loss, reason=reason))
    if found.report is None or not found.is_worth_keeping(spec.drift):
        return found.verdicts
    urls = _store(spec.name, window, found.report)
    return (found.data, replace(found.drift, evidence={**found.drift.evidence, **urls}), found.loss)


def assess(spec: ModelSpec, champion: Champion | None, window: Window, *, db: Engine) -> Assessment:
    """Judge one window and write nothing: gates first, so that nothing is measured on what cannot be judged."""
    subject = Subject(
        model=spec.name, window=window, champion_version=champion.version if champion is not None else None
    )
    if champion is None:
        return _unknown(subject, "no champion serves yet; `driftloop bootstrap` makes the first")
    if champion.since >= window.end:  # a late run: not this champion's window, so not a sign that it cannot be seen
        said = f"version {champion.version} serves since {champion.since:%Y-%m-%d %H:%M:%SZ}, after the window"
        return _unknown(replace(subject, champion_version=None), said)
    reference = load_reference(db, champion, limit=spec.drift.max_rows)
    texts = texts_of(rows_of_champion(db, champion, window, limit=spec.drift.max_rows))
    rows = len(texts.prompts)
    if rows < spec.drift.min_rows:
        return _unknown(
            subject,
            f"{rows} rows by version {champion.version} in the window, {spec.drift.min_rows} are needed",
            rows=rows,
        )
    broken = data_break(texts, reference)
    data = judge_data(subject, texts, broken)
    if broken is not None:
        return replace(_unknown(subject, f"the data is broken: {broken}", data_break=broken), data=data)
    if reference is None:
        return replace(
            _unknown(subject, "no reference yet; the sensor makes one from the log"), data=data, lacks_reference=True
        )
    report = _report(spec, texts, reference, window)
    loss = judge_loss(subject, texts, reference, spec.drift)
    drift = judge_drift(subject, report, spec.drift, evidence=loss.evidence)
    return Assessment(data=data, drift=drift, loss=loss, report=report)


def _unknown(subject: Subject, reason: str, **evidence: Any) -> Assessment:
    data, drift, loss = subject.unknown(reason, **evidence)
    return Assessment(data=data, drift=drift, loss=loss)


def _report(spec: ModelSpec, texts: Texts, reference: Texts, window: Window) -> DriftReport:
    vocabulary = Vocabulary.of(reference.prompts)
    return drift_report(
        _columns(reference, vocabulary, own=True, loss=reference.has_loss),
        _columns(texts, vocabulary, own=False, loss=reference.has_loss),
        p_value=spec.drift.column_p_value,
        title=f"{spec.name} drift {window}",
    )


def _columns(texts: Texts, vocabulary: Vocabulary, *, own: bool, loss: bool) -> dict[str, Column]:
    columns = {**describe(texts.prompts), **vocabulary.describe(texts.prompts, own=own)}
    return {**columns, "prompt_bits_per_byte": texts.bits_per_byte} if loss else columns


def _store(model: str, window: Window, report: DriftReport) -> dict[str, str]:
    stem = f"{window.end:%Y-%m-%dT%H-%M-%SZ}"
    urls = {kind: artifact_url("reports", model, "drift", f"{stem}.{kind}") for kind in ("html", "json")}
    write_bytes(urls["html"], report.html)
    write_bytes(urls["json"], report.json)
    return {"report_html": urls["html"], "report_json": urls["json"]}
