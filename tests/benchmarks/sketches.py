"""How far the sketches' distances lie from the exact ones of the rows themselves."""

from collections.abc import Iterator

import numpy as np
from scipy.stats import ks_2samp, wasserstein_distance

from monitors.sketch import NumericSketch, Scale, kolmogorov_smirnov, wasserstein
from tests.benchmarks.figures import Figure
from tests.benchmarks.frames import tables


def errors(rows: int, columns: int) -> Iterator[Figure]:
    """Compare all numeric columns, shifted and not."""
    both = tables(reference_rows=rows, rows=rows, columns=columns, seed=1)
    ks, w1 = [], []
    for name in both.numeric:
        then, now = both.reference[name].to_numpy(), both.window[name].to_numpy()
        scale = Scale.of(then)
        reference, window = NumericSketch.of(then, scale), NumericSketch.of(now, scale)
        ks.append(abs(kolmogorov_smirnov(reference, window) - ks_2samp(then, now, method="asymp").statistic))
        exact = wasserstein_distance((then - scale.mean) / scale.sd, (now - scale.mean) / scale.sd)
        w1.append(abs(wasserstein(reference, window) - exact))
    yield Figure(name="drift.sketch.ks_error", value=np.max(ks), unit="share", gate=2e-3, better="less")
    yield Figure(name="drift.sketch.w1_error", value=np.max(w1), unit="sd", gate=1e-3, better="less")
