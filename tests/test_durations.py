"""Which tests `make test` leaves to `make test-all`."""

from datasets_defs.core.settings import ROOT
from tests.durations import long_ones, recorded, seconds_of

REPORT = """
============================= slowest durations =============================
3.00s call     tests/a.py::test_one[x y]
0.50s setup    tests/a.py::test_one[x y]
0.40s call     tests/a.py::test_two
9.00s call     tests/b.py::test_alone
"""


def test_long_ones_are_found_and_each_file_keeps_one() -> None:
    """Set-up counts, and a file of long tests keeps its quickest."""
    seconds = seconds_of(REPORT.splitlines())
    assert seconds == {"tests/a.py::test_one[x y]": 3.5, "tests/a.py::test_two": 0.4, "tests/b.py::test_alone": 9.0}
    assert long_ones(seconds, 2.5) == ["tests/a.py::test_one[x y]"]


def test_what_is_recorded_is_there() -> None:
    """A test that was renamed or taken out leaves the record, too."""
    gone = []
    for name in recorded():
        path, _, function = name.partition("::")
        source = ROOT / path
        if not source.is_file() or f"def {function.partition('[')[0].rpartition('::')[2]}(" not in source.read_text():
            gone.append(name)
    assert gone == []
