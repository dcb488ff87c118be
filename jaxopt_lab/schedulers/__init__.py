"""Schedulers: pure decisions on which trials go on, one file each."""

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from jaxopt_lab.core.attributes import missing
from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.other_names import SCHEDULERS
from jaxopt_lab.schedulers.base import Bracket, Rung, Scheduler, Standing
from jaxopt_lab.schedulers.bohb import bohb
from jaxopt_lab.schedulers.curve_extrapolation import curve_extrapolation
from jaxopt_lab.schedulers.exploit import tournament, truncation
from jaxopt_lab.schedulers.explore import perturb, resample
from jaxopt_lab.schedulers.hyperband import hyperband
from jaxopt_lab.schedulers.median_stopping import median_stopping
from jaxopt_lab.schedulers.pb2 import pb2
from jaxopt_lab.schedulers.population_based_training import population_based_training
from jaxopt_lab.schedulers.populations import PopulationScheduler
from jaxopt_lab.schedulers.race import race
from jaxopt_lab.schedulers.successive_halving import successive_halving

#: By the name that the command line has; each is a function that makes a scheduler.
REGISTRY: dict[str, Callable[..., Any]] = {
    "race": race,
    "successive_halving": successive_halving,
    "hyperband": hyperband,
    "median_stopping": median_stopping,
    "curve_extrapolation": curve_extrapolation,
    "bohb": bohb,
    "population_based_training": population_based_training,
    "pb2": pb2,
}
#: The name that stops nothing.
NONE = "none"


def make(name: Any, settings: Mapping[str, Any] | None = None) -> Any:
    """A scheduler by its name, with settings by theirs.

    Args:
      name: a key of `REGISTRY`, or "none".
      settings: arguments of the function of that name; defaults where missing.

    Returns:
      The scheduler; None for "none".

    Raises:
      UserError: for an unknown name or setting, with those that there are, and for a value that
        cannot be.
    """
    given = dict(settings or {})
    if name not in (*REGISTRY, NONE):
        known = [*REGISTRY, NONE]
        hint = did_you_mean(str(name), known)
        raise UserError(f"unknown scheduler {name!r}.{hint} Known: {', '.join(known)}")
    known = [] if name == NONE else list(inspect.signature(REGISTRY[name]).parameters)
    for setting in given:
        if setting not in known:
            hint = did_you_mean(setting, known)
            has = f"Known: {', '.join(known)}" if known else "It has none"
            raise UserError(f"scheduler {name}: unknown setting {setting!r}.{hint} {has}")
    if name == NONE:
        return None
    try:
        return REGISTRY[name](**given)
    except UserError as error:
        raise UserError(f"scheduler {name}: {error}") from None


__all__ = [
    "NONE",
    "REGISTRY",
    "Bracket",
    "PopulationScheduler",
    "Rung",
    "Scheduler",
    "Standing",
    "bohb",
    "curve_extrapolation",
    "hyperband",
    "make",
    "median_stopping",
    "pb2",
    "perturb",
    "population_based_training",
    "race",
    "resample",
    "successive_halving",
    "tournament",
    "truncation",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        raise missing(f"module {__name__!r}", name, __all__, SCHEDULERS)
