"""The former champion goes on scoring: a sample of the prompts that a champion on probation answered."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome
from datasets_defs.core.settings import settings
from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.inference_log import read_window
from datasets_defs.store.shadow_log import ShadowScore, save_shadow_scores, scored_requests
from training.fit.threads import use_threads
from training.model.language_model import SCORED_TOKENS, LanguageModel
from training.model.sampling import Loss
from training.registry.fetch import fetch
from training.registry.registry import Registry

LOOKED_AT = 3
"""Windows that are looked at again for prompts that were not scored, as after an hour without the registry."""


def compare_champions(model: str, *, until: datetime, db: Engine) -> Outcome:
    """Score with the version before the champion what the champion answered in the newest windows; rings for nobody.

    Of each window the first `shadow.rows` prompts by hash count, those scored before are left out: doing it again
    changes nothing.

    Raises:
        ContractError: the spec, or a version in the registry, is wrong.
        TransientError: PostgreSQL or the registry is away.
    """
    spec, champion = spec_of(model), Ledger(db).champion(model)
    if champion is None or champion.previous_version is None:
        return Outcome(f"{model} has no champion that came after another")
    rows = [row for window in _windows(champion, until) for row in _unscored(spec, champion, window, db)]
    if not rows:
        return Outcome(f"nothing new was answered by version {champion.version}")
    use_threads()
    scores = _scored(spec, champion, rows, partial(_losses, db, Registry(settings().mlflow_url)))
    new = save_shadow_scores(db, scores)
    return Outcome(f"version {champion.previous_version} scored {new} prompts that version {champion.version} answered")


def _windows(champion: Champion, until: datetime) -> Iterator[Window]:
    """Give the newest windows that ended by then, or what the champion served of them, newest first."""
    grace = timedelta(seconds=settings().sensor_grace_seconds)
    last = Window.last_complete(until - grace, settings().window_length)
    for window in map(last.before, range(LOOKED_AT)):
        if window.end > champion.since:
            yield Window(max(window.start, champion.since), window.end)


def _unscored(spec: ModelSpec, champion: Champion, window: Window, db: Engine) -> list[dict[str, Any]]:
    """Read the window's sample of the champion's prompts, but those that were scored; texts of nothing cost nothing."""
    sample = read_window(db, spec.name, window, limit=spec.shadow.rows)
    rows = [row for row in sample if row["model_version"] in (champion.version, None) and row["prompt"]]
    known = scored_requests(db, spec.name, champion.version, [row["request_id"] for row in rows])
    return [row for row in rows if row["request_id"] not in known]


def _scored(
    spec: ModelSpec,
    champion: Champion,
    rows: Sequence[dict[str, Any]],
    losses: Callable[[str, int, list[str]], list[Loss]],
) -> list[ShadowScore]:
    previous = champion.previous_version or champion.version
    before = losses(spec.name, previous, [row["prompt"] for row in rows])
    unknown = [at for at, row in enumerate(rows) if not _is_known(spec, champion, row)]
    own = dict(
        zip(
            unknown,
            losses(spec.name, champion.version, [rows[at]["prompt"] for at in unknown]),
            strict=True,
        )
    )
    return [
        ShadowScore(
            model=spec.name,
            champion_version=champion.version,
            previous_version=previous,
            request_id=row["request_id"],
            at=row["at"],
            user_id=row["user_id"],
            bytes=loss.bytes,
            champion_bits=own[at].bits if at in own else row["prompt_bits_per_byte"] * loss.bytes,
            previous_bits=loss.bits,
        )
        for at, (row, loss) in enumerate(zip(rows, before, strict=True))
    ]


def _is_known(spec: ModelSpec, champion: Champion, row: dict[str, Any]) -> bool:
    """Say whether the log holds what the champion paid, measured as `LanguageModel.losses` does.

    Another server, or whoever wrote a log that was ingested, may count otherwise; and prompts of more than one stretch
    are cut for scoring, which costs bits that serving does not pay.
    """
    logged, tokens = row["prompt_bits_per_byte"], row["prompt_tokens"]
    ours = spec.serving.kind == "driftloop" and row["model_version"] == champion.version
    return ours and logged is not None and tokens is not None and tokens < SCORED_TOKENS


def _losses(db: Engine, registry: Registry, model: str, version: int, texts: list[str]) -> list[Loss]:
    if not texts:
        return []
    folder = fetch(db, registry, model, version)
    return LanguageModel.load(folder).losses(texts)
