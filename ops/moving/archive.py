"""The archive that a model travels in: a folder, or a tar file of it, with the hash of every file."""

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from datasets_defs.core.errors import ContractError
from datasets_defs.store.artifacts import file_sha256
from datasets_defs.store.schema import MIGRATIONS
from datasets_defs.store.work import work_folder

FORMAT = 1
"""Of archives that this release writes and reads."""
ARCHIVE = "archive.json"
"""File of an archive that lists all the others."""
MODEL_YAML = "model.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """What `archive.json` says."""

    format: int
    driftloop: str
    """Release that wrote it."""
    schema: str
    """Number of the newest migration that its release knows."""
    model: str
    events: int
    """Events of the history."""
    head: str
    """Hash of the history's newest event."""
    at: str
    """When that event happened."""
    champion: int
    versions: dict[str, str]
    """SHA-256 of each version's manifest, by number; their files are in the archive."""
    left: dict[str, str]
    """Versions of the ledger whose files stay behind, with the reason."""
    references: dict[str, str]
    """Names of the references' files, by version."""
    files: dict[str, list[int | str]]
    """Bytes and SHA-256 of every other file, by path."""

    def __str__(self) -> str:
        known = f"{len(self.versions)} versions" if len(self.versions) != 1 else "1 version"
        return f"{self.model} as of event {self.events} ({self.at[:19]}Z, {self.head[:12]}…), {known}"


def newest_schema() -> str:
    """Give the number of the newest migration that this release knows."""
    return max(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def listed(folder: Path) -> dict[str, list[int | str]]:
    """Give bytes and SHA-256 of every file below a folder but `archive.json`, flushed to the disk.

    Raises:
        ContractError: there is something else than files and folders.
    """
    files: dict[str, list[int | str]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ContractError(f"{folder}: {name} is neither a file nor a folder; an archive holds nothing else")
        if path.is_file() and name != ARCHIVE:
            files[name] = [path.stat().st_size, file_sha256(path)]
    return files


def seal(folder: Path, archive: Archive) -> None:
    """Write `archive.json`, with which the archive is whole."""
    for name in archive.files:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    with (folder / ARCHIVE).open("w") as file:
        json.dump(asdict(archive), file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path) -> Archive:
    """Read what an archive says it is; its files are not looked at.

    Raises:
        ContractError: it is none, or one that this release cannot read.
    """
    try:
        content = json.loads((folder / ARCHIVE).read_text())
        number, schema, wrote = int(content["format"]), str(content["schema"]), str(content["driftloop"])
    except FileNotFoundError as err:
        raise ContractError(f"{folder} holds no {ARCHIVE}: `driftloop export` did not write it, or not whole") from err
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ContractError(f"{folder / ARCHIVE} cannot be read ({err}); export the model anew") from err
    if number > FORMAT or schema > newest_schema():
        raise ContractError(
            f"{folder} was written by driftloop {wrote} with schema {schema}, newer than this release's "
            f"{newest_schema()}; install that release or a newer one here, and run `driftloop migrate`"
        )
    wanted = {field.name for field in fields(Archive)}
    if not isinstance(content, dict) or set(content) != wanted:
        raise ContractError(f"{folder / ARCHIVE} says {sorted(content)}, and {sorted(wanted)} is needed; export anew")
    return Archive(**content)


def require_whole(folder: Path, archive: Archive) -> None:
    """Check every file against its hash.

    Raises:
        ContractError: one is missing, was added, or is not what was written.
    """
    there = listed(folder)
    for name in sorted(archive.files.keys() | there.keys()):
        if name not in there:
            raise ContractError(f"{folder}: {name} is missing; copy the archive again")
        if name not in archive.files:
            raise ContractError(f"{folder}: {name} was never written there; copy the archive again")
        if there[name] != archive.files[name]:
            raise ContractError(
                f"{folder}: {name} is not what was exported (SHA-256 {str(there[name][1])[:12]}…, written as "
                f"{str(archive.files[name][1])[:12]}…); copy the archive again"
            )


def identity(folder: Path) -> str:
    """Give the SHA-256 by which an archive is known: of `archive.json`, which holds those of all files."""
    return hashlib.sha256((folder / ARCHIVE).read_bytes()).hexdigest()


def is_tar(path: Path) -> bool:
    """Say whether a path names a tar file, as its ending tells."""
    return path.suffix == ".tar"


def pack(folder: Path, target: Path) -> None:
    """Write a folder as a tar file, whole or not at all."""
    part = target.with_name(f".{target.name}.part")
    with tarfile.open(part, "w") as tar:
        for path in sorted(folder.rglob("*")):
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(target)


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Give the folder of an archive; a tar file is unpacked below the home for as long.

    Raises:
        ContractError: there is no such archive.
    """
    if path.is_dir():
        yield path
        return
    if not path.is_file():
        raise ContractError(f"{path} does not exist; give the folder or the .tar file that `driftloop export` wrote")
    with work_folder("import") as folder:
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    _unpack(tar, member, folder)
        except tarfile.TarError as err:
            raise ContractError(f"{path} is no whole tar file ({err}); copy the archive again") from err
        yield folder


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write one member of a tar file below a folder, and nowhere else.

    Raises:
        ContractError: it is neither a file nor a folder, or would lie elsewhere.
    """
    place = (folder / member.name).resolve()
    if not (member.isfile() or member.isdir()) or not place.is_relative_to(folder.resolve()):
        raise ContractError(
            f"{tar.name!r}: {member.name} is no file below the archive; `driftloop export` wrote no such"
        )
    content = tar.extractfile(member) if member.isfile() else None
    if content is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        with content, place.open("wb") as file:
            shutil.copyfileobj(content, file)


def copy_files(source: Path, target: Path) -> Path:
    """Copy the files of a folder, and give the copy."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    return target
