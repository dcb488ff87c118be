"""The report's figures from Python: `study.plot`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.report import parallel_figure, result_figures, search_figures, words
from jaxopt_lab.report.contents import Contents, read_store
from jaxopt_lab.report.figures import Figure, describe
from jaxopt_lab.report.metric_figures import metric_curves
from jaxopt_lab.report.plotly_figures import side_by_side, to_plotly

if TYPE_CHECKING:
    import plotly.graph_objects as go

_TOO_FEW = "no trial has ended yet; there is nothing to draw"


class Plots:
    """Figures of what a study holds now; each method returns a `plotly.graph_objects.Figure`.

    Args:
      study: the `Study`.
    """

    def __init__(self, study: Any) -> None:
        self._study = study

    def history(self) -> "go.Figure":
        """Scores in the order of proposal, and the best up to each trial.

        Raises:
          UserError: if no trial has ended.
        """
        contents = self._contents()
        return self._drawn(contents, search_figures.best_so_far(contents))

    def curves(self, metric: str | None = None) -> "go.Figure":
        """Curves of the best trials, those of the very best in front.

        Args:
          metric: its name; the objective by default, of a table the loss of all trials.

        Raises:
          UserError: if no trial has such a curve.
        """
        contents = self._contents()
        if contents.is_table and metric is None:
            figure = result_figures.all_curves(contents)
        else:
            found = metric_curves(contents)
            name = metric or next(iter(found), contents.metric)
            if name not in found and metric is not None:
                hint, known = did_you_mean(name, found), ", ".join(found) or "none"
                raise UserError(f"there is no curve of {name!r}.{hint} There are: {known}")
            figure = found.get(name)
        if figure is None:
            raise UserError("no metric of this study has more than one value: there is no curve")
        return self._drawn(contents, figure)

    def parallel(self) -> "go.Figure":
        """A line per trial, from its hyperparameters to its score.

        Raises:
          UserError: if no trial has a score.
        """
        contents = self._contents()
        figure = parallel_figure.parallel(contents)
        if figure is None:
            raise UserError("no trial has a score yet, or nothing is searched")
        return self._drawn(contents, figure)

    def importance(self) -> "go.Figure":
        """How much of the differences between trials each hyperparameter explains.

        Raises:
          UserError: if there are too few different trials to tell.
        """
        contents = self._contents()
        found = contents.analysis
        if not any(found["importance"].values()):
            raise UserError("too few different trials to tell what is important")
        figure = result_figures.importance(found["importance"], found["interactions"])
        return self._drawn(contents, figure)

    def slice(self, name: str | None = None) -> "go.Figure":
        """Every trial's score against the value of a hyperparameter.

        Args:
          name: of the hyperparameter; all side by side by default.

        Raises:
          UserError: if no trial has a score, or there is no such hyperparameter.
        """
        contents = self._contents()
        space = contents.space
        if space is None or not space.num_dims or not np.isfinite(contents.scores).any():
            raise UserError("no trial has a score yet, or nothing is searched")
        figures = dict(zip(space.parameters, search_figures.slices(contents), strict=True))
        if name is None:
            return side_by_side(list(figures.values()), self._texts(contents))
        if name not in figures:
            hint = did_you_mean(name, figures)
            raise UserError(f"{name!r} is not searched.{hint} Searched: {', '.join(figures)}")
        return self._drawn(contents, figures[name])

    def _contents(self) -> Contents:
        directory = self._study.directory
        contents = read_store(self._study.store, Path("study") if directory is None else directory)
        if not contents.finished:
            raise UserError(_TOO_FEW)
        return contents

    def _texts(self, contents: Contents) -> dict[str, Any]:
        metric = words.metric(contents.metric)
        return {str(t["trial_id"]): describe(t, metric, contents.sign) for t in contents.drawn}

    def _drawn(self, contents: Contents, figure: Figure) -> "go.Figure":
        return to_plotly(figure, self._texts(contents))
