"""The breaks of one window, from the log: what the sensor calls before any statistics."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.redaction.kinds import USUAL
from datasets_defs.store.sketch_log import StoredSketch
from monitors.breaks.accepted import accepted_in, decisions
from monitors.breaks.baseline import Baseline
from monitors.breaks.finding import Break
from monitors.breaks.look import window_breaks
from monitors.breaks.sample import read_sample
from monitors.counts.rollup import WindowSketch


def breaks_of(
    db: Engine,
    champion: Champion,
    window: Window,
    usual: Baseline,
    before: StoredSketch | None,
    *,
    kinds: Iterable[str] = USUAL,
) -> tuple[dict[str, Any], ...]:
    """Name what is broken in a window's rows, as JSON holds it, but for what a person accepted.

    `before` is the window before, from which a break that goes on has its beginning. `kinds` is what is taken out of
    texts first, since findings quote them.

    Raises:
        TransientError: PostgreSQL is away.
    """
    if not usual.is_known:
        return ()
    earlier = () if before is None else WindowSketch.from_bytes(before.content).breaks
    breaks = window_breaks(
        read_sample(db, champion, window, kinds=kinds),
        usual,
        before=[Break.of(plain) for plain in earlier],
        accepted=accepted_in(decisions(Ledger(db), champion), champion.version),
    )
    return tuple(finding.plain() for finding in breaks)
