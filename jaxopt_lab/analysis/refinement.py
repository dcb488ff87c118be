"""New ranges around the best trials."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_lab.analysis.boundaries import Finding, boundary_findings, suggested_bound
from jaxopt_lab.analysis.trials_seen import Seen
from jaxopt_lab.spaces.distributions import Choice, Distribution, IntUniform, Range
from jaxopt_lab.spaces.space import SearchSpace

#: No range is cut to less than this share of what it was; with fewer than 4 best trials to more.
LEAST_SHARE = 1 / 3
#: Added on each side of the best trials' span, in the unit cube.
PADDING = 0.08
#: A value of a choice is dropped only if it was tried at least this often.
MIN_TRIED = 3


def refine(
    space: SearchSpace,
    configs: Sequence[Mapping[str, Any]],
    scores: Any,
    infeasible: Any,
    *,
    widen: bool | Collection[str] = False,
) -> SearchSpace:
    """Make a smaller space around the best trials.

    Ranges become the span of the best quarter in the unit cube (its 5 % to 95 % where it has ten
    trials or more), padded, at least a third of the old range. Padding stops where most trials
    diverge. Choices keep the values that the best use, and those hardly tried. What one value is
    left of becomes fixed; what can no longer be active is dropped. Fixed values and conditions
    stay. With few trials little is cut: of three, the best quarter is all three.

    Every value of the result lies in the old space, so programs compiled for that serve, unless
    `widen`: then the padding of a real range may leave the old one, lest the best trials lie at
    its end, and a bound that they crowd (`boundary_findings`, kind `narrow`) moves to the
    suggested one, within the hard limits of the hyperparameter.

    Args:
      space: the space that the trials were drawn from.
      configs: n configurations.
      scores: n numbers, lower is better; NaN or None where unknown.
      infeasible: n booleans.
      widen: whether ranges may grow; or the names of those that may.

    Returns:
      A new space; the old one if no trial has a score.

    Source: Deep Learning Tuning Playbook (google-research/tuning_playbook), exploration first.
    """
    seen = Seen.of(space, configs, scores, infeasible)
    if not seen.scored.any():
        return space
    grow: dict[str, list[Finding]] = {}
    growing = {n for n in space.parameters if widen is True or (widen and n in widen)}
    for finding in boundary_findings(space, configs, scores, infeasible) if widen else []:
        if finding.kind == "narrow" and finding.name in growing:
            grow.setdefault(finding.name, []).append(finding)
    parameters: dict[str, Any] = {}
    for j, (name, dist) in enumerate(space.parameters.items()):
        outer = _outer(name, dist) if name in growing else dist
        narrowed = _narrow(dist, outer, seen.points[:, j], seen)
        parameters[name] = _grown(narrowed, grow.get(name, []))
    return _assemble({**parameters, **space.fixed})


def _outer(name: str, dist: Distribution) -> Distribution:
    """A real range with the bounds to which it may grow."""
    if not isinstance(dist, Range) or math.isfinite(dist.cardinality):
        return dist
    low, high = (suggested_bound(name, dist, side) for side in ("low", "high"))
    return dist.with_ends(dist.low if low is None else low, dist.high if high is None else high)


def _narrow(dist: Distribution, outer: Distribution, column: np.ndarray, seen: Seen) -> Any:
    """The distribution around the best trials, within `outer`."""
    best = column[seen.best()]
    best = best[~np.isnan(best)]
    if not len(best):
        return dist
    if isinstance(dist, Choice):
        return _narrow_choice(dist, best, column, seen)
    if not isinstance(dist, Range) or not isinstance(outer, Range):
        return dist
    if outer == dist:
        return _sub_range(dist, *_window(best, column, seen))
    start, end = (outer.to_unit(bound) for bound in dist.extremes)
    width = end - start
    ends = max(-start / width, -PADDING), min((1.0 - start) / width, 1.0 + PADDING)
    low, high = _window(best, column, seen, ends)
    return _sub_range(outer, max(start + low * width, 0.0), min(start + high * width, 1.0))


def _narrow_choice(dist: Choice, best: np.ndarray, column: np.ndarray, seen: Seen) -> Choice:
    used = {dist.from_unit(float(u)) for u in best}
    known = (seen.scored | seen.infeasible) & ~np.isnan(column)
    tried = [dist.from_unit(float(u)) for u in column[known]]
    kept = [v for v in dist.values if v in used or tried.count(v) < MIN_TRIED]
    return dist.with_values(kept)


def _window(
    best: np.ndarray,
    column: np.ndarray,
    seen: Seen,
    ends: tuple[float, float] = (0.0, 1.0),
) -> tuple[float, float]:
    """Ends of the new range in the unit cube of the old one, between `ends`."""
    robust = len(best) >= 10
    low, high = (float(np.quantile(best, q)) for q in ((0.05, 0.95) if robust else (0.0, 1.0)))
    # The very best trial always stays inside: `best` is ordered.
    low, high = min(low, float(best[0])), max(high, float(best[0]))
    low -= 0.0 if _diverges(low - PADDING, low, column, seen) else PADDING
    high += 0.0 if _diverges(high, high + PADDING, column, seen) else PADDING
    least = max(LEAST_SHARE, 1 - len(best) / 6)
    missing = least - (high - low)
    if missing > 0:
        low, high = low - missing / 2, high + missing / 2
    first, last = ends
    if low < first:
        low, high = first, max(high, first + least)
    if high > last:
        low, high = min(low, last - least), last
    return max(low, first), min(high, last)


def _diverges(low: float, high: float, column: np.ndarray, seen: Seen) -> bool:
    """Whether most trials between two coordinates are infeasible, of at least two."""
    inside = (seen.scored | seen.infeasible) & (column > low) & (column < high)
    return bool(inside.sum() >= 2 and seen.infeasible[inside].mean() >= 0.5)


def _sub_range(dist: Range, low: float, high: float) -> Distribution:
    old_low, old_high = dist.extremes
    new_low, new_high = dist.from_unit(low), dist.from_unit(high)
    if isinstance(dist, IntUniform):
        if new_low == new_high:
            return Choice([new_low], dist.condition, static=dist.static)
        return dist.with_ends(new_low, new_high)
    new_low = max(_outward(new_low, math.floor), old_low)
    new_high = min(_outward(new_high, math.ceil), old_high)
    return dist.with_ends(new_low, new_high)


def _outward(value: float, to: Any) -> float:
    """Three significant digits, rounded by `floor` or `ceil`; bounds a person would write."""
    if value == 0:
        return 0.0
    digits = 2 - math.floor(math.log10(abs(value)))
    return float(round(to(round(value * 10.0**digits, 6)) / 10.0**digits, max(digits, 0) + 3))


def _grown(dist: Distribution, findings: Sequence[Finding]) -> Distribution:
    """Move the crowded ends outwards."""
    for finding in findings:
        assert finding.suggested is not None
        if isinstance(dist, Choice):
            dist = dist.with_values([*dist.values, finding.suggested])
            continue
        if not isinstance(dist, Range):
            continue
        low, high = dist.extremes
        low, high = (finding.suggested, high) if finding.side == "low" else (low, finding.suggested)
        dist = dist.with_ends(low, high)
    return dist


def _assemble(parameters: Mapping[str, Any]) -> SearchSpace:
    """Fix what has one value, drop what can no longer be active, and shrink conditions."""
    left = dict(parameters)
    changed = True
    while changed:
        changed = False
        for name, dist in list(left.items()):
            if not isinstance(dist, Distribution):
                continue
            if any(not _possible(left, parent, values) for parent, values in dist.condition):
                del left[name]
                changed = True
            elif isinstance(dist, Choice) and len(dist.values) == 1 and not dist.condition:
                left[name] = dist.values[0]
                changed = True
    return SearchSpace(**left)


def _possible(parameters: Mapping[str, Any], parent: str, values: tuple[Any, ...]) -> bool:
    """Whether a parent can still have one of the values."""
    if parent not in parameters:
        return False
    dist = parameters[parent]
    if not isinstance(dist, Distribution):
        return dist in values
    return any(dist.contains(value) for value in values)
