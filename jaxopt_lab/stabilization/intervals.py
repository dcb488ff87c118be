"""Confidence intervals over few seeds: bootstrap of means, paired where seeds are shared."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

NUM_DRAWS = 4000
LEVEL = 0.95


class Ratio(NamedTuple):
    """A geometric mean over seeds, and a 95 % bootstrap interval around it."""

    value: float
    low: float
    high: float


def geometric_mean(values: Float[np.ndarray, " s"], seed: int = 0) -> Ratio:
    """Geometric mean over seeds of positive values.

    Args:
      values: one per seed.
      seed: of the bootstrap.
    """
    logs = np.log(np.maximum(np.asarray(values, np.float64), 1e-12))
    rng = np.random.default_rng(seed)
    means = logs[rng.integers(0, len(logs), (NUM_DRAWS, len(logs)))].mean(axis=1)
    tail = (1.0 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Ratio(float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high)))


def paired_ratio(
    after: Float[np.ndarray, " s"], before: Float[np.ndarray, " s"], seed: int = 0
) -> Ratio:
    """Geometric mean over seeds of after / before, each pair trained with the same seed.

    Args:
      after: one positive value per seed.
      before: of the same seeds.
      seed: of the bootstrap.
    """
    floor = 1e-12
    return geometric_mean(np.maximum(after, floor) / np.maximum(before, floor), seed)
