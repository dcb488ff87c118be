"""What one trial optimises."""

from jaxopt_lab.tasks.arrays import ArrayTask
from jaxopt_lab.tasks.base import FoldArrays, Objective
from jaxopt_lab.tasks.tabular import Prepared, TabularTask, reopen, tabular

__all__ = [
    "ArrayTask",
    "FoldArrays",
    "Objective",
    "Prepared",
    "TabularTask",
    "reopen",
    "tabular",
]
