"""Learning-curve extrapolation: a trial whose curve cannot reach the best one's stops."""

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.scalars import whole
from jaxopt_lab.schedulers.base import Bracket, Rung, Scheduler, Standing, check_number, share
from jaxopt_lab.schedulers.median_stopping import NUM_COMPARISONS

#: Epochs that a curve must have to be extrapolated: three coefficients, an error, and one to spare,
#: after `BURN_IN`.
FEWEST = 5
#: Exponents of the power law, all equally probable beforehand on a logarithmic scale.
EXPONENTS = np.geomspace(0.05, 3.0, 25)
#: This first share of a curve is left out of the fit: what the start does, no power law tells.
BURN_IN = 0.2
#: Standard deviation of what no power law tells of the end: this share of what the curve fell
#: within the fit. Without it a smooth curve would be certain of its law.
MISFIT = 0.1


@checked_call()
def curve_extrapolation(
    grace_period: Any = None, every: Any = None, least_probability: Any = 0.05
) -> Scheduler:
    """Stop trials that will most probably not reach the best objective that any trial has already.

    At each comparison a power law, y = c + a t^-b plus noise, is fitted to the curve of each trial,
    and goes on to the last epoch. A trial stops if what it may have there is below the best
    objective so far with less than `least_probability`. The error of the fit counts: for each
    exponent b of a grid, c, a and the noise have their exact posterior under Jeffreys' prior, whose
    prediction is Student's t; the exponents are weighed by their evidence. A curve that is too
    short, or nearly as good as the best, goes on. How many are stopped depends on curves alone: a
    plan has upper bounds.

    A learning rate that decays makes curves fall at the end, as no power law does; that the best
    one is taken as it is now, not as it will be, allows for that.

    Args:
      grace_period: epochs before the first comparison; a fifth of a training by default.
      every: epochs between comparisons; a tenth of a training by default.
      least_probability: of beating the best, to go on; 0 stops nothing.

    Returns:
      The scheduler.

    Raises:
      UserError: for a setting that cannot be.

    Source: Domhan, Springenberg & Hutter 2015, Speeding up automatic hyperparameter optimization of
      deep neural networks by extrapolation of learning curves (IJCAI), whose criterion this is.
      There eleven families of curves are mixed by Markov chain Monte Carlo; one of them, the power
      law with an asymptote, needs no sampling, so that decisions are exact and repeatable.

    Examples:
      >>> [rung.num_epochs for rung in curve_extrapolation(5, 3).brackets(4, 13, 1)[0]]
      [5, 8, 11, 13]
    """
    grace = None if grace_period is None else whole("grace_period", grace_period, 1)
    step = None if every is None else whole("every", every, 1)
    least = share("least_probability", least_probability)

    def brackets(num_trials: int, num_epochs: int, num_folds: int) -> tuple[Bracket, ...]:
        del num_folds
        first = grace or max(math.ceil(FEWEST / (1 - BURN_IN)), num_epochs // 5)
        ages = [*range(first, num_epochs, step or max(1, num_epochs // NUM_COMPARISONS))]
        return (tuple(Rung(num_trials, age) for age in (*ages, num_epochs)),)

    def promote(standing: Standing, num_promoted: int) -> Bool[np.ndarray, " p"]:
        return promote_likely(standing, num_promoted, least)

    name = (
        f"curve extrapolation from {grace or 'a fifth'} every {step or 'tenth'}, "
        f"least probability {least:g}"
    )
    return Scheduler(name, brackets, promote, sees_curves=True, gathers=False)


def promote_likely(
    standing: Standing, num_promoted: int, least_probability: float
) -> Bool[np.ndarray, " p"]:
    """Promote the trials that may still beat the best objective so far.

    Args:
      standing: of P trials, with curves.
      num_promoted: how many go on at most, 1 <= num_promoted <= P; the lowest losses if there are
        more, ties going to the lower index.
      least_probability: of beating it.

    Returns:
      [P] True where promoted; never a trial whose loss is not finite, always the best one.

    Raises:
      ValueError: if `num_promoted` is outside [1, P].
    """
    check_number(standing.losses, num_promoted)
    alive = np.isfinite(standing.losses)
    ranked = np.where(alive, standing.losses, np.inf)
    known = standing.others[np.isfinite(standing.others)]
    best = min(ranked.min(), known.min(initial=np.inf))
    chosen = alive.copy()
    for i in np.flatnonzero(alive & (ranked > ranked.min())):
        curve = standing.curves[i]
        chosen[i] = not probability_below(curve, standing.budget, float(best)) < least_probability
    order = np.argsort(np.where(chosen, ranked, np.inf), kind="stable")
    chosen[order[num_promoted:]] = False
    return chosen


def probability_below(curve: Float[np.ndarray, " t"], until: int, target: float) -> float:
    """How probable it is that a curve is below a target at its last epoch, by a power law.

    Args:
      curve: the objective after each epoch, lower is better.
      until: the last epoch, counted from 1.
      target: to be reached.

    Returns:
      The probability; 1 where nobody can tell, the curve being too short or not finite.
    """
    first = int(BURN_IN * len(curve))
    values = np.asarray(curve, np.float64)[first:]
    if len(values) < FEWEST or not np.isfinite(values).all() or not math.isfinite(target):
        return 1.0
    # On a scale of its own, so that squares neither overflow nor vanish.
    spread = float(np.abs(values - values[-1]).max())
    if not 0 < spread < 1e150:
        return float(target >= values[-1]) if spread == 0 else 1.0
    scaled, wanted = (values - values[-1]) / spread, (target - values[-1]) / spread
    times = np.arange(first + 1.0, first + len(values) + 1)
    freedom = len(values) - 2
    evidence, below = np.zeros(len(EXPONENTS)), np.zeros(len(EXPONENTS))
    for k, exponent in enumerate(EXPONENTS):
        design = np.stack([np.ones_like(times), (times / until) ** -exponent], axis=1)
        inner = np.linalg.inv(design.T @ design)
        weights = inner @ design.T @ scaled
        noise = max(float(np.sum((scaled - design @ weights) ** 2)) / freedom, 1e-12)
        at_end = np.ones(2)  # the power of the last epoch over itself
        variance = noise * (1.0 + float(at_end @ inner @ at_end)) + MISFIT**2
        below[k] = _student((wanted - float(at_end @ weights)) / math.sqrt(variance), freedom)
        # The integral of the likelihood over c, a and the noise, up to a constant.
        evidence[k] = 0.5 * np.linalg.slogdet(inner)[1] - 0.5 * freedom * math.log(noise)
        evidence[k] += math.log(np.ptp(design[:, 1]))  # whatever the scale of a
    probable = np.exp(evidence - evidence.max())
    return float(np.sum(probable * below) / np.sum(probable))


def _student(value: float, freedom: int) -> float:
    """Distribution function of Student's t."""
    from scipy.special import stdtr

    return float(stdtr(freedom, value))
