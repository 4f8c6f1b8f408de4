"""Texts as vectors of a local sentence-transformers model, and the columns that watch where the vectors lie.

The only file that imports sentence-transformers, which `driftloop[embeddings]` brings. It reads the model from its own
files, offline.
"""

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_defs.core.errors import ContractError

Vectors = NDArray[np.float64]

COMPONENTS = 8
"""Principal components of the reference that become columns."""
MAX_CHARACTERS = 4_000
"""Longer texts are embedded by their beginning; models read a few hundred tokens anyway."""
REMEMBERED = 1_000
"""Texts whose vectors a process keeps for the next who asks: the sensor judges prompts, then indexes some of them."""
_BATCH = 8
_LATELY: dict[bytes, NDArray[np.float32]] = {}
"""By the hash of model and text, oldest first; no text stays in memory."""
_PARTS = frozenset({"Transformer", "Pooling", "Normalize"})
_FORMAT = b"S1"
_HEAD = struct.Struct("<III")


def embed(path: str, texts: Sequence[str]) -> Vectors:
    """Give one vector per text, of shape (texts, the model's dimensions); the same text always gives the same vector.

    `path` is the model's folder, or its name if the Hugging Face cache of this machine holds it.

    Raises:
        ContractError: there is no such model here, sentence-transformers is not installed, or the model is of a kind
            that cannot be read without code of its own.
    """
    folder = str(_folder(path))
    encoder = _encoder(folder)
    if not texts:
        return np.zeros((0, int(encoder.get_embedding_dimension())))
    heads = [text[:MAX_CHARACTERS].encode("utf-8", "replace").decode() for text in texts]
    keys = [hashlib.sha256(f"{folder}\0{head}".encode()).digest() for head in heads]
    new = {key: head for key, head in zip(keys, heads, strict=True) if key not in _LATELY}
    fresh = encoder.encode([*new.values()], batch_size=_BATCH, show_progress_bar=False) if new else []
    known = {key: _LATELY[key] for key in keys if key in _LATELY} | dict(zip(new, fresh, strict=True))
    _LATELY.update(known)
    for key in [*_LATELY][: max(len(_LATELY) - REMEMBERED, 0)]:
        del _LATELY[key]
    return np.array([known[key] for key in keys], dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingSpace:
    """Where reference texts lie among a model's vectors."""

    path: str
    """The model's folder or name."""
    model: str
    """SHA-256 of its weights: vectors of other weights are not comparable."""
    centroid: Vectors
    components: Vectors
    """The main directions in which the reference varies, one a row, strongest first; eight at most."""

    @classmethod
    def learn(cls, path: str, texts: Sequence[str]) -> "EmbeddingSpace":
        """Embed reference texts and learn where they lie.

        Raises:
            ContractError: the model cannot be read, or there are fewer than two texts.
        """
        return cls.of(path, fingerprint(path), embed(path, texts))

    @classmethod
    def of(cls, path: str, model: str, vectors: Vectors) -> "EmbeddingSpace":
        """Learn where vectors of reference texts lie.

        Raises:
            ContractError: there are fewer than two.
        """
        if len(vectors) < 2:
            raise ContractError(f"{len(vectors)} reference texts are too few to say where texts lie; two at least")
        centroid = vectors.mean(axis=0)
        _, sizes, directions = np.linalg.svd(vectors - centroid, full_matrices=False)
        kept = directions[:COMPONENTS][sizes[:COMPONENTS] > 1e-9 * max(sizes[0], 1e-300)]
        strongest = np.take_along_axis(kept, np.abs(kept).argmax(axis=1)[:, None], axis=1)
        single = np.float32  # as it is stored, so that a space that was read again gives the same columns
        return cls(
            path, model, centroid.astype(single).astype(float), (kept * np.sign(strongest)).astype(single).astype(float)
        )

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts with the model of the reference.

        Raises:
            ContractError: the model at the path is another one by now, or cannot be read.
        """
        if (actual := fingerprint(self.path)) != self.model:
            raise ContractError(
                f"the embedding model {self.path} has other weights ({actual[:12]}…) than the reference was embedded "
                f"with ({self.model[:12]}…); put it back, or calibrate anew"
            )
        return embed(self.path, texts)

    def columns(self, vectors: Vectors) -> dict[str, NDArray[np.float64]]:
        """Give the distance to the reference's centre and the place along its main directions, a value per vector.

        Raises:
            ContractError: the vectors have another length.
        """
        if vectors.ndim != 2 or vectors.shape[1] != len(self.centroid):
            raise ContractError(f"vectors of shape {vectors.shape} do not fit a space of {len(self.centroid)}")
        apart = vectors - self.centroid
        places = apart @ self.components.T
        names = self.names
        return {
            names[0]: np.linalg.norm(apart, axis=1),
            **{name: places[:, number] for number, name in enumerate(names[1:])},
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns."""
        return ("embedding_distance", *(f"embedding_component_{n + 1}" for n in range(len(self.components))))

    def to_bytes(self) -> bytes:
        """Give it as bytes, the numbers in single precision."""
        text = json.dumps([self.path, self.model]).encode()
        head = _HEAD.pack(len(text), len(self.centroid), len(self.components))
        return _FORMAT + head + text + np.vstack([self.centroid, self.components]).astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> "EmbeddingSpace":
        """Read what `to_bytes` gave.

        Raises:
            ContractError: the bytes are no embedding space.
        """
        if content[: len(_FORMAT)] != _FORMAT:
            raise ContractError(f"an embedding space should begin with {_FORMAT!r}; found {content[:2]!r}")
        try:
            length, width, rows = _HEAD.unpack_from(content, len(_FORMAT))
            begin = len(_FORMAT) + _HEAD.size
            path, model = json.loads(content[begin : begin + length])
            numbers = np.frombuffer(content[begin + length :], dtype="<f4").astype(np.float64)
            both = numbers.reshape(rows + 1, width)
        except (struct.error, ValueError, TypeError) as err:
            raise ContractError(f"the {len(content)} bytes of an embedding space are damaged: {err}") from err
        return cls(str(path), str(model), both[0], both[1:])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EmbeddingSpace) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash((self.path, self.model))


def fingerprint(path: str) -> str:
    """Give the SHA-256 of the model's weights; the path itself does not count.

    Raises:
        ContractError: there is no such model here.
    """
    return _fingerprint(str(_folder(path)))


@cache
def _fingerprint(folder: str) -> str:
    digest = hashlib.sha256()
    for file in sorted(Path(folder).glob("*.safetensors")):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _folder(path: str) -> Path:
    folder = Path(path).expanduser()
    if not (folder / "config.json").is_file():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        try:
            folder = Path(snapshot_download(path, local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError) as err:
            raise ContractError(
                f"embedding model {path!r} is no folder with a config.json, and not in this machine's Hugging Face "
                "cache; nothing is downloaded: give the folder of a sentence-transformers model"
            ) from err
    if not any(folder.glob("*.safetensors")):
        raise ContractError(f"embedding model {folder} has no *.safetensors; pickled weights can run code")
    return folder


@cache
def _encoder(folder: str) -> Any:
    """Read a model of sentence-transformers, on the CPU, with safetensors and no code of its own."""
    _require_known_parts(Path(folder))
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as err:
        raise ContractError(
            "drift.embedding names a model, and sentence-transformers is not installed: "
            "pip install 'driftloop[embeddings]'"
        ) from err
    from transformers.utils import logging as chatter

    chatter.disable_progress_bar()
    try:
        return SentenceTransformer(
            folder,
            device="cpu",
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True, "dtype": "float32"},
        )
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ContractError(f"embedding model {folder} cannot be read: {err}") from err


def _require_known_parts(folder: Path) -> None:
    """Refuse a model with parts of its own: from a local folder sentence-transformers would run their code."""
    file = folder / "modules.json"
    try:
        modules = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
        parts = [str(module["type"]) for module in modules]
    except (ValueError, KeyError, TypeError) as err:
        raise ContractError(f"{file} is not a list of a model's parts ({err!r})") from err
    foreign = [part for part in parts if not part.startswith("sentence_transformers.")]
    if foreign or {part.rsplit(".", 1)[-1] for part in parts} - _PARTS:
        raise ContractError(
            f"embedding model {folder} is made of {', '.join(parts)}; "
            "only a Transformer, a Pooling and a Normalize of sentence-transformers can be read"
        )
