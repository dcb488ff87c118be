"""Median stopping: a trial that never was better than its peers are on average, stops."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.scalars import whole
from jaxopt_lab.schedulers.base import Bracket, Rung, Scheduler, Standing, check_number

#: Comparisons in a training unless something else is asked for.
NUM_COMPARISONS = 10


@checked_call()
def median_stopping(grace_period: Any = None, every: Any = None) -> Scheduler:
    """Stop trials whose best objective so far is worse than the median of the others' averages.

    At each comparison the running average of the objective over all epochs so far is taken of every
    other trial that came to the same age; a trial stops if its best objective is strictly worse
    than the median of these. The best trial always goes on. How many trials are stopped depends on
    their curves alone: a plan has upper bounds.

    Args:
      grace_period: epochs before the first comparison; a tenth of a training by default.
      every: epochs between comparisons; a tenth of a training by default. Each costs a wave that
        is stored.

    Returns:
      The scheduler.

    Raises:
      UserError: for a setting that is no whole number, or below 1.

    Source: Golovin et al. 2017, Google Vizier: A Service for Black-Box Optimization (KDD),
      section 3.2.2. There the others are the completed trials; trials of one bracket here are of
      one age, so they are the others too.

    Examples:
      >>> [rung.num_epochs for rung in median_stopping(2, 3).brackets(4, 10, 1)[0]]
      [2, 5, 8, 10]
    """
    grace = None if grace_period is None else whole("grace_period", grace_period, 1)
    step = None if every is None else whole("every", every, 1)

    def brackets(num_trials: int, num_epochs: int, num_folds: int) -> tuple[Bracket, ...]:
        del num_folds
        tenth = max(1, num_epochs // NUM_COMPARISONS)
        ages = [*range(grace or tenth, num_epochs, step or tenth), num_epochs]
        return (tuple(Rung(num_trials, age) for age in ages),)

    name = f"median stopping from {grace or 'a tenth'} every {step or 'tenth'}"
    return Scheduler(name, brackets, promote_above_median, sees_curves=True, gathers=False)


def promote_above_median(standing: Standing, num_promoted: int) -> Bool[np.ndarray, " p"]:
    """Promote the trials whose best objective is not worse than the median of the others.

    Args:
      standing: of P trials, with curves.
      num_promoted: how many go on at most, 1 <= num_promoted <= P; the lowest losses if there are
        more, ties going to the lower index.

    Returns:
      [P] True where promoted; never a trial whose loss is not finite.

    Raises:
      ValueError: if `num_promoted` is outside [1, P].
    """
    check_number(standing.losses, num_promoted)
    alive = np.isfinite(standing.losses)
    averages = _averages(standing.curves)
    peers = np.where(alive, averages, np.nan)
    others = _averages(standing.others)
    best = _bests(standing.curves)
    chosen = alive.copy()
    for i in np.flatnonzero(alive):
        known = np.concatenate([np.delete(peers, i), others])
        known = known[np.isfinite(known)]
        chosen[i] = not len(known) or not best[i] > np.median(known)
    order = np.argsort(np.where(chosen, standing.losses, np.inf), kind="stable")
    chosen[order[num_promoted:]] = False
    return chosen


def _averages(curves: Float[np.ndarray, "n epochs"]) -> Float[np.ndarray, " n"]:
    """Means over the finite epochs; NaN where there is none."""
    finite = np.isfinite(curves)
    sums = np.where(finite, curves, 0.0).sum(axis=1)
    return np.divide(
        sums, finite.sum(axis=1), out=np.full(len(curves), np.nan), where=finite.any(1)
    )


def _bests(curves: Float[np.ndarray, "n epochs"]) -> Float[np.ndarray, " n"]:
    """The lowest finite values; infinity where there is none."""
    return np.where(np.isfinite(curves), curves, np.inf).min(axis=1, initial=np.inf)
