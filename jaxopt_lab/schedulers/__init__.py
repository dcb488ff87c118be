"""Schedulers: pure decisions on which trials go on, one file each."""

from jaxopt_lab.schedulers.base import Rung, Scheduler
from jaxopt_lab.schedulers.exploit import tournament, truncation
from jaxopt_lab.schedulers.explore import perturb, resample
from jaxopt_lab.schedulers.pb2 import pb2
from jaxopt_lab.schedulers.population_based_training import population_based_training
from jaxopt_lab.schedulers.populations import PopulationScheduler
from jaxopt_lab.schedulers.successive_halving import successive_halving

#: By the name that a study stores; each is a function that makes a scheduler.
REGISTRY = {"successive_halving": successive_halving}
#: Those by which a population learns while it trains, likewise.
POPULATIONS = {"population_based_training": population_based_training, "pb2": pb2}

__all__ = [
    "POPULATIONS",
    "REGISTRY",
    "PopulationScheduler",
    "Rung",
    "Scheduler",
    "pb2",
    "perturb",
    "population_based_training",
    "resample",
    "successive_halving",
    "tournament",
    "truncation",
]
