"""The curve of each training that a diagnosis measures, and what it comes to."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.results import Result
from jaxopt_lab.problems.general import GeneralProblem
from jaxopt_lab.stabilization import fluctuation
from jaxopt_lab.stabilization.fluctuation import MAX_FLUCTUATION, MIN_POINTS
from jaxopt_lab.stabilization.scale import Scale
from jaxopt_lab.stabilization.summary import Summary

#: A curve has at least so many points: its late half can then be measured.
FEWEST = 2 * MIN_POINTS
#: Of supervised problems: always minimised, whatever the objective.
LOSSES = ("loss", "train_loss")
_TAIL = 0.1
_FAILED = 1e30


def curve_name(problem: GeneralProblem, metrics: Mapping[str, Any], wanted: str | None) -> str:
    """The metric whose curve is measured.

    Args:
      problem: of any kind.
      metrics: name -> shape and dtype of one unit's.
      wanted: by the user; None: the objective's, or, where a unit is a whole training, the one
        metric that is a list of numbers.

    Raises:
      UserError: where it is not known.
    """
    if wanted is not None:
        if wanted not in metrics:
            raise UserError(
                f"there is no metric {wanted!r} in {problem.source}; there are: "
                f"{', '.join(metrics)}.{did_you_mean(wanted, metrics)}"
            )
        return wanted
    if problem.kind != "function":
        return problem.objective.metric
    lists = [k for k, x in metrics.items() if _is_list(x)]
    if len(lists) == 1:
        return lists[0]
    raise UserError(
        f"{problem.source} trains a whole trial at once, so {problem.objective.metric} is one "
        f"number and no curve: return an array of at least {FEWEST} losses too and name it, "
        f"curve={(lists or ['losses'])[0]!r}"
    )


def _is_list(metric: Any) -> bool:
    return len(metric.shape) == 1 and metric.shape[0] >= FEWEST and metric.dtype.kind == "f"


def curves_of(results: Sequence[Result], name: str) -> Float[np.ndarray, "s t"]:
    """One curve per seed; several numbers per unit follow each other."""
    return np.stack([np.ravel(result.curves[name]).astype(np.float64) for result in results])


def summarize(
    results: Sequence[Result], name: str, scale: Scale, at: str, train: str | None
) -> Summary:
    """What one variant comes to; what only rows and gradients could tell is NaN.

    Args:
      results: one per seed.
      name: metric whose curve is measured.
      scale: that makes costs of it.
      at: whether the "last" or the "best" unit counts.
      train: metric of the loss in training, above 0, if there is one.
    """
    costs = scale.costs(curves_of(results, name))
    trained = [None] * len(costs) if train is None else list(curves_of(results, train))
    with np.errstate(invalid="ignore", over="ignore"):
        rows = [
            _of_one(cost, mine, at, scale.relative)
            for cost, mine in zip(costs, trained, strict=True)
        ]
    return Summary(*(np.asarray(column, np.float64) for column in zip(*rows, strict=True)))


def _of_one(cost: np.ndarray, train: np.ndarray | None, at: str, relative: bool) -> list[Any]:
    nan = float("nan")
    found = fluctuation.measure(cost)
    final = _final(cost, relative)
    lowest = final
    if at == "best" and final < _FAILED:
        lowest = float(np.exp(fluctuation.trend(np.log(cost)).min()))
    # A training loss that is not above 0 has no logarithm; it only tells overfitting.
    falls = train is not None and bool((train[np.isfinite(train)] > 0).all())
    drift = fluctuation.measure(train).drift if train is not None and falls else nan
    last = _final(train) if train is not None and falls else nan
    return [
        found.spread,
        float(found.num_spikes),
        found.peak,
        found.drift,
        0.0,
        lowest,
        final,
        min(fluctuation.rise(cost), MAX_FLUCTUATION),
        drift,
        last,
        nan,
        nan,
        nan,
        nan,
        [lowest],
    ]


def _final(cost: np.ndarray, relative: bool = False) -> float:
    """Mean of the last tenth, of the objective: who stops at any of its units can expect that. A
    geometric mean of a loss would be the lower, the more it shakes.
    """
    tail = cost[-max(round(_TAIL * len(cost)), 1) :]
    if not np.isfinite(tail).all() or (tail <= 0).any():
        return _FAILED
    return float(np.mean(tail) if relative else np.exp(np.mean(np.log(tail))))
