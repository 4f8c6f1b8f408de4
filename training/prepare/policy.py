"""What the YAML's `data` section says today of single documents: names for ids, checks, redaction, languages.

Everything that is trained on, judged by or stored passes here: the log, corpora, and the text of the first version. So
do rows that an older version was trained on under an older policy.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from datasets_defs.core.contributors import USER
from datasets_defs.core.languages import languages
from datasets_defs.redaction.names import Names, telling_ids
from datasets_defs.redaction.redact import finders, redact
from datasets_defs.spec.training import DataSpec
from training.prepare.batches import Batch, batches
from training.prepare.characters import check_characters, doubtful
from training.prepare.checks import Drop, Record, Redacted, Step, check_shape
from training.prepare.report import SourceReport

log = logging.getLogger(__name__)
Doubtful = Callable[[Sequence[str]], set[int]]
Looked = tuple[Step, Doubtful | None]
_SHAPE: Looked = (check_shape, None)
_CHARACTERS: Looked = (check_characters, doubtful)
STEPS: tuple[Looked, ...] = (_SHAPE, _CHARACTERS)
"""What looks at single documents, and what says quickly which of them it need not look at."""
NAMED = "an id that is an address or a secret"
_TRAINING_TEXT = "training_text"


class Policy:
    """Applies one `data` section to documents, batch by batch, and counts what it does."""

    def __init__(self, spec: DataSpec, names: Names, *, steps: Sequence[Looked] = STEPS) -> None:
        """Make one. Raises ContractError when a kind of redaction is not installed."""
        self.finders = finders(spec.redact)
        self._spec, self._names, self._steps = spec, names, steps

    def prepare(self, batch: Batch, counts: SourceReport) -> None:
        """Check the documents, name all their ids, and redact what is left."""
        self._check(batch, counts)
        self._hide_ids(batch, counts)
        self._redact(batch, counts)

    def choose_languages(self, batch: Batch, counts: SourceReport) -> None:
        """Drop documents in other languages than the section names; nothing where it names none."""
        wanted = self._spec.languages
        if wanted is None:
            return
        left = batch.left()
        for at, language in zip(left, languages([batch.records[at].text for at in left]), strict=True):
            if wanted and language not in wanted:
                batch.drop(at, f"another language ({language})")
            else:
                counts.languages[language] += 1

    def kept(self, records: Iterable[Record], counts: SourceReport) -> list[Record]:
        """Give what today's policy keeps of documents that were prepared before, or come from set-up."""
        kept: list[Record] = []
        for rows in batches(records):
            counts.rows += len(rows)
            batch = Batch([row for row in rows if isinstance(row, Record)], {})
            self.prepare(batch, counts)
            self.choose_languages(batch, counts)
            counts.dropped.update(batch.reasons.values())
            kept += [batch.records[at] for at in batch.left()]
        counts.kept += len(kept)
        return kept

    def _hide_ids(self, batch: Batch, counts: SourceReport) -> None:
        """Give users names, and request ids that hold an address or a secret, too: the same for the same."""
        ids = [(record.request_id, record.user_id or "") for record in batch.records]
        telling = telling_ids(ids, self.finders)
        counts.redacted.update({NAMED: count} if (count := len({number for number, _ in telling})) else {})
        for at, record in enumerate(batch.records):
            request_id = self._names.of(record.request_id) if (at, 0) in telling else record.request_id
            user_id = None if record.user_id is None else self._names.of(record.user_id)
            whose = record.contributor
            if whose is not None and whose.startswith(USER):
                whose = USER + self._names.of(whose.removeprefix(USER))
            batch.records[at] = replace(record, request_id=request_id, user_id=user_id, contributor=whose)

    def _check(self, batch: Batch, counts: SourceReport) -> None:
        for step, choose in self._steps:
            left = batch.left()
            if choose is not None:
                left = [left[number] for number in sorted(choose([batch.records[at].text for at in left]))]
            for at in left:
                outcome = step(batch.records[at], self._spec)
                if isinstance(outcome, Drop):
                    batch.drop(at, outcome.reason)
                elif isinstance(outcome, Redacted):
                    batch.records[at] = outcome.record
                    counts.redacted.update(outcome.reasons)

    def _redact(self, batch: Batch, counts: SourceReport) -> None:
        left = batch.left()
        fields = [(batch.records[at].prompt, batch.records[at].reference) for at in left]
        for number, ((prompt, reference), reasons) in redact(fields, self.finders).items():
            at = left[number]
            batch.records[at] = replace(batch.records[at], prompt=prompt, reference=reference)
            counts.redacted.update(reasons)


def kept_texts(texts: Sequence[str], spec: DataSpec) -> list[str]:
    """Give what today's policy keeps of the text that a first version learns from; whole texts may have any length."""
    counts = SourceReport()
    records = [
        Record(source=_TRAINING_TEXT, place=place, request_id="", prompt=text, reference="")
        for place, text in enumerate(texts, start=1)
    ]
    kept = [record.text for record in Policy(spec, Names(b""), steps=(_CHARACTERS,)).kept(records, counts)]
    for reason, count in (counts.dropped + counts.redacted).items():
        log.warning("training_text: %d of %d texts: %s", count, len(texts), reason)
    return kept


def older_rows(
    rows: Iterable[dict[str, Any]], spec: DataSpec, names: Names, counts: SourceReport
) -> list[dict[str, Any]]:
    """Give the rows of an older snapshot that today's policy keeps, as it leaves them; `counts` says the rest."""
    present = list(rows)
    records = [
        Record(
            source=row.get("source") or "",
            place=place,
            request_id=str(row["request_id"]),
            prompt=row["prompt"],
            reference=row["reference"] or "",
            user_id=row.get("user_id"),
        )
        for place, row in enumerate(present)
    ]
    return [
        {
            **present[record.place],
            **{name: getattr(record, name) for name in ("request_id", "prompt", "reference", "user_id")},
        }
        for record in Policy(spec, names).kept(records, counts)
    ]
