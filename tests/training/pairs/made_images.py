"""Images that are made for the tests: real files, by Pillow, each different from the others."""

import io
import random

import numpy as np
from PIL import Image


def scene(seed: int, side: int = 256, aspect: float = 1.0) -> Image.Image:
    """Paint a picture that no other seed gives: soft colours, and some hard edges."""
    rng = np.random.default_rng(seed)
    width, height = side, max(1, round(side / aspect))
    low = rng.integers(0, 255, (7, 7, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(low).resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    for _ in range(6):
        left, top = int(rng.integers(0, width * 3 // 4)), int(rng.integers(0, height * 3 // 4))
        picture[top : top + height // 5, left : left + width // 5] = rng.integers(0, 255, 3)
    picture += rng.integers(-8, 8, (height, width, 1), dtype=np.int16)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """Give the bytes of an image file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


NOUNS = ("dog", "cat", "horse", "bridge", "tower", "boat", "river", "garden", "window", "market", "street", "child")
VERBS = ("stands", "sleeps", "waits", "shines", "rests", "leans", "turns", "hides")
PLACES = ("beside a quiet lake", "under the old oak", "in front of a red barn", "behind the station", "on a wet road")


def sentence(seed: int) -> str:
    """Give a caption; few seeds give the same."""
    rng = random.Random(seed)
    return (
        f"A {rng.choice(NOUNS)} {rng.choice(VERBS)} {rng.choice(PLACES)} while a {rng.choice(NOUNS)} "
        f"{rng.choice(VERBS)} near the {rng.choice(NOUNS)} number {seed}"
    )
