"""Once a day: whether the prompts lie where the reference prompts lie among an embedding model's vectors.

Single columns miss a change of how meanings go together. This looks at whole vectors, too dear for every window.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.conditions import Condition, Verdict
from datasets_defs.core.windows import Window
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.ledger.retirements import retirement_of
from datasets_defs.spec.files import spec_of
from datasets_defs.store.inference_log import read_window
from datasets_defs.store.verdicts import save_verdict
from monitors.counts.embeddings import embed
from monitors.evidence.mmd import MAX_ROWS, discrepancy
from monitors.profiles.reference import recent_rows

SIGNAL = "embedding"
"""What its verdicts are saved as. They never are BAD: one look a day at this level is wrong some days a year."""
METHOD = "maximum mean discrepancy of embeddings, p-value by permutation"
LEVEL = 0.01
MIN_ROWS = 100
"""Fewer prompts of a side are not compared."""


def compare_day(model: str, *, until: datetime, db: Engine) -> str:
    """Compare the newest whole day's prompts with the reference's, and keep the verdict; say what was done.

    Nothing is done for a model whose spec names no embedding model. Of a user's prompts one counts. Doing it again
    gives the same verdict.

    Raises:
        ContractError: the spec, the reference or the embedding model is wrong.
        TransientError: PostgreSQL is away.
    """
    if (retired := retirement_of(db, model)) is not None:
        return str(retired)
    path, champion = spec_of(model).drift.embedding, Ledger(db).champion(model)
    if path is None or champion is None:
        return f"{model} has no embedding model to look with" if path is None else f"{model} has no champion yet"
    reference = [row["prompt"] for row in recent_rows(db, champion, limit=MAX_ROWS) if row["prompt"]]
    if not reference:
        return f"version {champion.version} of {model} has no reference yet"
    day = Window.last_complete(until, timedelta(days=1))
    rows = read_window(db, model, day, limit=4 * MAX_ROWS)
    prompts = _one_of_each_user(row for row in rows if row["model_version"] in (champion.version, None))[:MAX_ROWS]
    if (fewest := min(len(reference), len(prompts))) < MIN_ROWS:
        return f"{fewest} prompts of a side on {day.start:%Y-%m-%d}, {MIN_ROWS} are needed to compare"
    result = discrepancy(embed(path, reference), embed(path, prompts))
    moved = result.p_value <= LEVEL
    verdict = Verdict(
        model=model,
        signal=SIGNAL,
        window=day,
        condition=Condition.WARN if moved else Condition.OK,
        reason=f"prompts of the day lie {'elsewhere than' if moved else 'where'} the reference's do: "
        f"p {result.p_value:.3f} {'≤' if moved else '>'} {LEVEL}, {len(prompts)} against {len(reference)} prompts",
        method=METHOD,
        score=result.p_value,
        limit=LEVEL,
        champion_version=champion.version,
        evidence={"statistic": result.statistic, "rows": len(prompts), "reference_rows": len(reference)},
    )
    save_verdict(db, verdict)
    return verdict.reason


def _one_of_each_user(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Give prompts, the first of each user: the test takes rows as independent."""
    chosen = {row["user_id"] or row["request_id"]: row["prompt"] for row in reversed([*rows]) if row["prompt"]}
    return [*reversed(chosen.values())]
