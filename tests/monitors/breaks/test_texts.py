"""Broken texts are called by name, and usual ones are left alone however their mixture moves."""

import random
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from monitors.breaks.baseline import Baseline, learn_texts
from monitors.breaks.finding import Break, masked
from monitors.breaks.look import text_breaks
from tests.monitors.breaks.damage import TEXT_DAMAGE
from tests.monitors.breaks.short_texts import kinds


def draw(seed: int, count: int, *, spread: float = 1.0) -> list[str]:
    """Give short texts; the mixture of their kinds is drawn by the seed, the more unequal the smaller the spread."""
    names = list(kinds())
    weights = np.random.default_rng(seed).dirichlet([spread] * len(names))
    chosen = random.Random(seed)
    return [chosen.choice(kinds()[name]) for name in chosen.choices(names, weights, k=count)]


@cache
def reference() -> Baseline:
    """The figures of usual texts, which came back from their JSON."""
    return Baseline.of(learn_texts(draw(1, 1_000, spread=5.0)).plain())


def names_of(found: Sequence[Break]) -> set[str]:
    return {each.kind for each in found}


@pytest.mark.parametrize("name", TEXT_DAMAGE)
@pytest.mark.parametrize("count", [200, 400])
def test_damage_is_named(name: str, count: int):
    """Each kind of damage is found under its name, in texts of the reference's mixture, and called nothing worse."""
    damage = TEXT_DAMAGE[name]
    usual = draw(1, 3_000, spread=5.0)[1_000 : 1_000 + count]
    found = text_breaks([damage.change(text, number) for number, text in enumerate(usual)], reference())
    assert names_of(found) & set(damage.names), found
    assert all(0 < each.share <= 1 and each.examples and each.key for each in found)


def test_a_cut_where_no_usual_text_ends():
    """A length that the reference does not have at all is named, too."""
    long = [f"{text} {number} " * 12 for number, text in enumerate(draw(1, 400))]
    usual = learn_texts([text for text in long if len(text) not in (79, 80)])
    assert names_of(text_breaks([text[:80] for text in long[:200]], usual)) == {"cut"}


@pytest.mark.parametrize("seed", range(40))
def test_mixtures_are_no_break(seed: int):
    """Another mixture of usual texts, down to one language or one kind alone, is no break."""
    learned = learn_texts(draw(1_000 + seed, 800, spread=0.5))
    for count in (30, 100, 400):
        assert text_breaks(draw(2_000 + seed, count, spread=0.5), learned) == []


def test_too_little_says_nothing():
    """Few texts, or few reference texts, name no break."""
    broken = [text.upper() for text in draw(3, 29)]
    assert text_breaks(broken, reference()) == []
    assert text_breaks(broken * 5, learn_texts(draw(3, 49))) == text_breaks(broken * 5, Baseline()) == []


def test_examples_hide_what_people_wrote():
    """Of an example only what shows the break is kept."""
    (found,) = text_breaks([f"Ticket of Jane Roe, 4711: {text}" for text in draw(1, 300)], reference())
    assert found.kind == "template"
    assert "Ticket of Jane Roe" in found.reason
    rest = [example.removeprefix("Ticket of Jane Roe, 0: ") for example in found.examples]
    assert all(set(filter(str.isalnum, each)) <= {"x", "0"} for each in rest)
    assert masked("Call Ann at 555") == "xxxx xxx xx 000"


def test_a_break_comes_back_from_json():
    """A break is what it was after a round trip, and its cure names the command."""
    (found,) = text_breaks([text.upper() for text in draw(1, 300)], reference())
    assert Break.of(found.plain()) == found
    assert found.cure("writer") == "driftloop accept writer --what case"
