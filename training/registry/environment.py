"""What a training ran with: the code's version and every package's."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path


def code_version() -> str:
    """Give the package's version, and the commit of the checkout that it lies in, if it does."""
    version, folder = metadata.version("driftloop"), Path(__file__).resolve().parents[1]
    commit = _git(folder, "rev-parse", "--short=12", "HEAD")
    if not commit or _git(folder, "ls-files", "--error-unmatch", __file__) is None:  # somebody else's repository
        return version
    changed = "+changed" if _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".") else ""
    return f"{version} ({commit}{changed})"


def packages() -> str:
    """List Python, the machine and every installed package with its version, one a line, as pip reads it."""
    lines = {f"{dist.metadata['Name']}=={dist.version}" for dist in metadata.distributions() if dist.metadata["Name"]}
    head = [f"# Python {platform.python_version()} on {platform.platform()}"]
    return "\n".join(head + sorted(lines, key=str.lower)) + "\n"


def _git(folder: Path, *arguments: str) -> str | None:
    """Ask git; None when it is not there or says no."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
