"""Samplers: pure functions that propose configurations; `REGISTRY` lists them by name."""

from collections.abc import Callable

from jaxopt_lab.search.base import History, Sampler
from jaxopt_lab.search.bayesian import bayesian
from jaxopt_lab.search.grid import grid, grid_size
from jaxopt_lab.search.optuna_adapter import from_optuna
from jaxopt_lab.search.prior import with_prior
from jaxopt_lab.search.quasi_random import quasi_random
from jaxopt_lab.search.random import random

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
    "Sampler",
    "bayesian",
    "from_optuna",
    "grid",
    "grid_size",
    "quasi_random",
    "random",
    "with_prior",
]
