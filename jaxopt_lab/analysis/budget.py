"""Was the budget enough? What the best of k trials would have been."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

#: What the last doubling of the trials must have gained, as a share of the score, to matter.
STEEP, FLAT = 0.02, 0.005


@dataclass(frozen=True, eq=False)
class BestOfK:
    """Best-of-k curve with its 10 % to 90 % band, over draws of k trials with replacement.

    Attributes:
      k: [n] numbers of trials, 1 to n.
      median: [n] median of the best score among k trials; inf where most draws all diverge.
      low: [n] 10 % quantile.
      high: [n] 90 % quantile.
      last_doubling: by what share of itself the median fell from n/2 to n trials; NaN for n < 4.
      verdict: one sentence.
    """

    k: Int[np.ndarray, " n"]
    median: Float[np.ndarray, " n"]
    low: Float[np.ndarray, " n"]
    high: Float[np.ndarray, " n"]
    last_doubling: float
    verdict: str


def best_of_k(scores: Any, infeasible: Any) -> BestOfK:
    """Quantiles of the best score of k trials, for all k up to the number there are.

    Meant for trials drawn alike (the wide search): in a search that learns, the order matters. The
    best of k draws with replacement exceeds the i-th least score with probability (1 - i/n)^k, so
    the quantiles are exact, without drawing.

    Args:
      scores: n numbers, lower is better; NaN or None where unknown (the trial is left out).
      infeasible: n booleans; such a trial costs a draw and is never the best.

    Returns:
      Curve, band and verdict; empty without a single score.

    Source: Deep Learning Tuning Playbook, "best so far" with bootstrap; Dodge et al. 2019,
    arXiv:1909.03004 (expected best validation score as a function of the budget).
    """
    values = np.array([math.nan if s is None else s for s in scores], np.float64)
    values = np.where(np.asarray(infeasible, bool).reshape(-1), np.inf, values)
    values = values[~np.isnan(values)]
    num = len(values)
    if not np.isfinite(values).any():
        none = np.zeros(0)
        return BestOfK(np.zeros(0, np.int64), none, none, none, math.nan, "No trial has a score.")
    ranked, k = np.sort(values), np.arange(1, num + 1)
    low, median, high = (_quantile(ranked, k, q) for q in (0.1, 0.5, 0.9))
    gain = math.nan if math.isfinite(median[-1]) else math.inf
    if num >= 4 and math.isfinite(median[-1]):
        gain = float((median[num // 2 - 1] - median[-1]) / max(abs(median[-1]), 1e-300))
    return BestOfK(k, median, low, high, gain, _verdict(num, gain))


def _quantile(ranked: np.ndarray, k: np.ndarray, q: float) -> np.ndarray:
    """The q-quantile of the least of k draws from sorted values, for each k."""
    rank = np.ceil(len(ranked) * -np.expm1(np.log1p(-q) / k) - 1e-9)
    return ranked[np.clip(rank.astype(int), 1, len(ranked)) - 1]


def _verdict(num: int, gain: float) -> str:
    if math.isnan(gain):
        return f"{num} trials are too few to tell whether the budget was enough."
    if math.isinf(gain):
        return (
            "Most trials diverge: the best score still depends on luck; lower the learning rates."
        )
    did = f"The second half of the {num} trials improved the median best score by {gain:.1%}"
    if gain > STEEP:
        return f"{did}: still improving, so more trials are likely to find better ones."
    if gain > FLAT:
        return f"{did}: improving slowly, so more trials would help a little."
    return f"{did}: the budget was enough for this space."
