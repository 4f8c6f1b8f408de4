"""Whether the kernel killed processes because memory was short: Linux counts them, wherever they were limited."""

from pathlib import Path

COUNTERS = Path("/proc/vmstat")


def kills_for_memory() -> int | None:
    """Count the processes that the kernel has killed for memory since it runs; None where it does not say."""
    try:
        lines = COUNTERS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def killed_since(before: int | None) -> bool:
    """Say whether the kernel killed for memory since it had killed so many; False where nobody can tell."""
    now = kills_for_memory()
    return before is not None and now is not None and now > before
