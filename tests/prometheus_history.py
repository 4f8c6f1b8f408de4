"""A history that a real Prometheus reads from its own blocks, so that hours of samples need no hours of waiting."""

import json
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from ops.stack.prometheus_binary import ensure
from tests.prometheus_server import PrometheusServer, prometheus_server

EVERY = timedelta(minutes=1)
"""Between two samples."""


@dataclass
class History:
    """Series to be, each sampled once a minute."""

    lines: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def series(
        self, name: str, labels: Mapping[str, str], value: Callable[[float], float] | float, *, since: datetime,
        until: datetime, zero: datetime,
    ) -> None:  # fmt: skip
        """Write a series from `since` to `until`; its value is a function of the minutes since `zero`, or constant."""
        told = ",".join(f"{key}={json.dumps(text, ensure_ascii=False)}" for key, text in labels.items())
        at = since
        while at <= until:
            minutes = (at - zero) / EVERY
            number = value(minutes) if callable(value) else value
            self.lines[name].append(f"{name}{{{told}}} {number} {at.timestamp():.0f}")
            at += EVERY

    def write(self, folder: Path) -> None:
        """Make it the data of the Prometheus that is started in this folder."""
        text = folder / "history.txt"
        text.write_text("\n".join(line for lines in self.lines.values() for line in lines) + "\n# EOF\n")
        command = [ensure() / "promtool", "tsdb", "create-blocks-from", "openmetrics", text, folder / "data"]
        subprocess.run(command, check=True, capture_output=True)

    @contextmanager
    def read(self) -> Iterator[PrometheusServer]:
        """Run a Prometheus of its own that has seen it all."""
        with tempfile.TemporaryDirectory(prefix="driftloop-test-history-") as folder:
            self.write(Path(folder))
            with prometheus_server(Path(folder)) as server:
                yield server
