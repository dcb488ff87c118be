"""A schedule trained alone: one state from its root, with the values that its lineage had."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxopt_lab.core.cohorts import Job, Wave
from jaxopt_lab.core.results import Result
from jaxopt_lab.core.runner import Runner, WaveReport
from jaxopt_lab.core.types import Config
from jaxopt_lab.problems.contract import Training
from jaxopt_lab.storage.rows import TrainedMember
from jaxopt_lab.study import records
from jaxopt_lab.study.lineages import Stage

if TYPE_CHECKING:
    import pandas as pd

#: trial_id, configuration, fold, replicate -> a job of the full budget.
MakeJob = Callable[[int, Config, int, int], Job]


class Trained(NamedTuple):
    """What a schedule came to on one split.

    Attributes:
      member: score and curves, of the root's number.
      result: of its last part, with what is kept.
      reports: of all waves.
    """

    member: TrainedMember
    result: Result
    reports: tuple[WaveReport, ...]


class Replay(NamedTuple):
    """A schedule trained again, beside what is stored of it.

    Attributes:
      schedule: as `Incumbent.schedule`.
      curves: per split, name -> [units, ...].
      stored: the same of the population's member.
    """

    schedule: "pd.DataFrame"
    curves: list[dict[str, np.ndarray]]
    stored: list[dict[str, np.ndarray]]

    @property
    def is_same(self) -> bool:
        """Whether all metrics of all units are the same bit for bit."""
        return all(
            mine.keys() == theirs.keys()
            and all(mine[name].tobytes() == theirs[name].tobytes() for name in theirs)
            for mine, theirs in zip(self.curves, self.stored, strict=True)
        )

    def difference(self, metric: str) -> float:
        """The largest difference of a metric over splits and units; where both are NaN, none."""
        pairs = zip(self.curves, self.stored, strict=True)
        parts = [
            np.abs(np.where(np.isnan(b) & np.isnan(a), 0.0, np.subtract(a, b, dtype=np.float64)))
            for a, b in ((mine[metric], theirs[metric]) for mine, theirs in pairs)
        ]
        return float(max(np.max(part, initial=0.0) for part in parts))


def cut(stages: Sequence[Stage], units: int) -> list[Stage]:
    """The first units of a schedule."""
    return [
        stage._replace(units=min(stage.units, units - stage.unit))
        for stage in stages
        if stage.unit < units
    ]


def train_schedule(
    runner: Runner,
    training: Training,
    make_job: MakeJob,
    stages: Sequence[Stage],
    folds: Sequence[int],
    replicate: int = 0,
) -> list[Trained]:
    """Train a schedule alone, on each of some splits.

    The state begins as its root's did, so that the same program gives the same numbers.

    Args:
      runner: trains; its cohort widths are fixed.
      training: judges.
      make_job: makes a job.
      stages: the schedule.
      folds: splits or seeds.
      replicate: 0, or the number of other seeds.
    """
    root = stages[0].trial_id
    members: dict[int, TrainedMember] = {}
    states: dict[int, list[np.ndarray]] = {}
    reports: list[WaveReport] = []
    results: dict[int, Result] = {}
    for stage in stages:
        jobs = [
            make_job(root, stage.config, fold, replicate)._replace(
                start=stage.unit, num_units=stage.units, resumable=stage is not stages[-1]
            )
            for fold in folds
        ]
        waves = runner.plan(jobs)
        runner.expect(waves)
        take = partial(_next, waves)
        for report in runner.stream(take, lambda job: states[job.fold]):
            reports.append(report)
            for result in report.results:
                fold = result.job.fold
                results[fold] = result
                members[fold] = records.judged(training, result, members.get(fold))
                if result.state is not None:
                    states[fold] = result.state
    return [Trained(members[fold], results[fold], tuple(reports)) for fold in folds]


def _next(waves: list[Wave]) -> Wave | None:
    return waves.pop(0) if waves else None
