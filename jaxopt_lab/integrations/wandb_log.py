"""Studies in Weights & Biases (extra `wandb`): a group of runs, one of them the study's own."""

import os
from pathlib import Path
from typing import Any

from jaxopt_lab.integrations.tracking import (
    BEST,
    StudyRun,
    Tracker,
    TrialRun,
    finite,
    missing,
    points_by_unit,
)


class WandB(Tracker):
    """Writes a run for each trial, grouped by study.

    Offline, runs are files that `wandb sync DIRECTORY/wandb/offline-run-*` uploads; a study that
    goes on adds to its own run, which the upload joins, and writes no trial that has a file.

    Args:
      project: of the runs.
      mode: "offline" or "online", for which `wandb login` must have been called.
      directory: where W&B keeps its files, below `wandb`.
      entity: user or team; that of the login by default.

    Raises:
      MachineError: if W&B is not installed.
    """

    def __init__(
        self,
        project: str = "jaxopt-lab",
        mode: str = "offline",
        directory: str | os.PathLike[str] = ".",
        entity: str | None = None,
    ) -> None:
        super().__init__()
        try:
            import wandb
        except ImportError:
            raise missing("W&B", "wandb") from None
        self._wandb: Any = wandb
        self._directory = Path(directory).expanduser()
        self._given = {"project": project, "mode": mode, "entity": entity}
        self._study: Any = None
        self._key = self._group = ""

    def open(self, run: StudyRun) -> set[int]:
        """Begin the study's run; find the trials that have files."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._key, self._group = run.identity.key, f"{run.identity.name}-{run.identity.key}"
        self._study = self._begin(run.identity.name, self._key, "study", {**run.facts, **run.space})
        found = self._directory.glob(f"wandb/*run-*-{self._key}-*")
        return {int(path.name.rpartition("-")[2]) for path in found}

    def write_trial(self, run: TrialRun) -> None:
        """A run: configuration, curves, score."""
        facts = {"phase": run.phase, "status": run.status, "reason": run.reason}
        number = f"{self._key}-{run.trial_id}"
        with self._begin(run.name, number, "trial", {**run.hyperparameters, **facts}) as begun:
            for unit, values in points_by_unit(run):
                begun.log(finite(values), step=unit)
            begun.summary.update(finite(run.scores))

    def write_progress(self, step: int, values: dict[str, float]) -> None:
        """A point of each curve in the study's run."""
        self._study.log(finite({**values, "trials/ended": float(step)}))

    def write_best(self, content: str) -> None:
        """As an artefact of the study's run."""
        artefact = self._wandb.Artifact(f"best-{self._key}", type="result")
        with artefact.new_file(BEST, encoding="utf-8") as file:
            file.write(content)
        self._study.log_artifact(artefact)

    def close(self) -> None:
        """Finish the study's run."""
        self._study.finish()

    def _begin(self, name: str, number: str, kind: str, config: dict[str, Any]) -> Any:
        # The study's run has the list of packages and the commit: reading all packages' metadata
        # would be nine tenths of what a trial's run costs.
        is_trial = kind == "trial"
        quiet = self._wandb.Settings(
            silent=True,
            console="off",
            disable_git=is_trial,
            x_disable_stats=True,
            x_save_requirements=not is_trial,
        )
        return self._wandb.init(
            **self._given,
            dir=self._directory,
            name=name,
            id=number,
            group=self._group,
            job_type=kind,
            config=config,
            resume="allow",
            reinit="create_new",
            settings=quiet,
        )
