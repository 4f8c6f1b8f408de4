"""A window's rows, read once and kept as counts: streamed by COPY, the texts of a sample by a server-side cursor."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

import psycopg
from psycopg import sql
from sqlalchemy import Engine

from datasets_defs.core.errors import ContractError
from datasets_defs.core.windows import Window
from datasets_defs.redaction.kinds import USUAL
from datasets_defs.redaction.rows import clean_texts
from datasets_defs.store.database import allow, database_errors
from monitors.counts.codec import packed, unpacked
from monitors.counts.columns import EMBEDDED_ROWS, Encoding, text_sketches
from monitors.counts.counting import EncodingCounts
from monitors.counts.kinds import count_kinds
from monitors.counts.moments import Moments
from monitors.counts.sketch import Sketch, from_bytes, merge

BLOCK_BYTES = 1 << 23
"""Rows are counted in blocks of about this size."""
MAX_TEXT_CHARACTERS = 20_000_000
"""Prompts are described until they come to so many characters."""
TEXT_BATCH = 100
"""So many prompts are in memory at a time; one may have a megabyte."""
SPARE = 1.5
"""How many times the sample's rows a coarse choice by hash lets through to be put in order."""
_FORMAT = b"W1"
S = TypeVar("S", Moments, int)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSketch:
    """What is kept of the rows that one model version answered in one window."""

    window: Window
    rows: int
    columns: Mapping[str, Sketch]
    """By name; those of the text count a sample of the rows, the others all."""
    loss: Moments
    """Of the prompts' bits per byte, weighted by bytes."""
    rows_per_user: float = 1.0
    """Rows of the user of a random row; 1 where users are not known."""
    empty_prompts: int = 0
    breaks: tuple[Mapping[str, Any], ...] = ()
    """What is broken in its rows, by name; found as they were counted, since counts do not show it."""
    kinds: tuple[Moments, ...] = ()
    """What the sampled prompts of each kind cost, new kinds last; empty where the encoding knows no kinds."""
    kind_rows: tuple[int, ...] = ()
    """Sampled prompts of each kind, those without a loss, too."""

    def to_bytes(self) -> bytes:
        """Give it as bytes."""
        head = {
            "window": [self.window.start.isoformat(), self.window.end.isoformat()],
            "rows": self.rows,
            "loss": asdict(self.loss),
            "rows_per_user": self.rows_per_user,
            "empty_prompts": self.empty_prompts,
            **({"breaks": list(self.breaks)} if self.breaks else {}),
            **({"kinds": [astuple(kind) for kind in self.kinds], "kind_rows": self.kind_rows} if self.kinds else {}),
        }
        return packed(_FORMAT, head, {name: sketch.to_bytes() for name, sketch in self.columns.items()})

    @classmethod
    def from_bytes(cls, content: bytes) -> "WindowSketch":
        """Read what `to_bytes` gave.

        Raises:
            ContractError: the bytes are no window's sketch.
        """
        head, parts = unpacked(_FORMAT, content, what="a window's sketch")
        columns = {name: from_bytes(part) for name, part in parts.items()}
        try:
            start, end = map(datetime.fromisoformat, head.pop("window"))
            return cls(
                window=Window(start, end),
                loss=Moments(**head.pop("loss")),
                columns=columns,
                kinds=tuple(Moments(*sums) for sums in head.pop("kinds", ())),
                kind_rows=tuple(head.pop("kind_rows", ())),
                breaks=tuple(head.pop("breaks", ())),
                **head,
            )
        except (KeyError, TypeError, ValueError) as err:
            raise ContractError(f"the head of a window's sketch is damaged: {err}") from err


def add_up(sketches: Sequence[WindowSketch]) -> WindowSketch:
    """Add up windows that were counted with one encoding; users are taken not to come back in another window.

    Raises:
        ContractError: there are none, or they were counted differently.
    """
    if not sketches:
        raise ContractError("there is no window to add up; one at least is needed")
    rows = sum(sketch.rows for sketch in sketches)
    names = dict.fromkeys(name for sketch in sketches for name in sketch.columns)
    return WindowSketch(
        window=Window(min(sketch.window.start for sketch in sketches), max(sketch.window.end for sketch in sketches)),
        rows=rows,
        columns={
            name: merge([sketch.columns[name] for sketch in sketches if name in sketch.columns]) for name in names
        },
        loss=sum((sketch.loss for sketch in sketches), Moments()),
        rows_per_user=sum(sketch.rows * sketch.rows_per_user for sketch in sketches) / rows if rows else 1.0,
        empty_prompts=sum(sketch.empty_prompts for sketch in sketches),
        breaks=tuple(
            {(finding["kind"], finding["key"]): finding for sketch in sketches for finding in sketch.breaks}.values()
        ),
        kinds=_added([sketch.kinds for sketch in sketches], Moments()),
        kind_rows=_added([sketch.kind_rows for sketch in sketches], 0),
    )


COUNTING = timedelta(minutes=5)
"""How long reading one window may take: a million rows take about ten seconds."""


def _added(by_window: Sequence[Sequence[S]], nothing: S) -> tuple[S, ...]:
    """Add up what windows have of each kind."""
    there = [counts for counts in by_window if counts]
    return tuple(sum(of_kind, nothing) for of_kind in zip(*there, strict=True))


def roll_up(
    db: Engine,
    model: str,
    version: int,
    window: Window,
    encoding: Encoding,
    *,
    text_rows: int,
    redact: Collection[str] = USUAL,
) -> WindowSketch:
    """Count the window's rows that the version answered; a foreign log, which names no version, counts as its own.

    Figures and attributes are counted over all rows, texts over `text_rows` at most, chosen by the hash of their
    request id. Texts are counted without what `redact` takes out of them, since the profile knows them so. All is read
    from one state of the database.

    Raises:
        ContractError: a kind of redaction is not installed.
        TransientError: PostgreSQL is away.
    """
    rows = _Rows(model, version, window)
    with database_errors("reading the inference log"), db.connect() as pooled:
        with pooled.execution_options(isolation_level="REPEATABLE READ").begin(), allow(pooled, COUNTING):
            on = cast("psycopg.Connection", pooled.connection.driver_connection)  # COPY is not SQLAlchemy's
            tally = EncodingCounts(encoding)
            for block in _blocks(on, rows.select(tally.expressions)):
                tally.add(block)
            texts = _texts(on, rows, encoding, text_rows, of=tally.rows, redact=redact)
            return WindowSketch(
                window=window,
                rows=tally.rows,
                columns={**tally.sketches(), **texts.columns},
                loss=tally.loss,
                rows_per_user=_rows_per_user(on, rows),
                empty_prompts=tally.empty_prompts,
                kinds=texts.kinds,
                kind_rows=texts.kind_rows,
            )


@dataclass(frozen=True, slots=True)
class _Rows:
    model: str
    version: int
    window: Window

    def select(self, columns: Sequence[sql.Composable], tail: sql.Composable = sql.SQL("")) -> sql.Composed:  # noqa: B008 a constant
        """Make the query for columns of these rows."""
        return sql.SQL(
            "SELECT {columns} FROM inference WHERE model = {model} AND at >= {start} AND at < {end} "
            "AND (model_version = {version} OR model_version IS NULL) {tail}"
        ).format(
            columns=sql.SQL(", ").join(columns),
            model=sql.Literal(self.model),
            start=sql.Literal(self.window.start),
            end=sql.Literal(self.window.end),
            version=sql.Literal(self.version),
            tail=tail,
        )


def _blocks(on: psycopg.Connection, query: sql.Composed) -> Iterator[bytes]:
    """Give a query's rows as lines of COPY's text format, many at a time."""
    block = bytearray()
    with on.cursor() as cursor, cursor.copy(sql.SQL("COPY ({}) TO STDOUT").format(query)) as copy:
        for line in copy:
            block += line
            if len(block) >= BLOCK_BYTES:
                yield bytes(block)
                block.clear()
    if block:
        yield bytes(block)


def _rows_per_user(on: psycopg.Connection, rows: _Rows) -> float:
    """Give the sum of squares of users' rows over their sum, by user id or else session id; others stand for one."""
    users = rows.select([sql.SQL("coalesce(user_id, session_id) AS who, count(*) AS n")], sql.SQL("GROUP BY 1"))
    query = sql.SQL("SELECT (sum(CASE WHEN who IS NULL THEN n ELSE n * n END) / sum(n))::float8 FROM ({}) AS users")
    row = on.execute(query.format(users)).fetchone()
    return 1.0 if row is None or row[0] is None else float(row[0])


@dataclass(frozen=True, slots=True)
class _Texts:
    columns: dict[str, Sketch]
    kinds: tuple[Moments, ...] = ()
    kind_rows: tuple[int, ...] = ()


def _texts(
    on: psycopg.Connection, rows: _Rows, encoding: Encoding, limit: int, *, of: int, redact: Collection[str]
) -> _Texts:
    """Count what can be said of the prompts of `limit` of the rows, a few of them in memory at a time."""
    if not encoding.of("text", "embedding") and encoding.kinds is None:
        return _Texts({})
    highest = "g" if of <= SPARE * limit else f"{int(SPARE * limit / of * 2**32):08x}"
    tail = sql.SQL("AND md5(request_id) < {} ORDER BY md5(request_id), request_id, at LIMIT {}").format(
        sql.Literal(highest), sql.Literal(limit)
    )
    parts = [text_sketches(encoding, [], embedded=0)]
    kinds = [count_kinds(encoding.kinds, [], [])]
    characters, read = 0, 0
    with on.cursor(name="prompts") as cursor:
        cursor.execute(rows.select([sql.Identifier("prompt"), sql.Identifier("prompt_bits_per_byte")], tail))
        while characters < MAX_TEXT_CHARACTERS and (batch := cursor.fetchmany(TEXT_BATCH)):
            prompts = clean_texts([prompt for (prompt, _) in batch], redact)
            parts.append(text_sketches(encoding, prompts, embedded=max(EMBEDDED_ROWS - read, 0)))
            kinds.append(count_kinds(encoding.kinds, prompts, [loss for (_, loss) in batch]))
            characters, read = characters + sum(map(len, prompts)), read + len(prompts)
    return _Texts(
        {name: merge([part[name] for part in parts]) for name in parts[0]},
        _added([losses for losses, _ in kinds], Moments()),
        _added([counts for _, counts in kinds], 0),
    )
