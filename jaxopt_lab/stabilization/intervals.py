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
    after: Float[np.ndarray, " s"], before: Float[np.ndarray, " s"], seed: int = 0
) -> Ratio:
    """Mean over seeds after over that before; the bootstrap draws whole pairs.

    A seed that starts badly counts as much as it weighs in the mean, not more.

    Args:
      after: one positive value per seed.
      before: of the same seeds.
      seed: of the bootstrap.
    """
    pairs = np.maximum(np.stack([after, before]).astype(np.float64), 1e-12)
    value = np.divide(*pairs.mean(axis=1))
    return _ratio(value, np.divide(*pairs[:, _draws(len(pairs[0]), seed)].mean(axis=2)))


def _draws(number: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, number, (NUM_DRAWS, number))


def _ratio(value: float, drawn: np.ndarray) -> Ratio:
    tail = (1.0 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    return Ratio(float(value), float(low), float(high))
