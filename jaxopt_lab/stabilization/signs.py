"""Which variants are a sign of anything, and the middle of numbers that may not be finite."""

from collections.abc import Sequence

import numpy as np

from jaxopt_lab.stabilization.compare import Remedy
from jaxopt_lab.stabilization.thresholds import FREES

#: A number of evidence is at most this.
MOST = 1e6


def still_learn(mine: Sequence[Remedy]) -> list[Remedy]:
    """Variants whose best loss is no more than a third higher. In as many epochs a larger batch
    makes fewer updates, which may cost something.
    """
    return [r for r in mine if r.loss.value * FREES < 1.0]


def surely_calmer(mine: Sequence[Remedy]) -> list[Remedy]:
    """Variants that are calmer for certain, over seeds."""
    return [r for r in mine if r.fluctuation.high < 1.0]


def middle(values: Sequence[float]) -> float:
    """Median of at least one value; NaN and infinite ones count as `MOST`."""
    found = float(np.median(np.nan_to_num(values, nan=MOST, posinf=MOST, neginf=0.0)))
    return min(found, MOST)
