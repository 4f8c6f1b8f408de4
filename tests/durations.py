"""Which tests take longest, from pytest's own report: `make test` leaves those to `make test-all`.

Run `make test PYTEST="… --durations 0" > LOG`, then `python -m tests.durations LOG`.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

RECORD = Path(__file__).with_name("slow_tests.txt")
"""One test a line, in pytest's words for it."""
LONG_SECONDS = 2.5
"""From here on a test is left out of `make test`, which stays under eight minutes so."""
_LINE = re.compile(r"([\d.]+)s (?:call|setup|teardown)\s+(\S.*)")


def recorded() -> frozenset[str]:
    """Give the tests that are known to take long."""
    return frozenset(RECORD.read_text().split("\n")) - {""}


def seconds_of(lines: Iterable[str]) -> dict[str, float]:
    """Add up set-up, call and teardown of each test in pytest's report of durations."""
    seconds: dict[str, float] = defaultdict(float)
    for line in lines:
        if match := _LINE.fullmatch(line.strip()):
            seconds[match[2]] += float(match[1])
    return dict(seconds)


def long_ones(seconds: Mapping[str, float], limit: float = LONG_SECONDS) -> list[str]:
    """Give the tests that take that long. Of each file its quickest stays, however long that takes. Pure."""
    of_file: dict[str, list[str]] = defaultdict(list)
    for name in seconds:
        of_file[name.partition("::")[0]].append(name)
    quickest = {min(names, key=lambda name: (seconds[name], name)) for names in of_file.values()}
    return sorted(name for name in seconds if seconds[name] >= limit and name not in quickest)


def main(log: str) -> None:
    """Add what a log shows to the record; what is there stays, since it was not run."""
    new = long_ones(seconds_of(Path(log).read_text().splitlines()))
    RECORD.write_text("\n".join(sorted(recorded() | set(new))) + "\n")
    sys.stdout.write(f"{len(new)} tests of {LONG_SECONDS} s and more are new in {RECORD.name}\n")


if __name__ == "__main__":
    main(sys.argv[1])
