"""The page on presets: each signal's query, limits and the reason of the limits."""

from collections.abc import Mapping
from typing import Any

from datasets_defs.spec.preset_words import WHY
from datasets_defs.spec.presets import PRESETS
from datasets_defs.spec.signals import SignalSpec
from ops.reference.markdown import code, page, table

LEAD = (
    "A preset's name in `quality` or `gpu` stands for these signals; a signal of your own with the same name replaces "
    "one. `{model}` becomes the model's name, `{served}` its name at the server (`serving.served_name`), "
    "`{window}` the window's length and `{step}` a 120th of it. Metrics have several names in the queries, joined by "
    "`or`: of an old and a new name the one that exists counts."
)


def write() -> str:
    """Write the page."""
    parts = []
    for field, presets in PRESETS.items():
        for name, signals in presets.items():
            rows = [_row(signal) for signal in signals]
            listing = table(("signal", "about", "warn", "bad", "worse", "confirmed by", "why these limits"), rows)
            queries = "\n\n".join(f"`{signal['name']}`\n\n```promql\n{signal['promql']}\n```" for signal in signals)
            parts.append(f"## `{field}: {name}`\n\n{listing}\n\n### Queries of `{name}`\n\n{queries}")
    return page("Presets", LEAD, *parts)


def _row(fields: Mapping[str, Any]) -> tuple[str, ...]:
    signal = SignalSpec.model_validate(fields)
    times = " of the reference's loss" if signal.relative_to_reference else ""
    warn = "" if signal.warn is None else f"{signal.warn:g}{times}"
    confirmed = f"{signal.confirm.bad} of {signal.confirm.of} windows"
    return (
        code(signal.name),
        signal.about or "machines",
        warn,
        f"{signal.bad:g}{times}",
        signal.worse,
        confirmed,
        WHY[signal.name],
    )
