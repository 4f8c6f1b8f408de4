"""Rows of the log as PostgreSQL's COPY writes them, into counts: by Arrow and numpy, no row as an object. Pure."""

import io
import json
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from psycopg import sql

from monitors.counts.columns import ColumnEncoding, Encoding, count, count_levels
from monitors.counts.moments import Moments
from monitors.counts.sketch import Sketch, merge

BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001))))
"""What Python takes for white space."""
_NULLS = ["\\N", "null"]
"""SQL's, and JSON's; a text that says so stands in quotes."""


@dataclass(slots=True)
class EncodingCounts:
    """Counts of an encoding's figures and attributes, growing block by block."""

    encoding: Encoding
    rows: int = 0
    empty_prompts: int = 0
    loss: Moments = field(default_factory=Moments)
    _columns: tuple[ColumnEncoding, ...] = field(init=False)
    _found: dict[str, list[Sketch]] = field(init=False)
    _untidy: set[str] = field(default_factory=set)
    """Numeric attributes that may hold other values, too."""

    def __post_init__(self) -> None:
        """Begin with nothing counted."""
        self._columns = self.encoding.of("log", "attribute")
        self._found = {column.name: [count(column, [], nulls=0, wrong=0)] for column in self._columns}

    @property
    def expressions(self) -> list[sql.Composable]:
        """What to select, in SQL: the prompt's bytes, whether it is blank, its loss, and then the columns.

        Attributes are taken as JSON, which tells a number from a text that looks like one.
        """
        blank = sql.SQL(
            "CASE WHEN ltrim(left(prompt, 50), {blanks}) = '' THEN (ltrim(prompt, {blanks}) = '')::int ELSE 0 END"
        ).format(blanks=sql.Literal(BLANKS))
        always: list[sql.Composable] = [sql.SQL("octet_length(prompt)"), blank, sql.SQL("prompt_bits_per_byte")]
        return always + [
            sql.SQL("attributes -> {}").format(sql.Literal(column.attribute))
            if column.origin == "attribute"
            else sql.Identifier(column.name)
            for column in self._columns
        ]

    def add(self, block: bytes) -> None:
        """Count the rows of a block of whole lines."""
        table = self._table(block)
        weights, blanks, bits = (table.column(place) for place in range(3))
        self.rows += table.num_rows
        self.empty_prompts += int(pc.sum(blanks).as_py() or 0)
        self.loss += Moments.of(bits.to_numpy(), weights.to_numpy())
        for place, column in enumerate(self._columns, start=3):
            self._found[column.name].append(self._count(column, table.column(place)))

    def sketches(self) -> dict[str, Sketch]:
        """Give the counts so far."""
        return {name: merge(parts) for name, parts in self._found.items()}

    def _table(self, block: bytes) -> pa.Table:
        try:
            return self._parse(block)
        except pa.ArrowInvalid:  # some attribute's values are not all numbers; counting them shows which
            self._untidy |= {column.name for column in self._columns if column.origin == "attribute"}
            return self._parse(block)

    def _parse(self, block: bytes) -> pa.Table:
        types = [pa.int64(), pa.int64(), pa.float64(), *map(self._type, self._columns)]
        names = [str(place) for place in range(len(types))]
        return pyarrow.csv.read_csv(
            io.BytesIO(block),
            read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=len(block) + 1, use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter="\t", quote_char=False, double_quote=False, escape_char=False
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict(zip(names, types, strict=True)),
                null_values=_NULLS,
                strings_can_be_null=True,
                check_utf8=False,
            ),
        )

    def _type(self, column: ColumnEncoding) -> pa.DataType:
        if column.kind == "category":
            return pa.dictionary(pa.int32(), pa.string())
        return pa.string() if column.name in self._untidy else pa.float64()

    def _count(self, column: ColumnEncoding, cells: pa.ChunkedArray) -> Sketch:
        if column.kind == "category":
            return _count_texts(column, cells)
        present, wrong = cells.drop_null(), 0
        if column.name in self._untidy:
            present, wrong = _numbers(present)
        if not wrong:
            self._untidy.discard(column.name)
        return count(column, present.to_numpy(), nulls=cells.null_count, wrong=wrong)


def _numbers(texts: pa.ChunkedArray) -> tuple[pa.ChunkedArray, int]:
    """Give the numbers among JSON values, and how many are none."""
    numbers = texts.filter(pc.match_substring_regex(texts, "^-?[0-9]"))
    wrong = len(texts) - len(numbers)
    return numbers.cast(pa.float64()), wrong  # one too large for a float is infinite, as in Python


def _count_texts(column: ColumnEncoding, cells: pa.ChunkedArray) -> Sketch:
    counts: Counter[str] = Counter()
    wrong = 0
    for chunk in cells.chunks:
        numbers = np.bincount(chunk.indices.drop_null().to_numpy(), minlength=len(chunk.dictionary)).tolist()
        for value, number in zip(chunk.dictionary.to_pylist(), numbers, strict=True):
            if value.startswith('"'):
                counts[json.loads(value.replace("\\\\", "\\"))] += number  # COPY doubles backslashes
            elif value in ("true", "false"):
                counts[value] += number
            else:
                wrong += number
    return count_levels(column, counts, nulls=cells.null_count, wrong=wrong)
