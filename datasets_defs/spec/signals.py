"""The sections of the YAML on what is watched: drift, quality and GPU signals, labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from datasets_defs.core.conditions import About
from datasets_defs.spec.fields import NonBlank, Section, TimeZone
from datasets_defs.spec.presets import PRESETS


class ConfirmSpec(Section):
    """When a bad reading counts as confirmed: bad in `bad` of the last `of` windows including the newest."""

    bad: int = Field(default=2, ge=1)
    """BAD windows that confirm a signal."""
    of: int = Field(default=3, ge=1)
    """Newest windows among which they are counted."""

    @model_validator(mode="after")
    def _fits(self) -> "ConfirmSpec":
        if self.bad > self.of:
            raise ValueError(f"bad ({self.bad}) of the last {self.of} windows can never happen; lower `bad`")
        return self


def _country(value: str) -> str:
    """Hold a country against those whose holidays are known, here and not in the first window that asks for them."""
    import holidays

    known = holidays.list_supported_countries()
    code, _, subdivision = value.partition("-")
    if code not in known:
        raise ValueError(f"{value!r} is no country whose holidays are known; write its two letters, as `DE`")
    if subdivision and subdivision not in known[code]:
        raise ValueError(f"{code} has no {subdivision!r}; its parts are {', '.join(known[code]) or 'not told apart'}")
    return value


class DriftSpec(Section):
    """How the input is held against the champion's profile; how much it may move is learned, not set."""

    min_rows: int = Field(default=200, ge=20)
    """A window with fewer rows is *thin*: judged, and its evidence gathers, but alone it can see little.

    Fewer than 20 rows, or few rows that look broken, are judged together with the next window's.
    """
    max_rows: int = Field(default=5000, ge=100)
    """Prompts of a window that are described at most; figures and attributes are counted over all rows."""
    harm_ratio: float = Field(default=1.02, gt=1)
    """The loss is harmful when the prompts surely cost this many times the reference's bits per byte."""
    carry_over_windows: int = Field(default=24, ge=1)
    """Windows that are judged together at most until there are enough rows."""
    burn_in_windows: int = Field(default=24, ge=0)
    """After a change of champion drift is at most a warning for this many windows: its reference is new."""
    exclude: tuple[str, ...] = ()
    """Columns that are not watched, by name; an attribute of the log is `attribute:NAME`."""
    embedding: str | None = None
    """Folder of a local sentence-transformers model; its distances are columns, too. Needs `driftloop[embeddings]`."""
    season: Literal["week", "none"] = "week"
    """`week`: every hour of the week is held against what that hour usually shows, and is *learning* until it is known.

    `none`: one hour is like any other, which is true of traffic that machines make; nothing has to be learned first.
    """
    timezone: TimeZone = "UTC"
    """Where the users' day begins, as `Europe/Berlin`."""
    calendar: Annotated[str, AfterValidator(_country)] | None = None
    """Country whose public holidays are days of their own, as `DE`, or with a subdivision `DE-BY`."""
    holidays: tuple[date, ...] = ()
    """Further such days, as `2026-12-31`."""
    confirm: ConfirmSpec = ConfirmSpec()
    unmeasured: Literal["ask", "retrain", "watch"] = "ask"
    """What drift calls for that stays for 24 windows while neither a loss nor labels nor a quality signal is measured.

    `ask`: a person is asked once (`driftloop answer`). `retrain`: a challenger is trained. `watch`: nothing.
    """
    unanswered: Literal["retrain", "accept", "ignore"] = "ignore"
    """With `unmeasured: ask`: what a question comes to that nobody answered within `approval_windows` windows."""
    reports: Literal["always", "on_warn"] = "always"
    """Which windows' reports (about 4 MB each) are kept; `on_warn`: those whose drift or loss is not OK."""


class SignalSpec(Section):
    """One PromQL query and its limits.

    Filled in are `{model}`, `{served}` (the model's name at the server), `{window}` and `{step}` (a 120th of a window).
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    """The signal is `quality:NAME` or `gpu:NAME` in verdicts, metrics and messages."""
    promql: NonBlank
    """The query; its worst sample is judged."""
    about: About | None = None
    """What the signal speaks of: `model`, `answers`, `machines` or `capacity`.

    Of a `gpu` signal it is `machines` unless said. A `quality` signal that does not say it only calls a person: nothing
    is trained, promoted or taken back on its word.
    """
    worse: Literal["higher", "lower"] = "higher"
    """The direction in which the signal gets worse."""
    warn: float | None = None
    """Limit from which on the signal is WARN; none: it is never WARN."""
    bad: float
    """Limit; BAD from here on in the `worse` direction."""
    relative_to_reference: bool = False
    """The limits are multiples of the champion's reference loss (bits per byte) instead of plain values."""
    max_age_seconds: float = Field(default=300, gt=0)
    """An older newest sample is STALE."""
    devices: str | None = None
    """A query that gives the devices there are. Where it gives some, and `promql` had no series for six hours, the
    devices lack what is asked for, and that is no lack: the signal is OK and says so."""
    confirm: ConfirmSpec = ConfirmSpec()

    @model_validator(mode="after")
    def _ordered(self) -> "SignalSpec":
        if self.warn is not None and (self.warn > self.bad if self.worse == "higher" else self.warn < self.bad):
            raise ValueError(f"warn ({self.warn}) lies beyond bad ({self.bad}) when {self.worse} is worse; swap them")
        return self


@dataclass(frozen=True, slots=True)
class _Removed:
    """A preset's signal that the YAML does not want."""

    name: str


_Entry = SignalSpec | tuple[SignalSpec, ...] | _Removed


def _preset_or_signal(value: Any, signal: ValidatorFunctionWrapHandler, info: ValidationInfo) -> _Entry:
    if isinstance(value, dict) and value.keys() == {"remove"}:
        return _Removed(str(value["remove"]))
    if not isinstance(value, str):
        entry: SignalSpec = signal(value)
        return entry
    known = PRESETS[info.field_name or ""]
    if value not in known:
        raise ValueError(f"no preset of that name; {info.field_name} has {', '.join(known)}, or write the signal")
    return tuple(SignalSpec.model_validate(fields) for fields in known[value])


def _flat(entries: Sequence[_Entry]) -> tuple[SignalSpec, ...]:
    """Put the presets' signals where their names stood; one written out replaces a preset's, `remove` takes it out."""
    brought = {signal.name for entry in entries if isinstance(entry, tuple) for signal in entry}
    removed = {entry.name for entry in entries if isinstance(entry, _Removed)}
    if unknown := sorted(removed - brought):
        raise ValueError(
            f"`remove` names {', '.join(unknown)}, which no preset brings here; there are {', '.join(sorted(brought))}"
        )
    taken = removed | {entry.name for entry in entries if isinstance(entry, SignalSpec)}
    flat: list[SignalSpec] = []
    for entry in entries:
        if isinstance(entry, SignalSpec):
            flat.append(entry)
        elif isinstance(entry, tuple):
            flat += [signal for signal in entry if signal.name not in taken]
            taken |= {signal.name for signal in entry}
    return tuple(flat)


Signals = Annotated[
    tuple[Annotated[SignalSpec, WrapValidator(_preset_or_signal)], ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    AfterValidator(_flat),
]
"""Signals; in YAML a preset's name, or a list of presets' names, signals and `{remove: NAME}`."""


class LabelSpec(Section):
    """How good the answers are by the scores that come late (`score` of feedback and of `ingest`, 0..1).

    The signal `label:NAME` holds them against those of the champion's own first windows: a version that is bad from its
    first label on is for the gate and for its loss to see. The more labels the reference has (five times `min_labels`
    or more), the less the scores have to fall until they are surely worse.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    """The signal is `label:NAME` in verdicts, metrics and messages."""
    better: Literal["higher", "lower"] = "higher"
    """`higher`: 1 - score is the badness that is compared; `lower`: the score itself."""
    maturity_windows: int = Field(default=24, ge=0)
    """Windows until a window's labels are taken to be in; each verdict is on the window that long before its own.

    Labels that come later count once `driftloop rescore` judges their windows again.
    """
    harm_ratio: float = Field(default=1.05, gt=1)
    """The answers are harmful when their badness is surely this many times the reference's."""
    min_labels: int = Field(default=50, ge=50)
    """A window with fewer is NO_DATA, and is judged together with the next; under 50, chance decides."""
    carry_over_windows: int = Field(default=24, ge=1)
    """Windows that are judged together at most until there are enough labels."""
    anonymous: bool | None = None
    """Whether scores that came without a key count; unless said, as `trust.anonymous` says."""
    confirm: ConfirmSpec = ConfirmSpec()
    """By the clock: where only every fifth window has enough labels, 2 BAD ones need `{bad: 2, of: 10}`."""


def distinct(labels: tuple[LabelSpec, ...]) -> tuple[LabelSpec, ...]:
    """Refuse two labels of one name."""
    names = [label.name for label in labels]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"more than one label is called {', '.join(twice)}; each needs a name of its own")
    return labels
