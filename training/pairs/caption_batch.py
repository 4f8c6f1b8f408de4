"""One batch of a take's captions: read ahead, prepared together, and put down once."""

from typing import Any

from datasets_defs.redaction.redact import finders
from datasets_defs.spec.pairs import PairsSpec
from datasets_defs.store.artifacts import exists, write_rows
from datasets_defs.store.takes import Take
from training.pairs.caption import Caption, prepare_captions, raw_caption
from training.pairs.content import Lost
from training.pairs.image_batch import NO_CAPTION, content_of, read_ahead
from training.pairs.listing import Source, source_of
from training.pairs.manifest import Row, manifest_batch, take_url

_LONGEST = 1_000_000
"""Bytes of a caption's file; a longer one is not read."""


def prepare_caption_batch(take: Take, batch: int, spec: PairsSpec) -> str:
    """Prepare the captions of a batch, unless that was done; say what came of it.

    Raises:
        TransientError: the source is away.
        ContractError: a kind of redaction, or the tokenizer, is not there.
    """
    url = captions_url(take, batch)
    if exists(url):
        return f"{take.ring}: captions of batch {batch} were prepared before"
    rows, source = manifest_batch(take, batch), source_of(spec.source)
    wanted = finders(spec.captions.redact)
    raw = [_raw(row, content, spec) for row, content in read_ahead(rows, lambda row: _content(row, source))]
    read = [at for at, caption in enumerate(raw) if isinstance(caption, str)]
    prepared = prepare_captions([str(raw[at]) for at in read], spec.captions, wanted)
    made: list[Any] = list(raw)
    for at, caption in zip(read, prepared, strict=True):
        made[at] = caption
    facts = [{"place": row["place"], **_facts(caption)} for row, caption in zip(rows, made, strict=True)]
    write_rows(url, facts)
    lost = sum(fact["lost"] is not None for fact in facts)
    return f"{take.ring}: batch {batch}: {len(facts) - lost} captions prepared, {lost} lost"


def captions_url(take: Take, batch: int) -> str:
    """Give the URL of a batch's captions."""
    return take_url(take, "captions", f"{batch:05}.parquet")


def _content(row: Row, source: Source) -> bytes | Lost:
    if row["caption"] is None:
        return Lost(NO_CAPTION, f"no file beside {row['image']} holds one")
    if row["caption_bytes"] > _LONGEST:
        return Lost("caption too long", f"{row['caption_bytes']:,} bytes")
    return content_of(source, row["caption"])


def _raw(row: Row, content: bytes | Lost, spec: PairsSpec) -> str | Lost:
    if isinstance(content, Lost):
        return content
    if len(content) != row["caption_bytes"]:
        return Lost("changed since it was listed", "it is taken again under its new version")
    return raw_caption(content, spec.captions)


def _facts(made: Caption | Lost) -> dict[str, Any]:
    lost, caption = (made, Caption("", 0, [])) if isinstance(made, Lost) else (None, made)
    return {
        "lost": lost.reason if lost else None,
        "detail": lost.detail if lost else None,
        "notes": caption.notes,
        "caption": caption.text,
        "language": caption.language,
        "words": caption.words,
        "tokens": caption.tokens,
        "hash": f"{caption.hash:016x}",
    }
