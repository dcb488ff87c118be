"""Supervised learning with a module, a loss and an optimizer of one's own."""

from jaxopt_lab.problems.supervised import metrics
from jaxopt_lab.problems.supervised.problem import supervised

__all__ = ["metrics", "supervised"]
