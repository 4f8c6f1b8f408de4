"""A real headless Chromium for tests of pages: from PATH, else Debian's package unpacked without root."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from datasets_defs.core.settings import ROOT

CACHE = ROOT / ".state" / "bin" / "chromium"
"""Kept per checkout: about 280 MB, unpacked once."""
PACKAGE = "chromium-headless-shell"
ON_PATH = (PACKAGE, "chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


def rendered(page: Path, *, seconds: int = 20) -> str:
    """Open a local page, let its scripts run for some seconds of the page's own time, and give the DOM as HTML."""
    path = program()
    with tempfile.TemporaryDirectory(prefix="driftloop-test-chromium-") as profile:
        result = subprocess.run(
            [path, *FLAGS, f"--user-data-dir={profile}", f"--virtual-time-budget={1000 * seconds}", "--dump-dom",
             page.as_uri()],
            capture_output=True, text=True, check=False, timeout=120,
            env={**os.environ, **library_path(path)},
        )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def library_path(path: Path) -> dict[str, str]:
    """Give the variable by which an unpacked Chromium finds its libraries; an installed one needs none."""
    libraries = [str(folder) for folder in (CACHE / "usr" / "lib").glob("*-linux-gnu*")]
    libraries += [f"{folder}/pulseaudio" for folder in libraries]
    return {"LD_LIBRARY_PATH": ":".join(libraries)} if CACHE in path.parents else {}


def program() -> Path:
    """Give the program's path; skips the test, and says why, where no Chromium is to be had."""
    for name in ON_PATH:
        if found := shutil.which(name):
            return Path(found)
    unpacked = CACHE / "usr" / "lib" / "chromium" / PACKAGE
    if not unpacked.exists():
        reason = _unpack()
        if reason or not unpacked.exists():
            pytest.skip(f"no Chromium on PATH, and Debian's {PACKAGE} is not to be had: {reason or 'it lacks a file'}")
    return unpacked


def _unpack() -> str:
    """Unpack the package and what it needs that is not installed; give the reason if that cannot be done."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        return "there is no apt-get"
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".chromium-", dir=CACHE.parent) as scratch:
        names, failure = _needed(scratch)
        if failure and os.geteuid() == 0:  # a fresh container has no package index yet
            _run(scratch, "apt-get", "update")
            names, failure = _needed(scratch)
        failure = failure or _run(scratch, "apt-get", "download", *names)[1]
        for package in Path(scratch).glob("*.deb"):
            failure = failure or _run(scratch, "dpkg", "-x", str(package), "root")[1]
        if not failure:
            (Path(scratch) / "root").chmod(0o755)
            with contextlib.suppress(OSError):  # another process was first
                (Path(scratch) / "root").rename(CACHE)
    return failure


def _needed(folder: str) -> tuple[list[str], str]:
    said, failure = _run(folder, "apt-get", "install", "--simulate", "--no-install-recommends", PACKAGE)
    return re.findall(r"^Inst (\S+)", said, re.MULTILINE), failure


def _run(folder: str, *command: str) -> tuple[str, str]:
    """Run a program quietly; give what it said, and its last line of errors if it failed."""
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    errors = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
    return result.stdout, "" if result.returncode == 0 else errors[-1]
