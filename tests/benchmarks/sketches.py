"""How far the sketches' distances lie from the exact ones of the rows themselves."""

from collections.abc import Iterator

import numpy as np
from scipy.stats import ks_2samp, wasserstein_distance

from monitors.counts.distances import kolmogorov_smirnov, wasserstein
from monitors.counts.sketch import NumericSketch, Scale
from tests.benchmarks.figures import Figure
from tests.benchmarks.frames import Tables, tables


def errors(rows: int, columns: int, seeds: int) -> Iterator[Figure]:
    """Compare all numeric columns, shifted and not, of several pairs of tables; the worst counts."""
    pairs = [tables(reference_rows=rows, rows=rows, columns=columns, seed=seed) for seed in range(seeds)]
    found = [_error(both, name) for both in pairs for name in both.numeric]
    ks, w1 = np.max(found, axis=0)
    yield Figure(name="drift.sketch.ks_error", value=ks, unit="share", gate=2e-3, better="less", exact=True)
    yield Figure(name="drift.sketch.w1_error", value=w1, unit="sd", gate=1e-3, better="less", exact=True)


def _error(both: Tables, name: str) -> tuple[float, float]:
    then, now = both.reference[name].to_numpy(), both.window[name].to_numpy()
    scale = Scale.of(then)
    reference, window = NumericSketch.of(then, scale), NumericSketch.of(now, scale)
    ks = abs(kolmogorov_smirnov(reference, window) - ks_2samp(then, now, method="asymp").statistic)
    exact = wasserstein_distance((then - scale.mean) / scale.sd, (now - scale.mean) / scale.sd)
    return ks, abs(wasserstein(reference, window) - exact)
