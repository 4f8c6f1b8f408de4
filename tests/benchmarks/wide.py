"""One wide window in a process of its own: `python -m tests.benchmarks.wide ROWS COLUMNS RUNS` prints what it cost.

The preset runs once: at 1,000,000 x 50 it takes minutes. Our decision runs before and after it.
"""

import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.evidently_peer import Peer
from tests.benchmarks.figures import cpu_seconds, traced_bytes, working_bytes
from tests.benchmarks.frames import tables
from tests.benchmarks.ours import Decision


def measure(rows: int, columns: int, runs: int) -> dict[str, Any]:
    """Give CPU seconds, working memory and flagged columns of both."""
    both = tables(reference_rows=rows, rows=rows, columns=columns)
    ours, peer = Decision(both), Peer(both)
    cpu: dict[str, list[float]] = {"memory": [], "parquet": [], "report": []}
    with tempfile.TemporaryDirectory(prefix="driftloop-bench-") as folder:
        path = Path(folder) / "window.parquet"
        both.window.to_parquet(path, index=False)

        def turn() -> None:
            for _ in range(runs):
                cpu["memory"].append(cpu_seconds(ours))
                cpu["parquet"].append(cpu_seconds(lambda: ours.from_parquet(path)))
                cpu["report"].append(cpu_seconds(ours.with_report))

        ours()
        flagged = {"memory": sorted(ours.flagged)}
        ours.from_parquet(path)
        flagged["parquet"] = sorted(ours.flagged)
        ours.with_report()  # its imports, once in a process, are not counted for either side
        bytes_ours = max(working_bytes(ours), traced_bytes(ours))
        turn()
        seconds: list[float] = []
        bytes_peer = working_bytes(lambda: seconds.append(cpu_seconds(peer)))
        turn()
    flagged["preset"] = sorted(peer.flagged)
    return {
        "cpu_seconds": {**{name: median(found) for name, found in cpu.items()}, "preset": seconds[0]},
        "working_bytes": {"memory": bytes_ours, "preset": bytes_peer},
        "flagged": flagged,
        "reported_share": ours.reported_share,
        "shifted": sorted(both.shifted),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(*map(int, sys.argv[1:4]))) + "\n")
