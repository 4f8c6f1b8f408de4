"""Which events people hear about, and what each one means for them. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import BY_HAND, SCHEDULED, Action, Incident, State
from datasets_defs.ledger.events import Event


class Severity(StrEnum):
    """How soon a person should look."""

    INFO = "info"
    """Good to know; the loop is at work."""
    WARNING = "warning"
    """Something is wrong, or waits for a person."""
    CRITICAL = "critical"
    """The loop cannot go on without a person, or has just undone something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A kind of message.

    Texts may name `{model}`, `{id}`, `{challenger}`, `{version}`, `{former}`, `{share}` and `{signal}`.
    """

    severity: Severity
    title: str
    next: str
    """What the loop does next."""
    commands: tuple[str, ...] = ()
    """How a person looks closer, decides or undoes it."""


SHOW = "driftloop incident show {id}"
END = 'driftloop incident resolve {id} --reason "…"'
BACK = 'driftloop rollback {model} --reason "…"'
HISTORY = "driftloop history {model}"

_info, _warning, _critical = Severity.INFO, Severity.WARNING, Severity.CRITICAL

OPENED = Topic(
    severity=_warning,
    title="{model} is degraded: incident {id} opened",
    next="Triage decides what is wrong and what to do about it.",
    commands=(SHOW, END),
)
OFFERED = Topic(
    severity=_info,
    title="{model}: a version is offered",
    next="It is scored against the champion on the same frozen rows, and promoted if the gate lets it, or by force.",
    commands=(SHOW, HISTORY),
)
NOT_USABLE = Topic(
    severity=_warning,
    title="{model}: a version that others registered is not taken",
    next="Nothing changes. Mended files are another version: register them anew.",
    commands=(HISTORY,),
)
FORCED = Topic(
    severity=_warning,
    title="{model}: {challenger} goes ahead although the gate rejected it",
    next="It is promoted, as a person asked; then it is on probation and is rolled back if it does worse.",
    commands=(SHOW, BACK),
)
NOT_TAKEN = Topic(
    severity=_info,
    title="{model}: {challenger}, offered by hand, is not promoted",
    next="The champion serves on.",
    commands=(SHOW, HISTORY),
)
OFFER_OVER = Topic(
    severity=_info,
    title="{model}: incident {id}, opened by hand, has ended",
    next="Nothing; the model is watched as before.",
    commands=(HISTORY,),
)
ORDERED = Topic(
    severity=_info,
    title="{model}: a training on schedule begins",
    next="A challenger is trained; it is promoted only if the gate finds it better than the champion.",
    commands=(SHOW, HISTORY),
)
NOT_ORDERED = Topic(
    severity=_warning,
    title="{model}: no training on schedule this time",
    next="The champion serves on. The schedule asks again at its next time; a person may trigger it before.",
    commands=("driftloop status", HISTORY),
)
NOT_BETTER = Topic(
    severity=_info,
    title="{model}: {challenger}, trained on schedule, is not promoted",
    next="The champion serves on. Nothing is wrong with it, so there is no further attempt before the next time.",
    commands=(SHOW, HISTORY),
)
SCHEDULE_OVER = Topic(
    severity=_info,
    title="{model}: the training on schedule of incident {id} has ended",
    next="Nothing; the model is watched as before.",
    commands=(HISTORY,),
)
QUARANTINED = Topic(
    severity=_critical,
    title="{model}: data quarantined",
    next="Nothing is trained on this data. The incident ends by itself once every signal has stayed good.",
    commands=(SHOW, END),
)
ESCALATED = Topic(
    severity=_critical,
    title="{model}: a person has to decide",
    next="The loop does nothing more about this incident, unless its signals stay good, which ends it.",
    commands=(SHOW, BACK, END),
)
WAITING = Topic(
    severity=_warning,
    title="{model}: the retrain of incident {id} waits",
    next="The champion serves on, degraded. The loop asks again by itself, without another message.",
    commands=(SHOW, END),
)
REGISTERED = Topic(
    severity=_info,
    title="{model}: {challenger} trained",
    next="Champion and challenger are scored on the same frozen rows; only a better one is promoted.",
    commands=(SHOW,),
)
ACCEPTED = Topic(
    severity=_info,
    title="{model}: {challenger} accepted",
    next="It is promoted, and reverted if serving does not confirm that it has loaded it.",
    commands=(SHOW, BACK),
)
APPROVAL = Topic(
    severity=_warning,
    title="{model}: {challenger} waits for your approval",
    next="Nothing changes until somebody answers; no answer in time counts as a no.",
    commands=("driftloop approve {model}", 'driftloop reject {model} --reason "…"', SHOW),
)
REJECTED = Topic(
    severity=_warning,
    title="{model}: {challenger} rejected",
    next="The champion serves on. Another attempt follows while attempts are left; then a person is called.",
    commands=(SHOW, END),
)
INCONCLUSIVE = Topic(
    severity=_info,
    title="{model}: evaluation inconclusive",
    next="The champion serves on. The loop tries again when more rows have come in.",
    commands=(SHOW, END),
)
AGAIN = Topic(
    severity=_warning,
    title="{model}: incident {id} is open again",
    next="Triage looks at it again.",
    commands=(SHOW, END),
)
FIRST = Topic(
    severity=_info,
    title="{model}: version {version} is the first champion",
    next="It is served and watched from now on.",
    commands=(HISTORY,),
)
ROLLING_OUT = Topic(
    severity=_info,
    title="{model}: {challenger} is rolled out",
    next="Some users are answered by it and are compared with the others; one that is surely worse goes back at once.",
    commands=(SHOW, BACK),
)
SHARE = Topic(
    severity=_info,
    title="{model}: {challenger} answers {share} of the users",
    next="Both versions' users are compared; then more users follow, or all go back.",
    commands=("driftloop status", BACK),
)
TAKEN_BACK = Topic(
    severity=_critical,
    title="{model}: {challenger} is taken back from its users",
    next="The champion answers everybody, and that version is not promoted again.",
    commands=(SHOW, HISTORY),
)
PROMOTED = Topic(
    severity=_info,
    title="{model}: version {version} replaces version {former}",
    next="Serving loads it; then it is on probation and is rolled back if it does worse.",
    commands=(BACK, HISTORY),
)
ROLLED_BACK = Topic(
    severity=_critical,
    title="{model}: rolled back from version {former} to version {version}",
    next="Version {version} serves again, and version {former} is not promoted again.",
    commands=(HISTORY,),
)
REVERTED = Topic(
    severity=_critical,
    title="{model}: promotion of version {former} reverted",
    next="Version {version} stays champion; a person has to look at why serving did not take the new one.",
    commands=(HISTORY,),
)
DRILL = Topic(
    severity=_info,
    title="{model}: drill: version {version} serves for a moment",
    next="Version {former} serves again in about a minute; nothing is judged by this.",
    commands=(HISTORY,),
)
DRILL_END = Topic(
    severity=_info,
    title="{model}: drill over: version {version} serves again",
    next="Nothing; the model is watched as before.",
    commands=(HISTORY,),
)
RESOLVED = Topic(
    severity=_info,
    title="{model} is good again: incident {id} resolved",
    next="Nothing; the model is watched as before.",
    commands=(HISTORY,),
)
CLOSED_BY_ROLLBACK = Topic(
    severity=_info,
    title="{model}: incident {id} ended by rollback",
    next="Nothing; the model is watched as before.",
    commands=(HISTORY,),
)
BLIND = Topic(
    severity=_warning,
    title="{model}: {signal} cannot be judged",
    next="Nothing is started, resolved or undone on this signal until it can be judged again.",
    commands=("driftloop status", HISTORY),
)
SIGHTED = Topic(
    severity=_info,
    title="{model}: {signal} can be judged again",
    next="The signal counts again.",
    commands=("driftloop status",),
)
REBASELINED = Topic(
    severity=_info,
    title="{model}: the shifted input is the new reference",
    next="Windows are compared with the shifted input; the loss is still compared with what it was at first.",
    commands=("driftloop calibrate {model}", HISTORY),
)
DRIFT_QUESTION = Topic(
    severity=_warning,
    title="{model}: what does this drift call for?",
    next="Nothing changes until somebody answers; when the time is over, `drift.unanswered` in the YAML decides.",
    commands=(
        'driftloop answer {model} retrain --reason "…"',
        'driftloop answer {model} accept --reason "…"',
        'driftloop answer {model} ignore --reason "…"',
        SHOW,
    ),
)
DRIFT_ANSWERED = Topic(
    severity=_info,
    title="{model}: the question about its drift is answered: {answer}",
    next="A challenger is trained, the shifted input becomes the reference, or nothing is asked for a week.",
    commands=(SHOW, HISTORY),
)
BREAK_ACCEPTED = Topic(
    severity=_info,
    title="{model}: a change of the data is accepted as normal",
    next="From the next window on such rows are judged and trained on as any others.",
    commands=("driftloop accept {model} --what {what} --undo", HISTORY),
)
BREAK_REFUSED = Topic(
    severity=_info,
    title="{model}: a change of the data counts as a break again",
    next="The next window that shows it is quarantined: it is not judged, and nothing of it is trained on.",
    commands=(HISTORY,),
)
COLUMNS_SET_ASIDE = Topic(
    severity=_info,
    title="{model}: columns are not watched for drift",
    next="Everything else is judged as before. List them under `drift.exclude` in models/{model}.yaml to settle it.",
    commands=("driftloop check {model}", HISTORY),
)
TOPIC_NAMED = Topic(
    severity=_info,
    title="{model}: what the new kinds of prompts are about",
    next="Triage decides as before; this tells people what a retrain would learn.",
    commands=('driftloop similar {model} "…"', SHOW),
)
SCALED = Topic(
    severity=_info,
    title="{model}: serving capacity changes",
    next="What was added comes down by itself when its time is over; the reason says when.",
    commands=('driftloop scale {model} --down --reason "…"', HISTORY),
)
PAUSED = Topic(
    severity=_info,
    title="{model} is paused",
    next="Its signals are judged and told; nothing is retrained, promoted, rolled back or scaled until the pause ends.",
    commands=("driftloop resume {model}", "driftloop status"),
)
RESUMED = Topic(
    severity=_info,
    title="{model} is no longer paused",
    next="The loop acts again; what waited is begun within some minutes.",
    commands=("driftloop status",),
)
RETIRED = Topic(
    severity=_info,
    title="{model} is retired",
    next="Nothing is judged, trained or changed any more, and nothing is erased.",
    commands=("driftloop bring-back {model}", HISTORY),
)
BROUGHT_BACK = Topic(
    severity=_info,
    title="{model} is back from retirement",
    next="It is watched as before; windows that nobody judged meanwhile are judged first.",
    commands=("driftloop status", HISTORY),
)
SERVING_TROUBLE = Topic(
    severity=_critical,
    title="{model}: serving does not run the champion",
    next="Serving tries to load the champion again by itself; the loop changes nothing.",
    commands=("driftloop status", BACK, HISTORY),
)
SERVING_MENDED = Topic(
    severity=_info,
    title="{model}: the champion serves again",
    next="Nothing; the model is watched as before.",
    commands=("driftloop status",),
)
SENSOR_TROUBLE = Topic(
    severity=_critical,
    title="{model}: {signal} is late",
    next="Nothing is judged meanwhile. Its next run judges the newest window; missed windows are not judged later.",
    commands=("driftloop status", HISTORY),
)
SENSOR_MENDED = Topic(
    severity=_info,
    title="{model}: {signal} runs again",
    next="Nothing; the model is watched as before.",
    commands=("driftloop status",),
)
FILE_TROUBLE = Topic(
    severity=_critical,
    title="{model}: its file is gone or wrong",
    next="Its champion goes on serving. Nothing is judged, retrained or rolled back until the file can be read.",
    commands=("driftloop check-models", HISTORY),
)
FILE_MENDED = Topic(
    severity=_info,
    title="{model}: its file can be read again",
    next="The model is watched as before; windows that nobody judged are judged now.",
    commands=("driftloop status",),
)
SPEC_CHANGED = Topic(
    severity=_info,
    title="{model}: its file was edited",
    next="Each field counts from when the message says.",
    commands=("driftloop plan {model}", HISTORY),
)

_CHANGES: Mapping[str, Topic] = {
    "bootstrap": FIRST,
    "promote": PROMOTED,
    "roll_back": ROLLED_BACK,
    "revert": REVERTED,
    "drill": DRILL,
    "drill_end": DRILL_END,
}
_OPENINGS: Mapping[str, Topic] = {BY_HAND: OFFERED, SCHEDULED: ORDERED}
_STEPS: Mapping[tuple[str | None, str], Topic] = {
    (State.APPROVING, State.ROLLOUT): ROLLING_OUT,
    (State.ROLLOUT, State.ROLLED_BACK): TAKEN_BACK,
}
_MOVES: Mapping[State, Topic] = {
    State.QUARANTINED: QUARANTINED,
    State.ESCALATED: ESCALATED,
    State.REJECTED: REJECTED,
    State.RESOLVED: RESOLVED,
    State.ROLLED_BACK: CLOSED_BY_ROLLBACK,
}


def topic_of(event: Event, incident: Incident | None) -> Topic | None:
    """Say what an event means to people, or None when they need not hear of it.

    `incident` is the incident as it stands now, which may be later than the event.
    """
    chooser = CHOOSERS.get(event.kind)
    return chooser(event, incident) if chooser else None


def _moved(event: Event, incident: Incident | None) -> Topic | None:  # noqa: C901  a table of moves, one case a line
    match event.from_state, event.state:
        case State.EVALUATING, State.APPROVING if event.evidence.get("forced_by"):
            return FORCED
        case State.EVALUATING, State.APPROVING:
            return APPROVAL if _waits(incident) else ACCEPTED
        case State.EVALUATING | State.APPROVING, State.OPEN if event.evidence.get("offered_by"):
            return NOT_TAKEN
        case _, State.REJECTED if incident is not None and incident.is_scheduled:
            return NOT_BETTER
        case State.EVALUATING, State.OPEN if incident is not None and incident.is_scheduled:
            return NOT_BETTER
        case State.EVALUATING, State.OPEN:
            return INCONCLUSIVE
        case State.REJECTED, State.OPEN:
            return None  # the next attempt; what comes of it is told
        case _, State.OPEN:
            return AGAIN
        case _, State.RESOLVED if incident is not None and incident.is_by_hand:
            return OFFER_OVER
        case _, State.RESOLVED if incident is not None and incident.is_no_alarm:
            return SCHEDULE_OVER
        case _, State.ESCALATED if incident is not None and not incident.is_open:
            return None  # ended meanwhile, e.g. by hand, which goes through here: nobody is needed any more
        case _, str() as state:
            return _STEPS.get((event.from_state, state)) or _MOVES.get(State(state))
    return None


def _progressed(event: Event, _incident: Incident | None) -> Topic | None:
    if event.evidence.get("retrain") == "waits":
        return WAITING
    if event.evidence.get("action") == Action.ASK:
        return DRIFT_QUESTION
    if "search" in event.evidence:
        return None  # what is made of it is told
    return REGISTERED if event.state == State.RETRAINING else None


def _waits(incident: Incident | None) -> bool:
    """Say whether the incident's challenger still waits for a person; one that was answered for asks nobody."""
    return incident is not None and incident.state is State.APPROVING and not incident.approved


CHOOSERS: Mapping[str, Callable[[Event, Incident | None], Topic | None]] = {
    EventKind.OPENED: lambda _event, incident: (
        _OPENINGS.get(incident.signal, OPENED) if incident is not None else OPENED
    ),
    EventKind.MOVED: _moved,
    EventKind.PROGRESS: _progressed,
    EventKind.CHAMPION: lambda event, _: _CHANGES.get(str(event.evidence.get("change"))),
    EventKind.ROUTED: lambda event, _: SHARE if event.evidence.get("share") else None,  # its end is told as a move
    EventKind.BLIND: lambda _event, _incident: BLIND,
    EventKind.SIGHTED: lambda _event, _incident: SIGHTED,
    EventKind.SERVING_TROUBLE: lambda _event, _incident: SERVING_TROUBLE,
    EventKind.SERVING_MENDED: lambda _event, _incident: SERVING_MENDED,
    EventKind.SENSOR_TROUBLE: lambda _event, _incident: SENSOR_TROUBLE,
    EventKind.SENSOR_MENDED: lambda _event, _incident: SENSOR_MENDED,
    EventKind.FILE_TROUBLE: lambda _event, _incident: FILE_TROUBLE,
    EventKind.FILE_MENDED: lambda _event, _incident: FILE_MENDED,
    EventKind.SPEC_CHANGED: lambda _event, _incident: SPEC_CHANGED,
    EventKind.SCHEDULE_REFUSED: lambda _event, _incident: NOT_ORDERED,
    EventKind.OFFER: lambda event, _: NOT_USABLE if event.evidence.get("step") == "refused" else None,
    EventKind.SCALED: lambda event, _: SCALED if event.evidence.get("step") in ("rising", "down") else None,
    EventKind.PAUSED: lambda _event, _incident: PAUSED,
    EventKind.RESUMED: lambda _event, _incident: RESUMED,
    EventKind.RETIRED: lambda _event, _incident: RETIRED,
    EventKind.BROUGHT_BACK: lambda _event, _incident: BROUGHT_BACK,
    EventKind.REBASELINED: lambda _event, _incident: REBASELINED,
    EventKind.DRIFT_ANSWERED: lambda _event, _incident: DRIFT_ANSWERED,
    EventKind.BREAK_ACCEPTED: lambda _event, _incident: BREAK_ACCEPTED,
    EventKind.BREAK_REFUSED: lambda _event, _incident: BREAK_REFUSED,
    EventKind.COLUMNS_SET_ASIDE: lambda _event, _incident: COLUMNS_SET_ASIDE,
    EventKind.TOPIC_NAMED: lambda _event, _incident: TOPIC_NAMED,
}
SILENT = frozenset(
    {
        EventKind.EVIDENCE,  # the incident's own message was sent; triage says what the new signal changes
        EventKind.CLAIMED,
        EventKind.RELEASED,
        EventKind.RUNG,
        EventKind.IMPORTED,  # whoever gave the command was told
        EventKind.ALIASES,
        EventKind.ANNOUNCED,  # the evaluation's result is told
        EventKind.REFERENCE_TROUBLE,  # signals that cannot be judged without it are told as blind
        EventKind.REFERENCE_MENDED,
        EventKind.NOTE,
    }
)
"""Kinds of events that people read in the history only."""
