"""A version's model card: what it is made of, how it was judged, who let it serve; rewritten when that grows."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine

from datasets_defs.core.conditions import RingKey
from datasets_defs.core.errors import DriftloopError
from datasets_defs.core.event_kinds import EventKind
from datasets_defs.core.settings import settings
from datasets_defs.ledger.events import Event
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.promotions import ChampionChange, changes_of_version
from datasets_defs.store.evaluations import Evaluation, evaluations_of_version
from training.registry.card_plots import intervals, plots
from training.registry.manifest import KEY
from training.registry.registry import WARNING, Registry

log = logging.getLogger(__name__)
MOST_EVENTS = 40
MOST_DESCRIPTION = 4_900
"""Characters of a description; MLflow's column holds 5,000."""
CURVES = ("loss", "validation_bits_per_byte")
WRITTEN = "driftloop.card_sha256"
"""Tag of a version that says which text its card holds."""
_NO_DECISION = (EventKind.RUNG, EventKind.CLAIMED)
"""Kinds of events that come with every wake-up, whether anything is done or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """All that a card says."""

    model: str
    version: int
    description: str
    """The spec's."""
    created_at: datetime
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    lineage: Sequence[int]
    """Parents, newest first."""
    evaluations: Sequence[Evaluation]
    changes: Sequence[ChampionChange]
    events: Sequence[Event]
    """Of the incident that it was made in, and of those in which it was judged; not the mere wake-ups."""
    curves: Mapping[str, Sequence[tuple[int, float]]]


def write(key: str, *, db: Engine) -> str:
    """Write the cards of the versions that a wake-up's incident is about: its challenger, and who serves or served.

    Says which had anything new in them: most wake-ups of a model change none or one.

    Raises:
        ContractError: the key is wrong.
        TransientError: PostgreSQL is away.
    """
    ring, ledger = RingKey.parse(key), Ledger(db)
    incident, champion = ledger.incident(ring.incident_id), ledger.champion(ring.model)
    serving = (champion.version, champion.previous_version) if champion is not None else ()
    versions = sorted({version for version in (incident.challenger_version, *serving) if version is not None})
    registry = Registry(settings().mlflow_url)
    new = [version for version in versions if refresh(db, registry, ring.model, version)]
    return f"cards of {ring.model}: {', '.join(f'version {version}' for version in new) or 'nothing new'}"


def refresh(db: Engine, registry: Registry, model: str, version: int) -> bool:
    """Write a version's card: its description in MLflow, and Markdown and HTML beside it, over the one before.

    Says whether it did: a card that would say the same is left alone. One that cannot be written now holds up nothing:
    the next step that concerns the version writes it.
    """
    try:
        facts = facts_of(db, registry, model, version)
        text = markdown(facts)
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        if facts.tags.get(WRITTEN) == sha256:
            return False
        files = {"card/card.md": text, "card/card.html": html(facts, text)}
        registry.log_evaluation(model, version, metrics={}, files=files)
        registry.describe(model, version, shortened(text))
        registry.set_tags(model, version, {WRITTEN: sha256})  # last: a card that was cut short is written again
    except DriftloopError as err:
        log.warning("the card of %s version %d is not written: %s", model, version, err)
        return False
    return True


def facts_of(db: Engine, registry: Registry, model: str, version: int) -> CardFacts:
    """Read what the ledger and the registry know of a version.

    Raises:
        ContractError: the registry does not know it.
        TransientError: PostgreSQL or the registry is away.
    """
    known = registry.facts(model, version)
    evaluations, made_in = evaluations_of_version(db, model, version), known.tags.get("incident", "")
    incidents = {evaluation.incident_id for evaluation in evaluations} | (
        {int(made_in)} if made_in.isdigit() else set()
    )
    events = [
        event
        for incident_id in sorted(incidents)
        for event in Ledger(db).events(model, incident_id=incident_id)
        if event.kind not in _NO_DECISION and event.model == model  # its number may be of another installation
    ]
    events.sort(key=lambda event: event.seq)
    return CardFacts(
        model=model,
        version=version,
        description=_described(model),
        created_at=datetime.fromtimestamp(known.created_ms / 1000, UTC),
        tags=known.tags,
        params=known.params,
        metrics=known.metrics,
        lineage=_lineage(registry, model, known.tags),
        evaluations=evaluations,
        changes=changes_of_version(db, model, version),
        events=events[-MOST_EVENTS:],
        curves={name: registry.losses(model, version, name) for name in CURVES if name in known.metrics},
    )


def markdown(facts: CardFacts) -> str:
    """Give the card as Markdown. Pure."""
    parts = [
        _title(facts),
        _data(facts),
        _judgement(facts),
        _service(facts),
        _table("Parameters", ("parameter", "value"), sorted(facts.params.items())),
        _table("Training", ("metric", "value"), _training_metrics(facts)),
        _history(facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def html(facts: CardFacts, text: str) -> str:
    """Give the card as one HTML file with its plots inside; what stands in texts stays text."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    drawn = plots(facts.evaluations, facts.curves)
    shown = "".join(f'<img alt="{name}" src="data:image/png;base64,{data}">' for name, data in drawn.items())
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse}td,th{border-bottom:1px solid #ccc;padding:.2rem .6rem;text-align:left}"
        "td{overflow-wrap:anywhere}img{max-width:100%}"
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Version {facts.version}</title>'
        f"<style>{style}</style></head><body>{body}{shown}</body></html>\n"
    )


def shortened(text: str) -> str:
    """Cut a card at a line so that MLflow's description holds it."""
    if len(text) <= MOST_DESCRIPTION:
        return text
    return text[:MOST_DESCRIPTION].rpartition("\n")[0] + "\n\n… the whole card is the artifact `card/card.md`.\n"


def plain_cell(value: object) -> str:
    """Make a value safe for a cell: one line, no pipes, no markup of its own."""
    text = " ".join(str(value).split())
    for sign in "\\`*_[]|!#~":
        text = text.replace(sign, "\\" + sign)
    return text.replace("<", "&lt;").replace(">", "&gt;")[:600]


def _title(facts: CardFacts) -> str:
    serving = [change for change in facts.changes if change.to_version == facts.version]
    state = "has never served" if not serving else f"champion since {_when(serving[-1].at)}"
    if facts.changes and facts.changes[-1].to_version != facts.version:
        state = f"replaced by version {facts.changes[-1].to_version} at {_when(facts.changes[-1].at)}"
    parents = " ← ".join(f"version {parent}" for parent in facts.lineage) or "none known; the first of its line"
    warning = f"**Warning:** {plain_cell(facts.tags[WARNING])}\n\n" if facts.tags.get(WARNING) else ""
    return (
        f"# {plain_cell(facts.model)}, version {facts.version}\n\n{plain_cell(facts.description)}\n\n{warning}"
        f"Registered {_when(facts.created_at)}; {state}.\n\nTrained from: {parents}."
    )


def _data(facts: CardFacts) -> str:
    counts = [(name.removeprefix("rows_"), value) for name, value in facts.params.items() if name.startswith("rows_")]
    named = {"snapshot_uri": "snapshot", "snapshot_sha256": "its SHA-256", "code_version": "code", "actor": "made by",
             "incident": "incident", "attempt": "attempt", KEY: "key"}  # fmt: skip
    rows = [(label, facts.tags[name]) for name, label in named.items() if name in facts.tags]
    return _table(
        "Data and origin", ("what", "value"), [*((f"rows to {part}", n) for part, n in sorted(counts)), *rows]
    )


def _judgement(facts: CardFacts) -> str:
    if not facts.evaluations:
        return "## Judgement\n\nIt was not judged against another version."
    parts = ["## Judgement"]
    for judged in facts.evaluations:
        parts.append(
            f"**{plain_cell(judged.decision)}** against version {judged.champion_version}, {_when(judged.at)}: "
            f"{plain_cell(judged.reason)}"
        )
        rows = [
            (name, s["documents"], f"{s['champion']:.3f}", f"{s['challenger']:.3f}", f"{s['change']:+.1%}",
             f"{s['low']:+.1%} to {s['high']:+.1%}")
            for name, s in intervals(judged.scores).items()
        ]  # fmt: skip
        parts.append(_cells(("slice", "documents", "champion", "this", "change", "interval"), rows))
        metrics = judged.scores.get("metrics", {})
        figures = [(name, f"{s['champion']:.4g}", f"{s['challenger']:.4g}") for name, s in metrics.items()]
        parts.append(_cells(("metric", "champion", "this"), figures) if figures else "")
        parts.append(f"Rows: {plain_cell(judged.rows_uri)}, SHA-256 {judged.rows_sha256}")
    return "\n\n".join(part for part in parts if part)


def _service(facts: CardFacts) -> str:
    rows = [
        (_when(change.at), change.kind, change.from_version or "", change.to_version, change.actor, change.reason,
         _when(change.confirmed_at) if change.confirmed_at else "no")
        for change in facts.changes
    ]  # fmt: skip
    return _table("Service", ("when", "what", "from", "to", "by", "why", "confirmed by serving"), rows)


def _training_metrics(facts: CardFacts) -> list[tuple[str, str]]:
    return [(name, f"{value:.6g}") for name, value in sorted(facts.metrics.items()) if "/" not in name]


def _history(facts: CardFacts) -> str:
    rows = [(_when(event.at), event.state or event.kind, event.actor, event.reason) for event in facts.events]
    return _table("Who decided what", ("when", "state", "who", "why"), rows)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return f"## {title}\n\n{_cells(head, rows)}" if rows else ""


def _cells(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(map(plain_cell, row)) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _when(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}Z"


def _described(model: str) -> str:
    from datasets_defs.spec.files import spec_of

    try:
        return spec_of(model).description
    except DriftloopError:  # the model's file is gone or broken; its versions stay what they are
        return ""


def _lineage(registry: Registry, model: str, tags: Mapping[str, str]) -> list[int]:
    ancestors: list[int] = []
    while (parent := tags.get("parent_version", "")).isdigit() and int(parent) not in ancestors and len(ancestors) < 20:
        ancestors.append(int(parent))
        try:
            tags = registry.tags(model, int(parent))
        except DriftloopError:  # deleted there
            break
    return ancestors
