"""What one trial optimises."""

from jaxopt_lab.problems.mlp.arrays import ArrayTask
from jaxopt_lab.problems.mlp.data import FoldArrays, Objective
from jaxopt_lab.problems.tabular.task import Prepared, TabularTask, reopen, tabular

__all__ = [
    "ArrayTask",
    "FoldArrays",
    "Objective",
    "Prepared",
    "TabularTask",
    "reopen",
    "tabular",
]
