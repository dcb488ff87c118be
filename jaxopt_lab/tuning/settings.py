"""What is asked of a tuning, checked, and what follows from the table where it is not."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from jaxopt_lab import schedulers, search
from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.scalars import scalar, whole
from jaxopt_lab.datasets import TargetLoss
from jaxopt_lab.planning.costs import Costs
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.spaces.distributions import Choice, LogUniform, Uniform
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.tuning.other_candidates import ENSEMBLES

#: Floating-point operations that the default number of trials may cost.
DEFAULT_WORK = 6e12
#: Columns that say where a row is are looked for, or not; an encoding of numbers is chosen.
AUTO, NONE = "auto", "none"
#: How trials are stopped early, or not at all.
SCHEDULERS = (*schedulers.REGISTRY, schedulers.NONE)


@dataclass(frozen=True)
class Settings:
    """What the user asked for; None stands for the documented formula.

    Attributes:
      trials: configurations in all, half of them in the refined ranges.
      folds: K of the cross-validation; 1 is one hold-out split.
      epochs: of each network.
      seed: of everything.
      search: key of `search.REGISTRY`; before "bayesian" the wide search is quasi-random.
      scheduler: key of `schedulers.REGISTRY`, or "none". "race" trains on one fold first, and the
        better half on the others. "bohb" searches in one phase, by results at all ages.
      scheduler_settings: of the scheduler; its defaults where missing.
      space: where to search; `default_space` if None.
      test_fraction: share of the rows that is held out to the end; 0 for none.
      time_limit: seconds; searching stops in time for the winner to be refitted.
      widen: whether refined ranges and choices may leave those of the user's `space`. The ranges
        of `default_space` always grow where the best trials crowd an end.
      prefer: "best", or "small": the smallest network within one standard error of it.
      ensemble: what it is made of: "networks", or "all" for boosted trees and linear models, too,
        where they help. A study that is done can be run again with the other.
      members: train the winner's configuration once more as networks of so many members that share
        their kernels; 1 for none. They win, or join the ensemble, where they score better.
      loss: what a number is learnt by, and trials are compared by: "squared", "absolute", "huber"
        or "quantile"; see `datasets.TargetLoss`.
      quantile: of the loss "quantile", between 0 and 1.
      numeric: encoding of numeric columns; "auto" is "piecewise_linear", but "standard" where that
        makes more columns than there are rows and tells less: see `datasets.find_encoding`.
      num_bins: of `piecewise_linear`; None stands for a formula from the rows, or with the numeric
        "auto" for fewer where these tell more: see `datasets.find_num_bins`.
      near: two columns that say where a row is, by which the nearest training rows tell what they
        cost; "auto" looks for them, "none" does not.
      prior: hyperparameters believed to be good; the first trials are drawn around them.
      stop_at: stop searching once a trial's score is at most this.
      stop_improvement: stop once the greatest expected improvement stays below this share of the
        best trial's standard error over folds.
      costs: of the devices, from `sizing.read_costs`; None for shipped ones.
      memory_limit: bytes that training may take on all devices together.
      cohort_width: the most trials that train together on a device.
    """

    trials: Any = None
    folds: Any = None
    epochs: Any = None
    seed: Any = 0
    search: str = "bayesian"
    scheduler: str = "race"
    scheduler_settings: Mapping[str, Any] | None = None
    space: SearchSpace | None = None
    test_fraction: Any = 0.2
    time_limit: Any = None
    widen: bool = False
    prefer: str = "best"
    ensemble: Any = "networks"
    members: Any = 1
    loss: Any = "squared"
    quantile: Any = None
    numeric: str = AUTO
    num_bins: Any = None
    near: Any = AUTO
    prior: Mapping[str, Any] | None = None
    stop_at: Any = None
    stop_improvement: Any = None
    costs: Costs | None = None
    memory_limit: Any = None
    cohort_width: Any = None

    def __post_init__(self) -> None:
        check_search(self.search, self.scheduler, self.scheduler_settings)
        if self.prefer not in ("best", "small"):
            raise UserError(f"prefer must be best or small, got {self.prefer!r}")
        check_ensemble(self.ensemble)
        TargetLoss(self.loss, scalar(self.quantile))  # refuses what cannot be
        for name in ("trials", "folds", "epochs"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, whole(name, getattr(self, name), least=1))
        object.__setattr__(self, "members", whole("members", self.members, least=1))
        hyperparameters.check_value("ensemble_size", self.members)
        for field in fields(self):
            object.__setattr__(self, field.name, scalar(getattr(self, field.name)))
        if self.time_limit is not None and not self.time_limit > 0:
            raise UserError(f"the time limit must be above 0 seconds, got {self.time_limit:g}")
        if isinstance(self.near, str) and self.near not in (AUTO, NONE):
            raise UserError(f"near must be two columns, auto or none; got {self.near!r}")
        if not 0 <= self.test_fraction < 1:
            raise UserError(
                f"the test fraction must be at least 0 and below 1, got {self.test_fraction:g}"
            )


def check_search(name: str, scheduler: str, settings: Mapping[str, Any] | None) -> None:
    """Refuse a search or a scheduler that is unknown, or both where they do not go together.

    Raises:
      UserError: in one line, with the names that there are.
    """
    if name not in search.REGISTRY:
        known = ", ".join(search.REGISTRY)
        hint = did_you_mean(name, search.REGISTRY)
        raise UserError(f"unknown search {name!r}.{hint} Known: {known}")
    made = schedulers.make(scheduler, settings)
    if getattr(made, "in_turn", False) and not search.REGISTRY[name]().sees_scores:
        raise UserError(
            f"scheduler {scheduler}: its trials are proposed from results; give --search "
            f"bayesian, not {name}"
        )


def check_ensemble(kinds: Any) -> None:
    """Refuse an ensemble of what is not known.

    Raises:
      UserError: in one line.
    """
    if kinds not in ENSEMBLES:
        raise UserError(f"ensemble must be networks or all, got {kinds!r}")


def default_space(num_rows: int) -> SearchSpace:
    """The space that is searched unless the user gives one.

    Args:
      num_rows: training rows; more of them allow larger batches and networks.
    """
    base = 32 if num_rows < 5000 else 64 if num_rows < 10000 else 128
    size = 64 if num_rows < 2000 else 128
    return SearchSpace(
        learning_rate=LogUniform(3e-4, 2e-2),
        batch_size=Choice([base, 2 * base]),
        num_layers=Choice([2, 3, 4]),
        hidden_size=Choice([size, 2 * size]),
        dropout=Uniform(0.0, 0.4),
        weight_decay=LogUniform(1e-5, 1.0),
        activation=Choice(["relu", "gelu", "silu"]),
        warmup_fraction=Uniform(0.0, 0.2),
        optimizer="adamw",
        schedule="cosine",
    )


def default_budget(num_rows: int, num_features: int) -> tuple[int, int, int]:
    """Trials, folds and epochs from the size of the training table; never from a clock.

    K = 5 below 5,000 rows, 3 below 15,000, else 1: a hold-out of thousands of rows. E = 600,000 /
    rows, between 30 and 60. N so that N (1 + K) / 2 networks of 3 layers of 160 neurons cost about
    `DEFAULT_WORK`, between 16 and 64.

    Args:
      num_rows: rows that are not test rows.
      num_features: encoded columns.
    """
    folds = 5 if num_rows < 5000 else 3 if num_rows < 15000 else 1
    epochs = min(max(round(6e5 / num_rows), 30), 60)
    parameters = num_features * 160 + 2 * 160 * 160
    training = 6.0 * parameters * num_rows * epochs * ((folds - 1) / folds or 0.8)
    num_trainings = (1 + folds) / 2
    return min(max(round(DEFAULT_WORK / (training * num_trainings)), 16), 64), folds, epochs
