"""What one trial optimises."""

from jaxopt_lab.problems.mlp.data import Criterion, FoldArrays
from jaxopt_lab.problems.tabular.task import Prepared, TabularTask, reopen, tabular

__all__ = [
    "Criterion",
    "FoldArrays",
    "Prepared",
    "TabularTask",
    "reopen",
    "tabular",
]
