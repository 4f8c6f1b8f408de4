"""What lies in a set's source: images and captions that belong together, and since when they have been whole.

Any file system that fsspec opens. Folders are read one at a time, so that memory grows with the largest folder and not
with the source.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.spec.pairs import PairsSpec

IMAGES = frozenset({
    "jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff", "avif", "heic", "heif",
    "jp2", "j2k", "jpx", "jxl", "svg", "eps", "psd", "ico", "tga", "ppm", "raw", "dng",
})  # fmt: skip
"""Endings of files that are meant as images; which of them are read is decided by their content."""
CAPTIONS = {"txt": ("txt", "caption"), "json": ("json",)}
"""Endings of captions' files, by the YAML's `captions.source`."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source, in few bytes: a folder may hold hundreds of thousands."""

    path: str
    """Below the source."""
    size: int
    time_ns: int | None
    """When it changed, in nanoseconds since 1970; None: the source does not tell."""
    tag: str | None = None
    """ETag or generation, where the source has one."""

    @property
    def version(self) -> str:
        """Give what changes when the file does: its ETag, or size and time."""
        return self.tag or f"{self.size}.{self.time_ns}"

    @property
    def stem(self) -> str:
        """Give the path without its ending."""
        return os.path.splitext(self.path)[0]  # noqa: PTH122 a path within a store, not of this machine

    @property
    def ending(self) -> str:
        """Give the path's ending in small letters, without its dot."""
        return os.path.splitext(self.path)[1].removeprefix(".").lower()  # noqa: PTH122


@dataclass(frozen=True, slots=True)
class ListedPair:
    """An image and a caption of one name; one of them may be missing."""

    image: SourceFile | None
    caption: SourceFile | None

    @property
    def key(self) -> str:
        """Give the path that names the pair: the image's, or the lonely caption's."""
        return (self.image or self.caption or _NOBODY).path

    @property
    def version(self) -> str:
        """Give what changes when one of the two does."""
        return "+".join(file.version if file else "-" for file in (self.image, self.caption))

    def is_settled(self, spec: PairsSpec, now: datetime) -> bool:
        """Say whether nobody writes to it any more, and its other half is there or was waited for long enough."""
        times = [file.time_ns for file in (self.image, self.caption) if file is not None]
        youngest = min((now.timestamp() - at / 1e9 for at in times if at is not None), default=float("inf"))
        return youngest >= (spec.settle_seconds if self.image and self.caption else spec.caption_seconds)


_NOBODY = SourceFile("", 0, None)


@dataclass(frozen=True, slots=True)
class Source:
    """A folder that fsspec reads."""

    system: Any
    root: str

    def pairs(self, spec: PairsSpec) -> Iterator[ListedPair]:
        """Give every pair, sorted by path within its folder.

        Raises:
            ContractError: the folder is not there.
            TransientError: the source is away, or refuses.
        """
        try:
            for files in self._folders():
                yield from paired(files, CAPTIONS[spec.captions.source])
        except FileNotFoundError as err:
            raise ContractError(f"{spec.name}: its source {spec.source} is not there; correct the path") from err
        except (OSError, ValueError) as err:
            raise TransientError(f"{spec.name}: its source {spec.source} cannot be read: {err}") from err

    def read(self, path: str) -> bytes:
        """Read one file whole."""
        content: bytes = self.system.cat_file(f"{self.root}/{path}")
        return content

    def _folders(self) -> Iterator[list[SourceFile]]:
        if "file" in _protocols(self.system):
            yield from _local_folders(Path(self.root), Path(self.root))
            return
        self.system.invalidate_cache()
        begin = len(self.root) + 1
        if not self.system.exists(self.root):
            raise FileNotFoundError(self.root)
        for _, _, files in self.system.walk(self.root, detail=True):
            yield [_of_store(info["name"][begin:], info) for info in files.values() if info["name"] > self.root]


def source_of(url: str) -> Source:
    """Open a source.

    Raises:
        ContractError: nothing reads such URLs here.
    """
    try:
        system, root = fsspec.core.url_to_fs(str(Path(url).expanduser()) if url.startswith("~") else url)
    except (ImportError, ValueError) as err:
        raise ContractError(f"{url} cannot be opened: {err}; install what reads it, such as driftloop[pairs]") from err
    return Source(system, root.rstrip("/"))


def paired(files: Iterable[SourceFile], endings: Iterable[str]) -> Iterator[ListedPair]:
    """Put images and captions of one folder together by their names; other files are none of ours."""
    images, captions, wanted = [], dict[str, SourceFile](), tuple(endings)
    for file in files:
        if file.ending in IMAGES:
            images.append(file)
        elif file.ending in wanted:
            known = captions.get(file.stem)
            if known is None or wanted.index(file.ending) < wanted.index(known.ending):
                captions[file.stem] = file
    stems = {image.stem for image in images}
    whole = [ListedPair(image, captions.get(image.stem)) for image in images]
    lonely = [ListedPair(None, caption) for stem, caption in captions.items() if stem not in stems]
    yield from sorted(whole + lonely, key=lambda pair: pair.key)


def _local_folders(folder: Path, root: Path) -> Iterator[list[SourceFile]]:
    files, inner = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                inner.append(Path(entry.path))
            elif entry.is_file():
                stat = entry.stat()
                path = os.path.relpath(entry.path, root)
                files.append(SourceFile(path, stat.st_size, stat.st_mtime_ns))
    yield files
    for subfolder in sorted(inner):
        yield from _local_folders(subfolder, root)


def _of_store(path: str, info: dict[str, Any]) -> SourceFile:
    at = next((info[name] for name in ("LastModified", "updated", "created", "mtime") if info.get(name)), None)
    tag = next((info[name] for name in ("ETag", "etag", "md5Hash", "generation") if info.get(name)), None)
    return SourceFile(path, int(info.get("size") or 0), _nanoseconds(at), str(tag).strip('"') if tag else None)


def _nanoseconds(at: Any) -> int | None:
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    if isinstance(at, datetime):
        at = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    return int(at * 1e9) if isinstance(at, int | float) else None


def _protocols(system: Any) -> tuple[str, ...]:
    return system.protocol if isinstance(system.protocol, tuple) else (system.protocol,)
