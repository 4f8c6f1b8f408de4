"""Read what a model's sensors kept of a time, and replay it: by the live policy, or by another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy import Engine

from datasets_defs.core.conditions import Verdict
from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.promotions import changes_of
from datasets_defs.ledger.way_back import DRILLS
from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.signals import DriftSpec
from datasets_defs.store.sketch_log import StoredSketch, last_sketch, read_sketches
from datasets_defs.store.verdicts import recent_verdicts
from monitors.counts.rollup import WindowSketch
from monitors.drift.state import state_after
from monitors.evidence.harm import WINDOWS as HARM_WINDOWS
from monitors.profiles.profile import Profile, profile_of
from monitors.replay.outcome import SIGNALS, Backtest, evaluate
from monitors.replay.replay import Stored, replay

_BEFORE = timedelta(days=7)
"""How long before the replayed time a window may lie whose state the first of them goes on from."""


def backtest(
    db: Engine, spec: ModelSpec, within: Window, *, policy: DriftSpec | None, shifts: Sequence[Window] | None
) -> Backtest:
    """Replay the windows that ended after the start of `within` and by its end.

    Raises:
        ContractError: nothing is kept of that time, or what is kept is damaged.
        TransientError: PostgreSQL is away.
    """
    stored = _Reader.of(db, spec.name).stored(within)
    if not any(window.sketch is not None for window in stored):
        raise ContractError(f"{spec.name}: {_nothing(within, stored)}")
    tried = policy if policy is not None else spec.drift
    losses = recent_verdicts(db, spec.name, "loss", until=stored[0].window.start, count=HARM_WINDOWS - 1)
    unwatched = set(tried.exclude) - set(spec.drift.exclude)
    windows = replay(spec.name, stored, tried, losses=losses[::-1], unwatched=unwatched)
    return evaluate(windows, spec.model_copy(update={"drift": tried}), shifts=shifts)


def without_effect(policy: DriftSpec, present: DriftSpec) -> list[str]:
    """Say in words what a policy changes that a replay cannot try, because what it needs is not kept."""
    remarks = [
        f"{name} changes what is counted, and the counts are kept"
        for name in ("max_rows", "embedding")
        if getattr(policy, name) != getattr(present, name)
    ]
    if back := sorted(set(present.exclude) - set(policy.exclude)):
        remarks.append(f"{', '.join(back)} was excluded and is not in the counts")
    if policy.min_rows < present.min_rows:
        remarks.append("a lower min_rows: windows that were too small were counted again with the next")
    return remarks


def _nothing(within: Window, stored: Sequence[Stored]) -> str:
    time = f"{within.start:%Y-%m-%d %H:%M}Z..{within.end:%Y-%m-%d %H:%M}Z"
    if not stored:
        return f"no window between {time} was looked at; give a --since and --until in which the sensors ran"
    return (
        f"the sensors looked at {len(stored)} windows between {time}, and no counts of them are kept: they had no "
        f"champion or reference, or are older than the counts; the newest said: {_said(stored[-1])}"
    )


def _said(stored: Stored) -> str:
    return next((verdict.reason for verdict in stored.recorded.values()), "nothing")


@dataclass(frozen=True, slots=True)
class _Reign:
    """A time in which one version served."""

    version: int
    since: datetime
    promoted: bool


@dataclass(frozen=True, slots=True)
class _Reader:
    """What the database keeps of one model."""

    db: Engine
    model: str
    reigns: Sequence[_Reign]
    """Oldest first."""
    profiles: dict[tuple[int, int], Profile] = field(default_factory=dict)

    @classmethod
    def of(cls, db: Engine, model: str) -> "_Reader":
        changes = [change for change in changes_of(db, model) if change.kind not in DRILLS]
        reigns = [_Reign(change.to_version, change.at, change.kind == "promote") for change in changes]
        champion = Ledger(db).champion(model)
        if champion is not None and reigns and reigns[-1].version == champion.version:
            reigns[-1] = replace(reigns[-1], since=champion.since)
        return cls(db, model, reigns)

    def stored(self, within: Window) -> list[Stored]:
        """Give the windows that were looked at, oldest first."""
        recorded = self._recorded(within)
        judged = self._judged(within)
        by_end = {end: self._uncounted(of_window) for end, of_window in recorded.items()}
        for version in sorted({reign.version for reign in self.reigns}):
            rows = read_sketches(self.db, self.model, version, within, judged_only=False)
            if not rows:
                continue
            before = last_sketch(self.db, self.model, version, before=rows[0].window.end, with_state=True)
            replayed = False
            for row in rows:
                last = max((end for end, of in judged if of == version and end < row.window.end), default=None)
                known = last is None or (before is not None and before.window.end == last)
                window = self._counted(row, recorded.get(row.window.end, {}), before, continues=replayed and known)
                if window is not None:
                    by_end[row.window.end] = replace(window, is_state_known=known)
                if row.state is not None:
                    before, replayed = row, window is not None
        return [by_end[end] for end in sorted(by_end)]

    def _recorded(self, within: Window) -> dict[datetime, dict[str, Verdict]]:
        count = within.length // settings().window_length + 1
        by_end: dict[datetime, dict[str, Verdict]] = {}
        for signal in SIGNALS:
            for verdict in recent_verdicts(self.db, self.model, signal, until=within.end, count=count):
                if verdict.window.end > within.start:
                    by_end.setdefault(verdict.window.end, {})[signal] = verdict
        return by_end

    def _judged(self, within: Window) -> list[tuple[datetime, int | None]]:
        """Give the ends of the windows whose drift was judged, from some days before on, with their versions."""
        count = (within.length + _BEFORE) // settings().window_length + 1
        verdicts = recent_verdicts(self.db, self.model, "drift", until=within.end, count=count)
        return [(verdict.window.end, verdict.champion_version) for verdict in verdicts if verdict.condition.is_known]

    def _counted(
        self, row: StoredSketch, recorded: Mapping[str, Verdict], before: StoredSketch | None, *, continues: bool
    ) -> Stored | None:
        """Give a window with its counts; None if they were added up into a day's, or cannot be compared any more.

        Nor if the sensor came back to the window under another champion: what it said then stands.
        """
        window = Window(row.window.end - settings().window_length, row.window.end)
        reign = self._reign(row.version, window)
        if row.windows > 1 or any(verdict.champion_version != row.version for verdict in recorded.values()):
            return None
        profile = self._profile(reign, window)
        if profile is None or profile.encoding.digest != row.encoding:
            return None
        return Stored(
            window=window,
            version=row.version,
            served_since=reign.since,
            promoted=reign.promoted,
            sketch=WindowSketch.from_bytes(row.content),
            flooded=row.flooded,
            profile=profile,
            was_judged=row.judged,
            continues=continues,
            log_m=state_after(before, profile),
            recorded=recorded,
        )

    def _uncounted(self, recorded: Mapping[str, Verdict]) -> Stored:
        verdict = next(iter(recorded.values()))
        reign = self._reign(verdict.champion_version, verdict.window)
        return Stored(
            window=verdict.window,
            version=verdict.champion_version,
            served_since=reign.since,
            promoted=reign.promoted,
            recorded=recorded,
        )

    def _reign(self, version: int | None, window: Window) -> _Reign:
        before = [reign for reign in self.reigns if reign.version == version and reign.since < window.end]
        return before[-1] if before else _Reign(version or 0, window.start, promoted=False)

    def _profile(self, reign: _Reign, window: Window) -> Profile | None:
        champion = Champion(self.model, reign.version, None, reign.since, 0)
        profile = profile_of(self.db, champion, at=window.start)
        return None if profile is None else self.profiles.setdefault((profile.version, profile.revision), profile)
