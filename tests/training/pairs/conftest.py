"""A set of pairs in a folder of its own."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.training.pairs.made_images import saved, scene, sentence


class PairSet:
    """A set's folder and YAML."""

    name = "photos"

    def __init__(self, home: Path) -> None:
        self.home, self.source = home, home / "incoming"
        self.source.mkdir()
        (home / "models" / "pairs").mkdir()
        self.describe()

    def describe(self, **more: Any) -> None:
        """Write the YAML; without waiting times, unless they are given."""
        content = {"name": self.name, "source": str(self.source), "settle_seconds": 0, "caption_seconds": 0, **more}
        (self.home / "models" / "pairs" / f"{self.name}.yaml").write_text(yaml.safe_dump(content))

    def put(self, path: str, content: bytes, caption: str | bytes | None = None) -> None:
        """Put an image, and the caption beside it."""
        file = self.source / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        if caption is not None:
            text = caption if isinstance(caption, bytes) else caption.encode()
            file.with_suffix(".txt").write_bytes(text)

    def fill(self, numbers: range, side: int = 256) -> None:
        """Put good pairs."""
        for number in numbers:
            self.put(f"{number:05}.jpg", saved(scene(number, side), quality=90), sentence(number))


@pytest.fixture
def photos(home: Path) -> PairSet:
    """An empty set of pairs."""
    return PairSet(home)
