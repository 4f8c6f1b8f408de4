"""What an edited YAML changes, and from when: field by field, told before anything happens. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from datasets_defs.spec.model import ModelSpec


class Effect(StrEnum):
    """From when a changed field counts."""

    AT_ONCE = "at once"
    """With the next window, request or run of the loop."""
    NEXT_TRAINING = "with the next training"
    """The next challenger is made by it; one that is being trained or judged is not."""
    NEXT_EVALUATION = "with the next evaluation"
    """The next challenger is judged by it."""
    NEXT_RENEWAL = "with the next renewal of the profile"
    """What windows are compared with is made anew, by `maintain` or `driftloop calibrate`."""
    NOT_HERE = "not for this champion"
    """Only a first champion is made by it, and there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a change of a field does."""

    effect: Effect
    words: str = ""
    """What is lost, or what to do; empty: there is nothing to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """A field of the YAML that two readings have otherwise."""

    field: str
    """Its place, e.g. `retrain.blend`."""
    before: Any
    after: Any
    rule: Rule

    def __str__(self) -> str:
        words = f"; {self.rule.words}" if self.rule.words else ""
        return f"{self.field}: {_shown(self.before)} → {_shown(self.after)}, {self.rule.effect.value}{words}"


_BASE = (
    "the champion descends from another base, and so do its challengers. To train the new one and let the gate judge: "
    "driftloop rebase"
)
_SEASON = "every hour that was learned is learned anew, and is *learning* until then"
RULES: dict[str, Rule] = {
    "name": Rule(effect=Effect.NOT_HERE, words="it is the file's name: another name is another model"),
    "description": Rule(effect=Effect.AT_ONCE),
    "base_model": Rule(effect=Effect.NOT_HERE, words=_BASE),
    "training_text": Rule(
        effect=Effect.NOT_HERE, words="only a first champion is trained on it and judged by its held-out part"
    ),
    "generate": Rule(effect=Effect.AT_ONCE, words="prompts that it changes are asked anew"),
    "batch": Rule(effect=Effect.AT_ONCE, words="a run that is under way keeps its own; the next one takes new rows"),
    "serving": Rule(effect=Effect.AT_ONCE, words="clients and replicas have to follow"),
    "drift": Rule(effect=Effect.AT_ONCE),
    "drift.embedding": Rule(effect=Effect.NEXT_RENEWAL),
    "drift.exclude": Rule(
        effect=Effect.AT_ONCE, words="what is taken off the list comes back with the next renewal of the profile"
    ),
    "drift.max_rows": Rule(effect=Effect.AT_ONCE, words="it bounds the rows of the next reference, too"),
    "drift.burn_in_windows": Rule(effect=Effect.AT_ONCE),
    "drift.season": Rule(effect=Effect.NEXT_RENEWAL, words=_SEASON),
    "drift.timezone": Rule(effect=Effect.NEXT_RENEWAL, words=_SEASON),
    "drift.calendar": Rule(effect=Effect.NEXT_RENEWAL, words=_SEASON),
    "drift.holidays": Rule(effect=Effect.NEXT_RENEWAL, words=_SEASON),
    "drift.confirm": Rule(effect=Effect.AT_ONCE, words="windows that were judged keep their verdicts"),
    "quality": Rule(effect=Effect.AT_ONCE, words="a new signal has no history yet"),
    "gpu": Rule(effect=Effect.AT_ONCE, words="a new signal has no history yet"),
    "labels": Rule(effect=Effect.AT_ONCE, words="a new label is compared from the champion's own next windows on"),
    "blind_after_windows": Rule(effect=Effect.AT_ONCE),
    "retrain": Rule(effect=Effect.NEXT_TRAINING),
    "retrain.cool_down_windows": Rule(effect=Effect.AT_ONCE),
    "retrain.back_off_windows": Rule(effect=Effect.NEXT_EVALUATION, words="a wait that has begun keeps its end"),
    "retrain.budget": Rule(effect=Effect.AT_ONCE),
    "schedule": Rule(effect=Effect.AT_ONCE, words="Airflow sees it when it next reads `dags/`, within some minutes"),
    "search": Rule(effect=Effect.NEXT_TRAINING, words="the next one on schedule; one that is under way keeps its own"),
    "trainer": Rule(effect=Effect.NEXT_TRAINING),
    "data": Rule(
        effect=Effect.NEXT_TRAINING, words="rows of older snapshots that it would remove are left out of replay"
    ),
    "trust": Rule(effect=Effect.NEXT_TRAINING, words="it bounds the rows of the next evaluation, too"),
    "trust.blocked": Rule(effect=Effect.NEXT_EVALUATION),
    "trust.min_contributors": Rule(effect=Effect.NEXT_EVALUATION),
    "gate": Rule(effect=Effect.NEXT_EVALUATION),
    "evaluation": Rule(effect=Effect.NEXT_EVALUATION, words="rows that were frozen for an evaluation stay"),
    "promotion": Rule(effect=Effect.NEXT_EVALUATION, words="a question that waits for an answer goes on waiting"),
    "offers": Rule(effect=Effect.AT_ONCE, words="an offer that is under way goes on"),
    "approval_windows": Rule(effect=Effect.AT_ONCE, words="questions that are open count by it, too"),
    "rollout": Rule(effect=Effect.AT_ONCE, words="a rollout that is under way goes by it; without it a person decides"),
    "ab": Rule(effect=Effect.AT_ONCE, words="an experiment that is under way goes by it; without it a person decides"),
    "probation_windows": Rule(effect=Effect.AT_ONCE, words="a probation that is under way counts by it, too"),
    "shadow": Rule(effect=Effect.AT_ONCE),
    "scale": Rule(effect=Effect.AT_ONCE),
}
"""By field or section; the longest name that fits a field decides."""


def changes(before: dict[str, Any], after: dict[str, Any], *, one_version: bool = True) -> list[FieldChange]:
    """List what differs between two readings of a YAML, as plain values, in the order of its fields.

    A field that one of them lacks is None there. Where the readings are of two versions of driftloop (`one_version` is
    false), such a field may be unknown to one of them, and is no edit.
    """
    old, new = flat(before), flat(after)
    return [
        FieldChange(field=field, before=old.get(field), after=new.get(field), rule=rule_of(field))
        for field in dict.fromkeys([*new, *old])
        if old.get(field) != new.get(field) and (one_version or (field in old and field in new))
    ]


def other_base(spec: ModelSpec, champion: int, known: Mapping[tuple[str, int], str]) -> str | None:
    """Say that a YAML names another base than its champion descends from; None: it does not, or nobody knows."""
    base = known.get((spec.name, champion))
    if base is None or base == spec.base_name:
        return None
    return (
        f"version {champion} descends from {base}, and base_model is {spec.base_name} now: driftloop rebase {spec.name}"
    )


def rule_of(field: str) -> Rule:
    """Give the rule of a field: its own, or that of the section it stands in.

    Raises:
        KeyError: neither has one.
    """
    parts = field.split(".")
    for length in range(len(parts), 0, -1):
        if (rule := RULES.get(".".join(parts[:length]))) is not None:
            return rule
    raise KeyError(field)


def flat(content: dict[str, Any], place: str = "") -> dict[str, Any]:
    """Give every field by its place; a list is one field, since its entries have no names of their own."""
    fields: dict[str, Any] = {}
    for name, value in content.items():
        here = f"{place}.{name}" if place else name
        if isinstance(value, dict) and value:
            fields |= flat(value, here)
        else:
            fields[here] = value
    return fields


_MOST_SHOWN = 60


def _shown(value: Any) -> str:
    if isinstance(value, list):
        names = [str(entry.get("name", entry)) if isinstance(entry, dict) else str(entry) for entry in value]
        text = f"[{', '.join(names)}]"
    else:
        text = "none" if value is None else str(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 1]}…"
