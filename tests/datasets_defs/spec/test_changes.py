"""What an edit of a model's YAML changes: every field says from when it counts."""

from typing import Any

import pytest

from datasets_defs.spec.changes import RULES, Effect, changes, flat, rule_of
from datasets_defs.spec.model import ModelSpec

RULE = {"threshold": 0.1, "greater_is_better": True}
CONTENT = {"name": "m", "base_model": {"layers": 2}, "training_text": "builtin:python-docs"}


def read(**fields: Any) -> dict[str, Any]:
    return ModelSpec.model_validate({**CONTENT, **fields}).model_dump(mode="json")


def test_every_field_says_from_when_it_counts():
    """A field without a rule of its own or of its section would end `driftloop plan` in an error."""
    assert all(rule_of(field) for field in flat(read()))
    sections = ModelSpec.model_fields
    assert set(sections) <= set(RULES)
    known = flat(read(trainer={"kind": "command", "run": ["true"]}))
    assert not [
        name for name in RULES if name not in sections and not any(f"{f}.".startswith(f"{name}.") for f in known)
    ]


@pytest.mark.parametrize(
    ("edit", "field", "effect"),
    [
        ({"base_model": "./other"}, "base_model", Effect.NOT_HERE),
        ({"training_text": "other.txt"}, "training_text", Effect.NOT_HERE),
        ({"drift": {"season": "none"}}, "drift.season", Effect.NEXT_RENEWAL),
        ({"drift": {"harm_ratio": 1.1}}, "drift.harm_ratio", Effect.AT_ONCE),
        ({"retrain": {"blend": 0.5}}, "retrain.blend", Effect.NEXT_TRAINING),
        ({"gate": {"rules": {"chrf": RULE}}}, "gate.rules.chrf.threshold", Effect.NEXT_EVALUATION),
        ({"quality": "vllm"}, "quality", Effect.AT_ONCE),
        ({"trainer": {"kind": "command", "run": ["true"]}}, "trainer.kind", Effect.NEXT_TRAINING),
    ],
)
def test_what_an_edit_does(edit: dict[str, Any], field: str, effect: Effect):
    """The rule is that of the field, or else of the section around it; an edit taken back is none."""
    edits = {each.field: each for each in changes(read(), read(**edit))}
    assert edits[field].rule.effect is effect
    assert str(edits[field]).startswith(f"{field}: ")
    assert changes(read(**edit), read(**edit)) == []


def test_a_field_that_only_a_newer_version_knows_is_no_edit():
    """After an upgrade the file says what it said; only what both versions know is compared."""
    older = read()
    del older["trust"]["blocked"]
    older["gone"] = 1
    edited = {**read(), "probation_windows": 9}
    assert [each.field for each in changes(older, edited, one_version=False)] == ["probation_windows"]
    assert "trust.blocked" in [each.field for each in changes({**older, "gone": 1}, {**edited, "gone": 1})]
