"""A tokenizer's files as readers of either generation know them: transformers 4, which servers still have, and 5."""

import json
from pathlib import Path
from typing import Any

NAMES = {"TokenizersBackend": "PreTrainedTokenizerFast"}
"""What transformers 5 calls a class, and what 4 knows; 5 reads that, too."""


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write a tokenizer under a class's name that transformers 4.57 reads; it refuses the one that 5 writes."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    if (name := NAMES.get(config.get("tokenizer_class"))) is not None:
        path.write_text(json.dumps({**config, "tokenizer_class": name}, indent=2, ensure_ascii=False) + "\n")
