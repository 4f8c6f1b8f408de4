"""Causal language models: load, save, make, score and complete."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from datasets_defs.core.errors import ContractError
from datasets_defs.spec.model import FromScratch
from training.model.adapter_files import base_folder, base_of
from training.model.origin import Origin
from training.model.pretrained import END, checked_folder, fresh, read_network, read_tokenizer
from training.model.prompt_limit import longest_token, require_short, still
from training.model.readable import save_tokenizer, spell_for_both
from training.model.sampling import Completion, Loss, Sampling, choose, first_stop

SCORED_TOKENS = 1024
"""Longest stretch that is scored at once, in tokens: bounds the memory of the logits of models with long contexts."""
SCORED_LOGITS = 2**24
"""Logits held at once while scoring (64 MiB of float32)."""
CPU_TOKENS = 1024
"""Tokens scored at once on a CPU: more do not stay in its cache, which takes half as long again."""


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A network with its tokenizer. Loss and completion may be called from several threads at once."""

    network: Any
    tokenizer: Any
    origin: Origin | None = None
    """The files that it was loaded from, whose configuration, tokenizer and kind of numbers it keeps when saved."""
    most_bytes: float = field(init=False)
    """Bytes of the longest text that can fit the context: longer ones are refused before tokens are looked for."""

    def __post_init__(self) -> None:
        """Measure the vocabulary's longest token, once."""
        object.__setattr__(self, "most_bytes", longest_token(self.tokenizer) * self.context)

    @classmethod
    def load(cls, source: str | Path, *, device: str | None = None, bases: Path | None = None) -> "LanguageModel":
        """Load a folder or a hub name: safetensors only, and no code that comes with the model.

        Unless a device is named, it goes to the GPU where there is one. A version that is an adapter is merged, in
        memory, into its base, which lies beside it or in `bases` as `vN`.

        Raises:
            ContractError: the folder is incomplete, holds pickled weights or code, or is no causal language model.
            TransientError: the hub is not reachable.
        """
        if (base := base_of(Path(source))) is not None:
            whole = cls.load(base_folder(Path(source), base, bases), device=device)
            return whole.with_adapter(Path(source), Path(source).name)
        name, folder = str(source), checked_folder(source)
        network = read_network(folder, name)
        tokenizer = read_tokenizer(folder, name, rows=int(network.get_input_embeddings().weight.shape[0]))
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(network.to(device).eval(), still(tokenizer, name), Origin.of(folder, name))

    @classmethod
    def scratch(cls, shape: FromScratch, texts: Iterable[str], *, seed: int = 0) -> "LanguageModel":
        """Make an untrained GPT-2 of this shape with a byte-level BPE learned from `texts`; a seed gives one model.

        Raises:
            ContractError: the width cannot be divided among the heads.
        """
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        if shape.width % shape.heads:
            raise ContractError(f"base_model: width {shape.width} is no multiple of heads {shape.heads}")
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=shape.vocabulary,
            special_tokens=[END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        bpe.train_from_iterator(texts, trainer)
        network, tokenizer = fresh(shape, bpe, seed=seed)
        return cls(network.eval(), still(tokenizer, "the new model"))

    def with_adapter(self, folder: Path, name: str) -> "LanguageModel":
        """Give this model with a saved adapter merged into it; its network is changed in place.

        Raises:
            ContractError: the adapter's weights are pickled or damaged, or it does not fit.
        """
        from training.model.adapters import merged  # brings peft

        return LanguageModel(merged(self.network, folder, name), self.tokenizer, self.origin)

    def save(self, folder: Path) -> None:
        """Write weights (safetensors), configuration and tokenizer; existing files are replaced.

        What it was loaded with stays: configuration, tokenizer, chat template and kind of numbers, byte for byte where
        nothing needs another spelling. They are spelled for transformers 4 and 5 alike.
        """
        self.network.save_pretrained(folder)
        if self.origin is None:
            save_tokenizer(self.tokenizer, folder)
        else:
            self.origin.restore(folder)
        spell_for_both(folder)

    @property
    def context(self) -> int:
        """Longest prompt plus completion, in tokens."""
        return int(getattr(self.network.config, "max_position_embeddings", 0) or self.tokenizer.model_max_length)

    @property
    def start(self) -> int:
        """The token before the first: the tokenizer's BOS, or EOS where it has none."""
        bos = self.tokenizer.bos_token_id
        return int(bos if bos is not None else self.tokenizer.eos_token_id)

    @property
    def end(self) -> int:
        """The token that ends a text."""
        eos = self.tokenizer.eos_token_id
        return int(eos if eos is not None else self.tokenizer.bos_token_id)

    def encode(self, text: str) -> list[int]:
        """Give a text's tokens, without BOS or EOS; control tokens spelled out in the text stay ordinary text."""
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate has no UTF-8 form
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return list(backend.encode(text, add_special_tokens=False).ids)

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Give the tokens of many texts, as `encode` gives them one by one; faster."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return [self.encode(text) for text in texts]
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        return [list(encoded.ids) for encoded in backend.encode_batch_fast(clean, add_special_tokens=False)]

    def losses(self, texts: Sequence[str]) -> list[Loss]:
        """Give what each text costs, every byte counted; consecutive chunks where it is longer than the context."""
        step = min(self.context, SCORED_TOKENS) - 1
        chunks: list[tuple[int, list[int]]] = []
        for index, ids in enumerate(self.encode_all(texts)):
            chunks += [(index, ids[at : at + step]) for at in range(0, len(ids), step)]
        chunks.sort(key=lambda chunk: len(chunk[1]))  # batches of like length waste little on padding
        bits = [0.0] * len(texts)
        for batch in self._batches(chunks):
            for (index, _), cost in zip(batch, self._bits([ids for _, ids in batch]), strict=True):
                bits[index] += cost
        return [
            Loss(bits=cost, bytes=len(text.encode("utf-8", "replace"))) for cost, text in zip(bits, texts, strict=True)
        ]

    def _batches(self, chunks: list[tuple[int, list[int]]]) -> Iterator[list[tuple[int, list[int]]]]:
        """Cut chunks, the shortest first, into batches of as many tokens as are scored at once, padding included."""
        most = SCORED_LOGITS // self.network.config.vocab_size
        if self.network.device.type == "cpu":
            most = min(most, CPU_TOKENS)
        batch: list[tuple[int, list[int]]] = []
        for chunk in chunks:
            if batch and (len(batch) + 1) * (len(chunk[1]) + 1) > most:
                yield batch
                batch = []
            batch.append(chunk)
        if batch:
            yield batch

    @torch.inference_mode()
    def _bits(self, rows: list[list[int]]) -> list[float]:
        longest = max(len(ids) for ids in rows)
        inputs = torch.tensor([[self.start, *ids] + [self.end] * (longest - len(ids)) for ids in rows])
        targets = inputs[:, 1:].clone()
        for row, ids in enumerate(rows):
            targets[row, len(ids) :] = -100
        device = self.network.device
        # No attention mask: padding stands on the right, where a causal model cannot see it.
        logits = self.network(inputs[:, :-1].to(device), use_cache=False).logits
        nats = functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten().to(device), reduction="none")
        totals: list[float] = (nats.view(len(rows), -1).double().sum(1) / math.log(2)).tolist()
        return totals

    @torch.inference_mode()
    def complete(
        self,
        prompt: str,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> Completion:
        """Continue a prompt; temperature 0 takes the likeliest token, a seed makes sampling repeatable.

        The prompt's loss comes from the pass that reads the prompt, so it costs nothing extra; the completion's loss
        is of the model's own distribution, whatever the temperature. A stop string is left out of the text.

        Raises:
            ContractError: prompt and completion do not fit the context, or a parameter is out of range.
        """
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed, stop=tuple(stop))
        require_short(prompt, self.most_bytes, self.context)
        ids = self.encode(prompt)
        if len(ids) + 1 + max_tokens > self.context:
            raise ContractError(
                f"prompt of {len(ids)} tokens, its start token and max_tokens {max_tokens} make "
                f"{len(ids) + 1 + max_tokens} tokens; the model's context holds {self.context}"
            )
        read = self.network(torch.tensor([[self.start, *ids]], device=self.network.device), use_cache=True)
        prompt_bits = _cost(read.logits[0, :-1], ids)
        made, bits, cut, finish = self._continue(read, sampling)
        text = self._decode(made)
        return Completion(
            text=text[:cut],
            finish_reason=finish,
            prompt_tokens=len(ids),
            completion_tokens=len(made),
            prompt_loss=Loss(bits=prompt_bits, bytes=len(prompt.encode("utf-8", "replace"))),
            completion_loss=Loss(bits=bits, bytes=len(text.encode())) if made else None,
        )

    def _continue(self, out: Any, sampling: Sampling) -> tuple[list[int], float, int | None, str]:
        """Choose token after token, from the network's answer to the prompt on.

        Gives the tokens, what they cost in bits, the character at which a stop string begins, and what ended them:
        `stop` (the end of the text, or a stop string) or `length`.
        """
        source = sampling.source()
        made: list[int] = []
        bits = 0.0
        while len(made) < sampling.max_tokens:
            logits = out.logits[0, -1].float().cpu()
            token = choose(logits, temperature=sampling.temperature, top_p=sampling.top_p, source=source)
            if token == self.end:
                return made, bits, None, "stop"
            made.append(token)
            bits += _cost(logits[None], [token])
            if sampling.stop and (cut := first_stop(self._decode(made), sampling.stop)) is not None:
                return made, bits, cut, "stop"
            if len(made) < sampling.max_tokens:
                newest = torch.tensor([[token]], device=self.network.device)
                out = self.network(newest, past_key_values=out.past_key_values, use_cache=True)
        return made, bits, None, "length"

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def _cost(logits: torch.Tensor, ids: list[int]) -> float:
    if not ids:
        return 0.0
    targets = torch.tensor(ids, device=logits.device)
    return float(functional.cross_entropy(logits.float(), targets, reduction="sum")) / math.log(2)
