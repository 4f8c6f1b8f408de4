"""A model's YAML that would lose something, run something, or never end: one sentence each."""

from itertools import pairwise
from pathlib import Path

import pytest

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.files import load_all, parse, spec_of

BASE = "name: m\nbase_model: b\ntraining_text: t\n"


LAUGHS = ["a: &a [x,x,x,x,x,x,x,x,x]", *(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefghi"))]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("data: {redact: [pii]}\ndata: {split: time}", "`data` stands twice, in line 4 and line 5"),
        ("drift:\n  min_rows: 50\n  min_rows: 60", "`min_rows` stands twice, in line 5 and line 6"),
        ("labels: &a [*a]", "an alias in line 4 holds itself; write it out"),
        ("\n".join(LAUGHS), r"\d{8} values with its aliases written out; a model's file may have 20000"),
        ("drift: !!python/object/apply:os.system [id]", "could not determine a constructor for the tag"),
        ("drift: " + "[" * 20_000, "nested too deep"),
        ("drift: [", r"not readable as YAML: expected the node content.* in line 4"),
        ("# " + "x" * 2**20, "characters of YAML"),
    ],
    ids=["twice", "inner", "alias", "laughs", "tag", "deep", "broken", "long"],
)
def test_what_is_refused(more: str, says: str) -> None:
    """The error names the place and what to do, in one line."""
    with pytest.raises(ContractError, match=says) as caught:
        parse(BASE + more, Path("m.yaml"))
    assert "\n" not in str(caught.value)


def test_a_file_with_the_other_ending_is_named(home: Path) -> None:
    """`.yml` is not read, and `check-models` and whoever asks for the model hear it."""
    (home / "models" / "m.yml").write_text(BASE)
    specs, problems = load_all()
    assert specs == {}
    assert problems == [f"{home}/models/m.yml: not read; rename it to m.yaml"]
    with pytest.raises(ContractError, match=r"m\.yml is not read; rename it to m\.yaml"):
        spec_of("m")


def test_an_alias_that_repeats_a_line_is_read() -> None:
    """What is written once and named again, as Python's own YAML writer does, is no fault."""
    spec = parse(BASE + "drift: &a {confirm: &c {bad: 3, of: 4}}\nlabels: [{name: x, confirm: *c}]", Path("m.yaml"))
    assert spec.labels[0].confirm == spec.drift.confirm
