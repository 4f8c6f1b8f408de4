"""In which order a training sees its rows."""

import random
from functools import lru_cache


def rows_of(step: int, rows: int, total: int, seed: int) -> list[int]:
    """Give the rows of one step: every epoch in an order of its own that depends on the seed and its number alone."""
    chosen = []
    for position in range(step * rows, (step + 1) * rows):
        epoch, place = divmod(position, total)
        chosen.append(_order(total, seed, epoch)[place])
    return chosen


@lru_cache(maxsize=2)
def _order(total: int, seed: int, epoch: int) -> list[int]:
    order = list(range(total))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return order
