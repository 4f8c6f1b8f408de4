"""The rule of confirmation that holds for a signal."""

from datasets_defs.spec.model import ModelSpec
from datasets_defs.spec.signals import ConfirmSpec


def rule_of(spec: ModelSpec, signal: str) -> ConfirmSpec | None:
    """Give the rule that confirms a signal; None when the spec no longer has the signal."""
    if signal in ("drift", "loss", "data"):
        return spec.drift.confirm
    kinds = (("quality", spec.quality), ("label", spec.labels), ("gpu", spec.gpu))
    named = {f"{kind}:{entry.name}": entry.confirm for kind, signals in kinds for entry in signals}
    return named.get(signal)
