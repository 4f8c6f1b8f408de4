"""Tokens that are learned from per CPU second: our training, the Trainer as tutorials use it, a bare torch loop."""

import copy
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from datasets_defs.spec.model import FromScratch
from tests.benchmarks.figures import Figure, interleaved
from training.data.training_text import PYTHON_DOCS, all_documents
from training.fit.fine_tune import fine_tune
from training.fit.plan import FitPlan
from training.judge.passes import score
from training.model.language_model import LanguageModel

SHAPE = FromScratch()
RATE = 1e-3
BATCH_ROWS = 4


def tokens(documents: int, runs: int) -> Iterator[Figure]:
    """Train once over documents of mixed length (half under 64 tokens, a tenth over 200), in turns."""
    torch.set_num_threads(1)
    source = all_documents(PYTHON_DOCS)
    base = LanguageModel.scratch(SHAPE, source)
    texts = _mixed(base, source, documents)
    ids = [base.encode(text) for text in texts]
    learned = {
        "ours": sum(len(each) + 1 for each in ids),
        "trainer": sum(min(len(each) + 1, base.context - 1) for each in ids),
        "bare": sum(len(each) + 1 for each in ids) // base.context * base.context,
    }
    fitted: list[LanguageModel] = []
    with tempfile.TemporaryDirectory() as folder:
        works = {
            "ours": lambda: fitted.append(_ours(base, texts, Path(folder))),
            "trainer": lambda: _trainer(base, texts, folder),
            "bare": lambda: _bare(base, texts),
        }
        seconds = interleaved(works, runs=runs)
    speed = {name: learned[name] / seconds[name] for name in works}
    for name, value in speed.items():
        yield Figure(name=f"training.tokens.{name}", value=value, unit="tokens/s")
    yield Figure(
        name="training.tokens.over_trainer", value=speed["ours"] / speed["trainer"], unit="times", gate=2, better="more"
    )
    yield Figure(
        name="training.tokens.over_bare", value=speed["ours"] / speed["bare"], unit="times", gate=0.95, better="more"
    )
    before, after = (sum(loss.bits for loss in score(model, texts[:16])) for model in (base, fitted[-1]))
    yield Figure(
        name="training.tokens.learned", value=after / before, unit="of the bits", gate=0.97, better="less", exact=True
    )


def _mixed(base: LanguageModel, source: list[str], count: int) -> list[str]:
    """Cut documents whose numbers of tokens follow a log-normal law: median 64, a tenth over 200."""
    stream = [token for text in source for token in base.encode(text)]
    rng = random.Random(0)
    lengths = [min(max(4, round(rng.lognormvariate(4.16, 0.9))), len(stream) // 2) for _ in range(count)]
    starts = [rng.randrange(len(stream) - length) for length in lengths]
    return [base.tokenizer.decode(stream[at : at + length]) for at, length in zip(starts, lengths, strict=True)]


def _copy(base: LanguageModel) -> LanguageModel:
    return LanguageModel(copy.deepcopy(base.network), base.tokenizer)


def _ours(base: LanguageModel, texts: list[str], folder: Path) -> LanguageModel:
    plan = FitPlan(
        epochs=1,
        learning_rate=RATE,
        batch_tokens=BATCH_ROWS * base.context,
        max_seconds=1e6,
        checkpoint_seconds=1e6,
    )
    model = _copy(base)
    fine_tune(model, texts, plan, folder / "checkpoints")
    shutil.rmtree(folder / "checkpoints")
    return model


def _trainer(base: LanguageModel, texts: list[str], folder: str) -> None:
    """Fine-tune as tutorials do: every document padded to the context's length."""
    from transformers import DataCollatorForLanguageModeling, PrinterCallback, Trainer, TrainingArguments

    model = LanguageModel(copy.deepcopy(base.network), copy.deepcopy(base.tokenizer))
    # the tokenizer is its own: asked to pad, one pads from then on, and the others would train on padding, too
    rows = [model.tokenizer(text, padding="max_length", truncation=True, max_length=model.context) for text in texts]
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=1,
        per_device_train_batch_size=BATCH_ROWS,
        learning_rate=RATE,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    collate = DataCollatorForLanguageModeling(model.tokenizer, mlm=False)
    data: Any = [{name: row[name] for name in ("input_ids", "attention_mask")} for row in rows]
    trainer = Trainer(model=model.network, args=arguments, train_dataset=data, data_collator=collate)
    trainer.remove_callback(PrinterCallback)  # the figures are ours to print
    trainer.train()


def _bare(base: LanguageModel, texts: list[str]) -> None:
    """Fine-tune in a loop without anything around it, on one stream of tokens cut into full rows."""
    model = _copy(base)
    stream = [token for text in texts for token in (model.start, *model.encode(text))]
    length = model.context
    rows = torch.tensor(stream[: len(stream) // length * length]).view(-1, length)
    optimizer = torch.optim.AdamW(model.network.parameters(), lr=RATE)
    model.network.train()
    order = torch.randperm(len(rows))
    for at in range(0, len(rows), BATCH_ROWS):
        batch = rows[order[at : at + BATCH_ROWS]]
        logits = model.network(batch, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.network.parameters(), 1.0)
        optimizer.step()
