"""Studies in Trackio (extra `trackio`): a group of runs in a project, kept on this machine."""

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from jaxopt_lab.integrations.tracking import (
    StudyRun,
    Tracker,
    TrialRun,
    missing,
    points_by_unit,
)


class Trackio(Tracker):
    """Writes a run for each trial and one for the study: `trackio show` opens its dashboard.

    Trackio keeps no files with a run, so `best.json` stands in the study's run as text.

    Args:
      project: name of Trackio's project.
      space_id: a Space of Hugging Face to log to, instead of this machine.

    Raises:
      MachineError: if Trackio is not installed.
    """

    def __init__(self, project: str = "jaxopt-lab", space_id: str | None = None) -> None:
        super().__init__()
        try:
            import trackio
        except ImportError:
            raise missing("Trackio", "trackio") from None
        self._trackio: Any = trackio
        self._project, self._space = project, space_id
        self._name = ""
        self._study: Any = None

    def open(self, run: StudyRun) -> set[int]:
        """Begin or go on with the study's run; find the trials that are there."""
        self._name = f"{run.identity.name}-{run.identity.key}"
        try:
            known = [str(r.name) for r in self._trackio.Api().runs(self._project)]
        except ValueError:  # there is no such project yet
            known = []
        with _silence():
            self._study = self._begin(self._name, {**run.facts, **run.space})
        mine = [name for name in known if name.startswith(f"{self._name}/trial-")]
        return {int(name.rpartition("-")[2]) for name in mine}

    def write_trial(self, run: TrialRun) -> None:
        """A run: configuration, curves, score in the end."""
        facts = {"phase": run.phase, "status": run.status, "reason": run.reason}
        points = points_by_unit(run)
        last = max((int(units[-1]) for units, _ in run.curves.values()), default=0)
        # Trackio keeps no run without a number in it, and a trial may have come to none.
        points.append((last + 1, {**run.scores, "units": float(last)}))
        with _silence():
            begun = self._begin(f"{self._name}/{run.name}", {**run.hyperparameters, **facts})
            _log(begun, points)
            begun.finish()

    def write_progress(self, step: int, values: dict[str, float]) -> None:
        """A point of each curve in the study's run."""
        _log(self._study, [(step, values)])

    def write_best(self, content: str) -> None:
        """As text in the study's run."""
        self._study.log({"best": self._trackio.Markdown(content)})

    def close(self) -> None:
        """Finish the study's run."""
        with _silence():
            self._study.finish()

    def _begin(self, name: str, config: dict[str, Any]) -> Any:
        return self._trackio.init(
            self._project,
            name=name,
            group=self._name,
            space_id=self._space,
            config=config,
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )


def _log(run: Any, points: Iterable[tuple[int, dict[str, float]]]) -> None:
    for step, values in points:
        known = {name: value for name, value in values.items() if value == value}
        if known:
            run.log(known, step=step)


class _Others:
    """Standard output without what one thread prints."""

    def __init__(self, output: Any) -> None:
        self._output, self._silent = output, threading.get_ident()

    def write(self, text: str) -> int:
        """Unless it is the thread that made this."""
        if threading.get_ident() != self._silent:
            self._output.write(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._output, name)


@contextmanager
def _silence() -> Iterator[None]:
    """Trackio says on standard output what it does; the study's thread may print meanwhile."""
    before = sys.stdout
    quiet = sys.stdout = _Others(before)
    try:
        yield
    finally:
        if sys.stdout is quiet:  # else somebody else has replaced it, and puts back what was there
            sys.stdout = before
