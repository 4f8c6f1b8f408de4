"""How a version's first profile comes to be: from its reference rows, or from its own log.

It knows how the text looks, but not how the traffic moves; so its tolerances are wide of what one set of rows can tell.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Engine

from datasets_defs.core.windows import Window
from datasets_defs.ledger.champions import Champion
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store.artifacts import read_rows
from datasets_defs.store.inference_log import read_requests
from datasets_defs.store.references import reference_of
from datasets_defs.store.sketch_log import profile_revision
from monitors.breaks.look import learn
from monitors.counts.columns import Row, learn_encoding, sketches
from monitors.counts.kinds import count_kinds
from monitors.profiles.calibration import Replayed, calibrate
from monitors.profiles.clusters import icc_of, rows_per_user
from monitors.profiles.loss_tolerance import loss_tolerance
from monitors.profiles.profile import Profile, keep_profile
from monitors.profiles.reference import MIN_JOINED, build_reference, cleaned, losses_of


def first_profile(db: Engine, spec: ModelSpec, champion: Champion, *, until: datetime) -> Profile | str:
    """Give the version's first profile, made from its reference rows if it is not there yet; or say what is missing.

    A version without a reference gets one from its own log, and then that log's figures and attributes are watched from
    the start. Those of a reference that training left behind were another version's; only its text and loss count.

    Raises:
        ContractError: the reference's file is gone or damaged.
        TransientError: PostgreSQL is away.
    """
    present = profile_revision(db, champion.model, champion.version, 1)
    if present is not None:
        return Profile.of(present)
    made = proposed_profile(db, spec, champion, until=until)
    if made is None:
        missing = build_reference(db, spec, champion, until=until)
        made = proposed_profile(db, spec, champion, until=until)
    return missing if made is None else keep_profile(db, made)


def proposed_profile(db: Engine, spec: ModelSpec, champion: Champion, *, until: datetime) -> Profile | None:
    """Make the version's first profile from its reference rows and keep nothing; None while it has none.

    Raises:
        ContractError: the reference's file is gone or damaged.
        TransientError: PostgreSQL is away.
    """
    reference = reference_of(db, champion.model, champion.version)
    if reference is None:
        return None
    stored = read_rows(reference.uri, reference.sha256)
    rows = [row for row in stored if row["role"] == "recent"][: spec.drift.max_rows]
    if not rows:
        return None
    trained = [row for row in stored if row["role"] == "trained"][: spec.drift.max_rows - len(rows)]
    logged = cleaned(_logged(db, champion, rows, until), spec)
    made = _from_rows(spec, champion, logged or rows, reference.source, trained=trained)
    made = replace(made, is_scored_apart=not logged)
    return replace(made, effective_from=until) if logged else made  # no window is compared with its own rows


def _from_rows(
    spec: ModelSpec, champion: Champion, rows: Sequence[Row], source: str, *, trained: Sequence[Row] = ()
) -> Profile:
    """Make a first profile; the texts of rows that the version was trained on count, and nothing else of them."""
    texts = [*rows, *trained]
    usual = learn(rows)
    encoding = learn_encoding(texts, exclude=(*spec.drift.exclude, *usual.roles), embedding=spec.drift.embedding)
    columns = sketches(encoding, texts, own=True)
    if trained:
        figures = sketches(encoding, rows)
        columns |= {column.name: figures[column.name] for column in encoding.of("log", "attribute")}
    icc = icc_of(encoding, rows, own=True)
    kinds, kind_rows = count_kinds(
        encoding.kinds, [row["prompt"] or "" for row in rows], [row.get("prompt_bits_per_byte") for row in rows]
    )
    calibration = calibrate([Replayed(0, columns, rows_per_user(rows))], icc)
    return Profile(
        model=champion.model,
        version=champion.version,
        revision=1,
        effective_from=None,
        source=source,
        rows=len(texts),
        encoding=encoding,
        reference=columns,
        eps=calibration.eps,
        icc=icc,
        loss=losses_of(rows),
        usual=usual,
        kinds=kinds,
        kind_rows=kind_rows,
        loss_tolerance=loss_tolerance([]),
        false_alarms_per_window=calibration.false_alarms_per_window,
    )


def _logged(db: Engine, champion: Champion, rows: Sequence[Row], until: datetime) -> list[Row]:
    """Give the rows of the champion's own log that a reference was made of; none if it was made of something else."""
    if until <= champion.since:
        return []
    ids = [row["request_id"] for row in rows]
    logged = read_requests(db, champion.model, Window(champion.since, until), ids)
    own = [row for row in logged if row["model_version"] in (champion.version, None)]
    return list(own) if len(own) >= MIN_JOINED * len(rows) else []
