"""Trials by part of a range: where they diverge, and the best of each part."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool

from jaxopt_lab.analysis.trials_seen import Seen, rounded
from jaxopt_lab.spaces.distributions import Distribution
from jaxopt_lab.spaces.space import SearchSpace


@dataclass(frozen=True)
class Bucket:
    """A part of one hyperparameter's range, and the trials in it.

    Attributes:
      name: the hyperparameter.
      label: the part in words, such as `0.001 to 0.01` or `relu`.
      low: its low end in the unit cube.
      high: its high end.
      num_trials: trials in it, finished or diverged.
      num_infeasible: those that diverged.
    """

    name: str
    label: str
    low: float
    high: float
    num_trials: int
    num_infeasible: int

    @property
    def share(self) -> float:
        """Share of infeasible trials; NaN without trials."""
        return self.num_infeasible / self.num_trials if self.num_trials else math.nan


@dataclass(frozen=True)
class Isolated:
    """The best trial of one bucket: what the score can be if this hyperparameter lies there.

    Attributes:
      bucket: the part of the range.
      index: of the trial in the arguments; -1 if no trial there has a score.
      score: its score; NaN if none.
    """

    bucket: Bucket
    index: int
    score: float


def infeasible_by_region(
    space: SearchSpace,
    configs: Sequence[Mapping[str, Any]],
    infeasible: Any,
    num_buckets: int = 4,
) -> list[Bucket]:
    """Count trials and infeasible trials in equal parts of every hyperparameter's range.

    Args:
      space: the study's space.
      configs: n configurations of trials that finished or diverged.
      infeasible: n booleans.
      num_buckets: parts of a range; a choice, or a range of few whole numbers, has one per value.

    Returns:
      All buckets, hyperparameter by hyperparameter, from low to high.
    """
    seen = Seen.of(space, configs, np.zeros(len(configs)), infeasible)
    return [
        bucket for name in space.names for bucket, _ in _buckets(space, name, seen, num_buckets)
    ]


def isolation(
    space: SearchSpace,
    configs: Sequence[Mapping[str, Any]],
    scores: Any,
    infeasible: Any,
    num_buckets: int = 6,
) -> dict[str, list[Isolated]]:
    """The best trial in each part of each range, all other hyperparameters optimised away.

    Args:
      space: the study's space.
      configs: n configurations.
      scores: n numbers, lower is better; NaN or None where unknown.
      infeasible: n booleans.
      num_buckets: as in `infeasible_by_region`.

    Source: Deep Learning Tuning Playbook (google-research/tuning_playbook), isolation plots.
    """
    seen = Seen.of(space, configs, scores, infeasible)
    found: dict[str, list[Isolated]] = {}
    for name in space.names:
        found[name] = []
        for bucket, inside in _buckets(space, name, seen, num_buckets):
            values = np.where(inside & seen.scored, seen.scores, np.inf)
            index = int(np.argmin(values)) if np.isfinite(values).any() else -1
            score = float(values[index]) if index >= 0 else math.nan
            found[name].append(Isolated(bucket, index, score))
    return found


def _buckets(
    space: SearchSpace, name: str, seen: Seen, num_buckets: int
) -> list[tuple[Bucket, Bool[np.ndarray, " n"]]]:
    dist, column = space.parameters[name], seen.points[:, space.names.index(name)]
    known = seen.scored | seen.infeasible
    found = []
    for low, high, label in _parts(dist, num_buckets):
        inside = known & (column >= low) & ((column < high) | (high >= 1) & (column <= 1))
        count, diverged = int(inside.sum()), int((inside & seen.infeasible).sum())
        found.append((Bucket(name, label, low, high, count, diverged), inside))
    return found


def _parts(dist: Distribution, num_buckets: int) -> list[tuple[float, float, str]]:
    """(low, high, label) of the parts, in the unit cube."""
    num = dist.cardinality
    if num <= max(num_buckets, 2) or type(dist).__name__ == "Choice":
        edges = np.linspace(0, 1, int(num) + 1)
        labels = [str(dist.from_unit((a + b) / 2)) for a, b in pairwise(edges)]
        if len(set(labels)) == num:
            return list(zip(edges[:-1].tolist(), edges[1:].tolist(), labels, strict=True))
    edges = np.linspace(0, 1, num_buckets + 1)
    ends = [f"{rounded(dist.from_unit(float(e)), 2):g}" for e in edges]
    return [
        (float(edges[i]), float(edges[i + 1]), f"{ends[i]} to {ends[i + 1]}")
        for i in range(num_buckets)
    ]
