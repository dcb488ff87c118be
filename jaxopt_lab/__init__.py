"""Tune and stabilise neural networks: populations of configurations trained in parallel."""

from jaxopt_lab import datasets, search, tasks
from jaxopt_lab.devices import use_all_cores
from jaxopt_lab.errors import MachineError, UserError
from jaxopt_lab.space import Choice, IntUniform, LogIntUniform, LogUniform, SearchSpace, Uniform
from jaxopt_lab.study import Study
from jaxopt_lab.types import Status

__all__ = [
    "Choice",
    "IntUniform",
    "LogIntUniform",
    "LogUniform",
    "MachineError",
    "SearchSpace",
    "Status",
    "Study",
    "Uniform",
    "UserError",
    "datasets",
    "search",
    "tasks",
    "use_all_cores",
]
