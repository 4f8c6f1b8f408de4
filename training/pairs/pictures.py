"""What a person looks at of a take: a sheet of some of its pictures, and how its descriptors are spread."""

import heapq
import io
from dataclasses import dataclass, field
from typing import Any

from training.pairs.codec import contact_sheet

SHOWN = 48
_ASPECTS = (0.25, 0.5, 1, 2, 4)


@dataclass(slots=True)
class ShownPictures:
    """Some pictures of many, the same ones for the same many: those whose hashes are least."""

    _chosen: list[tuple[int, bytes]] = field(default_factory=list)

    def offer(self, sha256: str, picture: bytes) -> None:
        """Keep a picture if its hash is among the least."""
        entry = (-int(sha256[:12], 16), picture)
        if len(self._chosen) < SHOWN:
            heapq.heappush(self._chosen, entry)
        elif entry[0] > self._chosen[0][0]:
            heapq.heapreplace(self._chosen, entry)

    def sheet(self) -> bytes:
        """Give the contact sheet, a JPEG."""
        return contact_sheet([picture for _, picture in sorted(self._chosen, reverse=True)])


def histograms(report: dict[str, Any]) -> bytes:
    """Draw a report's histograms and what was lost and why, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 10), layout="constrained")
    axes = figure.subplots(3, 3).ravel()
    for place, (name, histogram) in zip(axes, report["histograms"].items(), strict=False):
        place.stairs(histogram["counts"], histogram["edges"], fill=True, color="#1f6feb")
        place.set_title(name)
        if name == "aspect":
            place.set_xscale("log")
            place.minorticks_off()
            place.set_xticks(_ASPECTS, [f"{aspect:g}" for aspect in _ASPECTS])
    lost = {reason: count for stage in report["lost"].values() for reason, count in stage.items()}
    most = dict(sorted(lost.items(), key=lambda item: item[1])[-12:])
    axes[-1].barh(list(most), list(most.values()), color="#d1242f")
    axes[-1].set_title(f"lost: {report['pairs'] - report['kept']:,} of {report['pairs']:,}")
    axes[-1].tick_params(axis="y", labelsize=7)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=80, metadata={"Software": None})
    return content.getvalue()
