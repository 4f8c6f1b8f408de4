"""What a model that was just described still lacks: files, the stack, a champion, and signals that say nothing yet."""

from datetime import UTC, datetime
from pathlib import Path

from datasets_defs.core.errors import DriftloopError
from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import ModelSpec
from monitors.dry_run import check
from monitors.prometheus.of_settings import client_of_settings
from ops.stack.database import database


def missing(name: str) -> list[str]:
    """Give a sentence for each thing that is missing, with what to do about it; none: the model can be watched."""
    spec = spec_of(name)
    return [*_files(spec), *_record(spec)]


def _files(spec: ModelSpec) -> list[str]:
    sentences = []
    base, text = spec.base_model, spec.training_text
    if isinstance(base, str) and not Path(base).exists():
        is_path = Path(base).is_absolute() or base.startswith((".", "~"))
        what = "does not exist" if is_path else "is no folder here, so it will be fetched from the Hugging Face hub"
        sentences.append(f"base_model: {base} {what}")
    if not text.startswith("builtin:") and "://" not in text and not Path(text).is_file():
        sentences.append(f"training_text: the file {text} does not exist; put it there, or name another")
    return sentences


def _record(spec: ModelSpec) -> list[str]:
    """What the database and a dry run of the sensors say; a signal that is known lacks nothing, good or bad."""
    try:
        outcome = check(spec.name, until=datetime.now(UTC), db=database(), prometheus=client_of_settings())
    except DriftloopError as err:
        return [f"no sensor can judge yet: {err}; `driftloop up` starts the local stack"]
    sentences = []
    if outcome.champion_version is None:
        sentences.append(f"no champion serves yet: `driftloop bootstrap {spec.name}` makes the first one")
    unknown = [verdict for verdict in outcome.verdicts if not verdict.condition.is_known]
    return sentences + [f"{verdict.signal}: {verdict.reason}" for verdict in unknown]
