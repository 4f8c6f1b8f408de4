"""Texts for publication: planned from topics, asked in batches, judged by a quality gate, published once."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from datasets_defs.core.conditions import Outcome
from datasets_defs.core.errors import ContractError
from datasets_defs.core.faults import reached
from datasets_defs.core.requests import Request
from datasets_defs.ledger.ledger import Ledger
from datasets_defs.redaction.rows import clean_texts
from datasets_defs.spec.files import load_all, spec_of
from datasets_defs.spec.generation import GenerateSpec
from datasets_defs.spec.model import ModelSpec
from datasets_defs.store import generated_texts as store
from datasets_defs.store.artifacts import artifact_url, write_bytes
from datasets_defs.store.generated_texts import StoredText, TextRun
from datasets_defs.store.heartbeats import beat, heartbeats
from datasets_defs.store.published_texts import PublishedText
from serving.generation import review
from serving.generation.batch import TextBatch
from serving.generation.outside import Outside, endpoint_of, name_at_api
from serving.generation.prompts import Asker, batch_size, render_topics
from serving.generation.publishing import publishers
from serving.generation.replies import AGAIN, STOPS
from serving.generation.sources import read_source
from serving.generation.text_report import SAMPLES, report_of, summary

PUBLISHED_AT_ONCE = 100
"""Texts that a place gets before they are written down as published."""
RUNG_AGAIN = timedelta(hours=1)
"""How long a daily run may take to begin before it is rung for again."""


def keys_due(*, db: Engine, now: datetime) -> list[str]:
    """Give the keys, `MODEL|texts|TIME`, of the daily runs that are due and that nothing has begun.

    Raises:
        TransientError: PostgreSQL is away.
    """
    beats, keys = heartbeats(db), []
    for name, spec in load_all()[0].items():
        if spec.generate is None or spec.generate.daily_at is None:
            continue
        due, component = _last_due(spec.generate.daily_at, now), f"texts_due:{name}"
        planned, rung = store.last_planned(db, name), beats.get(component, (due - RUNG_AGAIN, {}))[0]
        if (planned is None or planned < due) and rung <= max(due, now - RUNG_AGAIN):
            beat(db, component)
            keys.append(f"{name}|texts|{now:%Y%m%d%H%M%S}")
    return keys


def _last_due(daily_at: str, now: datetime) -> datetime:
    hour, minute = (int(part) for part in daily_at.split(":"))
    today = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return today if today <= now else today - timedelta(days=1)


def plan(request: Request, run_id: str, *, db: Engine, outside: Outside) -> list[dict[str, Any]] | str:
    """Plan a run for the event's model, or the chosen one; give its batches, or why there is nothing to do.

    What is answered is not asked again. Planning a run again gives what is left of it.

    Raises:
        ContractError: the spec, the topics, the template, a Connection or a Variable is wrong.
        TransientError: PostgreSQL is away.
    """
    model = request.key.partition("|")[0] if request.key is not None else request.model
    if not model:
        return "no champion changed, no daily run is due, and no model was chosen in the form: nothing to write"
    spec = spec_of(model)
    if spec.generate is None:
        return f"{model} has no section `generate` in its YAML: it writes no texts for publication"
    champion = Ledger(db).champion(model)
    version = champion.version if champion is not None else None
    now = datetime.now(UTC)
    asker = _asker(spec, spec.generate, version, outside, now)
    source = spec.generate.topics
    topics = list(read_source(source, place="generate.topics", line="topic", db=db, outside=outside))
    rendered = render_topics(topics, spec.generate, asker)
    figures = {"topics": len(topics), "repeated": rendered.repeated, "unusable": rendered.unusable}
    run = TextRun(
        id=run_id, model=model, why=_why(request), asked_model=asker.asked_model, version=version, figures=figures
    )
    texts = [{"key": text.key, "topic": text.topic, "prompt": text.prompt} for text in rendered.texts]
    size = batch_size(len(texts), spec.generate.pace.batch_prompts)
    batches = store.plan_texts(db, run, texts, batch_size=size, again=[str(fault) for fault in AGAIN | STOPS], now=now)
    return [{"model": model, "run": run_id, "batch": batch} for batch in batches]


def _asker(spec: ModelSpec, generate: GenerateSpec, version: int | None, outside: Outside, now: datetime) -> Asker:
    again = {"never": "", "version": f"v{version}" if version is not None else "", "day": f"{now:%Y-%m-%d}"}
    return Asker(
        model=spec.name,
        asked_model=name_at_api(generate.api, spec, version, outside),
        version=version,
        endpoint=endpoint_of(generate.api),
        again=again[generate.again],
    )


def _why(request: Request) -> str:
    if request.key is None:
        return f"asked for by {request.who}: {request.reason}"
    return "the daily run" if "|texts|" in request.key else "the champion changed"


def ask(batch: Mapping[str, Any], *, db: Engine, outside: Outside) -> str:
    """Ask the prompts of a batch that have no answer, and route each text; say what the run has come to.

    Killed anywhere, it is run again and asks what has no answer. Bad answers end as rows with a named fault.

    Raises:
        ContractError: the spec is wrong, or a Connection, a Variable or a secret is missing.
        TransientError: PostgreSQL is away, or another process asks this batch.
    """
    spec, run = spec_of(batch["model"]), store.run_of(db, batch["run"])
    if run is None or spec.generate is None:
        raise ContractError(f"run {batch['run']} of {batch['model']} is not planned; trigger generate_texts again")
    work = TextBatch(
        db=db, spec=spec, generate=spec.generate, run=run, number=batch["batch"], outside=outside
    )  # fmt: skip
    stopped = work.ask()
    if stopped is not None:
        store.note_run(db, run.id, stopped=stopped)
    return summary(spec.name, store.counts_of(db, run.id, "state"), stopped)


def publish(run_id: str, *, db: Engine, outside: Outside) -> Outcome:
    """Publish the model's accepted texts that no place has yet, each once.

    Raises:
        ContractError: a place does not take them.
        TransientError: a place or PostgreSQL is away.
    """
    run = store.run_of(db, run_id)
    if run is None:
        return Outcome("nothing was planned, so nothing is published")
    count = _publish(spec_of(run.model), db, outside, datetime.now(UTC))
    if not count:
        return Outcome(f"{run.model}: no text is accepted that is not published")
    return Outcome(f"{run.model}: {count} texts are published", is_done=True)


def _publish(spec: ModelSpec, db: Engine, outside: Outside, now: datetime) -> int:
    count = 0
    places = publishers(spec.generate.publish, db=db, outside=outside) if spec.generate is not None else []
    while places and (texts := store.texts_in(db, spec.name, "accepted", limit=PUBLISHED_AT_ONCE)):
        published = _published(texts, spec, db)
        for place in places:
            place.publish(published)
            reached("generate_texts.published")
        count += store.move_texts(db, spec.name, [text.key for text in texts], frm="accepted", to="published", now=now)
    return count


def _published(texts: Sequence[StoredText], spec: ModelSpec, db: Engine) -> list[PublishedText]:
    """Give texts as places get them: redacted, each with who wrote it in its own run."""
    clean = clean_texts([stored.completion or "" for stored in texts], spec.data.redact)
    runs = {run_id: store.run_of(db, run_id) for run_id in {stored.run_id for stored in texts}}
    return [
        PublishedText(
            key=stored.key,
            model=spec.name,
            version=run.version if (run := runs[stored.run_id]) is not None else None,
            written_by=run.asked_model if run is not None else "",
            topic=stored.topic,
            text=text,
            scores=stored.scores,
            approved_by=stored.decided_by,
        )
        for stored, text in zip(texts, clean, strict=True)
    ]


def report(run_id: str, *, db: Engine) -> str:
    """Write the run's report, and give its address with what the run came to.

    Raises:
        ContractError: every prompt would have met the fault that stopped the run; a person has to mend it.
        TransientError: PostgreSQL is away.
    """
    run = store.run_of(db, run_id)
    if run is None:
        return "nothing was planned, so there is nothing to report"
    states, faults = (store.counts_of(db, run_id, column) for column in ("state", "fault"))
    samples = {
        state: _cleaned(store.texts_in(db, run.model, state, run_id=run_id, limit=SAMPLES), spec_of(run.model))
        for state in ("published", "accepted", "review", "rejected", "failed")
    }
    url = artifact_url("texts", run.model, f"{hashlib.sha256(run_id.encode()).hexdigest()[:16]}.md")
    write_bytes(url, report_of(run, states, faults, samples).encode())
    store.note_run(db, run_id, report_uri=url)
    words = f"{summary(run.model, states, run.stopped)}; report: {url}"
    if run.stopped is not None and run.stopped.partition(":")[0] in STOPS:
        raise ContractError(words)
    return words


def _cleaned(texts: Sequence[StoredText], spec: ModelSpec) -> list[StoredText]:
    prompts = clean_texts([text.prompt for text in texts], spec.data.redact)
    completions = clean_texts([text.completion or "" for text in texts], spec.data.redact)
    return [
        replace(text, prompt=prompt, completion=completion)
        for text, prompt, completion in zip(texts, prompts, completions, strict=True)
    ]


def questions(run_id: str, *, db: Engine) -> list[dict[str, Any]]:
    """Give the forms about the model's texts that a person has to decide on; empty if there are none.

    Raises:
        TransientError: PostgreSQL is away.
    """
    run = store.run_of(db, run_id)
    spec = spec_of(run.model) if run is not None else None
    if run is None or spec is None or spec.generate is None:
        return []
    waiting = timedelta(hours=spec.generate.review_hours)
    most = review.TEXTS_A_FORM * review.MOST_FORMS
    texts = _cleaned(store.texts_in(db, run.model, "review", limit=most), spec)
    return [{**form, "response_timeout": waiting} for form in review.forms_for(run.model, texts)]


def record(
    run_id: str, forms: Sequence[Mapping[str, Any]], given: Sequence[Mapping[str, Any]], *, db: Engine, outside: Outside
) -> Outcome:
    """Carry out what people decided about the forms' texts, then publish what they accepted.

    The first decision about a text counts: what is decided already stays.

    Raises:
        ContractError: a place does not take the texts.
        TransientError: a place or PostgreSQL is away.
    """
    run, now = store.run_of(db, run_id), datetime.now(UTC)
    if run is None or not given:
        return Outcome("no form was answered, so nothing is decided")
    moved = {"accepted": 0, "rejected": 0}
    for form, answer in zip(forms, given, strict=False):
        who = review.who_answered(answer, "nobody")
        decision = review.decided(form["options"], answer["chosen_options"])
        for state, keys in (("accepted", decision.accepted), ("rejected", decision.rejected)):
            moved[state] += store.move_texts(
                db, run.model, keys, frm="review", to=state, now=now, who=who, reason=f"{state} by {who}"
            )
    count = _publish(spec_of(run.model), db, outside, now)
    said_of = f"{run.model}: {moved['accepted']} accepted and {moved['rejected']} rejected by people, {count} published"
    return Outcome(said_of, is_done=count > 0)
