"""A base model of another architecture and tokenizer, and what texts cost it, computed without anything of ours."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from training.fit.fine_tune import fine_tune
from training.fit.plan import FitPlan
from training.model.language_model import LanguageModel


def tiny_llama(folder: Path, texts: Sequence[str], *, seconds: float = 0, width: int = 48, heads: int = 4) -> Path:
    """Make a Llama of two layers with a tokenizer of its own and a chat template; trained on the texts for a while."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=520, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", model_max_length=128)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    torch.manual_seed(0)
    network = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=96, num_hidden_layers=2,
            num_attention_heads=heads,
            num_key_value_heads=2, max_position_embeddings=128, bos_token_id=0, eos_token_id=1,
        )
    )  # fmt: skip
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if not seconds:
        return folder
    model = LanguageModel.load(folder)
    plan = FitPlan(epochs=10, learning_rate=4e-3, batch_tokens=512, max_seconds=seconds, checkpoint_seconds=60)
    fine_tune(model, texts, plan, folder.with_name("checkpoints"))
    model.save(folder)
    return folder


def bits_by_hand(folder: Path, texts: Sequence[str]) -> tuple[float, int]:
    """Compute by transformers alone what texts cost: bits of all tokens after the first, and bytes."""
    network = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    most = network.config.max_position_embeddings - 1
    bits = 0.0
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        for at in range(0, len(ids), most):
            row = torch.tensor([[start, *ids[at : at + most]]])
            with torch.inference_mode():
                chances = network(row).logits[0, :-1].double().log_softmax(-1)
            bits -= chances.gather(1, row[0, 1:, None]).sum().item() / math.log(2)
    return bits, sum(len(text.encode()) for text in texts)
