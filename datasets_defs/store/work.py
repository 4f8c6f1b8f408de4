"""Folders for files at work."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from datasets_defs.core.settings import settings


@contextmanager
def work_folder(name: str) -> Iterator[Path]:
    """Give a folder of one's own below the home; it goes at the end, or by `maintain` where its process was killed."""
    root = settings().home / "tmp"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with TemporaryDirectory(dir=root, prefix=f"{name}-") as folder:
        yield Path(folder)
