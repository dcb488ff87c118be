"""Boundary check: do the best trials crowd a bound, and may that bound be widened?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from jaxopt_lab.analysis.trials_seen import Seen, rounded
from jaxopt_lab.problems.mlp.hyperparameters import REGISTRY
from jaxopt_lab.spaces.distributions import Choice, Distribution, IntUniform, LogUniform
from jaxopt_lab.spaces.space import SearchSpace

Side = Literal["low", "high"]
Kind = Literal["narrow", "diverging", "limit"]
#: The outer part of a real range that counts as its edge, in the unit cube.
EDGE = 0.15
#: Crowding must be less probable than this if the best lay as all trials do.
SIGNIFICANCE = 0.05
#: No suggestion moves a logarithmic bound by more than this factor at once.
LARGEST_STEP = 10.0
#: Where values stop making sense, within the hard limits: name -> (lowest, highest) to suggest.
SENSIBLE: dict[str, tuple[float, float]] = {
    "learning_rate": (1e-6, 10.0),
    "weight_decay": (1e-8, 10.0),
    "l1": (1e-8, 1.0),
    "l2": (1e-8, 1.0),
    "eps": (1e-10, 0.1),
    "clip_norm": (1e-3, 1e3),
    "clip_value": (1e-4, 1e3),
    "dropout": (0.0, 0.9),
    "batch_size": (1, 8192),
    "num_layers": (1, 32),
    "hidden_size": (1, 8192),
    "ensemble_size": (1, 32),
}
#: From this share of infeasible trials on, a region diverges.
DIVERGES = 0.5


@dataclass(frozen=True)
class Finding:
    """The best trials crowd one end of what may be searched.

    Attributes:
      name: the hyperparameter.
      side: `low` or `high` end.
      kind: `narrow` (the range ends too early: widen it), `diverging` (beyond the best, trials
        diverge: do not widen), `limit` (the range ends where the hyperparameter does).
      text: one sentence.
      suggested: a new bound, or a further value of a choice; None unless `narrow`.
    """

    name: str
    side: Side
    kind: Kind
    text: str
    suggested: float | int | None


def boundary_findings(
    space: SearchSpace,
    configs: Sequence[Mapping[str, Any]],
    scores: Any,
    infeasible: Any,
) -> list[Finding]:
    """Check both ends of every numeric hyperparameter.

    The best trials crowd an end if more of them lie at its edge than a binomial test allows, all
    trials lying there as often as they do. If trials diverge between the best and that end, or
    at it, widening would only buy more diverged trials, and the finding says so.

    Args:
      space: the space that the trials were drawn from.
      configs: n configurations of trials that finished or diverged.
      scores: n numbers, lower is better; NaN or None where unknown.
      infeasible: n booleans.

    Returns:
      Findings in the order of the space; none where fewer than 3 of the best trials have the
      hyperparameter.

    Source: Deep Learning Tuning Playbook (google-research/tuning_playbook), "identifying bad
    search space boundaries".
    """
    seen = Seen.of(space, configs, scores, infeasible)
    found = []
    for j, (name, dist) in enumerate(space.parameters.items()):
        if isinstance(dist, Choice) and not (dist.ordered and len(dist.values) > 1):
            continue
        for side in ("low", "high"):
            finding = _check(name, dist, side, seen.points[:, j], seen)
            if finding is not None:
                found.append(finding)
    return found


def _check(
    name: str, dist: Distribution, side: Side, column: np.ndarray, seen: Seen
) -> Finding | None:
    depth = column if side == "low" else 1 - column  # 0 at this end, 1 at the other
    best = depth[seen.best()]
    best = best[~np.isnan(best)]
    if len(best) < 3:
        return None
    known = (seen.scored | seen.infeasible) & ~np.isnan(depth)
    diverged, edge = known & seen.infeasible, _edge(dist)
    near = float(np.quantile(best, 0.25))
    outside = known & (depth < near)
    num_outside, num_diverged = int(outside.sum()), int((outside & diverged).sum())
    bound = _bound(dist, side)
    where = f"the {'lower' if side == 'low' else 'upper'} end of its range ({_text(bound)})"
    if num_diverged >= 3 and num_diverged >= DIVERGES * num_outside:
        start = dist.from_unit(near if side == "low" else 1 - near)
        text = (
            f"{name}: the best trials lie next to a region that diverges: "
            f"{'below' if side == 'low' else 'above'} {_text(start)}, {num_diverged} of "
            f"{num_outside} trials are infeasible. Do not widen; warm-up or clipping may move it."
        )
        return Finding(name, side, "diverging", text, None)
    inside = int((best < edge).sum())
    usual = max(edge, float((depth[known] < edge).mean()))
    if not _crowded(inside, len(best), usual):
        return None
    crowd = f"{name}: {inside} of the {len(best)} best trials crowd {where}"
    suggested = suggested_bound(name, dist, side)
    if suggested is None:
        beyond = "it has no values" if _at_hard_limit(name, bound) else "values are unusual"
        text = f"{crowd}, beyond which {beyond}: there is nothing to widen."
        return Finding(name, side, "limit", text, None)
    text = f"{crowd}: the range is too narrow. Widen it to {_text(suggested)}."
    return Finding(name, side, "narrow", text, suggested)


def _edge(dist: Distribution) -> float:
    """How deep the edge is: one value of a few, else a fixed part."""
    return max(EDGE, 1 / float(dist.cardinality)) if math.isfinite(dist.cardinality) else EDGE


def _crowded(inside: int, num: int, usual: float) -> bool:
    """Whether `inside` of `num` is more than chance, each being inside with share `usual`."""
    from scipy.stats import binomtest

    return bool(binomtest(inside, num, usual, alternative="greater").pvalue < SIGNIFICANCE)


def _bound(dist: Distribution, side: Side) -> Any:
    ends = dist.ranked if isinstance(dist, Choice) else dist.extremes
    return ends[0] if side == "low" else ends[-1]


def suggested_bound(name: str, dist: Distribution, side: Side) -> float | int | None:
    """Half a range further out, and no more than `LARGEST_STEP`, within the sensible limits.

    Args:
      name: the hyperparameter; one that `REGISTRY` does not know has no limits.
      dist: a range, or a choice of numbers (which is continued by its last step or ratio).
      side: which end.

    Returns:
      The new bound, two significant digits; None if the old one is at the limit, or beyond.
    """
    old = _bound(dist, side)
    new = _continued(dist, side)
    low, high = SENSIBLE.get(name, (-math.inf, math.inf))
    new = max(new, low) if side == "low" else min(new, high)
    spec = REGISTRY.get(name)
    if spec is not None:
        limit = spec.low if side == "low" else spec.high
        exclusive = spec.exclusive_low if side == "low" else spec.exclusive_high
        nearest = (old + limit) / 2 if exclusive and math.isfinite(limit) else limit
        new = max(new, nearest) if side == "low" else min(new, nearest)
    is_whole = isinstance(dist, IntUniform) or (
        isinstance(dist, Choice) and all(isinstance(v, int) for v in dist.values)
    )
    new = round(new) if is_whole else rounded(new, 3 if 0.9 < abs(new) < 1 else 2)
    return new if (new < old if side == "low" else new > old) else None


def _at_hard_limit(name: str, bound: Any) -> bool:
    """Whether a hyperparameter has no values beyond a bound."""
    spec = REGISTRY.get(name)
    return spec is not None and bound in (spec.low, spec.high)


def _continued(dist: Distribution, side: Side) -> float:
    if isinstance(dist, Choice):
        ends = dist.ranked[:2] if side == "low" else dist.ranked[-1:-3:-1]
        last, before = float(ends[0]), float(ends[1])
        if last > 0 and before > 0:
            return last * last / before
        return 2 * last - before
    low, high = (float(e) for e in dist.extremes)
    if isinstance(dist, LogUniform) or type(dist).__name__ == "LogIntUniform":
        factor = min(math.sqrt(high / low), LARGEST_STEP)
        return (
            max(low / factor, 1.0 if low >= 1 and isinstance(dist, IntUniform) else 0.0)
            if (side == "low")
            else high * factor
        )
    step = max((high - low) / 2, 1.0 if isinstance(dist, IntUniform) else 0.0)
    return low - step if side == "low" else high + step


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int) else f"{float(value):.3g}"
