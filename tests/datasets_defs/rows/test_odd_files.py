"""Files as people really send them: cut, packed twice, wrongly named, escaped otherwise, or in another script."""

import gzip
import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from datasets_defs.core.errors import ContractError
from datasets_defs.rows.files import find, rows_of
from datasets_defs.rows.row import Unreadable

ROWS = [{"id": str(n), "text": random.Random(n).randbytes(90).hex()} for n in range(2_000)]
LINES = ("\n".join(map(json.dumps, ROWS)) + "\n").encode()


def read(file: Path, content: bytes | None = None) -> list[Any]:
    """Read all rows of one file, after writing it where its content is given."""
    if content is not None:
        file.write_bytes(content)
    (found,) = find(str(file))
    return [row if isinstance(row, Unreadable) else dict(row) for _, row in rows_of(found)]


def reasons(rows: list[Any]) -> list[str]:
    """Give why places hold no row."""
    return [row.reason for row in rows if isinstance(row, Unreadable)]


def test_a_cut_zstandard_file_says_so(tmp_path: Path) -> None:
    """A download that ended between two frames' bytes, or right behind a whole line, is not taken for the whole."""
    frames = [zstandard.compress(LINES[at : at + 50_000]) for at in range(0, len(LINES), 50_000)]
    assert read(tmp_path / "a.jsonl.zst", b"".join(frames)) == ROWS
    whole_lines = zstandard.ZstdCompressor().compressobj()
    cut = whole_lines.compress(LINES[: LINES.find(b"\n", 30_000) + 1]) + whole_lines.flush(
        zstandard.COMPRESSOBJ_FLUSH_BLOCK
    )
    assert reasons(read(tmp_path / "b.jsonl.zst", cut)) == ["the file breaks off here"]
    assert reasons(read(tmp_path / "c.jsonl.zst", b"".join(frames)[:-20]))[-1] == "the file breaks off here"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", gzip.compress(LINES)),
        ("a.jsonl.gz", LINES),
        ("a.jsonl.gz", gzip.compress(LINES[:50_000]) + gzip.compress(LINES[50_000:])),
        ("a.jsonl.zstd", zstandard.compress(LINES)),
        ("A.JSONL.GZ", zstandard.compress(LINES)),
        ("a.jsonlines", LINES),
    ],
    ids=["packed-unsaid", "unpacked-by-a-browser", "two-members", "zstd", "another-packer", "jsonlines"],
)
def test_first_bytes_say_what_packed_a_file(name: str, content: bytes, tmp_path: Path) -> None:
    """Browsers and stores unpack files, or pack them, and leave their names."""
    assert read(tmp_path / name, content) == ROWS


def _zip() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.jsonl", LINES)
    return content.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12345\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", _zip(), "a ZIP archive or a workbook"),
        ("a.jsonl", POINTER, "`git lfs pull`"),
        ("a.txt", POINTER, "`git lfs pull`"),
        ("a.parquet", POINTER, "`git lfs pull`"),
        ("a.parquet", b"", "an empty file"),
        ("a.jsonl", b"PAR1....", "rename it to .parquet"),
    ],
)
def test_what_holds_no_rows_is_named(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    """A pointer in the place of a file was trained on as a text; a workbook gave a reason for each of its bytes."""
    (row,) = read(tmp_path / name, content)
    assert (words in row.reason, row.rest_lost) == (True, True)


def test_archives_and_folders_are_told_apart(tmp_path: Path) -> None:
    """A ZIP file is to be unpacked, and of a folder, as Spark writes, the files are to be given; hidden ones not."""
    (tmp_path / "a.zip").write_bytes(_zip())
    with pytest.raises(ContractError, match="unpack it"):
        find(str(tmp_path / "a.zip"))
    (tmp_path / "log.parquet").mkdir()
    with pytest.raises(ContractError, match=r"is a folder; give the files in it, as .*/log\.parquet/\*\.parquet"):
        find(str(tmp_path / "log.parquet"))
    for name in ("x.jsonl", "._x.jsonl"):
        (tmp_path / name).write_bytes(LINES)
    assert [Path(each.path).name for each in find(str(tmp_path / "*.jsonl"))] == ["x.jsonl"]


def test_backslashes_before_quotation_marks(tmp_path: Path) -> None:
    """Spark and MySQL write a backslash where others double the mark; a path that ends in one stays as it is."""
    spark = b'id,text,said\n1,"say \\"hi, you\\" now",ok\n2,"x ""y"" z",y\n'
    assert read(tmp_path / "a.csv", spark) == [
        {"id": "1", "text": 'say "hi, you" now', "said": "ok"},
        {"id": "2", "text": 'x "y" z', "said": "y"},
    ]
    usual = b'id,text,said\n1,"C:\\dir\\",ok\n2,"a ""b""",y\n'
    assert read(tmp_path / "b.csv", usual)[0] == {"id": "1", "text": "C:\\dir\\", "said": "ok"}


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """The first one would be lost without a word, in CSV, in Parquet, and in an object of JSON."""
    assert reasons(read(tmp_path / "a.csv", b"id,text,text\n1,a,b\n")) == ["two columns are called 'text'; rename one"]
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"]), tmp_path / "a.parquet")
    assert reasons(read(tmp_path / "a.parquet")) == ["two columns are called 'text'; rename one"]
    lines = b'{"text": "a", "text": "b"}\n{"text": "c", "text": "c"}\n{"text": "d", "n": {"m": 1, "m": 2}}\n'
    said = "`{}` stands twice in one object, with different values"
    for content in (lines, b"[" + b",".join(lines.splitlines()) + b"]"):
        rows = read(tmp_path / "a.json", content)
        assert (reasons(rows), rows[1]) == ([said.format("text"), said.format("m")], {"text": "c"})


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("gbk", "你好世界这是一个测试"), ("cp1251", "Привет как дела"), ("cp1253", "Καλημέρα κόσμε")],
)
def test_another_script_is_not_read_as_western_letters(encoding: str, text: str, tmp_path: Path) -> None:
    """Old code pages of other scripts were read as Windows-1252, whose letters then stood in the log."""
    assert reasons(read(tmp_path / "a.csv", f"id,text\n1,{text}\n".encode(encoding))) == ["not UTF-8"]
    western = "Größe und Maß à la carte \u2014 \u201cnaïveté\u201d"
    assert read(tmp_path / "b.csv", f"id,text\n1,{western}\n".encode("cp1252")) == [{"id": "1", "text": western}]


def test_files_with_marks_that_were_put_together(tmp_path: Path) -> None:
    """A byte order mark in the midst of a file belongs to the file that was appended there."""
    marked = b'\xef\xbb\xbf{"a": 1}\n'
    assert read(tmp_path / "a.jsonl", marked + marked) == [{"a": 1}, {"a": 1}]


def test_what_databases_write_for_nothing(tmp_path: Path) -> None:
    r"""`\N` is an empty cell; a header that is a title is asked about."""
    assert read(tmp_path / "a.csv", b"id,text\n1,\\N\n") == [{"id": "1"}]
    assert reasons(read(tmp_path / "b.csv", b"Report of May\n\nid,text\n")) == [
        "2 fields where the header names 1; is the first line the header?"
    ]
