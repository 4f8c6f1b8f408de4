"""The form about texts that a person has to decide on, and what its answer says. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets_defs.store.generated_texts import StoredText

PUBLISH_ALL, REJECT_ALL, LATER = "Publish all", "Reject all", "Decide later"
"""Options beside the texts' own. Nobody's answer is `Decide later`."""
TEXTS_A_FORM, MOST_FORMS = 10, 20
SHOWN = 1_500
"""Characters of a text that a form shows."""
_LABEL = re.compile(r"(?P<number>\d+)\. (?P<key>[0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class ReviewDecision:
    """What a person decided about the texts of a form."""

    accepted: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()


def forms_for(model: str, texts: Sequence[StoredText]) -> list[dict[str, Any]]:
    """Give the forms about texts, as arguments of Airflow's operator: ten texts each, at most twenty forms."""
    groups = [texts[start : start + TEXTS_A_FORM] for start in range(0, len(texts), TEXTS_A_FORM)][:MOST_FORMS]
    return [
        {
            "subject": f"{model}: which of these {len(group)} texts may be published?",
            "body": "\n\n---\n\n".join(_shown(number, text) for number, text in enumerate(group, 1)),
            "options": [PUBLISH_ALL, REJECT_ALL, LATER, *(f"{n}. {text.key}" for n, text in enumerate(group, 1))],
        }
        for group in groups
    ]


def _shown(number: int, text: StoredText) -> str:
    """Write one text as Markdown in which nothing of it is markup, a link, a picture or a template."""
    why = "; ".join(text.reasons)
    return (
        f"**{number}.** {plainly(' '.join(text.prompt.split())[:300])}\n\n*Why a person is asked:* {plainly(why)}\n\n"
        f"{_quoted((text.completion or '')[:SHOWN])}"
    )


def _quoted(text: str) -> str:
    return "\n".join(f"    {line}" for line in _untemplated(text).splitlines()) or "    (empty)"


def plainly(text: str) -> str:
    """Give a text without any power over the Markdown that it stands in."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~-])", r"\\\1", _untemplated(text))


def _untemplated(text: str) -> str:
    """Take the power of Jinja out of a text: Airflow renders what a form says."""
    return re.sub(r"([{}%#])(?=[{}%#])", "\\1\u200b", text)


def decided(options: Sequence[str], chosen: Sequence[str]) -> ReviewDecision:
    """Read an answer: the texts that were ticked are published, and the others of the form rejected.

    `Publish all` and `Reject all` are about the whole form. `Decide later`, or nothing, leaves all as it is, whatever
    else is ticked; so does ticking both of the others.
    """
    keys = {label: match["key"] for label in options if (match := _LABEL.fullmatch(label))}
    ticked = [keys[label] for label in chosen if label in keys]
    if LATER in chosen or not chosen or {PUBLISH_ALL, REJECT_ALL} <= set(chosen):
        return ReviewDecision()
    if PUBLISH_ALL in chosen:
        return ReviewDecision(accepted=tuple(keys.values()))
    if REJECT_ALL in chosen and not ticked:
        return ReviewDecision(rejected=tuple(keys.values()))
    return ReviewDecision(tuple(ticked), tuple(key for key in keys.values() if key not in ticked))


def who_answered(given: Mapping[str, Any], nobody: str) -> str:
    """Name who gave an answer."""
    user = given.get("responded_by_user")
    return f"airflow:{user.get('name') or user.get('id')}" if user else nobody
