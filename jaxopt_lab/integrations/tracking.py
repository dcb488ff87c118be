"""What all trackers have in common: a run for the study, and one for each trial that has ended."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxopt_lab.core.errors import MachineError
from jaxopt_lab.core.status import Status
from jaxopt_lab.integrations.background import Background
from jaxopt_lab.integrations.identity import (
    Identity,
    identity_of,
    is_over,
    mean_curves,
    thinned_units,
)
from jaxopt_lab.storage.rows import Trial
from jaxopt_lab.study.callbacks import Callback, WaveEnd
from jaxopt_lab.study.trials import best_trial, sign_of

#: Points of a curve at most.
MAX_POINTS = 200
#: What the artefact of a study's best trial is called.
BEST = "best.json"


class StudyRun(NamedTuple):
    """What a tracker is told of a study.

    Attributes:
      identity: by which it is found again.
      facts: objective, direction, seed, budget and the like.
      space: name -> what is searched, as text; what is fixed as it is.
      directory: of the study; None in memory.
    """

    identity: Identity
    facts: dict[str, Any]
    space: dict[str, Any]
    directory: Path | None


class TrialRun(NamedTuple):
    """What a tracker is told of a trial that has ended.

    Attributes:
      trial_id: its number.
      name: of its run.
      hyperparameters: what was chosen and what is fixed; lists as their JSON.
      status: completed, infeasible or stopped.
      reason: why it is not completed; else empty.
      phase: that proposed it.
      metric: name of the objective.
      scores: "score" and "standard_error", where there are any.
      curves: name -> (units from 1 on [n] int, values [n] float64), averaged over splits and seeds.
    """

    trial_id: int
    name: str
    hyperparameters: dict[str, Any]
    status: str
    reason: str
    phase: str
    metric: str
    scores: dict[str, float]
    curves: dict[str, tuple[np.ndarray, np.ndarray]]


class Tracker(Callback):
    """A callback that writes a study into an experiment tracker.

    The study's own run shows how far it is, a point for each wave, and holds `best.json` in the
    end. A trial's run is written when it has ended, all at once, so that the cost is that of a
    trial and not of a step. A study that goes on in a new process goes on in its run there, and
    writes no trial twice.

    `open` and all that writes is called on one thread beside the study's, in order, so that it
    hides behind the compiled programs; the study's end waits for it.
    """

    def __init__(self) -> None:
        self._done: set[int] = set()
        self._background = Background()

    def open(self, run: StudyRun) -> set[int]:
        """Begin or find the study's run.

        Returns:
          The trials that are written already.
        """
        raise NotImplementedError

    def write_trial(self, run: TrialRun) -> None:
        """Write the run of a trial."""
        raise NotImplementedError

    def write_progress(self, step: int, values: dict[str, float]) -> None:
        """Add a point to the study's run.

        Args:
          step: trials that have ended.
          values: name -> number.
        """
        raise NotImplementedError

    def write_best(self, content: str) -> None:
        """Attach the content of `best.json` to the study's run."""
        raise NotImplementedError

    def close(self) -> None:
        """Finish the study's run."""

    def on_study_begin(self, study: Any) -> None:
        """Open the run, and write trials that ended when nobody was told."""
        self._background = Background()
        self._done = self._background.ask(self.open, study_run_of(study))
        sign = sign_of(study.store)
        for row in study.store.trials():
            score = None if row.score is None else sign * row.score
            self.on_trial_end(study, row._replace(score=score))

    def on_wave_end(self, study: Any, wave: WaveEnd) -> None:
        """Add a point."""
        counts = wave.progress.counts
        ended = sum(counts.values()) - counts.get(Status.PENDING, 0)
        values = {f"trials/{status}": float(n) for status, n in counts.items()}
        if wave.progress.best is not None:
            values[f"best/{wave.progress.metric}"] = wave.progress.best
        self._background.do(self.write_progress, ended, values)

    def on_trial_end(self, study: Any, trial: Trial) -> None:
        """Write the trial's run."""
        if is_over(trial) and trial.trial_id not in self._done:
            self._background.do(self.write_trial, trial_run_of(study, trial))
            self._done.add(trial.trial_id)

    def on_study_end(self, study: Any) -> None:
        """Attach `best.json`, close, and wait until all is written."""
        content = best_of(study)
        if content:
            self._background.do(self.write_best, content)
        self._background.do(self.close)
        self._background.finish()


def study_run_of(study: Any) -> StudyRun:
    """What a tracker is told of a study."""
    settings, objective = study.store.settings(), study.problem.objective
    facts = {
        "objective": objective.metric,
        "direction": objective.direction,
        "seed": study.seed,
        "budget": settings.get("budget"),
        "members": settings.get("num_folds"),
    }
    space = {name: repr(dist) for name, dist in study.space.parameters.items()}
    space.update({name: _flat(value) for name, value in study.space.fixed.items()})
    known = {name: value for name, value in facts.items() if value is not None}
    return StudyRun(identity_of(study), known, space, study.directory)


def trial_run_of(study: Any, trial: Trial) -> TrialRun:
    """What a tracker is told of a trial, whose score is the objective as the problem has it."""
    num_members = _num_members(study)
    scores = {} if trial.score is None else {"score": trial.score}
    if trial.standard_error is not None:
        scores["standard_error"] = trial.standard_error
    curves = {}
    for name, values in mean_curves(study.store.member_arrays(trial.trial_id), num_members).items():
        kept = thinned_units(len(values), MAX_POINTS)
        curves[name] = (kept + 1, values[kept])
    return TrialRun(
        trial.trial_id,
        f"trial-{trial.trial_id:04d}",
        {name: _flat(value) for name, value in trial.config.items()},
        str(trial.status),
        trial.reason,
        trial.phase,
        study.problem.objective.metric,
        scores,
        curves,
    )


def _num_members(study: Any) -> int:
    try:
        return int(study.store.setting("num_folds"))
    except KeyError:  # all that it knows it was told
        return 1


def _flat(value: Any) -> Any:
    """A hyperparameter as trackers hold it: a number, text or a boolean."""
    return json.dumps(value) if value is None or isinstance(value, tuple) else value


def best_of(study: Any) -> str:
    """`best.json` of a study's directory; without one the best trial in the same words.

    Returns:
      JSON; empty while no trial is complete.
    """
    path = None if study.directory is None else study.directory / BEST
    if path is not None and path.exists():
        return str(path.read_text(encoding="utf-8"))
    if not study.store.best_trials(1):
        return ""
    row, objective = study.store.trials()[best_trial(study.store)], study.problem.objective
    content = {
        "trial_id": row.trial_id,
        "hyperparameters": row.config,
        "validation": {
            "metric": objective.metric,
            "direction": objective.direction,
            "mean": objective.sign * row.score,
            "standard_error": row.standard_error,
        },
    }
    return json.dumps(content, indent=2)


def points_by_unit(run: TrialRun) -> list[tuple[int, dict[str, float]]]:
    """The points of all curves, unit by unit."""
    found: dict[int, dict[str, float]] = {}
    for name, (units, values) in run.curves.items():
        for unit, value in zip(units.tolist(), values.tolist(), strict=True):
            found.setdefault(unit, {})[name] = value
    return sorted(found.items())


def finite(values: dict[str, float]) -> dict[str, float]:
    """Those that a tracker can hold."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def missing(package: str, extra: str) -> MachineError:
    """What to say where somebody else's package is not installed."""
    return MachineError(f"{package} is missing: pip install 'jaxopt-lab[{extra}]'")
