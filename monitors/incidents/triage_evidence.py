"""What triage decides from: one builder for the step, for its dry run and for replays."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from datasets_defs.core.conditions import About, Condition, Verdict
from datasets_defs.core.incidents import HarmKind
from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.model import ModelSpec
from monitors.incidents.shadow import previous_is_better
from monitors.incidents.triage_rules import TriageEvidence
from monitors.incidents.unmeasured import STAYS
from monitors.verdicts.newest import NewestVerdicts


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """What stands against a model, since when, and what was tried."""

    signals: frozenset[str]
    degraded_since: datetime
    """Start of the first bad window."""
    attempts: int
    """Retraining attempts begun in this incident."""
    harm_kind: HarmKind | None = None
    """Which prompts cost more, by the newest confirmation of the loss."""
    learning: bool = False
    """Whether the judged window's hour is still learned."""
    is_measured: bool = True
    """Whether anything told in the last windows how well the model does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Former:
    """The champion before the present one, to which a rollback goes."""

    promoted_at: datetime | None
    """When the present one was promoted; None: it was gone back to."""
    is_better: bool | None
    """What the prompts that both champions were scored on say; None: not known."""


def evidence_of(
    degradation: Degradation,
    spec: ModelSpec,
    window: Window,
    *,
    former: Former | None,
    conditions: Mapping[str, Condition],
) -> TriageEvidence:
    """Build triage's evidence. Pure.

    `former` is None when there is nowhere to go back to. `conditions` are
    those of `drift` and `loss` in the judged window; one that is left out is not known.
    """
    return TriageEvidence(
        signals=degradation.signals,
        about={signal: spec.about(signal) for signal in degradation.signals},
        mean_losses=frozenset(filter(spec.is_mean_loss, degradation.signals)),
        windows_since_promotion=(
            (degradation.degraded_since - former.promoted_at) / window.length
            if former is not None and former.promoted_at is not None
            else None
        ),
        probation_windows=spec.probation_windows,
        has_previous=former is not None,
        drift=conditions.get("drift", Condition.NO_DATA),
        loss=conditions.get("loss", Condition.NO_DATA),
        attempts_left=spec.retrain.max_attempts - degradation.attempts,
        learning=degradation.learning,
        harm_kind=degradation.harm_kind,
        is_measured=degradation.is_measured,
        previous_champion_better=former.is_better if former is not None else None,
    )


def read_evidence(
    degradation: Degradation, spec: ModelSpec, champion: Champion | None, newest: NewestVerdicts
) -> TriageEvidence:
    """Build triage's evidence from what the loop keeps.

    Raises:
        TransientError: PostgreSQL is away.
    """
    former = None
    if champion is not None and champion.previous_version is not None:
        better = previous_is_better(newest.db, champion, spec, since=degradation.degraded_since)
        promoted_at = champion.since if Ledger(newest.db).is_promoted(champion) else None
        former = Former(promoted_at=promoted_at, is_better=better)
    count = spec.drift.carry_over_windows + 1
    version = champion.version if champion is not None else None
    conditions = {
        signal: condition_now(newest.of(signal, count), newest.window, version) for signal in ("drift", "loss")
    }
    loss = newest.of("loss", 2 * spec.drift.confirm.of)
    degradation = replace(
        degradation,
        learning=bool(loss) and loss[0].is_learning,
        is_measured=_is_measured(spec, newest),
        harm_kind=next((kind for verdict in loss if (kind := harm_kind_of(verdict.evidence)) is not None), None),
    )
    return evidence_of(degradation, spec, newest.window, former=former, conditions=conditions)


def _is_measured(spec: ModelSpec, newest: NewestVerdicts) -> bool:
    """Say whether the last windows have a verdict on how well the model does; one that is still learned counts."""
    labels = [f"label:{label.name}" for label in spec.labels]
    quality = [f"quality:{signal.name}" for signal in spec.quality if signal.about is About.MODEL]
    return any(
        verdict.condition.is_known or verdict.is_learning
        for signal in ("loss", *labels, *quality)
        for verdict in newest.of(signal, STAYS)
        if verdict.window.end > newest.window.end - STAYS * newest.window.length
    )


def harm_kind_of(evidence: Mapping[str, Any]) -> HarmKind | None:
    """Give which prompts cost more, by the evidence of a verdict on the loss; None where that did not say."""
    kind = evidence.get("harm")
    return None if kind is None else HarmKind(kind)


def condition_now(verdicts: Iterable[Verdict], window: Window, version: int | None) -> Condition:
    """Say how a signal stands in a window; NO_DATA when its verdicts, newest first, do not reach up to it.

    Sensors run side by side, so the verdict on the window before counts while the window's own is under way. Verdicts
    that wait for more rows are passed over. A verdict on another version says nothing.
    """
    edge = window.start
    for verdict in verdicts:
        if verdict.window.end < edge or verdict.champion_version not in (version, None):
            return Condition.NO_DATA
        if not verdict.waits:
            return verdict.condition
        edge = verdict.window.start
    return Condition.NO_DATA
