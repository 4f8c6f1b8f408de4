"""The one reader of people's files: kinds, encodings, separators, compression, and what is said of what is broken."""

import bz2
import codecs
import gzip
import json
import lzma
import random
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from datasets_defs.core.errors import ContractError
from datasets_defs.rows.documents import NoDocumentError, text_in
from datasets_defs.rows.files import find, rows_of
from datasets_defs.rows.row import Unreadable, described

CASES = Path(__file__).parent / "cases"
TEXT = "caf\u00e9 na\u00efve \u20ac"


def read(file: Path, **more: Any) -> list[Any]:
    """Read all rows of one file."""
    (found,) = find(str(file))
    rows = [row for _, row in rows_of(found, **more)]
    return [row if isinstance(row, Unreadable) else dict(row) for row in rows]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_unicode_in_every_form(encoding: str, end: str, kind: str, tmp_path: Path) -> None:
    """UTF-8, UTF-16 and UTF-32, with a byte order mark or without, and any ends of lines give the same rows."""
    lines = [json.dumps({"text": f"{TEXT} {n}"}, ensure_ascii=False) for n in range(3)]
    if kind == "csv":
        lines = ["text", *(f"{TEXT} {n}" for n in range(3))]
    (tmp_path / f"a.{kind}").write_bytes(end.join(lines).encode(encoding))
    assert read(tmp_path / f"a.{kind}") == [{"text": f"{TEXT} {n}"} for n in range(3)]


def test_a_spreadsheet_s_code_page(tmp_path: Path) -> None:
    """A CSV file in Windows-1252 is read as that; one whose other letters are UTF-8 has a damaged row instead."""
    (tmp_path / "a.csv").write_bytes(f"text;n\n{TEXT};1\n".encode("cp1252"))
    assert read(tmp_path / "a.csv") == [{"text": TEXT, "n": "1"}]
    (tmp_path / "b.csv").write_bytes(f"text\n{TEXT}\n".encode() + b"caf\xe9\n")
    assert read(tmp_path / "b.csv") == [{"text": TEXT}, Unreadable("not UTF-8", "caf\ufffd")]


def test_json_is_utf_8(tmp_path: Path) -> None:
    """JSON has no code pages: a row of one is damaged, and says at which byte."""
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n{"a": "caf\xe9"}\n')
    (_, damaged) = read(tmp_path / "a.jsonl")
    assert (damaged.reason, damaged.content) == ("not UTF-8", 'byte 11: {"a": "caf\ufffd"}')


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_of_spreadsheets(separator: str, tmp_path: Path) -> None:
    """The header tells the separator, whatever stands in quotation marks; columns without a name are left out."""
    rows = [("", "id", '"a,b;c"', "text"), ("0", "1", "x", '"two\nlines"'), ("1", "2", "", f'"{separator}"')]
    (tmp_path / "a.csv").write_text("\n".join(separator.join(row) for row in rows))
    assert read(tmp_path / "a.csv") == [{"id": "1", "a,b;c": "x", "text": "two\nlines"}, {"id": "2", "text": separator}]


def test_excel_s_first_line(tmp_path: Path) -> None:
    """`sep=;` names the separator and is no header; fields too many count only when something stands in them."""
    (tmp_path / "a.csv").write_text("sep=;\na,b;c\n1;2;;\n1;2;3\n")
    assert read(tmp_path / "a.csv") == [
        {"a,b": "1", "c": "2"}, Unreadable("3 fields where the header names 2", "1,2,3")
    ]  # fmt: skip


def test_other_separators_of_lines_are_text(tmp_path: Path) -> None:
    """U+2028, U+0085 and form feeds, which JSON and CSV allow in texts, end no row."""
    text = "a\u2028b\u2029c\u0085d\x0ce"
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}, ensure_ascii=False) + "\n", encoding="utf-8")
    (tmp_path / "a.csv").write_text(f"text\n{text}\n", encoding="utf-8")
    assert read(tmp_path / "a.jsonl") == read(tmp_path / "a.csv") == [{"text": text}]


@pytest.mark.parametrize("form", ["one line", "indented", "lines in brackets", "one after the other"])
def test_json_that_is_not_a_line_each(form: str, tmp_path: Path) -> None:
    """An array, however it is laid out, and objects over several lines are read object by object."""
    rows = [{"n": n, "text": f"[{TEXT}]," * (n * 20)} for n in range(100)]  # 6 MB, objects of 100 kB
    content = {
        "one line": json.dumps(rows),
        "indented": json.dumps(rows, indent=2),
        "lines in brackets": "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n",
        "one after the other": "\n".join(json.dumps(row, indent=1) for row in rows),
    }[form]
    (tmp_path / "a.json").write_text(content)
    assert read(tmp_path / "a.json") == rows


def test_an_array_that_breaks_off(tmp_path: Path) -> None:
    """What comes before the damage is read; elements that are no objects are marked, and an empty array is empty."""
    (tmp_path / "a.json").write_text('[{"n": 1}, 7, {"n": 2')
    first, seven, rest = read(tmp_path / "a.json")
    assert (first, seven) == ({"n": 1}, Unreadable("a JSON object is needed, found int", "7"))
    assert (rest.reason, rest.rest_lost) == ("not JSON from here on (Expecting ',' delimiter)", True)
    (tmp_path / "b.json").write_text(" [ ]\n")
    assert read(tmp_path / "b.json") == []


@pytest.mark.parametrize(
    ("ending", "compress"),
    [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", zstandard.compress)],
)
def test_compressed(ending: str, compress: Any, tmp_path: Path) -> None:
    """Files that gzip, bzip2, xz and zstandard packed are read, and their progress reaches the end."""
    rows = [{"text": random.Random(n).randbytes(900).hex()} for n in range(2_000)]
    (tmp_path / f"a.jsonl.{ending}").write_bytes(compress("\n".join(map(json.dumps, rows)).encode()))
    shares: list[float] = []
    assert read(tmp_path / f"a.jsonl.{ending}", progress=shares.append) == rows
    assert (sorted(shares), shares[-1]) == (shares, 1.0)


def test_a_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the home folder, in patterns too."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text("{}")
    assert [Path(file.path).name for file in find("~/*.jsonl")] == ["a.jsonl", "b.jsonl"]
    assert len(find("~/a.jsonl")) == 1


def test_what_is_not_read_says_what_is(tmp_path: Path) -> None:
    """A file that is not there and a workbook are errors that say what to do."""
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(ContractError, match="save it as CSV"):
        find(str(tmp_path / "a.xlsx"))
    with pytest.raises(ContractError, match="no such file"):
        find(str(tmp_path / "b.csv"))


def test_a_parquet_file_states_all_its_columns(tmp_path: Path) -> None:
    """Only the columns that are asked for are read; a refusal names every column with its type."""
    table = pa.table({"body": ["x"], "text": [[1, 2]], "n": pa.array([1], pa.int64())})
    pq.write_table(table, tmp_path / "a.parquet")
    (file,) = find(str(tmp_path / "a.parquet"))
    ((_, row),) = rows_of(file, columns=("text",))
    assert not isinstance(row, Unreadable)
    assert dict(row) == {"text": [1, 2]}
    assert described(row) == "body (string), text (list<element: int64>), n (int64)"
    with pytest.raises(NoDocumentError, match="column 'text' needs text, found list") as refused:
        text_in(row)
    assert refused.value.columns == described(row)


def test_odd_values_of_parquet(tmp_path: Path) -> None:
    """UUIDs, bytes and numbers with gaps are values: identifiers and texts, not something that is missing."""
    known = uuid.UUID("12345678-1234-5678-1234-567812345678")
    table = pa.table(
        {
            "id": pa.array([known.bytes, known.bytes], pa.uuid()),
            "user_id": [17.0, float("nan")],
            "text": pa.array([TEXT.encode(), b"b"], pa.binary()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    first, second = (text_in(row) for row in read(tmp_path / "a.parquet"))
    assert (first.id, first.user_id, first.reference) == (str(known), "17", TEXT)
    assert (second.user_id, second.reference) == (None, "b")


def test_an_unknown_mark_is_no_letter(tmp_path: Path) -> None:
    """Half a character at the end of a UTF-16 file costs its row, not the file."""
    whole = codecs.BOM_UTF16_LE + '{"n": 1}\n{"n": 2}'.encode("utf-16-le")
    (tmp_path / "a.jsonl").write_bytes(whole + b"\x00\xd8\n\x00")
    first, second = read(tmp_path / "a.jsonl")
    assert first == {"n": 1}
    assert isinstance(second, Unreadable)


CONVERSATION = ("user: Which oil?\n\nassistant: ", "Number four.")
WITH_SYSTEM = ("system: You help with pumps.\n\n" + CONVERSATION[0], CONVERSATION[1])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai.jsonl", [WITH_SYSTEM] * 3),
        ("sharegpt.json", [CONVERSATION]),
        ("alpaca.json", [(f"Name pump part {n}.\n\n", f"Part {n}.") for n in range(3)]),
        ("hf.parquet", [CONVERSATION] * 2),
        ("binary.parquet", [("", "bytes, not text"), ("", "as some writers do")]),
    ],
)
def test_training_data_as_tools_write_it(name: str, expected: list[tuple[str, str]]) -> None:
    """Chats, instructions, lists of structs and bytes are documents: the assistant's turn given the rest."""
    assert [(found.prompt, found.reference) for found in map(text_in, read(CASES / name))] == expected


def test_a_corpus_in_zstandard() -> None:
    """Every text is read."""
    texts = [text_in(row).reference or "" for row in read(CASES / "corpus.jsonl.zst")]
    assert [text.partition(":")[0] for text in texts] == [f"Text {n}" for n in range(200)]
