"""The file that describes a model: an edit is told in the history, and so is a file that is gone or wrong."""

from importlib import metadata

from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.event_kinds import EventKind, Trouble
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.retirements import retirements
from datasets_defs.spec.changes import FieldChange, changes
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.specs import SeenSpec, keep_seen, seen_in

_MOST_TOLD = 12


def note_edit(model: str, *, db: Engine, actor: str) -> list[str]:
    """Record which fields of a model's YAML changed since the loop last read it; the first reading is no change.

    What was read is kept in the transaction that tells of it: each edit is told once, however often a run dies.

    Raises:
        ContractError: the file is gone or wrong.
        TransientError: PostgreSQL is away.
    """
    spec, ledger = spec_of(model), Ledger(db)
    now = read(spec)
    with ledger.locked(model) as on:
        before = seen_in(on, model)
        if before == now:
            return []
        keep_seen(on, model, now)
        edits = since(before, now)
        if not edits:
            return []
        reason = told(model, edits)
        fields = {edit.field: edit.rule.effect.value for edit in edits}
        ledger.note(model, EventKind.SPEC_CHANGED, reason, {"fields": fields}, actor=actor, connection=on)
    return [reason]


def read(spec: ModelSpec) -> SeenSpec:
    """Give a spec as it is kept."""
    return SeenSpec(version=metadata.version("driftloop"), content=spec.model_dump(mode="json"))


def since(before: SeenSpec | None, now: SeenSpec) -> list[FieldChange]:
    """List the fields that were edited since the last reading; none where there was no reading. Pure."""
    return [] if before is None else changes(before.content, now.content, one_version=before.version == now.version)


def told(model: str, edits: list[FieldChange]) -> str:
    """Say what was edited, in one line. Pure."""
    more = f"; and {len(edits) - _MOST_TOLD} fields more" if len(edits) > _MOST_TOLD else ""
    return f"models/{model}.yaml was edited. {'; '.join(str(edit) for edit in edits[:_MOST_TOLD])}{more}"


def note_files(*, db: Engine, actor: str) -> list[str]:
    """Record of each model with a champion when its file is gone or wrong, once, and when it can be read again.

    A retired model needs no file.

    Raises:
        TransientError: PostgreSQL is away.
    """
    ledger, lines, retired = Ledger(db), [], retirements(db)
    for model, champion in sorted(ledger.champions().items()):
        if model in retired:
            continue
        try:
            spec_of(model)
            wrong = None
        except ContractError as err:
            wrong = f"version {champion.version} is champion, and nothing is watched: {err}"
        reason = wrong or f"models/{model}.yaml can be read again"
        trouble = Trouble.FILE
        changed = ledger.note_change(
            model, trouble.value, stands=wrong is not None, begins=trouble.begins, ends=trouble.ends,
            reason=reason, evidence={"signal": trouble.value}, actor=actor,
        )  # fmt: skip
        if changed:
            lines.append(f"{model}: {reason}")
    return lines
