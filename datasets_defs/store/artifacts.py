"""Files that outlive a task: one URL root, read and written with fsspec."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec

from datasets_defs.core.errors import ContractError, TransientError
from datasets_defs.core.settings import settings

BATCH_ROWS, READ_BYTES = 1_000, 2**16
"""Rows, and bytes of a column, that are read at once."""


def artifact_url(*parts: str) -> str:
    """Give the URL of an artifact below the root."""
    return "/".join([settings().artifact_root.rstrip("/"), *parts])


def write_bytes(url: str, content: bytes, *, once: bool = False) -> str:
    """Write a file whole or not at all; give the SHA-256 that stands. Writing the same again changes nothing.

    With `once` a file that stands there stays: of two writers the second changes nothing of what the first has named.

    Raises:
        TransientError: the disk is full.
    """
    filesystem, path = fsspec.core.url_to_fs(url)
    if _is_local(filesystem):
        _write_local(Path(path), [content], once=once)
    else:  # object stores put whole objects
        with suppress(FileExistsError):
            filesystem.pipe_file(path, content, **_mode(once=once))
    return url_sha256(url) if once else hashlib.sha256(content).hexdigest()


def write_file(url: str, file: Path, *, once: bool = False) -> str:
    """Write a copy of a local file as `write_bytes` writes, without holding it in memory."""
    filesystem, path = fsspec.core.url_to_fs(url)
    if _is_local(filesystem):
        with file.open("rb") as content:
            _write_local(Path(path), iter(lambda: content.read(2**20), b""), once=once)
    else:  # object stores show an upload when it is complete
        with suppress(FileExistsError):
            filesystem.put_file(str(file), path, **_mode(once=once))
    return url_sha256(url) if once else file_sha256(file)


def file_sha256(file: Path) -> str:
    """Give the SHA-256 of a local file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def read_bytes(url: str, sha256: str | None = None) -> bytes:
    """Read a file, checked against its hash if one is known.

    Raises:
        ContractError: the file is gone, or is not what was written.
    """
    filesystem, path = fsspec.core.url_to_fs(url)
    try:
        content: bytes = filesystem.cat_file(path)
    except FileNotFoundError as err:
        raise ContractError(f"artifact {url} is gone") from err
    if sha256 is not None and (actual := hashlib.sha256(content).hexdigest()) != sha256:
        raise ContractError(f"artifact {url} is damaged: SHA-256 {actual[:12]}…, written as {sha256[:12]}…")
    return content


def url_sha256(url: str) -> str:
    """Give the SHA-256 of an artifact, read piece by piece.

    Raises:
        ContractError: it is gone.
    """
    filesystem, path = fsspec.core.url_to_fs(url)
    digest = hashlib.sha256()
    try:
        with filesystem.open(path, "rb") as content:
            for piece in iter(lambda: content.read(2**20), b""):
                digest.update(piece)
    except FileNotFoundError as err:
        raise ContractError(f"artifact {url} is gone") from err
    return digest.hexdigest()


def fetch_file(url: str, file: Path) -> None:
    """Write an artifact to a local file, piece by piece.

    Raises:
        ContractError: it is gone.
    """
    filesystem, path = fsspec.core.url_to_fs(url)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        filesystem.get_file(path, str(file))
    except FileNotFoundError as err:
        raise ContractError(f"artifact {url} is gone") from err


def exists(url: str) -> bool:
    """Say whether a file was written; files are written whole or not at all."""
    filesystem, path = fsspec.core.url_to_fs(url)
    return bool(filesystem.exists(path))


def write_rows(url: str, rows: list[dict[str, Any]], *, once: bool = False) -> str:
    """Write rows as Parquet, as `write_bytes` writes; give the SHA-256 that stands: the same rows give the same."""
    return write_bytes(url, _parquet(rows), once=once)


def write_named_rows(stem: str, rows: list[dict[str, Any]]) -> tuple[str, str]:
    """Write rows as Parquet under a name of their own, the stem with their hash; give the URL and the SHA-256.

    Whoever writes other rows under the same stem writes another file: what a row of a table names stays what it was.
    """
    content = _parquet(rows)
    url = f"{stem}-{hashlib.sha256(content).hexdigest()[:16]}.parquet"
    return url, write_bytes(url, content)


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read_rows(url: str, sha256: str | None = None) -> list[dict[str, Any]]:
    """Read the rows of a Parquet artifact."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(pa.BufferReader(read_bytes(url, sha256))) as file:  # read_table imports pandas for its datasets
        rows: list[dict[str, Any]] = file.read().to_pylist()
    return rows


def read_batches(url: str, *, columns: Sequence[str] | None = None, where: Any = None) -> Iterator[Any]:
    """Read a Parquet artifact as record batches, in its order and in memory that does not grow with it.

    `where` is an expression of pyarrow's over these columns. Where the file's statistics say that a group of rows
    has none for it, the group is not read.
    """
    import pyarrow.parquet as pq
    from pyarrow import dataset

    filesystem, path = fsspec.core.url_to_fs(url)
    (whole,) = dataset.dataset(path, format="parquet", filesystem=filesystem).get_fragments()
    groups = [part.row_groups[0].id for part in whole.split_by_row_group(where)]
    wanted = list(columns) if columns else None
    with filesystem.open(path, "rb") as file:
        # Not the dataset's own scan: it reads ahead of who uses the rows, and what waits grows with the file.
        content = pq.ParquetFile(file, pre_buffer=False, buffer_size=READ_BYTES)
        for group in groups:
            for batch in content.iter_batches(BATCH_ROWS, row_groups=[group], columns=wanted, use_threads=False):
                yield batch if where is None else batch.filter(where)


def delete_older(url: str, before: datetime, *, keep: Collection[str] = ()) -> int:
    """Delete the files below a URL that were written before a time, but those in `keep`; give how many went.

    `keep` are URLs. What is not there any more is as good as deleted.
    """
    filesystem, root = fsspec.core.url_to_fs(url)
    kept = {fsspec.core.url_to_fs(address)[1] for address in keep}
    gone = 0
    for path in filesystem.find(root) if filesystem.exists(root) else []:
        with suppress(FileNotFoundError):
            if path not in kept and filesystem.modified(path) < before:
                filesystem.rm_file(path)
                gone += 1
    return gone


def _mode(*, once: bool) -> dict[str, str]:
    return {"mode": "create"} if once else {}


def _is_local(filesystem: Any) -> bool:
    names = filesystem.protocol if isinstance(filesystem.protocol, tuple) else (filesystem.protocol,)
    return "file" in names


def _write_local(path: Path, content: Iterable[bytes], *, once: bool = False) -> None:
    try:
        _write_whole(path, content, once=once)
    except OSError as err:
        if err.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise TransientError(f"{path} cannot be written: the disk is full; it is written once there is space") from err


def _write_whole(path: Path, content: Iterable[bytes], *, once: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
        if not once:
            Path(temporary).replace(path)
            return
        with suppress(FileExistsError):  # a link is made or not, whoever else makes one at the same time
            path.hardlink_to(temporary)
        Path(temporary).unlink()
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
