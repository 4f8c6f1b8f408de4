"""The promises that no test holds are named in CONTRIBUTING, and become fewer."""

import re

from datasets_defs.core.settings import ROOT

HEADING = "## Promises that no test holds"
LEFT = 17
"""How many are named. Lower it with each line that is taken out, and never raise it: a new promise has its test."""


def listed() -> list[tuple[str, str]]:
    """Give the file and the words of each promise of the list."""
    text = (ROOT / "CONTRIBUTING.md").read_text().split(HEADING)[1].split("\n## ")[0]
    lines = re.split(r"^- ", text, flags=re.MULTILINE)[1:]
    found = [re.match(r'`([^`]+)`: "(.+?)" \(.+\)$', " ".join(line.split())) for line in lines]
    assert None not in found, [line for line, match in zip(lines, found, strict=True) if match is None]
    return [(match[1], match[2]) for match in found if match is not None]


def test_the_list_gets_shorter():
    """As many are named as the number says, each once."""
    promises = listed()
    assert len(promises) == len(set(promises)) == LEFT


def test_each_is_a_promise_that_stands():
    """The words stand in the file, so that a promise that was changed or taken back is no longer on the list."""
    gone = []
    for file, words in listed():
        text = " ".join((ROOT / file).read_text().split())
        if words not in text:
            gone.append(f"{file}: {words}")
    assert gone == []
