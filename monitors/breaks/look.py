"""All detectors over a window's sample, in the order in which one finding explains the next. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from monitors.breaks import columns, cut, owner, template, texts
from monitors.breaks.baseline import Baseline, learn_texts
from monitors.breaks.finding import ACCEPTED, NOTE, Break
from monitors.breaks.markers import LONGEST
from monitors.breaks.roles import roles
from monitors.counts.columns import ATTRIBUTE, LOG_COLUMNS, Row

LEAST_TEXTS = 30
"""A sample of fewer texts shows nothing surely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledRows:
    """Rows of a window, chosen by the hash of their request id, and counts over all of its rows."""

    rows: Sequence[Row]
    """Columns of the log: `at`, `prompt`, `user_id`, `session_id`, figures and `attributes`."""
    of: int = 0
    """Rows of the window."""
    same_prompt: int = 0
    """Rows whose prompt another row has."""
    same_row: int | None = None
    """Rows that agree with another in prompt, user, latency and tokens; None where latency is not logged."""


def learn(rows: Sequence[Row]) -> Baseline:
    """Learn the detectors' figures from reference rows."""
    baseline = learn_texts([row["prompt"] or "" for row in rows])
    top = owner.top_user(rows)
    return replace(
        baseline,
        top_user=None if top is None else top[0],
        columns=columns.learn_columns(rows),
        roles=roles(rows),
    )


def window_breaks(
    sample: SampledRows, baseline: Baseline, *, before: Sequence[Break] = (), accepted: Collection[tuple[str, str]] = ()
) -> tuple[Break, ...]:
    """Give the window's breaks but those that a person accepted by kind and key.

    `before` are those of the window before: what goes on keeps its beginning.
    """
    if not baseline.is_known:
        return ()
    rows = sample.rows
    prompts = [row["prompt"] or "" for row in rows]
    breaks = text_breaks(prompts, baseline)
    if not any(finding.kind == "flood" for finding in breaks):
        breaks += owner.find(rows, baseline.top_user)
        breaks += owner.senders(rows, {name: of["top"] for name, of in baseline.columns.items()})
        breaks += owner.repeated(sample.of, sample.same_prompt, sample.same_row, usual=baseline.repeats)
    watched = {name: of for name, of in baseline.columns.items() if name not in baseline.roles}
    breaks += columns.find(rows, watched, baseline.roles)
    breaks += columns.vanished(
        rows, {name: baseline.columns[name] for name in baseline.roles if name in baseline.columns}
    )
    since = min((row["at"] for row in rows), default=None)
    dated = [replace(finding, since=since) for finding in breaks if (finding.kind, finding.key) not in accepted]
    going_on = (
        next((finding.begun(earlier) for earlier in before if finding.is_same(earlier)), finding) for finding in dated
    )
    return (*_aside(baseline), *_settled(accepted), *going_on)


def _aside(baseline: Baseline) -> list[Break]:
    return [
        Break(kind="set-aside", share=1.0, reason=f"{name} is {role}", key=name, scope=NOTE, column=name)
        for name, role in baseline.roles.items()
    ]


def _settled(accepted: Collection[tuple[str, str]]) -> list[Break]:
    """Name the columns whose change a person accepted: they stay left out until the next profile knows them."""
    return [
        Break(kind=kind, share=1.0, reason=f"accepted: {key} changed ({kind})", key=key, scope=ACCEPTED, column=key)
        for kind, key in sorted(accepted)
        if key in LOG_COLUMNS or key.startswith(ATTRIBUTE)
    ]


def text_breaks(prompts: Sequence[str], baseline: Baseline) -> list[Break]:
    """Give the breaks of a sample of texts against the reference's figures; none where too little is known.

    A text that was encoded or turned has other lengths and beginnings, too: those count only where no marker explains
    most of the texts, and lengths only where no template was put around them.
    """
    if len(prompts) < LEAST_TEXTS or not baseline.is_known:
        return []
    short = [prompt[:LONGEST] for prompt in prompts]
    breaks = list(texts.find(short, baseline))
    if any(finding.share > 0.5 for finding in breaks):
        return breaks
    breaks += template.find(short, baseline)
    return (
        breaks
        if any(finding.kind in ("template", "flood") for finding in breaks)
        else [*breaks, *cut.find(prompts, baseline)]
    )
