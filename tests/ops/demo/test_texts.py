"""What the demo asks of its model."""

import pytest

from datasets_defs.spec.files import spec_of
from datasets_defs.spec.model import FromScratch
from ops.demo.texts import MODEL, passages
from training.data.training_text import training_documents
from training.model.language_model import LanguageModel

ANSWER_TOKENS = 16


@pytest.mark.slow
def test_the_first_demo_asks_nothing_that_does_not_fit():
    """Prompts of the quiet windows and of the shift leave room for the answer in the first champion's context."""
    spec = spec_of(MODEL)
    assert isinstance(spec.base_model, FromScratch)
    model = LanguageModel.scratch(spec.base_model, training_documents(spec))
    for domain in ("documentation", "licences"):
        longest = max(len(model.encode(passage.prompt)) for passage in passages(domain))
        assert longest + 1 + ANSWER_TOKENS <= spec.base_model.context, domain
