"""Samplers: pure functions that propose configurations; `REGISTRY` lists them by name."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxopt_lab.search.base import History, Sampler
from jaxopt_lab.search.bayesian import bayesian
from jaxopt_lab.search.grid import grid, grid_size
from jaxopt_lab.search.optuna_adapter import from_optuna
from jaxopt_lab.search.prior import with_prior
from jaxopt_lab.search.quasi_random import quasi_random
from jaxopt_lab.search.random import random

if TYPE_CHECKING:
    from jaxopt_lab.search.optuna_sampler import OptunaBayesianSampler

#: What the command line knows by name: name -> factory with defaults.
REGISTRY: dict[str, Callable[[], Sampler]] = {
    "random": random,
    "grid": grid,
    "quasi_random": quasi_random,
    "bayesian": bayesian,
}

__all__ = [
    "REGISTRY",
    "History",
    "OptunaBayesianSampler",
    "Sampler",
    "bayesian",
    "from_optuna",
    "grid",
    "grid_size",
    "quasi_random",
    "random",
    "with_prior",
]


def __getattr__(name: str) -> Any:
    if name != "OptunaBayesianSampler":
        from jaxopt_lab.core.attributes import missing
        from jaxopt_lab.core.other_names import SEARCH

        raise missing(f"module {__name__!r}", name, __all__, SEARCH)
    # Optuna is imported when its own kind of sampler is asked for.
    from jaxopt_lab.core.errors import MachineError

    try:
        from jaxopt_lab.search.optuna_sampler import OptunaBayesianSampler
    except ImportError:
        raise MachineError("Optuna is missing: pip install 'jaxopt-lab[optuna]'") from None
    return OptunaBayesianSampler
