"""Population-based training: weights from better members, values by small random steps."""

from typing import Any

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.schedulers.exploit import read_exploit
from jaxopt_lab.schedulers.explore import read_explore
from jaxopt_lab.schedulers.populations import PopulationScheduler, make_scheduler


@checked_call()
def population_based_training(
    every: Any = None, exploit: Any = "truncation", explore: Any = "perturb"
) -> PopulationScheduler:
    """Train a population in generations, between which the worse copy the better and explore.

    A copy takes over its parent's whole state (weights, optimizer, random key) and the values that
    cannot change in training; the others are explored from the parent's.

    Args:
      every: units of a generation; a tenth of the budget by default.
      exploit: "truncation", "tournament", or `truncation(fraction)`.
      explore: "perturb", "resample", or `perturb(step, resample)`.

    Raises:
      UserError: for a setting that cannot be, naming it.

    Source: Jaderberg et al. 2017, arXiv:1711.09846.

    Examples:
      >>> population_based_training(every=5).name
      'population-based training every 5, truncation of 0.2, steps of 0.1, anew with 0.1'
    """
    return make_scheduler(
        "population-based training", every, read_exploit(exploit), read_explore(explore)
    )
