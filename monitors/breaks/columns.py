"""What happens to whole columns: gone, renamed, of another type or unit, zero, stuck, replaced. Pure."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from datasets_defs.redaction.levels import telling
from monitors.breaks.finding import COLUMN, NOTE, Break
from monitors.counts.columns import ATTRIBUTE, LOG_COLUMNS, Row, ids_of
from monitors.counts.sketch import hashed_level

LEAST_VALUES = 30
PRESENT, GONE = 0.8, 0.02
"""A column that so many rows had, and so few have, is gone."""
OTHER_TYPE = 0.5
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
UNIT_MEAN, UNIT_EACH = 0.08, 0.25
"""How far log10 of the quantiles' ratios may lie from one whole number: on average, and each."""
MOST_ZEROS, ZEROS_BEFORE = 0.9, 0.5
STUCK, VARIOUS = 0.98, 0.5
UNSEEN = 0.5
KNOWN_LEVELS = 200


def learn_columns(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Learn what each figure and attribute looks like, as JSON holds it."""
    return {name: facts for name, facts in _all_facts(rows).items() if facts is not None}


def find(rows: Sequence[Row], known: Mapping[str, Mapping[str, Any]], aside: Collection[str] = ()) -> Iterator[Break]:
    """Give what became of each known column in a window's sample of rows, and attributes that are new.

    `aside` are columns that are not watched. Attributes are new only to a reference that has some: one that training
    made has none, and says nothing about them. It lacks most of the log's own columns, too, which the server fills in:
    these are never told of as new.
    """
    if len(rows) < LEAST_VALUES or not known:
        return
    now = _all_facts(rows)
    unknown = {name for name in now if name not in known and name not in aside}
    new = {name: facts for name, facts in now.items() if name in unknown and facts and facts["present"] >= PRESENT}
    for name, before in known.items():
        facts = now.get(name)
        if before["present"] >= PRESENT and (facts is None or facts["present"] <= GONE):
            other = _renamed(before, new)
            new.pop(other or "", None)
            yield _gone(name, other)
        elif facts is not None and facts["values"] >= LEAST_VALUES:
            yield from _changed(name, before, facts)
    knows_attributes = any(name.startswith(ATTRIBUTE) for name in (*known, *aside))
    for name, facts in new.items():
        if knows_attributes and name.startswith(ATTRIBUTE):
            reason = f"{name} is new: {facts['present']:.0%} of the rows have it; the next profile watches it"
            yield _break("new", name, reason, facts["present"], scope=NOTE)


def vanished(rows: Sequence[Row], known: Mapping[str, Mapping[str, Any]]) -> Iterator[Break]:
    """Give a break for each column that is watched for presence alone, and is gone."""
    here = {name: len(_cells(name, rows)) / max(len(rows), 1) for name in known}
    for name, before in known.items():
        if len(rows) >= LEAST_VALUES and before["present"] >= PRESENT and here[name] <= GONE:
            yield _gone(name, None)


def _changed(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Break]:
    if before["type"] != now["type"]:
        yield _break("retyped", name, f"{name} changed its type: {before['type']} became {now['type']}")
    elif now["type"] == "number":
        yield from _number_changed(name, before, now)
    elif before["levels"]:
        yield from _levels_changed(name, before, now)


def _number_changed(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Break]:
    if now["zeros"] >= MOST_ZEROS and before["zeros"] <= ZEROS_BEFORE:
        reason = f"{name} is 0 in {now['zeros']:.0%} of the rows, {before['zeros']:.0%} before"
        yield _break("zeros", name, reason, now["zeros"])
    elif now["top"] >= STUCK and before["top"] <= VARIOUS:
        yield _break("stuck", name, f"{name} has one and the same value in {now['top']:.0%} of the rows", now["top"])
    elif before["quantiles"][0] > 0 and now["quantiles"][-1] < 0:
        yield _break("sign", name, f"{name} was positive and is negative")
    elif power := _power_of_ten(before["quantiles"], now["quantiles"]):
        yield _break("unit", name, f"{name} is 10^{power:+d} times what it was in all its quantiles: another unit")


def _power_of_ten(before: Sequence[float], now: Sequence[float]) -> int:
    """Give the power of ten by which all quantiles moved alike; 0 where they did not."""
    if min(*before, *now) <= 0:
        return 0
    moved = np.log10(np.array(now) / np.array(before))
    power = round(float(moved.mean()))
    is_alike = abs(float(moved.mean()) - power) <= UNIT_MEAN and bool(np.all(np.abs(moved - power) <= UNIT_EACH))
    return power if is_alike else 0


def _levels_changed(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Break]:
    unseen = {level: share for level, share in now["levels"].items() if level not in before["levels"]}
    share = sum(unseen.values())
    if share <= UNSEEN or sum(before["levels"].values()) < 1 - UNSEEN / 2:
        return
    folded = {_folded(level) for level in before["levels"]}
    if sum(unseen[level] for level in unseen if _folded(level) in folded) >= 0.9 * share:
        yield _break("case", name, f"{share:.0%} of the values of {name} are known levels written otherwise", share)
        return
    reason = f"{share:.0%} of the values of {name} are levels that the reference never had: it is left out of drift"
    yield _break("replaced", name, reason, share, scope=NOTE)


def _renamed(before: Mapping[str, Any], new: Mapping[str, Mapping[str, Any]]) -> str | None:
    alike = (other for other, now in new.items() if now["type"] == before["type"] and _is_like(before, now))
    return next(alike, None)


def _gone(name: str, other: str | None) -> Break:
    if other is not None:
        return _break("renamed", name, f"{name} is gone, and {other} has values like it: it was renamed")
    return _break("gone", name, f"{name} is missing: no row has it")


def _is_like(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    if before["type"] == "number":
        middle, other = before["quantiles"][2], now["quantiles"][2]
        spread = before["quantiles"][-1] - before["quantiles"][0]
        return bool(abs(middle - other) <= max(spread, 1e-9))
    shared = sum(share for level, share in now["levels"].items() if level in before["levels"])
    return shared >= UNSEEN or not before["levels"]


def _break(kind: str, name: str, reason: str, share: float = 1.0, *, scope: str = COLUMN) -> Break:
    return Break(kind=kind, share=share, reason=reason, key=name, scope=scope, column=name)


def _names(rows: Sequence[Row]) -> list[str]:
    attributes = sorted({name for row in rows for name in row.get("attributes") or {}})
    return [*LOG_COLUMNS, *(ATTRIBUTE + name for name in attributes)]


def _cells(name: str, rows: Sequence[Row]) -> list[Any]:
    if name.startswith(ATTRIBUTE):
        key = name.removeprefix(ATTRIBUTE)
        cells = [(row.get("attributes") or {}).get(key) for row in rows]
    else:
        cells = [row.get(name) for row in rows]
    return [cell for cell in cells if cell is not None and cell == cell]  # noqa: PLR0124 without NaN


def _all_facts(rows: Sequence[Row]) -> dict[str, dict[str, Any] | None]:
    ids = ids_of(rows)
    return {name: _facts(_cells(name, rows), len(rows), ids) for name in _names(rows)}


def _facts(cells: Sequence[Any], rows: int, ids: Collection[str]) -> dict[str, Any] | None:
    if not cells or not rows:
        return None
    types = Counter(_type(cell) for cell in cells)
    kind, often = types.most_common(1)[0]
    if often < OTHER_TYPE * len(cells):
        return None
    some = [cell for cell in cells if _type(cell) == kind]
    facts: dict[str, Any] = {"present": len(cells) / rows, "values": len(some), "type": kind}
    times = Counter(map(str, some))
    facts["top"] = times.most_common(1)[0][1] / len(some)
    if kind == "number":
        numbers = np.clip(np.asarray(some, dtype=np.float64), -1e300, 1e300)
        facts["zeros"] = float((numbers == 0).mean())
        facts["quantiles"] = np.quantile(numbers, QUANTILES).tolist()
    else:
        singles = sum(number == 1 for number in times.values())
        named = times.most_common(KNOWN_LEVELS) if singles <= 0.2 * len(some) else []
        facts["levels"] = _shown(dict(named), ids, len(some))
    return facts


def _shown(levels: Mapping[str, int], ids: Collection[str], of: int) -> dict[str, float]:
    """Give the share of each level, under a hashed name where its own would tell who somebody is."""
    hidden, shares = telling(levels, ids), Counter[str]()
    for level, number in levels.items():
        shares[hashed_level(level) if level in hidden else level[:200]] += number
    return {level: number / of for level, number in shares.items()}


def _type(cell: Any) -> str:
    if isinstance(cell, bool):
        return "text"  # as a level: true, false
    if isinstance(cell, int | float):
        return "number"
    return "text" if isinstance(cell, str) else "nested"


def _folded(level: str) -> str:
    return "".join(filter(str.isalnum, level.casefold()))
