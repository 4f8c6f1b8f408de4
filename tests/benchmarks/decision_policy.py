"""The whole policy over simulated traffic from a model's birth: profile, renewals, verdicts, incidents, triage, brakes.

What is judged, and how, is the product's own code: seasons, tolerances, detector, split of the loss, confirmation and
triage. Only the reading and the writing are left out.
"""

from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np

from datasets_defs.core.conditions import About, Condition, Verdict
from datasets_defs.core.incidents import Action, HarmKind
from datasets_defs.core.windows import Window
from datasets_defs.spec.signals import ConfirmSpec, DriftSpec
from monitors.counts.sketch import CategorySketch, NumericSketch, Scale
from monitors.drift.loss import LossLimits, LossSeen, loss_seen, weigh
from monitors.drift.subject import LEAST_ROWS, condition_of
from monitors.evidence.e_detector import EPS_GRID, Detector, Reference, Tally
from monitors.evidence.harm import SURE, WINDOWS
from monitors.evidence.kind_costs import KindCosts, Split, split_sums
from monitors.incidents.triage_rules import TriageEvidence, triage
from monitors.profiles.due import LEAST_WINDOWS, RENEW_AFTER, RIPE_AFTER, SEASON_OVER, YOUNG_WINDOWS
from monitors.season.calendar import Calendar
from monitors.season.lessons import LOSS_FIGURES, Lessons, Material, learn_season
from monitors.season.season import SEEN_DAYS
from monitors.season.tolerance import bounds, clipped
from monitors.season.usual import GROWTH_TOLERANCE, Usual, usual_at
from monitors.verdicts.confirm import is_confirmed, is_quiet
from tests.benchmarks.decision_traffic import EDGES, Drawn, Traffic

CONFIRM = ConfirmSpec(bad=2, of=3)
COOL_DOWN, REBASELINE, PATIENCE, FIRST_ROWS = 24, 72, 24, 1000
HOUR = timedelta(hours=1)
_UNIT = Scale(0.0, 1.0)


@dataclass(slots=True)
class Run:
    """What the policy did."""

    hours: int = 0
    judged: int = 0
    """Hours on which drift was judged."""
    incidents: list[tuple[int, str, str]] = field(default_factory=list)
    """Hour, signals, and what triage decided first."""
    retrains: list[int] = field(default_factory=list)
    drifts: list[int] = field(default_factory=list)
    """Hours at which drift was newly confirmed."""


@dataclass(slots=True)
class _Open:
    at: int
    signals: set[str]
    action: Action
    decided: int
    is_drifting: int = 0


class Model:
    """One model under watch from its first row on."""

    def __init__(self, traffic: Traffic, drawn: Drawn) -> None:
        self.traffic, self.drawn, self.run = traffic, drawn, Run()
        self.calendar = Calendar.of(DriftSpec(holidays=traffic.holidays))
        self.slots = np.array(self.calendar.slots(traffic.starts))
        self.days = np.array([self.calendar.day(at) for at in traffic.starts])
        columns = drawn.hits.shape[1]
        names = [f"n{at:02}" for at in range(columns)]
        even = NumericSketch(_UNIT, NumericSketch.of(np.append(EDGES, 9.0), _UNIT).codes, np.full(10, 1000))
        levels = drawn.levels.sum(axis=0)
        texts = CategorySketch.of_counts({f"l{at:03}": int(n) for at, n in enumerate(levels)})
        sketches = {"c": texts, **dict.fromkeys(names, even)}
        icc = traffic.icc
        self.nominal = Detector.of(
            {name: Reference(sketch=s, eps=EPS_GRID[0], icc=icc) for name, s in sketches.items()}
        )
        kept = levels >= 0.01 * levels.sum()
        by_level = drawn.levels[:, kept]
        rare = drawn.levels[:, ~kept].sum(axis=1)
        rest = np.stack([rare, np.zeros_like(rare), np.zeros_like(rare)], axis=1)
        order = np.argsort(np.array([f"l{at:03}" for at in range(len(levels))])[kept])
        self.hits = np.concatenate([by_level[:, order], rest, drawn.hits.reshape(traffic.hours, -1)], axis=1)
        self.seen = np.ones(columns + 1, dtype=bool)
        self.lessons: Lessons | None = None
        self.costs: KindCosts | None = None
        self.kinds_windows = self.windows = self.renewed = 0
        self.begins = 0
        self.born = -1
        self.learnable = np.zeros(traffic.hours, dtype=bool)
        self.splits: list[Split | None] = [None] * traffic.hours
        self.losses: list[LossSeen] = []
        self.verdicts: dict[str, list[Verdict]] = {"drift": [], "loss": []}
        self.open: _Open | None = None
        self.cool_until = self.not_before = 0
        self.state = self.nominal.start()
        self.detectors: dict[int, Detector] = {}

    def play(self) -> Run:
        """Let the policy act on all hours."""
        for at in range(self.traffic.hours):
            self.run.hours += 1
            if self.born < 0:
                self._be_born(at)
            elif self.traffic.rows[at] >= LEAST_ROWS:
                self._judge(at)
                self._act(at)
            if self.born >= 0 and self.traffic.starts[at].hour == 0:
                self._renew(at)
        return self.run

    def _be_born(self, at: int) -> None:
        if self.traffic.rows[: at + 1].sum() >= FIRST_ROWS:
            self.born = at
            self._anchor(np.arange(at + 1))

    def _anchor(self, hours: np.ndarray) -> None:
        sums, rows = self.drawn.sums[hours].sum(axis=0), self.drawn.kind_rows[hours].sum(axis=0)
        self.costs = KindCosts.of_sums(sums, rows)

    def _renew(self, at: int, *, force: bool = False) -> None:
        age = (at - self.renewed) * HOUR
        if self.lessons is not None and age < (RENEW_AFTER if self.windows >= YOUNG_WINDOWS else LEAST_WINDOWS * HOUR):
            return
        first = max(at - SEASON_OVER // HOUR, self.begins, 0)
        learnable = self.learnable.copy()
        if self.open is not None:
            learnable[max(self.open.at - 3, 0) :] = False
        hours = np.flatnonzero(learnable[first : at + 1 - (0 if force else RIPE_AFTER)]) + first
        if len(hours) < LEAST_WINDOWS:
            return
        if self.kinds_windows < YOUNG_WINDOWS and len(hours) >= 2 * max(self.kinds_windows, LEAST_WINDOWS // 2):
            self.kinds_windows = len(hours)
            self._anchor(hours)
        for hour in hours:
            self.splits[hour] = self._split(int(hour))
        share = self.hits[hours].sum(axis=0) / max(self.traffic.rows[hours].sum(), 1)
        share = np.clip(share, 1e-4, 1 - 1e-4)
        detector = self.nominal.between(share, share)
        material = Material(
            detector=detector, tallies=[self._tally(int(hour)) for hour in hours],
            rows_per_user=self.traffic.rows_per_user[hours].tolist(), losses=[self.splits[hour] for hour in hours],
            slots=self.slots[hours], days=self.days[hours],
        )  # fmt: skip
        self.lessons = learn_season(material, self.calendar.classes)
        self.windows, self.renewed = len(hours), at
        self.pooled = detector.with_eps(self.lessons.eps)
        self.detectors = {}

    def _tally(self, at: int) -> Tally:
        hits = self.hits[at].astype(np.float64)
        return Tally(hits=hits, rows=np.full(len(hits), float(self.traffic.rows[at])), seen=self.seen)

    def _split(self, at: int) -> Split | None:
        if self.costs is None:
            return None
        effect = 1 + (self.traffic.rows_per_user[at] - 1) * self.traffic.icc
        return split_sums(self.drawn.sums[at], self.drawn.kind_rows[at], self.costs, effect=effect)

    def _judge(self, at: int) -> None:
        slot = int(self.slots[at])
        learning = self.lessons is None or self.lessons.season.seen[slot] < SEEN_DAYS
        self.learnable[at] = True
        self._judge_loss(at, slot, learning=learning)
        if learning or self.lessons is None:
            return
        self.run.judged += 1
        if slot not in self.detectors:
            low, high = bounds(self.lessons.season, np.array([slot]))
            self.detectors[slot] = self.pooled.between(
                clipped(low[0, :-LOSS_FIGURES]), clipped(high[0, :-LOSS_FIGURES])
            )
        detector = self.detectors[slot]
        self.state = detector.advance(self.state, self._tally(at), rows_per_user=float(self.traffic.rows_per_user[at]))
        watched = ~np.isin(np.array(detector.columns), self.lessons.unsteady)
        by_column = detector.log_m_of_columns(self.state)[watched]
        log10_m = float(np.logaddexp.reduce(by_column) - np.log(max(len(by_column), 1))) / np.log(10)
        self._note("drift", at, condition_of(log10_m))

    def _judge_loss(self, at: int, slot: int, *, learning: bool) -> None:
        found = self._split(at)
        if found is None or self.costs is None:
            return
        usual, tolerance, growth = Usual(share=None), 0.02, GROWTH_TOLERANCE
        if self.lessons is not None:
            usual = usual_at(self.lessons.season, slot, 1.02)
            tolerance = self.lessons.loss_tolerance
            growth = self.lessons.growth_tolerance
        seen = loss_seen(found, usual, growth, learning=learning)
        self.losses = [*self.losses, seen][-WINDOWS:]
        limits = LossLimits(same=max(1.02, 1 + tolerance) + SURE * self.costs.error, new=1.02)
        weighed = weigh(self.losses, limits, learning=learning)
        if learning and weighed.condition is not Condition.BAD:
            return
        self._note("loss", at, weighed.condition, weighed.harm)

    def _note(self, signal: str, at: int, condition: Condition, harm: HarmKind | None = None) -> None:
        start = self.traffic.starts[at]
        verdict = Verdict(
            model="simulated", signal=signal, window=Window(start, start + HOUR), condition=condition, reason="",
            method="", champion_version=1, evidence={"harm": harm} if harm else {},
        )  # fmt: skip
        self.verdicts[signal] = [verdict, *self.verdicts[signal]][: 2 * CONFIRM.of]

    def _is_new(self, signal: str, at: int) -> bool:
        of = self.verdicts[signal]
        return bool(of) and of[0].window.start == self.traffic.starts[at]

    def _act(self, at: int) -> None:  # noqa: C901  the loop's steps in their order
        confirmed = {s for s in self.verdicts if self._is_new(s, at) and is_confirmed(self.verdicts[s], CONFIRM)}
        if self.open is None and confirmed:
            decision = self._triage(confirmed)
            self.open = _Open(at, set(confirmed), decision, at)
            self.run.incidents.append((at, "+".join(sorted(confirmed)), decision))
            if "drift" in confirmed:
                self.run.drifts.append(at)
        if self.open is None:
            return
        joined = confirmed - self.open.signals
        if "drift" in joined:
            self.run.drifts.append(at)
        self.open.signals |= confirmed
        standing = {s for s in self.open.signals if not is_quiet(self.verdicts[s], 2 * CONFIRM.of)}
        if not standing:
            if "loss" in self.open.signals:
                self.learnable[self.open.at - 3 : at + 1] = False
            self.open = None
            return
        again = self.open.action is Action.WATCH and at - self.open.decided >= PATIENCE
        if joined or again or ("loss" in confirmed and self.open.action is Action.WATCH):
            self.open.action, self.open.decided = self._triage(standing), at
        if self.open.action is Action.RETRAIN and at >= self.cool_until:
            self.run.retrains.append(at)
            self.open, self.cool_until = None, at + COOL_DOWN
            return
        drifting = self.verdicts["drift"][:1]
        is_bad = bool(drifting) and drifting[0].condition is Condition.BAD
        self.open.is_drifting = self.open.is_drifting + 1 if is_bad else 0
        if self.open.is_drifting >= REBASELINE and not any(v.condition is Condition.BAD for v in self.verdicts["loss"]):
            self.open, self.begins, self.renewed = None, at - REBASELINE, 0
            self.state = self.nominal.start()
            self._renew(at, force=True)

    def _triage(self, signals: set[str]) -> Action:
        loss = self.verdicts["loss"][:1]
        kind = next((v.evidence.get("harm") for v in self.verdicts["loss"] if v.evidence.get("harm")), None)
        return triage(
            TriageEvidence(
                signals=frozenset(signals), about=dict.fromkeys(signals, About.MODEL),
                windows_since_promotion=None, probation_windows=3, has_previous=False,
                drift=Condition.NO_DATA, loss=loss[0].condition if loss else Condition.NO_DATA, attempts_left=2,
                harm_kind=kind,
            )
        ).action  # fmt: skip
