"""Watch a model's input: count each window of its inference log, and hold it against the champion's profile."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from datasets_defs.core.conditions import Outcome, Verdict
from datasets_defs.core.errors import DriftloopError
from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.sketch_log import StoredSketch, last_sketch, save_sketch, sketch_of
from datasets_defs.store.verdicts import recent_verdicts, save_verdict
from monitors.breaks.named import breaks_of
from monitors.breaks.set_aside import tell_set_aside
from monitors.counts.rollup import WindowSketch, roll_up
from monitors.drift.flood import flood, most_repeated
from monitors.drift.loss import LossSeen
from monitors.drift.policy import REBASELINE_WINDOWS, judge_window, should_rebaseline
from monitors.drift.state import state_after, state_bytes
from monitors.drift.subject import Step, Subject
from monitors.evidence.harm import WINDOWS as HARM_WINDOWS
from monitors.incidents.turns import in_order
from monitors.profiles.first import first_profile, proposed_profile
from monitors.profiles.new_normal import take_as_normal
from monitors.profiles.profile import Profile, profile_of
from monitors.profiles.reference import collected_rows
from monitors.similar.index import AT_ONCE, keep_up
from monitors.similar.newcomers import name_newcomers
from monitors.verdicts.conclude import conclude, judged_window

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What a window showed, before anything is kept of it."""

    step: Step
    counted: StoredSketch | None = None
    """The window's counts with the detector's state after it, to be kept."""

    @property
    def verdicts(self) -> tuple[Verdict, Verdict, Verdict]:
        """The verdicts on data, drift and loss."""
        return self.step.verdicts


def watch(model: str, *, until: datetime, db: Engine, actor: str) -> Outcome:
    """Judge data, drift and loss of the windows that are due by `until`; a confirmed one rings triage.

    Raises:
        ContractError: the spec or the reference is wrong.
        TransientError: PostgreSQL is away, or another run is judging this model's windows.
    """
    spec, ledger = spec_of(model), Ledger(db)

    def judge_as_on_time(window: Window, champion: Champion | None) -> Outcome:
        verdicts = judge(spec, champion, window, db=db)
        confirm = {verdict.signal: spec.drift.confirm for verdict in verdicts}
        outcome = conclude(verdicts, confirm, blind_after=spec.blind_after_windows, db=db, actor=actor)
        if champion is not None:
            _take_as_normal(spec, champion, window, db=db, actor=actor)
            tell_set_aside(ledger, champion, verdicts[0].evidence.get("breaks", ()), actor=actor)
        return outcome

    def fill_in(window: Window, champion: Champion | None) -> None:
        for verdict in judge(spec, champion, window, db=db):
            save_verdict(db, verdict)

    outcome = in_order("watch_drift", model, judge_as_on_time, fill_in, until=until, db=db, actor=actor)
    index_prompts(db, spec, until=until, actor=actor)
    return outcome


def index_prompts(db: Engine, spec: ModelSpec, *, until: datetime, actor: str) -> None:
    """Add judged windows to the index of prompts, and name new kinds that harm; what fails here fails no verdict."""
    newest = judged_window(until)
    try:
        log.info("%s", keep_up(db, spec, until=newest.end, most=AT_ONCE))
        if (named := name_newcomers(db, spec, window=newest, actor=actor)) is not None:
            log.info("%s", named.reason)
    except (DriftloopError, SQLAlchemyError, OSError) as err:
        log.warning("the verdicts of %s stand; the next window or `maintain` indexes its prompts: %s", spec.name, err)


def judge(spec: ModelSpec, champion: Champion | None, window: Window, *, db: Engine) -> Sequence[Verdict]:
    """Give the verdicts on one window and keep its counts; make the champion's profile if there is none."""
    assessment = assess(spec, champion, window, db=db, make=first_profile)
    if assessment.counted is not None:
        save_sketch(db, assessment.counted)
    return assessment.verdicts


def assess(
    spec: ModelSpec,
    champion: Champion | None,
    window: Window,
    *,
    db: Engine,
    make: Callable[..., Profile | str | None] = proposed_profile,
) -> Assessment:
    """Judge one window and write nothing; `make` says how a champion without a profile comes by one.

    A window that was counted before is judged by those counts again.
    """
    if champion is None:
        subject = Subject(model=spec.name, window=window, champion_version=None)
        return Assessment(step=subject.unknown("no champion serves yet; `driftloop bootstrap` makes the first"))
    if champion.since >= window.end:  # a late run: not this champion's window, so not a sign that it cannot be seen
        subject = Subject(model=spec.name, window=window, champion_version=None)
        served = f"version {champion.version} serves since {champion.since:%Y-%m-%d %H:%M:%SZ}, after the window"
        return Assessment(step=subject.unknown(served))
    subject = Subject(model=spec.name, window=window, champion_version=champion.version)
    profile = profile_of(db, champion, at=window.start) or make(db, spec, champion, until=window.end)
    if profile is None or isinstance(profile, str):
        reason = f"no reference yet: {profile or 'the sensor makes one from the log'}"
        return Assessment(step=subject.unknown(reason, **collected_rows(db, spec, champion, window.end).plain()))
    if profile.effective_from is not None and profile.effective_from > window.start:
        reason = f"{profile.source} are the reference from {profile.effective_from:%Y-%m-%d %H:%M:%SZ} on"
        return Assessment(step=subject.unknown(reason))
    return _held_against(profile, spec, champion, subject, db=db)


def _held_against(profile: Profile, spec: ModelSpec, champion: Champion, subject: Subject, *, db: Engine) -> Assessment:
    """Judge a window by the champion's profile: its counts, and what the windows before it have left."""
    window = subject.window
    before = last_state = last_sketch(db, spec.name, champion.version, before=window.end)
    if before is not None and before.state is None:  # it was broken: the detector goes on from before it
        last_state = last_sketch(db, spec.name, champion.version, before=window.end, with_state=True)
    sketch, flooded = _stored(db, champion, window, profile) or _counted(db, champion, window, profile, before, spec)
    step = judge_window(
        replace(subject, flooded=flooded),
        sketch,
        profile,
        spec.drift,
        log_m=state_after(last_state, profile),
        losses=_losses(db, champion, window),
        in_burn_in=window.start < champion.since + spec.window_count(spec.drift.burn_in_windows),
        brought=sketch.rows - _carried(db, champion, window),
    )
    counted = StoredSketch(
        model=spec.name,
        version=champion.version,
        window=sketch.window,
        encoding=profile.encoding.digest,
        rows=sketch.rows,
        content=sketch.to_bytes(),
        state=None if step.log_m is None else state_bytes(profile, step.log_m),
        judged=step.is_done,
        flooded=flooded,
    )
    return Assessment(step=step, counted=counted)


def stretch(window: Window, *, after: Window | None, champion: Champion, profile: Profile, carry_over: int) -> Window:
    """Give what a window is judged on: itself and the windows before it that had too few rows to be judged.

    No later revision of the profile knows those: it is made from judged windows. The first may be made from the log.
    """
    start = window.before(carry_over - 1).start
    for bound in (after.end if after is not None else None, profile.effective_from if profile.revision == 1 else None):
        if bound is not None:
            start = max(start, bound)
    start = min(start, window.start)
    return Window(max(start, champion.since), window.end)


def _stored(db: Engine, champion: Champion, window: Window, profile: Profile) -> tuple[WindowSketch, str | None] | None:
    """Read the counts of a window that was counted before, and whether one prompt flooded it."""
    stored = sketch_of(db, champion.model, champion.version, window.end)
    if stored is None or stored.windows > 1 or stored.encoding != profile.encoding.digest:
        return None
    return WindowSketch.from_bytes(stored.content), stored.flooded


def _counted(
    db: Engine, champion: Champion, window: Window, profile: Profile, before: StoredSketch | None, spec: ModelSpec
) -> tuple[WindowSketch, str | None]:
    """Count a window's rows, and look whether one prompt floods it: the only time that the log is read for it."""
    whole = stretch(
        window,
        after=before.window if before is not None else None,
        champion=champion,
        profile=profile,
        carry_over=spec.drift.carry_over_windows,
    )
    sketch = roll_up(
        db, champion.model, champion.version, whole, profile.encoding, text_rows=spec.drift.max_rows,
        redact=spec.data.redact,
    )  # fmt: skip
    flooded = flood(most_repeated(db, champion, window, min_rows=spec.drift.min_rows), min_rows=spec.drift.min_rows)
    breaks = breaks_of(db, champion, whole, profile.usual, before, kinds=spec.data.redact)
    return replace(sketch, breaks=breaks), flooded


def _carried(db: Engine, champion: Champion, window: Window) -> int:
    """Read how many rows were too few to be judged a window ago, and are counted again in this one."""
    before = sketch_of(db, champion.model, champion.version, window.start)
    return before.rows if before is not None and not before.judged else 0


def _losses(db: Engine, champion: Champion, window: Window) -> list[LossSeen]:
    """Read what this champion's earlier windows showed of its loss, oldest first, as their verdicts kept it."""
    until = window.end - window.length
    verdicts = recent_verdicts(db, champion.model, "loss", until=until, count=HARM_WINDOWS - 1)
    return [
        seen
        for verdict in reversed(verdicts)
        if verdict.champion_version == champion.version and (seen := LossSeen.of(verdict)) is not None
    ]


def _take_as_normal(spec: ModelSpec, champion: Champion, window: Window, *, db: Engine, actor: str) -> None:
    """Make an input the reference that was another for long and cost nothing; a window that only waits says nothing."""
    drift, loss = (
        recent_verdicts(db, spec.name, signal, until=window.end, count=REBASELINE_WINDOWS, waiting=False)
        for signal in ("drift", "loss")
    )
    if not drift or drift[0].window != window or not should_rebaseline(drift, loss, REBASELINE_WINDOWS):
        return
    reason = f"the input has drifted for {REBASELINE_WINDOWS} windows and costs nothing: it is the reference now"
    take_as_normal(
        db, spec, champion, until=window.end, windows=REBASELINE_WINDOWS, reason=reason, actor=actor
    )  # fmt: skip
