"""Documents that came before, exactly or nearly so; kept on disk, so that memory does not grow with them."""

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.prepare.ngrams import Words

Signatures = NDArray[np.uint32]
SHINGLE_WORDS = 5
FEWEST_SHINGLES = 24
"""A shorter text is compared exactly only: a few words in common say little of it."""
PERMUTATIONS, BANDS = 112, 14
"""Of each MinHash signature (rensa's); two texts are compared when a band of eight is the same."""
FLOOD_COPIES = 20
"""So many copies of one text are called a flood."""
_MOST_COMPARED = 8
_COPIES_OF = "SELECT key, copies FROM text WHERE key IN (SELECT value FROM json_each(?))"
_DOCUMENTS_OF = "SELECT key, document FROM band WHERE key IN (SELECT value FROM json_each(?))"
"""One statement for lists of any length: statements are kept, each with memory for all of its parameters."""
_CACHE_KIB = 1_000
_SEED = 11


class Seen:
    """The texts of one preparation; whoever comes first stays."""

    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / "seen.sqlite", isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}", "temp_store = MEMORY"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("CREATE TABLE text (key INTEGER PRIMARY KEY, copies INTEGER NOT NULL)")
        self._db.execute("CREATE TABLE band (key INTEGER PRIMARY KEY, document INTEGER NOT NULL)")
        self._db.execute("CREATE TABLE document (number INTEGER PRIMARY KEY, signature BLOB NOT NULL)")
        self._db.execute("BEGIN")
        self._documents = 0

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def copies(self, texts: Sequence[str]) -> list[int]:
        """Count each text; 1 means that it is new."""
        keys = [_key(text) for text in texts]
        known = dict(self._db.execute(_COPIES_OF, (json.dumps(keys),)))
        counts = []
        for key in keys:
            known[key] = known.get(key, 0) + 1
            counts.append(known[key])
        self._db.executemany("INSERT OR REPLACE INTO text VALUES (?, ?)", sorted(known.items()))
        return counts

    def floods(self) -> str:
        """Say how many texts came so often that they are a flood; empty for none."""
        many, worst = self._db.execute(
            "SELECT count(*), max(copies) FROM text WHERE copies >= ?", (FLOOD_COPIES,)
        ).fetchone()
        return f"{many} texts came {FLOOD_COPIES} times or more, the worst {worst} times" if many else ""

    def near(self, words: Words, similarity: float) -> list[bool]:
        """Say of each text whether one that came before shares at least `similarity` (0..1) of its word 5-grams.

        Estimated by MinHash, give or take 0.04; of two that share 0.8 one in ten is missed.
        """
        from rensa import RMinHash

        grams = words.grams(SHINGLE_WORDS)
        offsets = grams.offsets
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            grams.distinct[0], offsets.astype(np.uint64), num_perm=PERMUTATIONS, seed=_SEED
        )
        signatures = np.array(matrix.to_rows(), dtype=np.uint32).reshape(words.count, PERMUTATIONS)
        return self._among(signatures, np.diff(offsets) >= FEWEST_SHINGLES, similarity)

    def _among(self, signatures: Signatures, long: NDArray[np.bool_], least: float) -> list[bool]:
        """Say of each signature whether a like one came before; keep those that none was like, and are of a long text.

        Looked up and written a batch at a time, in the order of the keys: pages of the file are touched once.
        """
        bands = _band_keys(signatures)
        every = np.unique(bands[long]).tolist()
        known: dict[int, int] = dict(self._db.execute(_DOCUMENTS_OF, (json.dumps(every),)))
        new: dict[int, int] = {}
        near = [False] * len(signatures)
        for at in np.flatnonzero(long).tolist():
            keys = bands[at].tolist()
            before = sorted({known[key] for key in keys if key in known})[:_MOST_COMPARED]
            near[at] = any(
                np.mean(self._signature(number, signatures, new) == signatures[at]) >= least for number in before
            )
            if not near[at]:
                number = self._documents + len(new)
                new[number] = at
                for key in keys:
                    known.setdefault(key, number)
        self._db.executemany(
            "INSERT INTO document VALUES (?, ?)", [(number, signatures[at].tobytes()) for number, at in new.items()]
        )
        fresh = [(key, known[key]) for key in every if known.get(key, -1) >= self._documents]
        self._db.executemany("INSERT INTO band VALUES (?, ?)", fresh)
        self._documents += len(new)
        return near

    def _signature(self, number: int, signatures: Signatures, new: Mapping[int, int]) -> Signatures:
        if number in new:
            row: Signatures = signatures[new[number]]
            return row
        (signature,) = self._db.execute("SELECT signature FROM document WHERE number = ?", (number,)).fetchone()
        return np.frombuffer(signature, dtype=np.uint32)


def _key(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _band_keys(signatures: Signatures) -> NDArray[np.int64]:
    """Give one 64-bit key per band of each signature; a band's number is part of its key."""
    rows = signatures.reshape(len(signatures), BANDS, PERMUTATIONS // BANDS).astype(np.uint64)
    keys = np.broadcast_to(np.arange(1, BANDS + 1, dtype=np.uint64), rows.shape[:2]).copy()
    for column in range(rows.shape[2]):
        keys = (keys ^ rows[:, :, column]) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(31)
    return keys.view(np.int64)
