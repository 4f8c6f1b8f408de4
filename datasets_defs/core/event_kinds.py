"""What can happen to a model, as the kinds of events in its history."""

from enum import StrEnum


class EventKind(StrEnum):
    """What an event of the history tells of. The values are stored; a value never changes its meaning."""

    OPENED = "opened"
    """An incident was opened."""
    EVIDENCE = "evidence"
    """One more signal joined an open incident."""
    MOVED = "moved"
    """An incident changed its state."""
    CLAIMED = "claimed"
    """A run took the next step of an incident without changing the incident's state."""
    RELEASED = "released"
    """The claim of a run that is known to be dead was taken back."""
    PROGRESS = "progress"
    """Something about an incident was recorded while its state stayed: a decision, a wait, a registered challenger."""
    CHAMPION = "champion"
    """The champion changed; the evidence says how: bootstrap, promote, roll_back, revert, drill or drill_end."""
    BLIND = "blind"
    """Signals cannot be judged any more."""
    SIGHTED = "sighted"
    """Signals that could not be judged can be judged again."""
    SERVING_TROUBLE = "serving_trouble"
    """Serving does not have the champion loaded, or is silent."""
    SERVING_MENDED = "serving_mended"
    """Serving has the champion loaded again."""
    SENSOR_TROUBLE = "sensor_trouble"
    """A sensor did not finish in time."""
    SENSOR_MENDED = "sensor_mended"
    """A sensor that was late finishes again."""
    REFERENCE_TROUBLE = "reference_trouble"
    """The champion has no reference profile, though enough time has passed to make one."""
    REFERENCE_MENDED = "reference_mended"
    """The champion has a reference profile again."""
    FILE_TROUBLE = "file_trouble"
    """The file that describes the model is gone or wrong, so nothing is watched."""
    FILE_MENDED = "file_mended"
    """The file that describes the model can be read again."""
    SPEC_CHANGED = "spec_changed"
    """A person edited the file that describes the model; the evidence names the fields."""
    REBASELINED = "rebaselined"
    """Input that had drifted for long and cost nothing became the reference."""
    DRIFT_ANSWERED = "drift_answered"
    """A person, or silence, said what drift calls for whose harm cannot be measured: retrain, accept or ignore."""
    BREAK_ACCEPTED = "break_accepted"
    """A person accepted a named break of the data as the new normal."""
    BREAK_REFUSED = "break_refused"
    """A person took such an acceptance back."""
    COLUMNS_SET_ASIDE = "columns_set_aside"
    """Columns that are no property of a request, or were replaced as a whole, are not watched for drift."""
    SCHEDULE_REFUSED = "schedule_refused"
    """A training was due by the model's schedule and was not begun; the reason says why."""
    SCALED = "scaled"
    """Serving capacity was added for a time, stands, or came down again; the evidence says which."""
    PAUSED = "paused"
    """A person paused the model."""
    RESUMED = "resumed"
    """The pause of the model ended."""
    RUNG = "rung"
    """The loop rang again for an incident that nobody had taken up."""
    ALIASES = "aliases"
    """The registry's aliases differed from the ledger and were set right."""
    ANNOUNCED = "announced"
    """An evaluation said how small a difference it can see, before it looked."""
    NOTE = "note"
    """A remark that decides nothing, e.g. the figures of a drill."""


class Trouble(StrEnum):
    """What can be in trouble and mended again, apart from a model's signals."""

    SERVING = "serving"
    """The server of the champion."""
    SENSOR = "sensor"
    """A sensor DAG."""
    REFERENCE = "reference"
    """The champion's reference profile."""
    FILE = "file"
    """The file that describes the model."""

    @property
    def begins(self) -> EventKind:
        """Give the kind of event that says that the trouble began."""
        return EventKind(f"{self.value}_trouble")

    @property
    def ends(self) -> EventKind:
        """Give the kind of event that says that the trouble is over."""
        return EventKind(f"{self.value}_mended")
