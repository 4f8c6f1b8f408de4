"""What can go wrong, in two kinds: wrong for good, and wrong for now."""


class DriftloopError(Exception):
    """Root of every error that driftloop raises on purpose."""


class ContractError(DriftloopError):
    """Data, an event, an artifact or configuration is wrong; trying again cannot help."""


class TransientError(DriftloopError):
    """A peer is away or slow; the same call may succeed later."""
