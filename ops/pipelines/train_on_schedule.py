"""Shows `train_on_schedule`: a month of somebody's log is brought along, two settings are tried, the gate decides."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.incidents import TERMINAL, Incident, State, attempt_name
from datasets_defs.core.settings import settings
from datasets_defs.core.waiting import wait_until
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.store.evaluations import evaluation_of
from ops.demo.texts import passages
from ops.ingest.ingest import ingest
from ops.pipelines.step import PipelineStep, Stage, Told
from training.search.tried import Tried, all_tried

LOG = settings().home.resolve() / "pipelines" / "log.jsonl"
DOMAIN, DOCUMENTS = "licences", 160
RATES = (1.0e-3, 3.0e-3)
SECONDS = 600
"""How long the trainings may take, and how long the road of the challenger after them."""
JUDGED = (State.REJECTED, State.PROMOTING, State.PROBATION, State.ESCALATED, *TERMINAL)


def run(stage: Stage) -> Told:
    """Bring rows of a domain that the champion does not know, order a training, and follow it to the gate's word.

    Raises:
        ContractError: the training was refused, or nothing was judged.
        TransientError: it took too long.
    """
    ledger = Ledger(stage.db)
    champion = ledger.champion(stage.model)
    if champion is None:
        raise ContractError(f"{stage.model} has no champion to train from; run `driftloop bootstrap {stage.model}`")
    brought = ingest(stage.db, stage.model, write_log(LOG, since=champion.since, now=datetime.now(UTC)))
    tasks = stage.airflow.run("train_on_schedule", {"model": stage.model}, seconds=SECONDS)
    incident = ledger.open_of(stage.model)
    if incident is None:
        refused = ledger.newest_of(stage.model, EventKind.SCHEDULE_REFUSED)
        raise ContractError(refused.reason if refused is not None else "no training was ordered; see Airflow's logs")
    wait_until(
        lambda: ledger.incident(incident.id).state in JUDGED,
        seconds=SECONDS,
        every=1,
        complain=lambda _: TransientError(f"incident {incident.id} is not judged after {SECONDS} s"),
    )
    return Told(figures={"rows brought": brought.new, "tasks": tasks, **what_came_of(incident, ledger)})


def what_came_of(incident: Incident, ledger: Ledger) -> dict[str, object]:
    """Say of a training that was judged which settings were tried, and what the gate said of the best one.

    Raises:
        ContractError: nothing was judged.
    """
    state = ledger.incident(incident.id).state
    judged = evaluation_of(ledger.engine, incident.id, incident.attempt)
    tried = all_tried(incident.model, attempt_name(incident.id, incident.attempt), len(RATES))
    if judged is None or len(tried) < len(RATES):
        raise ContractError(f"incident {incident.id} is {state}: {len(tried)} settings were tried, none judged")
    return {
        **{f"learning rate {trial.settings['learning_rate']:g}": _cost(trial) for trial in tried},
        "challenger": f"version {judged.challenger_version}, from {judged.champion_version}",
        "the gate": f"{judged.decision}: {judged.reason}",
        "incident": f"{incident.id} is {state}",
    }


def _cost(tried: Tried) -> str:
    return f"{tried.bits:.4f} bits per byte" if tried.bits is not None else f"failed: {tried.problem}"


def write_log(path: Path, *, since: datetime, now: datetime) -> Path:
    """Write a log as another server might have written it: prompts, and what a person wrote instead of the answer."""
    start = max(since, now - timedelta(days=30))
    step = (now - start) / (DOCUMENTS + 1)
    rows = [
        {
            "request_id": f"brought-{now:%Y%m%d%H%M%S}-{number}",
            "at": (start + (number + 1) * step).isoformat(),
            "prompt": passage.prompt,
            "reference": passage.continuation,
            "user_id": f"writer-{number % 40}",
        }
        for number, passage in enumerate(passages(DOMAIN)[:DOCUMENTS])
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


STEP = PipelineStep(
    name="train_on_schedule",
    about="A log is brought along; two settings are tried side by side, and the better one's model meets the gate.",
    run=run,
    spec={
        "search": {"grid": {"learning_rate": list(RATES)}},
        "data": {"validation_share": 0.15},
        "retrain": {"min_documents": 80, "max_documents": 150, "epochs": 3, "max_seconds": 60},
    },
)
