"""What a signal's name says that it speaks of: the machines or the model."""

_INFRASTRUCTURE_WORDS = ("latency", "error", "timeout", "queue", "throughput", "duration", "first_token", "kv_cache")
"""A quality signal with one of these in its name speaks of the servers, not of the model."""


_SATURATION_WORDS = ("util", "memory", "cache", "queue", "active", "saturation")
"""A signal of the machines with one of these in its name is cured by more GPUs; heat, errors or a fault are not."""


def is_infrastructure(signal: str) -> bool:
    """Say whether a signal speaks of machines and not of the model; what people say of the answers never does."""
    kind, _, name = signal.partition(":")
    return kind == "gpu" or (kind != "label" and any(word in name for word in _INFRASTRUCTURE_WORDS))


def is_saturation(signal: str) -> bool:
    """Say whether a signal means that the GPUs are full."""
    return is_infrastructure(signal) and any(word in signal.partition(":")[2] for word in _SATURATION_WORDS)
