"""`python -m serving.batches.process FOLDER`: a version's files in a process of their own, a prompt a line.

A line of standard input is a request as JSON, a line of standard output its answer. It ends with its input, and so with
whoever started it.
"""

import json
import os
import sys
from typing import Any

from datasets_defs.core.errors import ContractError


def answer_of(model: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """Complete one prompt; what the model cannot take is an answer, too."""
    try:
        completion = model.complete(asked["prompt"], max_tokens=asked["max_tokens"], temperature=asked["temperature"])
    except ContractError as err:
        return {"refused": str(err)}
    loss = completion.completion_loss
    return {
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "prompt_bits_per_byte": completion.prompt_loss.bits_per_byte,
        "completion_bits_per_byte": loss.bits_per_byte if loss is not None else None,
    }


def main() -> None:
    """Answer until there is nothing more to answer."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    import torch

    from training.model.language_model import LanguageModel

    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - 1))  # one core is serving's and the sensors'
    model = LanguageModel.load(sys.argv[1])
    answers.write(json.dumps({"ready": str(model.network.device)}) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(answer_of(model, json.loads(line))) + "\n")


if __name__ == "__main__":
    main()
