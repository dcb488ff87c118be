"""Studies in Trackio (extra `trackio`): a group of runs in a project, kept on this machine."""

import contextlib
import io
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
        self._name, self._config = "", dict[str, Any]()

    def open(self, run: StudyRun) -> set[int]:
        """Name the study's run; find the trials that are there."""
        self._name = f"{run.identity.name}-{run.identity.key}"
        self._config = {**run.facts, **run.space}
        try:
            known = [str(r.name) for r in self._trackio.Api().runs(self._project)]
        except ValueError:  # there is no such project yet
            known = []
        mine = [name for name in known if name.startswith(f"{self._name}/trial-")]
        return {int(name.rpartition("-")[2]) for name in mine}

    def write_trial(self, run: TrialRun) -> None:
        """A run: configuration, curves, score in the end."""
        facts = {"phase": run.phase, "status": run.status, "reason": run.reason}
        points = points_by_unit(run)
        last = max((int(units[-1]) for units, _ in run.curves.values()), default=0)
        # Trackio keeps no run without a number in it, and a trial may have come to none.
        points.append((last + 1, {**run.scores, "units": float(last)}))
        self._write(f"{self._name}/{run.name}", {**run.hyperparameters, **facts}, points)

    def write_progress(self, step: int, values: dict[str, float]) -> None:
        """A point of each curve in the study's run."""
        self._write(self._name, self._config, [(step, values)])

    def write_best(self, content: str) -> None:
        """As text in the study's run."""
        self._write(self._name, self._config, [(None, {"best": self._trackio.Markdown(content)})])

    def _write(self, name: str, config: dict[str, Any], points: Any) -> None:
        """Trackio has one run open at a time, and says on standard output that it has."""
        with contextlib.redirect_stdout(io.StringIO()):
            run = self._trackio.init(
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
            for step, values in points:
                known = {k: v for k, v in values.items() if not isinstance(v, float) or v == v}
                if known:
                    run.log(known, step=step)
            run.finish()
