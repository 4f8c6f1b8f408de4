"""Where a rollback goes: the good champion before the present one, read from all changes of champion. Pure."""

from collections.abc import Iterable

DRILLS = ("drill", "drill_end")
"""Kinds of change that a drill makes: to the version before, and forward again. Nothing is judged by them."""


def way_back(changes: Iterable[tuple[str, int]]) -> int | None:
    """Give the version that a rollback goes to after these changes; None: there is none, or a drill is under way.

    `changes` are kind and new version, oldest first. A promotion adds a version to the way back. Going back takes the
    versions beyond it off again: what was left is nowhere to go back to, and what served before it still is. After v1,
    v2, v3 and back to v2, the way back leads to v1.
    """
    way: list[int] = []
    is_drilled = False
    for kind, version in changes:
        is_drilled = kind == "drill"
        if kind in DRILLS:
            continue
        if kind == "promote" or version not in way:
            way.append(version)
        else:
            del way[len(way) - way[::-1].index(version) :]
    return next((version for version in reversed(way[:-1]) if version != way[-1]), None) if not is_drilled else None
