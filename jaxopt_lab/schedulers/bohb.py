"""BOHB: Hyperband whose trials are proposed by a model of the results at every age."""

from typing import Any

import numpy as np

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.scalars import whole
from jaxopt_lab.core.types import Config, PRNGKey
from jaxopt_lab.schedulers.base import Scheduler, promote_best, share
from jaxopt_lab.schedulers.hyperband import layout
from jaxopt_lab.search.base import History, Sampler
from jaxopt_lab.search.random import random
from jaxopt_lab.spaces.space import SearchSpace


@checked_call()
def bohb(reduction: Any = 3, min_epochs: Any = 1, random_fraction: Any = 1 / 3) -> Scheduler:
    """The brackets of Hyperband one after the other, each proposed when it begins.

    The study's sampler proposes; it must see scores. It is told what every trial came to at every
    rung. The Bayesian sampler's Gaussian process has the age as a further coordinate, and proposes
    for the full budget: a result after few epochs counts for as much as it was seen to tell of
    later ones. The paper fits kernel densities to the results of one age, the highest with enough
    of them, which cost less with thousands of results; a process over all ages needs none to be
    left out, and has the package's constraints, conditions and batches already.

    Args:
      reduction: eta; at least 2.
      min_epochs: the least age at which trials are compared.
      random_fraction: share of the proposals that are random once there are results, so that a
        model that is wrong costs no more than a factor against Hyperband.

    Returns:
      The scheduler.

    Raises:
      UserError: for a setting that cannot be.

    Source: Falkner, Klein & Hutter 2018, arXiv:1807.01774; for the age as a coordinate of a
      Gaussian process Kandasamy et al. 2017, arXiv:1703.06240.

    Examples:
      >>> [bracket[0].num_trials for bracket in bohb().brackets(13, 9, 1)], bohb().in_turn
      ([7, 4, 2], True)
    """
    eta, least = whole("reduction", reduction, 2), whole("min_epochs", min_epochs, 1)
    fraction = share("random_fraction", random_fraction)
    return Scheduler(
        f"bohb by {eta} from {least}, {fraction:g} random",
        layout(eta, least),
        promote_best,
        in_turn=True,
        sampler=lambda sampler: partly_random(sampler, fraction),
    )


def partly_random(sampler: Sampler, fraction: float) -> Sampler:
    """A sampler a share of whose proposals are random once there are results."""

    def propose(key: PRNGKey, space: SearchSpace, history: History, n: int) -> list[Config]:
        around = history.frame.history.observed if history.frame else history.observed
        num = int(fraction * n) if history.observed.any() or around.any() else 0
        if not num:
            return sampler.propose(key, space, history, n)
        drawn = random().propose(key, space, history, num)
        if num == n:
            return drawn
        unknown = History.from_configs(
            space, drawn, np.full(num, np.nan), pending=np.ones(num, bool)
        )
        return drawn + sampler.propose(key, space, history.followed_by(unknown), n - num)

    return Sampler(f"{sampler.name}, {fraction:g} random", propose, sampler.sees_scores)
