"""A problem of any kind: a builder of pure functions, data, an objective."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
import numpy as np

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.hparams import Hparams
from jaxopt_lab.core.objective import Objective
from jaxopt_lab.core.scalars import scalar
from jaxopt_lab.core.tracing.arguments import check_keywords
from jaxopt_lab.core.tracing.check import Checked
from jaxopt_lab.core.trainable import Trainable
from jaxopt_lab.core.types import PyTree
from jaxopt_lab.problems.general.training import GeneralTraining
from jaxopt_lab.spaces.space import SearchSpace


@dataclass(frozen=True, eq=False)
class GeneralProblem:
    """What `from_function`, `from_steps` and `supervised` make.

    Attributes:
      kind: of these, for messages and files.
      build: keywords -> the pure functions of one trial. Keywords are static hyperparameters:
        Python values, one compiled program for each combination.
      keywords: name -> default of those keywords; `REQUIRED` without one.
      objective: what is optimised.
      num_members: trainings of each trial: splits of the data times seeds. `Shared.split` says
        which of them one is, from 0; each has a random key of its own.
      data: arrays that every device holds once; reaches `step` and `evaluate` as `Shared.data`.
      budget: units of a trial unless `optimize` says otherwise; None: it must say.
      unit: what one unit is called: "run", "step", "epoch".
      roles: role -> hyperparameter, such as {"learning_rate": "lr"}; see `ROLES`.
      source: what the builder is called in messages: a function's name.
      identity: JSON-like facts that make it the same problem when a study is opened again.
      extras: what a client wants to find again on `study.best` (`module`, say).
      guard: whether a trial is frozen at the first objective that is not finite.
      executor: "vmap", "map" or "kernel"; None leaves the choice to the planner.
      inspect: (what tracing the first program found, its keywords, its hyperparameters); refuses
        what would train to no effect.
      doubt: says what is wrong with the data where every trial has diverged, or "".
    """

    kind: str
    build: Callable[..., Trainable]
    keywords: Mapping[str, Any]
    objective: Objective
    num_members: int = 1
    data: PyTree = ()
    budget: int | None = None
    unit: str = "step"
    roles: Mapping[str, str] = field(default_factory=dict)
    source: str = "build"
    identity: Mapping[str, Any] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)
    guard: bool = True
    executor: str | None = None
    inspect: Callable[[Checked, Mapping[str, Any], Hparams], None] | None = None
    doubt: Callable[[], str] = str
    _trainings: dict[Any, GeneralTraining] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """What a worker is sent: it traces the functions anew."""
        return {**vars(self), "_trainings": {}}

    def describe(self) -> dict[str, Any]:
        """What makes it the same problem when a study is opened again."""
        objective = asdict(self.objective)
        return {"kind": self.kind, "source": self.source, "objective": objective, **self.identity}

    def check(self, space: SearchSpace) -> None:
        """Trace the functions with the hyperparameters of a space.

        Raises:
          UserError: for what cannot be trained, and for a hyperparameter that nothing reads.
        """
        given = [*space.names, *space.fixed]
        check_keywords(self.source, self.keywords, given, required=REQUIRED)
        self.training(space, None, 0).check()

    def training(self, space: SearchSpace, num_splits: int | None, seed: int) -> GeneralTraining:
        """Ready to train; its splits are its own."""
        del seed
        if num_splits not in (None, self.num_members):
            raise UserError(
                f"this problem has its own splits and seeds, {self.num_members} in all; "
                f"leave num_folds out"
            )
        if space not in self._trainings:
            self._trainings[space] = GeneralTraining(self, space)
        return self._trainings[space]


class _Required:
    def __repr__(self) -> str:
        return "required"

    def __reduce__(self) -> str:
        return "REQUIRED"  # the same object everywhere


#: Stands for the default of a keyword that has none.
REQUIRED = _Required()
#: What a hyperparameter can be to a diagnosis.
ROLES = (
    "learning_rate",
    "batch_size",
    "weight_decay",
    "l2",
    "dropout",
    "clip_norm",
    "clip_value",
    "b1",
    "b2",
    "eps",
    "schedule",
    "warmup_fraction",
)


def roles_of(roles: Mapping[str, str] | None) -> dict[str, str]:
    """Role -> hyperparameter: those given, others by name.

    Raises:
      UserError: for an unknown role.
    """
    given = dict(roles or {})
    for role in given:
        if role not in ROLES:
            hint = did_you_mean(role, ROLES)
            raise UserError(f"unknown role {role!r}.{hint} Known: {', '.join(ROLES)}")
    return {**{role: role for role in ROLES}, **given}


def check_seeds(number: Any) -> int:
    """A number of seeds.

    Raises:
      UserError: if it is none.
    """
    return check_count("num_seeds", number)


def check_count(name: str, value: Any) -> int:
    """A whole number of at least 1, as Python's.

    Raises:
      UserError: if it is none.
    """
    found = scalar(value)
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise UserError(f"{name} must be a whole number of at least 1, got {value!r}")
    return found


def checksum(tree: PyTree) -> str:
    """Of arrays: their values, shapes and dtypes."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.asarray(leaf)
        found.update(f"{array.shape} {array.dtype}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]
