"""A problem of any kind: a builder of pure functions, data, an objective."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxopt_lab.core.objective import Objective
from jaxopt_lab.core.trainable import Trainable
from jaxopt_lab.core.types import PyTree


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


class _Required:
    def __repr__(self) -> str:
        return "required"


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
