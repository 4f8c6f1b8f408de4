"""Rows that one user sends, or that were written more than once. Pure."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from monitors.breaks.finding import EXAMPLES, Break, masked
from monitors.counts.columns import ATTRIBUTE, Row

LEAST_ROWS = 100
TOP_SHARE = 0.6
"""One user who sends more of the rows is not what users are."""
TOP_RISE = 0.3
SENDERS = frozenset(
    {"account", "apikey", "caller", "client", "customer", "key", "org", "organisation", "organization", "owner",
     "sender", "team", "tenant", "user", "workspace"}
)  # fmt: skip
"""Words in the name of an attribute that says who sends: any other may have one frequent value by its nature."""
_WORDS = re.compile(r"[a-z]+")
REPEATED = 0.15
"""Rows that equal another one in prompt, user, time taken, and tokens, and so were written twice."""
ALL_REPEATED, REPEATED_BEFORE = 0.8, 0.4
"""Where nothing but the prompt is known nearly all must come again, and few have done before."""


def top_user(rows: Sequence[Row]) -> tuple[float, list[str]] | None:
    """Give the share of rows of the most frequent user, with some of that user's prompts; None without users."""
    users = [row.get("user_id") if row.get("user_id") is not None else row.get("session_id") for row in rows]
    known = Counter(user for user in users if user is not None)
    if sum(known.values()) < 0.5 * max(len(rows), 1):
        return None
    user, number = known.most_common(1)[0]
    prompts = [row["prompt"] or "" for row, owner in zip(rows, users, strict=True) if owner == user]
    return number / len(rows), prompts[:EXAMPLES]


def find(rows: Sequence[Row], usual: float | None) -> Iterator[Break]:
    """Give a break where one user sends most of the rows, and none did in the reference."""
    if len(rows) < LEAST_ROWS or usual is None or (top := top_user(rows)) is None:
        return
    share, prompts = top
    if share > TOP_SHARE and share > usual + TOP_RISE:
        yield Break(
            kind="one-user",
            share=share,
            examples=tuple(masked(prompt) for prompt in prompts),
            reason=f"one user sends {share:.0%} of the rows; in the reference nobody sent more than {usual:.0%}",
            key="user",
        )


def senders(rows: Sequence[Row], usual: Mapping[str, float]) -> Iterator[Break]:
    """Give a break for each attribute that names who sends, where one value has taken over most of the rows.

    `usual` is the share of the most frequent value in the reference, by column.
    """
    for column, before in usual.items():
        name = column.removeprefix(ATTRIBUTE)
        if column == name or not SENDERS & set(_WORDS.findall(name.lower())) or len(rows) < LEAST_ROWS:
            continue
        values = [(row.get("attributes") or {}).get(name) for row in rows]
        value, number = next(iter(Counter(str(cell) for cell in values if cell is not None).most_common(1)), ("", 0))
        share = number / len(rows)
        if share > TOP_SHARE and share > before + TOP_RISE:
            prompts = [row["prompt"] or "" for row, cell in zip(rows, values, strict=True) if str(cell) == value]
            yield Break(
                kind="one-key",
                share=share,
                examples=tuple(masked(prompt) for prompt in prompts[:EXAMPLES]),
                reason=f"one value of {column} has {share:.0%} of the rows; none had over {before:.0%} before",
                key=column,
            )


def repeated(rows: int, same_prompt: int, same_row: int | None, *, usual: float) -> Iterator[Break]:
    """Give a break where rows were written more than once.

    `same_prompt` counts rows whose prompt another row has, `same_row` those that agree with another in figures which
    hardly ever agree, too; None where those figures are not logged.
    """
    if rows < LEAST_ROWS:
        return
    share = (same_row or 0) / rows
    if share < REPEATED:
        share = same_prompt / rows
        if same_row is not None or share < ALL_REPEATED or usual > REPEATED_BEFORE:
            return
    yield Break(
        kind="duplicated",
        share=share,
        reason=f"{share:.0%} of the rows are in the log more than once",
        key="rows",
    )
