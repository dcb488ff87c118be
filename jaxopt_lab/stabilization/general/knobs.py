"""Which hyperparameters of a problem a diagnosis may turn, by their roles."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.tracing.arguments import check_keywords
from jaxopt_lab.core.tracing.naming import listed
from jaxopt_lab.core.types import Config
from jaxopt_lab.problems.general import REQUIRED, GeneralProblem
from jaxopt_lab.problems.general.programs import StaticProgram, StaticPrograms
from jaxopt_lab.problems.general.training import GeneralTraining
from jaxopt_lab.spaces.distributions import Choice, Distribution
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.stabilization.general import decay

#: Roles that cures turn; a schedule has values of its own.
TURNED = (
    "learning_rate",
    "b1",
    "b2",
    "eps",
    "clip_norm",
    "clip_value",
    "batch_size",
    "dropout",
    "l2",
    "weight_decay",
    "warmup_fraction",
)


@dataclass(frozen=True, eq=False)
class Knobs:
    """A problem with one configuration, and what of it can be turned.

    Attributes:
      problem: as given.
      training: client of the runner, with a decay of the learning rate where that can be had.
      base: the configuration, with the problem's own defaults for what has a role.
      names: role -> hyperparameter, of roles that are declared, have a number, and are read.
      notes: what is not tried and why, a line each.
      num_splits: the first so many splits of the data are the given ones; None: all.
    """

    problem: GeneralProblem
    training: GeneralTraining
    base: Config
    names: Mapping[str, str]
    notes: tuple[str, ...]
    num_splits: int | None = None

    def value(self, role: str) -> float | None:
        """The base's value for a role; None without one."""
        return float(self.base[self.names[role]]) if role in self.names else None

    def settings(self, role: str, value: float) -> dict[str, Any]:
        """What changes where a role takes a value."""
        return {self.names[role]: value}

    @property
    def has_decay(self) -> bool:
        """Whether trainings take `decay.NAME`."""
        return "learning_rate" in self.names and decay.can_decay(self.problem)

    @property
    def can_decay(self) -> bool:
        """Whether the learning rate can be made to decay, and does not already by our own means."""
        return self.has_decay and decay.index(self.base) == 0

    def traced(self, config: Config) -> Config:
        """A configuration as programs take it."""
        return {**config, decay.NAME: decay.index(config)} if self.has_decay else config

    def program(self, config: Config) -> StaticProgram:
        """The program of a configuration."""
        return StaticPrograms(self.training.declared.static, 1).signature(config)

    @property
    def num_rows(self) -> int | None:
        """Least number of training rows of a split; None where nobody knows."""
        found = getattr(self.problem.data, "num_train", None)
        return None if found is None else int(np.min(found[: self.num_splits]))

    @property
    def num_valid(self) -> int | None:
        """Likewise of validation rows."""
        found = getattr(self.problem.data, "num_valid", None)
        return None if found is None else int(np.min(found[: self.num_splits]))


def read_knobs(
    problem: GeneralProblem, hparams: Mapping[str, Any], num_splits: int | None = None
) -> Knobs:
    """Complete a configuration, trace the functions, and see which roles can be turned.

    Args:
      problem: of any kind.
      hparams: hyperparameter -> value, keywords of the builder among them.
      num_splits: see `Knobs`.

    Raises:
      UserError: for a configuration that the functions cannot be traced with.
    """
    base = _completed(problem, hparams)
    mine = {k: v for k, v in base.items() if k != decay.NAME or not decay.can_decay(problem)}
    check_keywords(problem.source, problem.keywords, list(mine), required=REQUIRED)
    training = GeneralTraining(problem, _fixed(mine))
    checked = training.checked(StaticPrograms(training.declared.static, 1).signature(mine))
    names, absent, idle = {}, [], []
    for role in TURNED:
        name = problem.roles.get(role, role)
        if not _is_number(base.get(name)):
            absent.append(role if name == role else f"{role} ({name})")
        elif name not in checked.read:
            idle.append(name)
        else:
            names[role] = name
    # Whatever else stands in the configuration and moves nothing is likely misspelt.
    idle += [name for name in checked.unread if name not in idle]
    notes = []
    if absent:
        notes.append(
            f"not declared, so their cures are not tried: {', '.join(absent)}; give them values in "
            "hparams under these names, or name yours with roles={...}"
        )
    if idle:
        verb = "changes" if len(idle) == 1 else "change"
        notes.append(f"nothing in {problem.source} reads {listed(idle)}, so it {verb} nothing")
    found = Knobs(problem, training, base, names, tuple(notes), num_splits)
    if not found.has_decay:
        return found
    decays = GeneralTraining(decay.decaying(problem), _fixed(found.traced(base)))
    return replace(found, training=decays)


def _completed(problem: GeneralProblem, hparams: Mapping[str, Any]) -> Config:
    if not isinstance(hparams, Mapping):
        raise UserError(
            f"hparams must be a dict, hyperparameter -> value, got {type(hparams).__name__}"
        )
    for name, value in hparams.items():
        if isinstance(value, Distribution):
            raise UserError(
                f"{name} is a range, {value!r}; a diagnosis is of one configuration: give a value"
            )
    roles = set(problem.roles.values())
    own = {k: v for k, v in problem.keywords.items() if k in roles and v is not REQUIRED}
    base = {**problem.extras.get("defaults", {}), **own, **hparams}
    for role in TURNED:
        name = problem.roles.get(role, role)
        # Whole numbers would be traced as such, and a tenth of a rate of 1 be 0.
        if role != "batch_size" and name not in problem.keywords and _is_number(base.get(name)):
            base[name] = float(base[name])
    return {name: v.item() if isinstance(v, np.generic) else v for name, v in base.items()}


def _fixed(base: Config) -> SearchSpace:
    """A space of one point."""
    plain = (int, float, str, bool)
    return SearchSpace(
        **{
            name: value if isinstance(value, plain) else Choice([value], static=True)
            for name, value in base.items()
        }
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
