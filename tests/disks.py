"""A small disk of its own, for tests that fill it."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE = 2**20


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of one MiB on a folder; only root can, and only where containers may mount."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take every byte that is left; give the file that holds them."""
    file = folder / "somebody-elses"
    with file.open("ab", buffering=0) as sink:
        try:
            while True:
                sink.write(b"x" * 4096)
        except OSError:
            return file
