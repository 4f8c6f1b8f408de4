import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from datasets_defs.core.errors import ContractError
from datasets_defs.core.settings import settings
from datasets_defs.store import tables
from datasets_defs.store.inference_log import drop_before
from ops.ingest.ingest import ingest
from ops.ingest.rows import parse

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def row(number: int, **more: object) -> dict[str, object]:
    at = (NOW + timedelta(seconds=number)).isoformat()
    return {"request_id": f"r{number}", "at": at, "prompt": f"prompt {number}", **more}


def jsonl(path: Path, rows: list[object]) -> Path:
    path.write_bytes(b"\n".join(r if isinstance(r, bytes) else json.dumps(r).encode() for r in rows) + b"\n")
    return path


def stored(engine, table):
    with engine.connect() as on:
        return [r._asdict() for r in on.execute(select(table))]


def test_a_good_file_comes_in_once(engine, tmp_path):
    """Every row is logged with its extra columns as attributes; the same file again changes nothing."""
    rows = [row(n, completion="c", latency_seconds=0.5, team="a", reference=f"ref {n}", score=1) for n in range(2_500)]
    file = jsonl(tmp_path / "log.jsonl", rows)
    first = ingest(engine, "m", file)
    before = stored(engine, tables.feedback)
    again = ingest(engine, "m", file)
    assert (first.rows, first.new, first.known, first.feedback) == (2_500, 2_500, 0, 2_500)
    assert (again.new, again.known) == (0, 2_500)
    assert stored(engine, tables.feedback) == before
    assert stored(engine, tables.inference)[0]["attributes"] == {"team": "a"}


def test_bad_rows_are_kept_apart_and_the_others_go_on(engine, tmp_path):
    """Broken JSON, bad bytes, missing columns and wrong types are quarantined with row number and reason."""
    rows: list[object] = [
        row(1),
        b'{"request_id": "half',
        b'{"prompt": "\xff\xfe"}',
        {"request_id": "x", "at": "yesterday", "prompt": "p"},
        {"at": NOW.isoformat(), "prompt": "p"},
        {**row(6), "prompt": 7},
        {**row(7), "latency_seconds": "Infinity"},
        [1, 2],
        {**row(9), "attributes": {"deep": json.loads("[" * 400 + "]" * 400)}},
        {**row(10), "request_id": "i" * 3_000},
        row(11, at="2026-05-01T10:00:00"),
        {**row(12), "score": 10**400},
        {**row(13), "attributes": "[" * 100_000},
        {**row(14), "prompt_bits_per_byte": -1},
    ]
    summary = ingest(engine, "m", jsonl(tmp_path / "log.jsonl", rows))
    kept = {item["row_number"]: item["reason"] for item in stored(engine, tables.quarantined_row)}
    assert (summary.new, summary.naive_times, summary.quarantined.total()) == (2, 1, 12)
    assert kept == {
        2: "not JSON (Unterminated string starting at)",
        3: "not UTF-8",
        4: "column 'at' is no time; ISO 8601 or seconds since 1970 are needed",
        5: "column 'request_id' is missing or empty; found at, prompt",
        6: "column 'prompt' needs text, found int",
        7: "column 'latency_seconds' needs a number",
        8: "a JSON object is needed, found list",
        9: "attributes are nested deeper than 50 levels",
        10: "column 'request_id' is longer than 500 characters",
        12: "column 'score' needs a number",
        13: "column 'attributes' needs a JSON object",
        14: "column 'prompt_bits_per_byte' needs a number from 0 on",
    }


def test_late_feedback_needs_only_the_request_s_id(engine, tmp_path):
    """A row of id and reference or score is feedback; one that begins to be a request must be a whole one."""
    rows: list[object] = [
        row(1),
        {"request_id": "r1", "reference": "what a person wrote"},
        {"request_id": "r1", "score": 0.5},
        {"request_id": "r2"},
        {"request_id": "r3", "at": NOW.isoformat(), "score": 1},
        {"request_id": "r4", "prompt": "p", "score": 1},
    ]
    summary = ingest(engine, "m", jsonl(tmp_path / "late.jsonl", rows))
    (kept,) = stored(engine, tables.feedback)
    assert (summary.new, summary.known, summary.feedback) == (1, 0, 2)
    assert summary.quarantined == {"column 'at' is missing": 2, "column 'prompt' is missing": 1}
    assert (kept["request_id"], kept["reference"], kept["score"]) == ("r1", "what a person wrote", 0.5)


def test_quarantine_holds_a_row_once(engine, tmp_path):
    """A file that is read again adds no quarantined rows."""
    file = jsonl(tmp_path / "log.jsonl", [b"{"])
    ingest(engine, "m", file)
    ingest(engine, "m", file)
    assert len(stored(engine, tables.quarantined_row)) == 1


def test_csv_with_quotes_long_fields_and_short_rows(engine, tmp_path):
    """Quoted line ends and a field of 1 MB are one row; a row with too few fields is kept apart."""
    long = "x" * 1_000_000
    file = tmp_path / "log.csv"
    text = 'request_id,at,prompt,prompt_tokens,lang\na,1777636800,"two\nlines",3,de\nb,1777636801,short\n'
    file.write_bytes(b"\xef\xbb\xbf" + (text + f"c,1777636802.5,{long},,\n").encode())
    summary = ingest(engine, "m", file)
    found = {item["request_id"]: item for item in stored(engine, tables.inference)}
    assert summary.quarantined == {"3 fields where the header names 5": 1}
    assert (found["a"]["prompt"], found["a"]["prompt_tokens"]) == ("two\nlines", 3)
    assert found["a"]["attributes"] == {"lang": "de"}
    assert found["a"]["at"] == NOW
    assert (found["c"]["prompt"], found["c"]["prompt_tokens"]) == (long, None)


def test_parquet_comes_in_and_a_cut_one_says_so(engine, tmp_path):
    """A Parquet file is read with its own types; a truncated one is a quarantined row, not a traceback."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / "log.parquet"
    content = [{**row(n), "at": NOW, "completion": None, "score": 0.5} for n in range(30)]
    pq.write_table(pa.Table.from_pylist(content), file)
    whole = ingest(engine, "m", file)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(file.read_bytes()[:-20])
    broken = ingest(engine, "m", cut)
    assert (whole.new, whole.feedback) == (30, 30)
    assert broken.quarantined == {"the Parquet file is damaged from here on; write it again": 1}


def test_parquet_rows_beyond_python_s_calendar_are_kept_apart_alone(engine, tmp_path):
    """A time or text that cannot be converted costs its own row, not the file or the rows beside it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    at = pa.array([int(NOW.timestamp() * 1e6)] * 2 + [2**62], pa.timestamp("us", "UTC"))
    file = tmp_path / "log.parquet"
    pq.write_table(pa.table({"request_id": ["a", "b", "c"], "at": at, "prompt": ["x", "y", "z"]}), file)
    summary = ingest(engine, "m", file)
    assert (summary.new, summary.quarantined) == (2, {"not convertible (OverflowError)": 1})
    assert [item["row_number"] for item in stored(engine, tables.quarantined_row)] == [3]


def test_a_score_in_a_row_of_its_own_leaves_the_reference(engine, tmp_path):
    """Two rows on one request in one file add up, as they would from two files."""
    rows = [row(1, reference="what a person wrote"), row(1, score=1)]
    ingest(engine, "m", jsonl(tmp_path / "log.jsonl", rows))
    (kept,) = stored(engine, tables.feedback)
    assert (kept["reference"], kept["score"]) == ("what a person wrote", 1.0)


def test_other_kinds_of_file_are_refused(engine, tmp_path):
    """The message names the kinds that are read."""
    file = tmp_path / "log.xlsx"
    file.touch()
    with pytest.raises(ContractError, match=r"give \.jsonl, .*save it as CSV"):
        ingest(engine, "m", file)
    with pytest.raises(ContractError, match="no such file"):
        ingest(engine, "m", tmp_path / "none.csv")


@pytest.mark.parametrize(
    "at", ["2026-05-01T12:00:00Z", "2026-05-01T14:00:00+02:00", 1777636800, "1777636800", 1777636800000.0, NOW]
)
def test_times_in_every_common_form(at):
    """ISO 8601 with a zone, and seconds or milliseconds since 1970, mean the same moment."""
    assert parse({"request_id": "r", "at": at, "prompt": ""}, "m").inference.at == NOW


@pytest.mark.parametrize("at", [True, "", "1e400", -1, float("nan"), "0001-01-01", [1], "2026-13-01"])
def test_what_is_no_time_is_said(at):
    """Nonsense in `at` raises ValueError and nothing else."""
    with pytest.raises(ValueError, match="column 'at'"):
        parse({"request_id": "r", "at": at, "prompt": "p"}, "m")


def test_requests_past_the_logs_retention_are_counted(engine, tmp_path):
    """They go with the next `maintain`, which the one who loads them learns at once, with the days that keep them."""
    now = NOW + timedelta(days=200)
    ages = (201, 91, 90, 89, 0)
    file = jsonl(
        tmp_path / "log.jsonl", [row(n, at=(now - timedelta(days=age)).isoformat()) for n, age in enumerate(ages)]
    )
    found = ingest(engine, "m", file, now=now)
    assert (found.new, found.past, found.retention_needed(now)) == (5, 2, 202)
    drop_before(engine, now - timedelta(days=90))
    assert len(stored(engine, tables.inference)) == len(ages) - found.past


def test_what_is_kept_is_what_was_said(engine, tmp_path, home, monkeypatch):
    """With as many days as were named nothing is past its time."""
    file = jsonl(tmp_path / "log.jsonl", [row(0, at=(NOW - timedelta(days=300)).isoformat())])
    needed = ingest(engine, "m", file, now=NOW).retention_needed(NOW)
    monkeypatch.setenv("DRIFTLOOP_RETENTION_DAYS", str(needed))
    settings.cache_clear()
    assert ingest(engine, "m", file, now=NOW).past == 0


def test_several_files_of_a_pattern(engine, tmp_path):
    """All files of a pattern come in, hidden ones not, and a bad row is kept apart under its own file's name."""
    jsonl(tmp_path / "a.jsonl", [row(1)])
    jsonl(tmp_path / "b.jsonl", [row(2), {"request_id": "x"}])
    (tmp_path / "._b.jsonl").write_bytes(b"\0\5\x16\7")
    summary = ingest(engine, "m", tmp_path / "*.jsonl")
    assert (summary.rows, summary.new, summary.quarantined.total()) == (3, 2, 1)
    assert [item["source"] for item in stored(engine, tables.quarantined_row)] == [str(tmp_path / "b.jsonl")]


def test_requests_of_the_future_and_unknown_columns_are_told(engine, tmp_path):
    """A time ahead of the clock is never judged, and a column of no meaning is an attribute: both are counted."""
    rows = [row(1, latency_ms=5), row(2, at="2026-05-01T14:30:00", latency_ms=6, team="a")]
    summary = ingest(engine, "m", jsonl(tmp_path / "a.jsonl", rows), now=NOW)
    assert (summary.ahead, dict(summary.attributes)) == (1, {"latency_ms": 2, "team": 1})


def test_gaps_that_were_made_texts(engine, tmp_path):
    """What pandas and warehouses write for nothing is no user, no id, no reference, and no zero."""
    file = tmp_path / "a.csv"
    file.write_text(
        "Request ID,at,prompt,User ID,completion,reference,latency_seconds\n"
        "a,2026-05-01T10:00:00Z,p,nan,NULL,nan,None\n"
        "nan,2026-05-01T10:00:00Z,p,u,c,,\n"
        "1.23457E+17,2026-05-01T10:00:00Z,p,u,c,,\n"
    )
    summary = ingest(engine, "m", file)
    (kept,) = stored(engine, tables.inference)
    assert (kept["request_id"], kept["user_id"], kept["completion"], kept["latency_seconds"]) == ("a", None, None, None)
    assert (summary.new, summary.feedback, summary.quarantined.total()) == (1, 0, 2)


@pytest.mark.parametrize("calls", [5, "f", {"function": {"name": "f"}}, None])
def test_calls_of_tools_in_odd_forms_stop_no_file(calls):
    """A row whose calls are no list was the end of its whole file."""
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "tool_calls": calls}]
    read = parse({"request_id": "r", "at": NOW, "messages": messages}, "m")
    assert read.inference.completion.startswith("a")


def test_a_call_as_openai_had_it_before():
    """`function_call` is a call, and a blank reference is no word on a request."""
    said = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    read = parse({"request_id": "r", "at": NOW, "messages": [said], "reference": " "}, "m")
    assert (read.inference.completion, read.feedback) == ("f({})", None)


def test_parquet_maps_are_attributes():
    """A map of Parquet is read as pairs."""
    assert parse({**row(1), "attributes": [("team", "a")]}, "m").inference.attributes == {"team": "a"}
