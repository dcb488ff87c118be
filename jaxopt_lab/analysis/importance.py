"""How much of the differences between trials each hyperparameter explains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxopt_lab.analysis.trials_seen import Seen
from jaxopt_lab.spaces.space import INACTIVE, SearchSpace

#: Fewer trials than this say nothing about importance.
MIN_TRIALS = 4
_CELLS = 1024
#: Trials that a tree learns from at most: more add time, and little to shares of a variance.
_ROWS_PER_TREE = 1500
_BACKGROUND, _GRID, _TREES = 128, 24, 64


@dataclass(frozen=True)
class Importance:
    """Functional ANOVA of the trials' ranks.

    Attributes:
      shares: hyperparameter -> share of the variance that it explains alone, largest first.
      interactions: share that takes two or more of them together.
      fit: R^2 of the forest on the trials that each tree has not seen; below about 0.2 the
        shares are mostly noise. NaN with too few trials.
    """

    shares: dict[str, float]
    interactions: float
    fit: float


def importance(
    space: SearchSpace,
    configs: Sequence[Mapping[str, Any]],
    scores: Any,
    infeasible: Any,
    seed: int = 0,
) -> dict[str, float]:
    """Name -> share of the variance explained alone, largest first; see `anova`."""
    return anova(space, configs, scores, infeasible, seed).shares


def anova(
    space: SearchSpace,
    configs: Sequence[Mapping[str, Any]],
    scores: Any,
    infeasible: Any,
    seed: int = 0,
) -> Importance:
    """Functional ANOVA on a random forest fitted to the trials.

    Functional ANOVA rather than permutation importance: its shares say how the score varies over
    the *space*, not over the trials that happen to be there (a refined search has most of its
    trials in one corner), correlated columns do not share or double their credit, and what
    is left to interactions is told.

    The forest learns ranks in [0, 1], so that one very bad trial does not own all the variance;
    infeasible trials share the worst rank. Marginals are means over quasi-random points instead
    of sums over leaf boxes, because conditional parameters make the space no product: where one
    is inactive its coordinate is not there to vary, and its share counts the active part only.

    Args:
      space: the study's space.
      configs: n configurations.
      scores: n numbers, lower is better; NaN or None where unknown (the trial is left out).
      infeasible: n booleans.
      seed: of forest and points.

    Returns:
      Shares that with `interactions` sum to 1; all 0 with fewer than 4 trials or equal ones.

    Source: Hutter, Hoos & Leyton-Brown 2014, "An efficient approach for assessing hyperparameter
    importance", ICML, PMLR 32(1):754-762.
    """
    seen = Seen.of(space, configs, scores, infeasible)
    known = seen.scored | seen.infeasible
    ranks = _ranks(seen)[known]
    nothing = Importance(dict.fromkeys(space.names, 0.0), 0.0, float("nan"))
    if known.sum() < MIN_TRIALS or np.ptp(ranks) == 0 or not space.num_dims:
        return nothing
    inputs = np.nan_to_num(seen.points[known], nan=INACTIVE)
    forest = _fit(inputs, ranks, seed)
    cells = _Activity(space)
    cube = _cube(space.num_dims, seed)
    total = float(forest.predict(cells.canonical(cube)).var())
    if total <= 0:
        return nothing
    raw = {n: _first_order(forest, cells, cube, j) / total for j, n in enumerate(space.names)}
    scale = max(1.0, sum(raw.values()))
    ordered = sorted(raw, key=lambda n: (-raw[n], space.names.index(n)))
    shares = {n: float(raw[n] / scale) for n in ordered}
    return Importance(shares, float(max(0.0, 1.0 - sum(shares.values()))), float(forest.oob_score_))


def _ranks(seen: Seen) -> Float[np.ndarray, " n"]:
    from scipy.stats import rankdata

    values = np.where(seen.infeasible, np.inf, seen.scores)
    known = ~np.isnan(values)
    ranks = np.full(len(values), np.nan)
    if known.any():
        ranks[known] = (rankdata(values[known]) - 0.5) / known.sum()
    return ranks


def _fit(inputs: np.ndarray, ranks: np.ndarray, seed: int) -> Any:
    import warnings

    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(
        _TREES,
        min_samples_leaf=2 if len(ranks) >= 16 else 1,
        max_samples=_ROWS_PER_TREE if len(ranks) > _ROWS_PER_TREE else None,
        oob_score=True,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a trial that every tree has seen
        return forest.fit(inputs, ranks)


def _cube(num_dims: int, seed: int) -> Float[np.ndarray, "n d"]:
    from scipy.stats import qmc

    return qmc.Sobol(num_dims, rng=np.random.default_rng(seed)).random(_BACKGROUND)


def _first_order(forest: Any, cells: "_Activity", cube: np.ndarray, axis: int) -> float:
    """Variance of the marginal over one axis, times the share of the space where it exists."""
    active = cells.active(cube)[:, axis]
    rest = cube[active]
    if not len(rest):
        return 0.0
    grid = (np.arange(_GRID) + 0.5) / _GRID
    points = np.repeat(rest[None], _GRID, axis=0)
    points[:, :, axis] = grid[:, None]
    flat = cells.canonical(points.reshape(-1, cube.shape[1]))
    marginal = forest.predict(flat).reshape(_GRID, -1).mean(axis=1)
    return float(marginal.var() * active.mean())


class _Activity:
    """Which parameters exist at points of the unit cube, by tables over the parents' axes."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        middles = (np.arange(_CELLS) + 0.5) / _CELLS
        drawn = {n: [d.from_unit(u) for u in middles] for n, d in space.parameters.items()}
        self._tables = {
            (name, parent): np.array([v in values for v in drawn[parent]])
            for name, dist in space.parameters.items()
            for parent, values in dist.condition
            if parent in space.parameters
        }

    def active(self, points: np.ndarray) -> Bool[np.ndarray, "n d"]:
        space = self._space
        cell = np.minimum((points * _CELLS).astype(int), _CELLS - 1)
        found: dict[str, np.ndarray] = {}

        def of(name: str) -> np.ndarray:
            if name not in found:
                mask = np.ones(len(points), bool)
                for parent, values in space.parameters[name].condition:
                    if parent in space.fixed:
                        mask &= space.fixed[parent] in values
                    else:
                        column = cell[:, space.names.index(parent)]
                        mask &= of(parent) & self._tables[name, parent][column]
                found[name] = mask
            return found[name]

        return np.stack([of(name) for name in space.names], axis=1)

    def canonical(self, points: np.ndarray) -> Float[np.ndarray, "n d"]:
        """Points with inactive coordinates at `INACTIVE`, as the forest has learned them."""
        return np.where(self.active(points), points, INACTIVE)
