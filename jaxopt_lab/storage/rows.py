"""The rows of a study's file, as `Store` reads them: trials, their members, and waves.

NamedTuples rather than dataclasses: tens of thousands are made each time that a study is read.
"""

from typing import NamedTuple

import numpy as np

from jaxopt_lab.core.status import Config, Status

#: What tells the members of a study apart: trial_id, fold, replicate.
MemberKey = tuple[int, int, int]


class Trial(NamedTuple):
    """A configuration and what became of it.

    Attributes:
      trial_id: its number in the study.
      phase: that proposed it, "search" say.
      status: pending until it is settled.
      score: what is minimised, a mean over folds; None if there is none.
      standard_error: of the score over folds; None if there is none, as for one fold.
      reason: why it is infeasible or was stopped; else empty.
      config: its hyperparameters, a copy that the caller may change.
    """

    trial_id: int
    phase: str
    status: Status
    score: float | None
    standard_error: float | None
    reason: str
    config: Config


class Member(NamedTuple):
    """One training of a trial: on a fold, or with a seed of its own.

    Attributes:
      trial_id: of the trial.
      fold: which split or seed.
      replicate: 0, or the number of the rerun with other seeds.
      score: what is minimised; None if it diverged.
      reason: why there is no score; else empty.
      best_unit: index of the unit (epoch, say) that the score is of.
      num_units: how many it has trained, earlier segments included.
    """

    trial_id: int
    fold: int
    replicate: int
    score: float | None
    reason: str
    best_unit: int
    num_units: int

    @property
    def key(self) -> MemberKey:
        """What tells it apart from all others."""
        return self[:3]


class TrainedMember(NamedTuple):
    """A member with its arrays.

    Attributes:
      trial_id: as of `Member`, and so on to `num_units`.
      fold: which split or seed.
      replicate: 0, or the number of the rerun.
      score: what is minimised; None if it diverged.
      reason: why there is no score; else empty.
      best_unit: index of the unit that the score is of.
      num_units: how many it has trained.
      curves: metric -> [units, ...].
      outputs: [n, o] float32, on the rows that validate.
    """

    trial_id: int
    fold: int
    replicate: int
    score: float | None
    reason: str
    best_unit: int
    num_units: int
    curves: dict[str, np.ndarray]
    outputs: np.ndarray


class PackedMember(NamedTuple):
    """A member as it is written.

    Attributes:
      member: without arrays.
      curves: `packing.pack_curves` of them.
      outputs: little-endian float32.
      num_outputs: of each row.
    """

    member: Member
    curves: bytes
    outputs: bytes
    num_outputs: int


class WaveCost(NamedTuple):
    """What a wave cost.

    Attributes:
      phase: that it trained trials of.
      seconds: in all, compilation included.
      compile_seconds: of these.
      jobs: how many members it trained.
      units: that they trained, added up.
      program: the compiled program that trained them.
    """

    phase: str
    seconds: float
    compile_seconds: float
    jobs: int
    units: int
    program: str
