"""A table as a study trains it: the MLP on its encoded rows, and predictors of its networks."""

from jaxopt_lab.core.status import Config
from jaxopt_lab.core.types import PyTree
from jaxopt_lab.problems.mlp.client import RowsClient
from jaxopt_lab.problems.mlp.training import RowsTraining
from jaxopt_lab.problems.tabular.predictor import Predictor, assemble
from jaxopt_lab.problems.tabular.task import Prepared, TabularTask


class TabularTraining(RowsTraining):
    """Folds of a table.

    Args:
      task: the table.
      prepared: its rows by fold.
    """

    def __init__(self, task: TabularTask, prepared: Prepared) -> None:
        client = RowsClient(
            prepared.arrays, task.criterion, shared=task.share_programs, executor=task.executor
        )
        super().__init__(
            client,
            prepared.constant_losses,
            lambda loss, fold: task.score(loss, fold, prepared),
        )
        self.task, self.prepared = task, prepared

    def predictor(self, config: Config, kept: PyTree) -> Predictor:
        """One network, refitted on all rows that are no test rows."""
        networks = [(config, kept, self.refit_member)]
        return assemble(self.task, self.prepared, networks, [1.0])
