"""What the demo asks of its model."""

from datasets_defs.models import FromScratch, spec_of
from ops.demo_texts import MODEL, passages
from training.language_model import LanguageModel
from training.texts import training_documents

ANSWER_TOKENS = 16


def test_the_first_demo_asks_nothing_that_does_not_fit():
    """Prompts of the quiet windows and of the shift leave room for the answer in the first champion's context."""
    spec = spec_of(MODEL)
    assert isinstance(spec.base_model, FromScratch)
    model = LanguageModel.scratch(spec.base_model, training_documents(spec))
    for domain in ("documentation", "licences"):
        longest = max(len(model.encode(passage.prompt)) for passage in passages(domain))
        assert longest + 1 + ANSWER_TOKENS <= spec.base_model.context, domain
