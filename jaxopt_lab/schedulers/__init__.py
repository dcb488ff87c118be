"""Schedulers: pure decisions on which trials go on, one file each."""

from jaxopt_lab.schedulers.base import Rung, Scheduler
from jaxopt_lab.schedulers.successive_halving import successive_halving

#: By the name that a study stores; each is a function that makes a scheduler.
REGISTRY = {"successive_halving": successive_halving}

__all__ = ["REGISTRY", "Rung", "Scheduler", "successive_halving"]
