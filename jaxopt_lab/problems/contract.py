"""What a study asks of its problem, once it is ready to train."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from jaxopt_lab.core.client import Client
from jaxopt_lab.core.cohorts import Wave
from jaxopt_lab.core.objective import Objective
from jaxopt_lab.core.results import CohortResults, Result
from jaxopt_lab.core.status import Config
from jaxopt_lab.core.types import PyTree
from jaxopt_lab.planning.plan import Plan
from jaxopt_lab.planning.sizing import Sizing
from jaxopt_lab.schedulers.base import Scheduler
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.rows import TrainedMember


@runtime_checkable
class Programs(Protocol):
    """Which configurations share a compiled program; written to the study as JSON."""

    def signature(self, config: Config) -> Any:
        """The program (`cohorts.Program`) of a complete configuration."""
        ...

    def max_cohort(self, program: Any) -> int:
        """Bound of its cohort width."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, which `Training.programs_from` reads."""
        ...


class Amount(NamedTuple):
    """How much a study trains.

    Attributes:
      num_trials: configurations.
      budget: units of each.
      num_devices: that share the work.
      crowds: (trainings, units) of what can train in lockstep, all folds; None: all trials, fold
        by fold.
    """

    num_trials: int
    budget: int
    num_devices: int
    crowds: tuple[tuple[int, int], ...] | None = None


class Judged(NamedTuple):
    """One member as it is stored.

    Attributes:
      score: what the study minimises (the objective, or its negative where that is maximised);
        None where the member is infeasible.
      reason: why it is.
      best_unit: the unit whose value counts, from 0.
      curves: name -> metrics from the first unit on, [units, ...].
      outputs: [n, o] outputs on validation rows, for ensembles; may be empty.
    """

    score: float | None
    reason: str
    best_unit: int
    curves: dict[str, np.ndarray]
    outputs: np.ndarray


class JudgedCohort(NamedTuple):
    """The members of a cohort as they are stored, one row for each.

    Attributes:
      scores, reasons, best_units: n of each, see `Judged`.
      curves: name -> [n, units, ...].
      outputs: [n, m, o].
    """

    scores: list[float | None]
    reasons: list[str]
    best_units: list[int]
    curves: dict[str, np.ndarray]
    outputs: np.ndarray

    def row(self, i: int) -> Judged:
        """One of them."""
        curves = {name: x[i] for name, x in self.curves.items()}
        facts = (self.scores[i], self.reasons[i], self.best_units[i])
        return Judged(*facts, curves, self.outputs[i])


@runtime_checkable
class Training(Protocol):
    """A problem with its splits made and its data laid out.

    `num_members` are the trainings of each trial: splits, seeds; `refit_member` is the index that
    stands for a refit on all rows, None if there is none.
    """

    @property
    def client(self) -> Client:
        """What the runner trains."""
        ...

    @property
    def num_members(self) -> int:
        """Trainings of each trial."""
        ...

    @property
    def refit_member(self) -> int | None:
        """The index of a refit."""
        ...

    def refit_units(self, config: Config, mean_best: int) -> int:
        """Units of a refit; 0 for the whole budget.

        Args:
          config: complete configuration.
          mean_best: the mean over its members of the units up to their best one.
        """
        ...

    def predictor(self, config: Config, kept: PyTree) -> Any:
        """What predicts with a refit; `UserError` where a problem has no such thing."""
        ...

    def static_values(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Keywords of the problem's builder in a configuration."""
        ...

    def changeable(self, space: SearchSpace) -> tuple[str, ...]:
        """The hyperparameters of a space whose values may change while a trial trains.

        Raises:
          UserError: if it has such that could, and the problem's functions never look again.
        """
        ...

    def complete(self, config: Mapping[str, Any]) -> Config:
        """A configuration with a value for everything that its program and functions need."""
        ...

    def choose(self, space: SearchSpace, amount: Amount, sizing: Sizing) -> Programs:
        """The programs of a study."""
        ...

    def programs_from(self, content: Mapping[str, Any]) -> Programs:
        """Read what `Programs.to_dict` wrote."""
        ...

    def width(self, program: Any, sizing: Sizing, largest: int) -> int:
        """Cohort width of a program."""
        ...

    def num_parameters(self, config: Config, program: Any) -> int:
        """How many numbers are kept of a trial: weights, of a network.

        Args:
          config: complete configuration.
          program: that serves it.
        """
        ...

    def trial_bytes(self, program: Any) -> int:
        """Memory of one trial in training, on the safe side."""
        ...

    def expected_seconds(
        self, wave: Wave, width: int, programs: Any, amount: Amount, sizing: Sizing
    ) -> tuple[float, float]:
        """To compile a wave's program, and to run the wave; NaN where nobody knows."""
        ...

    def plan(
        self,
        configs: Sequence[Config],
        space: SearchSpace,
        amount: Amount,
        sizing: Sizing,
        scheduler: Scheduler | None,
    ) -> Plan:
        """What a study of these configurations would compile and run."""
        ...

    def judge_cohort(self, cohort: CohortResults) -> JudgedCohort:
        """What trainings came to that did not go on from earlier ones.

        Args:
          cohort: from the runner.
        """
        ...

    def judge(self, result: Result, before: TrainedMember | None) -> Judged:
        """What one training came to.

        Args:
          result: from the runner.
          before: the stored member that it goes on from, if it does.
        """
        ...

    def objective_curve(self, curves: Mapping[str, np.ndarray], member: int) -> np.ndarray:
        """[units] what the study minimises, after each unit of one training.

        Args:
          curves: as stored, `Judged.curves`.
          member: whose.
        """
        ...

    def dump(self, kept: PyTree) -> bytes:
        """What is kept of a training, for the store."""
        ...

    def load(self, content: bytes, program: Any) -> PyTree:
        """Read what `dump` wrote."""
        ...


@runtime_checkable
class Problem(Protocol):
    """What a study is of."""

    @property
    def objective(self) -> Objective:
        """What is optimised."""
        ...

    @property
    def unit(self) -> str:
        """What a unit of budget is called."""
        ...

    def describe(self) -> dict[str, Any]:
        """What makes it the same problem when a study is opened again."""
        ...

    def check(self, space: SearchSpace) -> None:
        """Refuse a space that the problem cannot be searched in.

        Raises:
          UserError: naming the hyperparameter and what would be right.
        """
        ...

    def training(self, space: SearchSpace, num_splits: int | None, seed: int) -> Training:
        """Ready to train; the same object for the same arguments."""
        ...
