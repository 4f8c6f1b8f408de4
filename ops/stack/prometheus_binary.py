"""The `prometheus` and `promtool` programs: from PATH, else Debian's or Ubuntu's package unpacked without root."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import ROOT

CACHE = ROOT / ".state" / "bin" / "prometheus"
"""Kept per checkout, not per home: the same package serves every stack and every test run."""
PROGRAMS = ("prometheus", "promtool")
BY_HAND = "install it by hand (`sudo apt-get install prometheus`, or put prometheus and promtool on PATH)"


def ensure() -> Path:
    """Give the folder that holds `prometheus` and `promtool`, unpacking the package on first use.

    Safe when several processes do it at once: each unpacks into a folder of its own, the first rename wins.

    Raises:
        ContractError: neither on PATH nor to be had from apt.
    """
    on_path = shutil.which("promtool")
    if on_path and shutil.which("prometheus", path=str(Path(on_path).parent)) and _runs(Path(on_path)):
        return Path(on_path).parent
    if _runs(CACHE / "promtool"):
        return CACHE
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".prometheus-", dir=CACHE.parent) as scratch:
        folder = _unpack(Path(scratch))
        folder.chmod(0o755)
        if not (CACHE / "promtool").exists():
            shutil.rmtree(CACHE, ignore_errors=True)  # left half-made
        with contextlib.suppress(OSError):  # another process was first
            folder.rename(CACHE)
    if not _runs(CACHE / "promtool"):
        raise ContractError(f"the prometheus package was unpacked to {CACHE}, but promtool does not run; {BY_HAND}")
    return CACHE


def _unpack(scratch: Path) -> Path:
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise ContractError(f"Prometheus is not on PATH and there is no {program} to fetch it with; {BY_HAND}")
    _download(scratch)
    packages = sorted(scratch.glob("prometheus_*.deb"))
    if not packages:
        raise ContractError(f"apt-get download prometheus left no package behind; {BY_HAND}")
    _run("dpkg", "-x", str(packages[0]), str(scratch / "root"), cwd=scratch)
    folder = scratch / "prometheus"
    folder.mkdir()
    for program in PROGRAMS:
        shutil.copy2(scratch / "root" / "usr" / "bin" / program, folder / program)
    return folder


def _download(scratch: Path) -> None:
    failure = _run("apt-get", "download", "prometheus", cwd=scratch)
    if not failure:
        return
    if os.geteuid() == 0:  # a fresh container has no package index yet
        _run("apt-get", "update", cwd=scratch)
        failure = _run("apt-get", "download", "prometheus", cwd=scratch)
    if failure:
        raise ContractError(
            f"Prometheus is not on PATH, and `apt-get download prometheus` failed ({failure}); "
            f"run `sudo apt-get update` and try again, or {BY_HAND}"
        )


def _run(*command: str, cwd: Path) -> str:
    """Run a program quietly; give its last line of errors, empty when it went well."""
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
    if result.returncode == 0:
        return ""
    return (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]


def _runs(promtool: Path) -> bool:
    try:
        return subprocess.run([promtool, "--version"], capture_output=True, check=False, timeout=60).returncode == 0
    except OSError:
        return False
