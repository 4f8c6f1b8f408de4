"""What is counted over a take's pairs, in memory that does not grow with them: losses, notes, descriptors."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

EDGES: dict[str, tuple[float, ...]] = {
    "width": tuple(range(0, 4_097, 128)),
    "height": tuple(range(0, 4_097, 128)),
    "aspect": tuple(np.round(np.geomspace(0.2, 5, 33), 4).tolist()),
    "brightness": tuple(np.round(np.linspace(0, 1, 33), 4).tolist()),
    "contrast": tuple(np.round(np.linspace(0, 0.5, 33), 4).tolist()),
    "sharpness": tuple(np.round(np.linspace(0, 0.3, 31), 4).tolist()),
    "words": tuple(range(0, 66, 2)),
    "tokens": tuple(range(0, 520, 16)),
}
"""Edges of the histograms' bins; what lies outside is counted in the outermost."""


@dataclass(slots=True)
class PairsTally:
    """Counts of one take."""

    pairs: int = 0
    kept: int = 0
    lost: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By stage and reason."""
    notes: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    bins: dict[str, NDArray[np.int64]] = field(
        default_factory=lambda: {name: np.zeros(len(edges) - 1, dtype=np.int64) for name, edges in EDGES.items()}
    )
    _means: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    _squares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))

    def lose(self, stage: str, reason: str) -> None:
        """Count a pair that is lost."""
        self.pairs += 1
        self.lost[stage, reason] += 1

    def keep(self, image: Mapping[str, Any], caption: Mapping[str, Any]) -> None:
        """Count a pair that is kept."""
        self.pairs += 1
        self.kept += 1
        self.notes.update([*image["notes"], *(f"caption {note}" for note in caption["notes"])])
        self.formats[image["format"]] += 1
        self.languages[caption["language"] or "not asked"] += 1
        values = {
            "width": image["source_width"],
            "height": image["source_height"],
            "aspect": image["width"] / image["height"],
            **{name: image[name] for name in ("brightness", "contrast", "sharpness")},
            "words": caption["words"],
            "tokens": len(caption["tokens"]),
        }
        for name, value in values.items():
            place = int(np.searchsorted(EDGES[name], value, "right")) - 1
            self.bins[name][min(max(place, 0), len(self.bins[name]) - 1)] += 1
        mean, spread = np.array(image["colours"]), np.array(image["spreads"])
        self._means += mean
        self._squares += spread**2 + mean**2

    def plain(self) -> dict[str, Any]:
        """Give the counts as JSON holds them; the channels' mean and deviation are what a trainer normalises by."""
        mean = self._means / max(self.kept, 1)
        deviation = np.sqrt(np.maximum(self._squares / max(self.kept, 1) - mean**2, 0))
        stages: dict[str, dict[str, int]] = {}
        for (stage, reason), count in self.lost.most_common():
            stages.setdefault(stage, {})[reason] = count
        return {
            "pairs": self.pairs,
            "kept": self.kept,
            "lost": stages,
            "notes": dict(self.notes.most_common()),
            "formats": dict(self.formats.most_common()),
            "languages": dict(self.languages.most_common()),
            "channels": {"mean": mean.round(4).tolist(), "deviation": deviation.round(4).tolist()},
            "histograms": {
                name: {"edges": list(EDGES[name]), "counts": counts.tolist()} for name, counts in self.bins.items()
            },
        }
