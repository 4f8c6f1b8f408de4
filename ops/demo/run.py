"""The demo: the loop closes before your eyes, on real text, in a few minutes.

A small language model serves documentation traffic, behind the gateway. The traffic turns to another kind of text; the
loop finds out, retrains, judges, promotes and watches the new champion. Every line comes from the ledger; the exit code
says whether the whole story happened.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from rich.console import Console
from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError, DriftloopError
from datasets_defs.core.incidents import State
from datasets_defs.core.settings import settings
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store.client_keys import keys
from datasets_defs.store.database import engine
from ops.demo import progress, report, spec
from ops.demo.pace import Tempo, measured
from ops.demo.story import Story
from ops.demo.texts import MODEL, passages
from ops.demo.traffic import Traffic
from ops.stack import doctor
from ops.stack import up as stack
from ops.stack.first_champions import bootstrap_all

DETECT_WINDOWS = 8
"""Windows after the shift by which an incident must be open."""
SERVING_SECONDS = 120
"""Limit until the server has loaded the champion, on a fast machine."""
LOOP_SECONDS = 600
"""Limit from the incident to a confirmed new champion, kills included, on a fast machine."""


def run(quiet_windows: int, method: str = "full", trainer: str = "driftloop") -> int:
    """Run the whole story, after so many windows without an incident; give 0 if it happened, 1 if not, and why.

    `method` is how challengers are trained: `full`, as the model's YAML says, or `lora`; `trainer` is who trains them:
    `driftloop`, or `trl`, a script that knows nothing of it.
    """
    console = Console()
    began = datetime.now(UTC)
    try:
        doctor.require(progress=lambda line: console.print(f"  {line}", style="dim"))
        pace = measured()
        console.print(f"  {pace}", style="dim")
        db = _start(console, method, trainer, pace)
        story = _tell(db, console, quiet_windows, pace)
        report.closing(console, db, story, stack.info(), (datetime.now(UTC) - began).total_seconds())
        report.require_improvement(story)
    except DriftloopError as err:
        console.print(f"\n[bold red]The story did not happen:[/] {err}")
        console.print(f"Logs: {settings().home / 'logs'}; the stack is left up (`make down` stops it).")
        return 1
    console.print("\n[bold green]The loop closed.[/] The stack is left up; `make down` stops it.")
    return 0


def _start(console: Console, method: str, trainer: str, pace: Tempo) -> Engine:
    console.rule("Starting the local stack")
    chosen = {**pace.settings, **spec.models_of(method, trainer, slowness=pace.slowness)}
    info = stack.up(lambda line: console.print(f"  {line}", style="dim"), chosen)
    for name in ("api-server", "mlflow", "prometheus", "gateway"):
        console.print(f"  {name}: {info.urls[name]}")
    _bootstrap(console)
    return engine()


def _bootstrap(console: Console) -> None:
    console.rule(f"The first champion of {MODEL}")
    problems = bootstrap_all(console, only=MODEL)
    if problems:
        raise ContractError("; ".join(problems))


def _tell(db: Engine, console: Console, quiet_windows: int, pace: Tempo) -> Story:
    ledger = Ledger(db)
    progress.end_leftover_incident(ledger, console)
    champion = ledger.champion(MODEL)
    if champion is None:
        raise ContractError(f"{MODEL} has no champion although its bootstrap ended")
    progress.wait_for_serving(db, champion.version, seconds=pace.limit(SERVING_SECONDS))
    quiet_domain, new_domain = progress.choose_domains(db, champion.version, console)
    story = Story(quiet_domain=quiet_domain, new_domain=new_domain, from_version=champion.version, pace=pace)
    narrator = progress.Narrator(ledger, console)
    traffic = Traffic(
        url=_door(db, console),
        model=MODEL,
        per_second=pace.requests_per_second,
        seed=champion.version,
    )
    traffic.switch_to(passages(quiet_domain))
    traffic.start()
    try:
        _quiet(db, story, narrator, console, quiet_windows)
        traffic.switch_to(passages(new_domain))
        _shift(db, story, narrator, console)
        _loop(db, story, narrator, console)
        _calm_again(db, story, narrator, console)
    finally:
        traffic.stop()
    progress.remember_domain(story.to_version, new_domain)
    counts = traffic.counts
    reason = f", the last one because of {counts.why}" if counts.failed else ""
    console.print(f"  {counts.answered} requests answered, {counts.failed} not{reason}", style="dim", markup=False)
    return story


def _door(db: Engine, console: Console) -> str:
    """Say where the played users ask: the gateway; or the server behind it, where the gateway wants keys of them."""
    url = settings().serving_url if keys(db) else settings().gateway_url
    console.print(f"  forty played users ask {url}", style="dim")
    return url


def _quiet(db: Engine, story: Story, narrator: progress.Narrator, console: Console, quiet_windows: int) -> None:
    console.rule(f"Ordinary traffic: {story.quiet_domain}")
    since = datetime.now(UTC)

    def judged() -> bool:
        narrator.tell()
        if (incident := Ledger(db).open_of(MODEL)) is not None:
            raise ContractError(f"a false alarm: incident {incident.id} ({incident.signal}) opened on ordinary traffic")
        story.quiet_windows = progress.known_windows(db, since, story.from_version)
        return story.quiet_windows >= quiet_windows

    _until(
        judged, quiet_windows * 3 * story.pace.window_seconds + story.pace.limit(180), f"{quiet_windows} windows judged"
    )


def _shift(db: Engine, story: Story, narrator: progress.Narrator, console: Console) -> None:
    console.rule(f"The traffic turns to {story.new_domain}")
    story.shifted_at = datetime.now(UTC)

    def opened() -> bool:
        narrator.tell()
        story.incident = Ledger(db).open_of(MODEL)
        return story.incident is not None

    _until(opened, DETECT_WINDOWS * story.pace.window_seconds + story.pace.limit(60), "an incident")
    if story.incident is None:
        raise ContractError("no incident opened")
    story.windows_to_detection = progress.windows_between(db, story.shifted_at, story.incident.opened_at)


def _loop(db: Engine, story: Story, narrator: progress.Narrator, console: Console) -> None:
    console.rule("The loop acts")

    def confirmed() -> bool:
        narrator.tell()
        incident = Ledger(db).incident(story.incident.id) if story.incident else None
        if incident and incident.state in (State.ESCALATED, State.QUARANTINED, State.ROLLED_BACK):
            raise ContractError(f"incident {incident.id} ended up {incident.state}; see `driftloop history {MODEL}`")
        change = progress.confirmed_change(db, story.from_version)
        if change is None or story.incident is None:
            return False
        story.to_version, confirmed_at = change
        story.seconds_to_serving = (confirmed_at - story.incident.opened_at).total_seconds()
        return True

    _until(confirmed, story.pace.limit(LOOP_SECONDS), "a confirmed new champion")
    if story.incident is not None:
        story.scores = progress.scores_of(db, story.incident.id)


def _calm_again(db: Engine, story: Story, narrator: progress.Narrator, console: Console) -> None:
    console.rule(f"Version {story.to_version} serves {story.new_domain}")
    since = datetime.now(UTC)

    def resolved() -> bool:
        narrator.tell()
        story.windows_after = progress.known_windows(db, since, story.to_version)
        incident = Ledger(db).incident(story.incident.id) if story.incident else None
        if incident and incident.state is State.ROLLED_BACK:
            raise ContractError(f"incident {incident.id}: the new champion failed its probation")
        return bool(incident and incident.state is State.RESOLVED)

    _until(resolved, 10 * story.pace.window_seconds + story.pace.limit(120), "the end of the probation")


def _until(happened: Callable[[], bool], seconds: float, what: str) -> None:
    progress.until(happened, timedelta(seconds=seconds), what)
