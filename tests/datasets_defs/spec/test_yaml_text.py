"""A model's YAML that would lose something, run something, or never end: one sentence each."""

from itertools import pairwise
from pathlib import Path

import pytest

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.files import load_all, model_names, parse, spec_of

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


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("drift: {min_rows: 0100}", "`0100` in line 4 would be read as another number"),
        ("drift: {min_rows: 1:30}", "`1:30` in line 4 would be read as another number"),
        ("drift: {confirm: {bad: true, of: 3}}", "`bad` needs a number, found true"),
        ("retrain: {budget: {attempts: yes}}", r"retrain.budget.attempts: Input should be a valid integer.*'yes'"),
        ("quality: [{name: a, promql: up, bad: .nan}]", "quality.0.bad: Input should be a finite number"),
        ("retrain: {max_seconds: .inf}", "max_seconds: Input should be a finite number"),
        ("quality: [{name: a, promql: '', bad: 1}]", "quality.0.promql"),
        ("drift: {timezone: Europe/Berln}", "'Europe/Berln' is no time zone; take one like"),
        ("drift: {calendar: Norway}", "'Norway' is no country whose holidays are known"),
        ("drift: {calendar: DE-XX}", "DE has no 'XX'; its parts are BB, BE"),
        ("drift: {min_r\u043ews: 50}", "its '\u043e' is CYRILLIC SMALL LETTER O; did you mean `min_rows`?"),
        ("drift\u00a0: {min_rows: 50}", "NO-BREAK SPACE; did you mean `drift`?"),
        ("drift: {minRows: 50}", "did you mean `min_rows`?"),
        ("retrian: {epochs: 2}", "field retrian: no such field; did you mean `retrain`?"),
        ("epochs: 2", "field epochs: no such field here; it belongs in `retrain`"),
        ("drift: {confirm: {hours: 2}}", "field drift.confirm.hours: no such field; there are bad, of"),
        ("drift:", "nothing stands there; fill it, or take the field out"),
        ("description: 12", "found 12; put it in quotes"),
        ("drift: {holidays: 2026-12-31}", r"a list is needed, as \[a, b\]"),
        ("drift:\n\tmin_rows: 50", "indent with spaces"),
        ("---\nname: other", "put what follows `---` into a file of its own"),
        ("description: of: two", "a text that holds `: ` needs quotes"),
    ],
)
def test_what_would_be_read_as_something_else(more: str, says: str) -> None:
    """Octal and base 60, truths as numbers, limits that nothing passes, look-alikes: named, with what was meant."""
    with pytest.raises(ContractError, match=says):
        parse(BASE + more, Path("m.yaml"))


@pytest.mark.parametrize("no", ["no", '"no"', "off", "false"])
def test_no_means_no_in_every_spelling(no: str) -> None:
    """Labels counted what anonymous people said where `"no"` stood in quotes: a text that is not empty is true."""
    more = f"trust: {{anonymous: {no}}}\nlabels: [{{name: a}}]\nretrain: {{method: lora, lora: {{merge: {no}}}}}"
    spec = parse(BASE + more, Path("m.yaml"))
    assert (spec.trust.anonymous, spec.labels[0].anonymous) == (False, False)
    assert spec.retrain.keeps_adapters


def test_norway_is_a_country() -> None:
    """`NO` is a word, and so is `on`; truth is needed only where it is asked for."""
    assert parse(BASE + "drift: {calendar: NO}\ndescription: on", Path("m.yaml")).drift.calendar == "NO"


def test_an_empty_file_is_called_empty() -> None:
    """Comments alone describe no model."""
    with pytest.raises(ContractError, match="found nothing: the file is empty"):
        parse("# to do\n", Path("m.yaml"))


def test_what_editors_leave_is_no_model(home: Path) -> None:
    """Emacs' locks and archives' shadows are passed over; a file in capitals is named."""
    (home / "models" / "m.yaml").write_text(BASE)
    (home / "models" / ".#m.yaml").symlink_to("root@machine.1234")
    (home / "models" / "._m.yaml").write_bytes(b"\0\5\x16\7")
    (home / "models" / "n.YAML").write_text(BASE)
    specs, problems = load_all()
    assert (list(specs), model_names()) == (["m"], ["m"])
    assert problems == [f"{home}/models/n.YAML: not read; rename it to n.yaml"]


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
