"""Keeps pandas away from pyarrow, in commands that read Arrow tables and no frames."""

import sys
from importlib.machinery import ModuleSpec


class _Hidden:
    """A finder that says of pandas that it is not installed."""

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is hidden from pyarrow", name=name)
        return None


def hide_pandas_from_pyarrow() -> None:
    """Have pyarrow look for pandas once, and not find it; whoever else asks for pandas afterwards gets it.

    With the first values that it converts, pyarrow imports pandas wherever that is installed, to tell frames from
    lists. The import takes a third of a second.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    finder = _Hidden()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])  # here it looks, and it remembers the answer
    finally:
        sys.meta_path.remove(finder)
