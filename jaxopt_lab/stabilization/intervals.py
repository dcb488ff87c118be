"""Confidence intervals over few seeds: bootstrap of means, paired where seeds are shared."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

NUM_DRAWS = 4000
LEVEL = 0.95


class Ratio(NamedTuple):
    """A mean over seeds, or a ratio of such, and a 95 % bootstrap interval around it."""

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
    return _ratio(np.exp(logs.mean()), np.exp(logs[_draws(len(logs), seed)].mean(axis=1)))


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


def ratio_of_means(
    after: Float[np.ndarray, "s ..."], before: Float[np.ndarray, "s ..."], seed: int = 0
) -> Ratio:
    """Mean over seeds after over that before; the bootstrap draws whole pairs.

    A seed that starts badly counts as much as it weighs in the mean, not more. Of values on
    resamples of the validation rows each draw takes one resample, the same of both: the interval is
    over seeds and rows together.

    Args:
      after: one positive value per seed [s], or per seed and resample [s, r].
      before: of the same seeds, and resamples.
      seed: of the bootstrap.
    """
    pairs = np.maximum(np.stack([after, before]).astype(np.float64), 1e-12)
    pairs = pairs.reshape(2, len(after), -1)
    value = np.divide(*pairs.mean(axis=(1, 2)))
    draws = _draws(len(after), seed)
    rows = np.random.default_rng(seed + 1).integers(0, pairs.shape[2], (len(draws), 1))
    return _ratio(value, np.divide(*pairs[:, draws, rows].mean(axis=2)))


def row_error(after: Float[np.ndarray, "s r"], before: Float[np.ndarray, "s r"]) -> float:
    """Standard error, log scale, that the choice of validation rows leaves in a ratio of means.

    Args:
      after: one positive value per seed and resample of the rows.
      before: likewise.

    Returns:
      0 of a single resample.
    """
    if after.shape[1] < 2:
        return 0.0
    ratios = after.mean(axis=0) / np.maximum(before.mean(axis=0), 1e-12)
    return float(np.log(np.maximum(ratios, 1e-12)).std(ddof=1))


def _draws(number: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, number, (NUM_DRAWS, number))


def _ratio(value: float, drawn: np.ndarray) -> Ratio:
    tail = (1.0 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    return Ratio(float(value), float(low), float(high))
