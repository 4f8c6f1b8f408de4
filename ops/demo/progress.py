"""What the demo reads from the loop's own records while it waits."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.text import Text
from sqlalchemy import Engine

from datasets_defs.core.conditions import Condition
from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.incidents import TERMINAL, State, may_move
from datasets_defs.core.settings import settings
from datasets_defs.core.waiting import wait_until
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.promotions import changes_of
from datasets_defs.store.artifacts import artifact_url, read_bytes, write_bytes
from datasets_defs.store.evaluations import evaluations_of_incident
from datasets_defs.store.heartbeats import heartbeats
from datasets_defs.store.verdicts import recent_verdicts
from ops.demo.texts import DOMAINS, MODEL, passages

POLL_SECONDS = 1.0
WORSE = 1.15
"""A domain counts as new to a champion when it costs this many times the bits per byte of what it knows."""


class Narrator:
    """Prints each new event of the model's history once."""

    def __init__(self, ledger: Ledger, console: Console) -> None:
        self._ledger = ledger
        self._console = console
        self._told = max((event.seq for event in ledger.events(MODEL)), default=0)

    def tell(self) -> None:
        """Print what has happened since the last call."""
        for event in self._ledger.events(MODEL):
            if event.seq <= self._told:
                continue
            self._told = event.seq
            line = Text(f"  {event.at:%H:%M:%S}  ", style="dim")
            line.append(f"{event.state or event.kind:<12}", style="bold cyan")
            line.append(event.reason, style="default")
            self._console.print(line)


def until(happened: Callable[[], bool], limit: timedelta, what: str) -> None:
    """Wait until something has happened; a database that is away for a while is waited out.

    Raises:
        TransientError: it did not happen within the limit.
    """
    seconds = limit.total_seconds()
    wait_until(
        happened,
        seconds=seconds,
        every=POLL_SECONDS,
        forgive=(TransientError,),
        complain=lambda last: TransientError(
            f"{what} did not come within {seconds:.0f} s" + (f": {last}" if last else "")
        ),
    )


def wait_for_serving(db: Engine, version: int, *, seconds: float) -> None:
    """Wait until serving reports the champion as loaded."""

    def loaded() -> bool:
        _, details = heartbeats(db).get(f"serving:{MODEL}", (None, {}))
        return bool(details.get("loaded_version") == version)

    until(loaded, timedelta(seconds=seconds), f"version {version} in serving")


def end_leftover_incident(ledger: Ledger, console: Console) -> None:
    """Close what an earlier, broken-off demo left open, as its operator would."""
    incident = ledger.open_of(MODEL)
    if incident is None:
        return
    console.print(f"  incident {incident.id} of an earlier run is still {incident.state}; closing it")
    if not may_move(incident.state, State.RESOLVED):
        incident = ledger.move(incident, State.ESCALATED, actor="cli:demo", reason="a new demo begins")
    if incident.state not in TERMINAL:
        ledger.move(incident, State.RESOLVED, actor="cli:demo", reason="a new demo begins")


def choose_domains(db: Engine, version: int, console: Console) -> tuple[str, str]:
    """Give the domain that the champion knows, and one that is new to it.

    The first champion goes from documentation to licences. A later one is asked: the domain that costs it most bits
    per byte is the new one.

    Raises:
        ContractError: the champion knows every domain by now.
    """
    known = _remembered_domain(version)
    if version == 1:
        return known, "licences"
    losses = _losses(db, version)
    for name, loss in losses.items():
        console.print(f"  version {version} on {name}: {loss:.2f} bits per byte", style="dim")
    worst = max(losses, key=losses.__getitem__)
    if losses[worst] < WORSE * losses[known]:
        raise ContractError(
            f"version {version} knows all of the demo's texts by now (worst: {worst}, {losses[worst]:.2f} bits per "
            f"byte against {losses[known]:.2f}); `make clean` and `make demo` start over"
        )
    return known, worst


def remember_domain(version: int, domain: str) -> None:
    """Keep which domain a version was retrained for; the next demo's ordinary traffic."""
    content = {**_memory(), str(version): domain}
    write_bytes(_memory_url(), json.dumps(content).encode())


def known_windows(db: Engine, since: datetime, version: int) -> int:
    """Count the windows since a time in which the drift of this champion's traffic was known."""
    verdicts = recent_verdicts(db, MODEL, "drift", until=datetime.now(UTC), count=50)
    return sum(
        verdict.window.start >= since - settings().window_length / 2
        and verdict.champion_version == version
        and verdict.condition.is_known
        and verdict.condition is not Condition.BAD
        for verdict in verdicts
    )


def windows_between(db: Engine, start: datetime, end: datetime) -> int:
    """Count the windows that ended between two times and were judged."""
    verdicts = recent_verdicts(db, MODEL, "drift", until=end, count=50)
    return sum(verdict.window.end > start for verdict in verdicts)


def confirmed_change(db: Engine, from_version: int) -> tuple[int, datetime] | None:
    """Give the version that replaced one, and when serving confirmed it; None while there is none."""
    changes = [
        (change.to_version, change.confirmed_at)
        for change in changes_of(db, MODEL)
        if change.kind == "promote" and change.from_version == from_version and change.confirmed_at is not None
    ]
    return changes[-1] if changes else None


def scores_of(db: Engine, incident_id: int) -> dict[str, Any]:
    """Give the scores of the incident's newest evaluation."""
    return evaluations_of_incident(db, incident_id)[0].scores


def _losses(db: Engine, version: int) -> dict[str, float]:
    from training.model.language_model import LanguageModel
    from training.registry.fetch import fetch
    from training.registry.registry import Registry

    folder = fetch(db, Registry(settings().mlflow_url), MODEL, version)
    model = LanguageModel.load(folder)
    losses = {}
    for name in DOMAINS:
        scored = model.losses([passage.text for passage in passages(name)[:80]])
        losses[name] = sum(loss.bits for loss in scored) / sum(loss.bytes for loss in scored)
    return losses


def _memory_url() -> str:
    return artifact_url("demo", "domains.json")


def _memory() -> dict[str, str]:
    try:
        content: dict[str, str] = json.loads(read_bytes(_memory_url()))
    except ContractError:  # no demo has ended yet
        return {}
    return content


def _remembered_domain(version: int) -> str:
    return _memory().get(str(version), "documentation" if version == 1 else "licences")
