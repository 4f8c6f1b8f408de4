"""pyarrow works without pandas, and nobody else has to."""

import subprocess
import sys

from datasets_defs.core.settings import ROOT

SCRIPT = """
import sys
from ops.cli.shared.frames import hide_pandas_from_pyarrow
hide_pandas_from_pyarrow()
import pyarrow as pa, pyarrow.compute as pc, pyarrow.dataset as ds
rows = ds.dataset(pa.table({"part": ["a", "b"]})).to_table(filter=pc.field("part").isin(["a"])).to_pylist()
print(rows, "pandas" in sys.modules)
import pandas
print(pandas.Series([1, 2]).sum())
"""


def test_only_pyarrow_misses_pandas() -> None:
    """Tables are filtered by lists without an import of pandas, which the rest of the process still has."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["[{'part': 'a'}] False", "3"], done.stderr
