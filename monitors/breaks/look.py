"""All detectors of broken texts over a window's sample, in the order in which one explains the next. Pure."""

from collections.abc import Sequence

from monitors.breaks import cut, template, texts
from monitors.breaks.baseline import Baseline
from monitors.breaks.finding import Break
from monitors.breaks.markers import LONGEST

LEAST_TEXTS = 30
"""A sample of fewer texts shows nothing surely."""


def text_breaks(prompts: Sequence[str], baseline: Baseline) -> list[Break]:
    """Give the breaks of a sample of texts against the reference's figures; none where too little is known.

    A text that was encoded or turned has other lengths and beginnings, too: those count only where no marker explains
    most of the texts.
    """
    if len(prompts) < LEAST_TEXTS or not baseline.is_known:
        return []
    short = [prompt[:LONGEST] for prompt in prompts]
    found = list(texts.find(short, baseline))
    if any(each.share > 0.5 for each in found):
        return found
    return [*found, *template.find(short, baseline), *cut.find(prompts, baseline)]
