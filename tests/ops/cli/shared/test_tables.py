"""How the commands shorten what does not fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from ops.cli.shared.tables import middle_cut, shortened


@given(st.text(), st.integers(1, 60))
def test_a_shortened_text_fits_and_its_words_are_whole(text: str, width: int) -> None:
    """Whatever the text: it fits, its words are the first of the text, and an ellipsis shows that some are missing."""
    words, short = text.split(), shortened(text, width)
    assert cell_len(short) <= width
    kept = short.split()
    if kept and kept != words:
        assert kept.pop() == "…"
    assert kept == words[: len(kept)]


@pytest.mark.parametrize(
    ("name", "width", "short"),
    [("docs-writer", 11, "docs-writer"), ("docs-writer", 10, "docs…riter"), ("docs-writer", 9, "docs…iter")],
)
def test_a_name_is_cut_in_its_middle(name: str, width: int, short: str) -> None:
    """Beginning and end stay, and it is exactly as long as asked for."""
    assert (middle_cut(name, width), len(short)) == (short, width)
