"""Versions where servers read them: a folder for each, never used for other files, with its probe beside it."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from datasets_defs.core.errors import ContractError
from training.model.adapter_files import base_of
from training.servers import probe
from training.servers.seam import Version

_NUMBER = re.compile(r"-v(\d+)-")


def publish(root: Path, label: str, number: int, fetch: Callable[[], Path], *, untied: bool = False) -> Version:
    """Lay a version's files and their probe where servers can read them; what already lies there stands.

    `fetch` gives a folder whose files have been checked against the version's manifest. The new folder gets its name
    last, so that one which bears its name is whole. `untied` gives the version an output layer of its own there.

    Raises:
        ContractError: the folder of all versions cannot be written, or the version's files are no model.
        TransientError: the registry is away (of `fetch`).
    """
    folder, scores = root / label, root / f"{label}.probe.json"
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not scores.is_file() or not folder.is_dir():
            _lay(fetch(), folder, scores, untied=untied)
    except OSError as err:
        raise ContractError(f"serving.versions_folder: {err}; the loop's workers must be able to write it") from err
    return Version(number=number, label=label, folder=folder, probe=probe.from_json(scores.read_text()))


def _lay(source: Path, folder: Path, scores: Path, *, untied: bool) -> None:
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as name:
        draft = Path(name)
        draft.chmod(0o755)
        if not folder.is_dir():
            shutil.copytree(source, draft / "files")
            if untied:
                from training.servers.untie import untie  # brings torch

                untie(draft / "files")
            for path in (draft / "files").rglob("*"):
                _flush(path)
            (draft / "files").rename(folder)
        (draft / "probe").write_text(probe.to_json(probe.compute(source)))
        _flush(draft / "probe")
        (draft / "probe").rename(scores)
    _flush(folder.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def others(root: Path, label: str) -> list[Version]:
    """Give the other versions that lie whole in the folder."""
    lying = []
    for scores in sorted(root.glob("*.probe.json")):
        name = scores.name.removesuffix(".probe.json")
        if name != label and (root / name).is_dir():
            number = int(_NUMBER.findall(name)[-1])
            held = probe.from_json(scores.read_text())
            lying.append(Version(number=number, label=name, folder=root / name, probe=held))
    return lying


def forget(root: Path, keep: Collection[int]) -> list[str]:
    """Remove the folders of versions that nobody may be sent back to; give their labels. A base stays with adapters."""
    lying = others(root, "")
    bases = {base.version for other in lying if other.number in keep and (base := base_of(other.folder)) is not None}
    gone = [version for version in lying if version.number not in keep and version.number not in bases]
    for version in gone:
        (root / f"{version.label}.probe.json").unlink(missing_ok=True)  # first: what lacks its probe is not whole
        shutil.rmtree(version.folder, ignore_errors=True)
    return [version.label for version in gone]
