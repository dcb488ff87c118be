"""A sweep: one search over a problem of any kind, and the file that says what came out."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from jaxopt_lab import analysis, schedulers, search
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.scalars import scalar
from jaxopt_lab.core.types import Status
from jaxopt_lab.planning.plan import Plan
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.files import write_file
from jaxopt_lab.study import trials
from jaxopt_lab.study.callbacks import Progress
from jaxopt_lab.study.records import KEPT_TRIALS
from jaxopt_lab.study.study import Study
from jaxopt_lab.tuning.outcome import SCHEMA, sizes_of, to_json, versions
from jaxopt_lab.tuning.settings import check_search

NUM_TRIALS = 32
#: A search that learns proposes a quarter of its trials at a time, but no fewer than these.
MIN_ROUND = 4
_ROUNDS = 4


@dataclass(frozen=True)
class SweepSettings:
    """What the user asked for.

    Attributes:
      trials: configurations in all.
      budget: units of each; None for the problem's own.
      seed: of everything.
      search: key of `search.REGISTRY`.
      scheduler: key of `schedulers.REGISTRY`, or "none".
      scheduler_settings: of the scheduler; its defaults where missing.
      time_limit: seconds after which no wave is started.
      memory_limit: bytes that training may take on all devices together.
      cohort_width: the most trials that train together on a device.
      keep: the best trials of which results are kept.
    """

    trials: Any = NUM_TRIALS
    budget: Any = None
    seed: Any = 0
    search: str = "bayesian"
    scheduler: str = "none"
    scheduler_settings: Mapping[str, Any] | None = None
    time_limit: Any = None
    memory_limit: Any = None
    cohort_width: Any = None
    keep: Any = KEPT_TRIALS

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, scalar(getattr(self, field.name)))
        check_search(self.search, self.scheduler, self.scheduler_settings)


def run(
    problem: Any,
    space: SearchSpace,
    settings: SweepSettings,
    directory: str | Path,
    *,
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = print,
    source: str = "",
    callbacks: Sequence[Any] = (),
    placement: Any = None,
) -> dict[str, Any]:
    """Search, or go on where the same call stopped before.

    Args:
      problem: from `from_function`, `from_steps`, `supervised` or `tasks.tabular`.
      space: where to search.
      settings: what the user asked for.
      directory: receives `study.sqlite` and `best.json`.
      progress: called after each wave.
      say: takes one line of text at a time.
      source: checksum of the code that the problem comes from; another one than that the study
        began with is said.
      callbacks: told what happens; see `Callback`.
      placement: where trials are trained; see `Study`.

    Returns:
      The content of `best.json`.

    Raises:
      UserError: for settings that cannot be, or differ from those the directory began with.
      MachineError: if no trial was completed, or the disk is full.
    """
    started = time.monotonic()
    with _study(problem, space, settings, directory, callbacks, say, placement) as study:
        budget = _budget(study, settings)
        if source and study.recall("source", lambda: source) != source:
            say("note: the script has changed since this study began; finished trials are kept")
        study.optimize(
            settings.search,
            settings.trials,
            budget=budget,
            time_limit=settings.time_limit,
            round_size=_round_size(settings),
            progress=progress,
            scheduler=_scheduler(settings),
        )
        before = study.store.decisions("session")
        seconds = sum(before, 0.0) + time.monotonic() - started
        content = outcome_of(study, seconds)
        if not before or study.trained:
            with study.store.transaction():
                study.store.decide("session", time.monotonic() - started)
        write_file(Path(directory) / "best.json", to_json(content))
        return content


def plan(problem: Any, space: SearchSpace, settings: SweepSettings) -> Plan:
    """What `run` would compile and train, as if all trials were known at once.

    Raises:
      UserError: as `run`.
    """
    with _study(problem, space, settings, None) as study:
        budget = _budget(study, settings)
        return study.plan(settings.trials, budget=budget, scheduler=_scheduler(settings))


def _study(
    problem: Any,
    space: SearchSpace,
    settings: SweepSettings,
    directory: str | Path | None,
    callbacks: Sequence[Any] = (),
    say: Callable[[str], None] | None = None,
    placement: Any = None,
) -> Study:
    return Study(
        problem,
        space,
        directory,
        settings.seed,
        memory_limit=settings.memory_limit,
        cohort_width=settings.cohort_width,
        keep=settings.keep,
        callbacks=callbacks,
        say=say,
        placement=placement,
    )


def _budget(study: Study, settings: SweepSettings) -> int:
    """Units of each trial: those asked for, those the study began with, or the problem's own."""
    known = study.store.settings().get("budget", getattr(study.problem, "budget", None))
    found = settings.budget or known
    if found is None:
        raise UserError(
            f"say how long each trial trains: --budget N, in {study.problem.unit}s; the problem "
            "has no budget of its own"
        )
    return int(found)


def _scheduler(settings: SweepSettings) -> Any:
    return schedulers.make(settings.scheduler, settings.scheduler_settings)


def _round_size(settings: SweepSettings) -> int | None:
    """Proposals between which a search that learns sees results."""
    if not search.REGISTRY[settings.search]().sees_scores:
        return None
    return max(MIN_ROUND, math.ceil(settings.trials / _ROUNDS))


def outcome_of(study: Study, seconds: float) -> dict[str, Any]:
    """The content of `best.json`; scores are the objective as the problem has it.

    Args:
      study: whose search is done.
      seconds: that it took in all.

    Raises:
      MachineError: if no trial was completed.
    """
    best, waves, objective = study.best, study.store.waves(), study.problem.objective
    error = None if math.isnan(best.standard_error) else best.standard_error
    return {
        "schema": SCHEMA,
        "trial_id": best.trial_id,
        "hyperparameters": best.hyperparameters,
        "validation": {
            "metric": objective.metric,
            "direction": objective.direction,
            "mean": best.score,
            "standard_error": error,
            "folds": best.folds,
        },
        "num_parameters": sizes_of(study),
        "analysis": _analysis(study),
        "trials": trials.counts(study.store),
        "seconds": {
            "total": round(seconds, 1),
            "compile": round(sum(w.compile_seconds for w in waves), 1),
            "train": round(sum(w.seconds - w.compile_seconds for w in waves), 1),
        },
        "versions": versions(),
    }


def _analysis(study: Study) -> dict[str, Any]:
    """Importance, findings and verdict on the budget, over all trials with a result."""
    rows = [t for t in study.store.trials() if t.score is not None or t.status == Status.INFEASIBLE]
    return analysis.summary(
        study.space,
        [t.config for t in rows],
        [math.nan if t.score is None else t.score for t in rows],
        [t.status == Status.INFEASIBLE for t in rows],
        study.seed,
        trained=analysis.learned(study.store),
        unit=study.problem.unit,
    )
