"""The files that pairs are written to: WebDataset's tar files, or Parquet; the same pairs give the same bytes."""

import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets_defs.spec.pairs import PairsSpec
from datasets_defs.store.artifacts import file_sha256, write_file

_ENDINGS = {"jpeg": "jpg", "webp": "webp", "png": "png"}


@dataclass(slots=True)
class Shards:
    """Writes pairs, a file at a time; a file that is full goes to its URL, and from the disk."""

    url: str
    folder: Path
    spec: PairsSpec
    files: list[dict[str, Any]] = field(default_factory=list)
    """Of each finished file: URL, SHA-256, pairs, bytes."""
    _open: Any = None
    _path: Path | None = None
    _pairs: int = 0

    @property
    def name(self) -> str:
        """Give the name of the file that is written now."""
        ending = "tar" if self.spec.shards.format == "webdataset" else "parquet"
        return f"{len(self.files):05}.{ending}"

    def add(self, key: str, picture: bytes, about: dict[str, Any]) -> str:
        """Write one pair; give the name of its file."""
        if self._open is None:
            self._begin()
        name = self.name
        if self.spec.shards.format == "webdataset":
            self._add_members(key, picture, about)
        else:
            self._add_row(key, picture, about)
        self._pairs += 1
        if self._pairs == self.spec.shards.pairs:
            self.close()
        return name

    def close(self) -> None:
        """Finish the file that is being written."""
        if self._open is None or self._path is None:
            return
        if self.spec.shards.format == "parquet":
            self._flush()
        self._open.close()
        url = f"{self.url}/{self.name}"
        write_file(url, self._path)
        size = self._path.stat().st_size
        self.files.append({"url": url, "sha256": file_sha256(self._path), "pairs": self._pairs, "bytes": size})
        self._path.unlink()
        self._open, self._path, self._pairs = None, None, 0

    def _begin(self) -> None:
        self._path = self.folder / self.name
        if self.spec.shards.format == "webdataset":
            self._open = tarfile.open(self._path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 closed when it is full
        else:
            self._open = _ParquetRows(self._path)

    def _add_members(self, key: str, picture: bytes, about: dict[str, Any]) -> None:
        """Write a sample as WebDataset has it: members of one name, told apart by their endings."""
        whole = json.dumps(about, ensure_ascii=False, sort_keys=True).encode()
        parts = ((_ENDINGS[self.spec.images.encode], picture), ("txt", about["caption"].encode()), ("json", whole))
        for ending, content in parts:
            member = tarfile.TarInfo(f"{key}.{ending}")
            member.size, member.mode = len(content), 0o444  # no time and no owner: the same pairs, the same bytes
            self._open.addfile(member, io.BytesIO(content))

    def _add_row(self, key: str, picture: bytes, about: dict[str, Any]) -> None:
        names = ("caption", "tokens", "language", "width", "height", "source", "sha256")
        self._open.add({"key": key, "image": picture, **{name: about[name] for name in names}})

    def _flush(self) -> None:
        self._open.flush()


class _ParquetRows:
    """Writes rows in groups, so that few pictures are held at once."""

    _TOGETHER = 64

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        text, count = pa.string(), pa.int64()
        fields = [("key", text), ("image", pa.binary()), ("caption", text), ("tokens", pa.list_(pa.int32()))]
        fields += [("language", text), ("width", count), ("height", count), ("source", text), ("sha256", text)]
        self._schema, self._rows = pa.schema(fields), list[dict[str, Any]]()
        self._writer = pq.ParquetWriter(path, self._schema, compression={"image": "none", "caption": "zstd"})

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == self._TOGETHER:
            self.flush()

    def flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()

    def close(self) -> None:
        self._writer.close()
