"""When a search has found enough: rules that a study asks before each round of proposals."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxopt_lab.core.attributes import missing
from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.other_names import STOPPING
from jaxopt_lab.search.base import History
from jaxopt_lab.search.bayesian import best_improvement
from jaxopt_lab.spaces.space import SearchSpace

__all__ = ["ROUND_SIZE", "StoppingRule", "any_of", "small_improvement", "target"]

#: Looks of `small_improvement`, and trials between them.
PATIENCE, STEP = 4, 8
#: Proposals between which a rule is asked, unless a study is given a size of its rounds.
ROUND_SIZE = 32


class StoppingRule(NamedTuple):
    """A rule.

    Attributes:
      name: with its settings, as a study stores it.
      reason: (space, history, sign) -> why no further trial is worth while, or None to go on. The
        history holds what is minimised; sign is -1 where that is the negative of the objective.
        Pure, so that a resumed study stops where it stopped.
    """

    name: str
    reason: Callable[[SearchSpace, History, int], str | None]


@checked_call()
def target(score: float) -> StoppingRule:
    """Stop once a trial's score is at most this, or at least, where the objective is maximised.

    Raises:
      UserError: if it is not finite.
    """
    if not math.isfinite(score):
        raise UserError(f"the target must be a finite number, got {score}")

    def reason(space: SearchSpace, history: History, sign: int = 1) -> str | None:
        del space
        if not history.observed.any() or np.nanmin(history.values) > sign * score:
            return None
        best = sign * np.nanmin(history.values)
        return f"the best score {best:.6g} reaches the target {score:g}"

    return StoppingRule(f"target {score:g}", reason)


@checked_call()
def small_improvement(share: float = 0.35, num_least: int | None = None) -> StoppingRule:
    """Stop once the greatest expected improvement stays small against the noise of the folds.

    A Gaussian process is fitted to the scores as for Bayesian search. Its greatest expected
    improvement over the space is compared with the standard error over folds of the best trial,
    both in the scale in which the process sees the scores. It must be small in `PATIENCE` looks,
    now and with `STEP` trials less each: one look may fall into a dip from which it rises again.
    Never stops without that error: with one fold, or a score that a race left on one.

    Args:
      share: of the standard error; the default was set on tables of real networks by
        `scripts/bench_stopping.py`.
      num_least: scores at the earliest look; None for 5 per dimension, at least 20.

    Source: the idea of weighing regret against the noise of cross-validation is that of Makarova
    et al. 2022, Automatic termination for hyperparameter optimization (they bound the regret).

    Raises:
      UserError: if the share is not above 0.
    """
    if not share > 0:
        raise UserError(f"the share of the standard error must be above 0, got {share}")

    def reason(space: SearchSpace, history: History, sign: int = 1) -> str | None:
        del sign
        least = max(20, 5 * space.num_dims) if num_least is None else num_least
        if space.num_dims == 0:
            return None
        ratios = []
        for i in range(PATIENCE):
            before = history.first(len(history) - i * STEP)
            if before.observed.sum() < max(least, 2):
                return None
            found = best_improvement(space, before)
            if found.noise <= 0 or found.improvement >= share * found.noise:
                return None
            ratios.append(found.improvement / found.noise)
        return (
            f"the greatest expected improvement is {ratios[0]:.2g} of the best trial's standard "
            f"error, and was below {share:g} in {PATIENCE} looks {STEP} trials apart"
        )

    return StoppingRule(f"improvement {share:g}", reason)


def any_of(*rules: StoppingRule) -> StoppingRule:
    """Stop as soon as one of several rules says so."""

    def reason(space: SearchSpace, history: History, sign: int = 1) -> str | None:
        found = (rule.reason(space, history, sign) for rule in rules)
        return next((text for text in found if text is not None), None)

    return StoppingRule(" or ".join(rule.name for rule in rules), reason)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        raise missing(f"module {__name__!r}", name, __all__, STOPPING)
