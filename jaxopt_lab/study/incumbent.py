"""The best trial of a study so far."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxopt_lab.core.types import Config, PyTree
from jaxopt_lab.problems.contract import Training
from jaxopt_lab.storage.store import Member, Store
from jaxopt_lab.study import trials

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Incumbent:
    """The best trial so far.

    Attributes:
      trial_id: its number.
      hyperparameters: what the sampler chose; `complete` fills in the defaults.
      score: mean over folds of the study's metric.
      standard_error: over folds; NaN for one fold.
      folds: score of each fold (or seed).
      curves: per fold, name -> [units, ...].
    """

    trial_id: int
    hyperparameters: Config
    score: float
    standard_error: float
    folds: list[float]
    curves: list[dict[str, np.ndarray]]
    _training: Training
    _kept: Callable[[Member], PyTree]
    _refit: Callable[[int], PyTree]

    @property
    def complete(self) -> Config:
        """All hyperparameters, defaults included."""
        return self._training.complete(self.hyperparameters)

    def result(self, fold: int = 0) -> PyTree:
        """What is kept of one of its trainings: `Trainable.result` of the final state.

        Args:
          fold: which split or seed.
        """
        return self._kept((self.trial_id, fold, 0))

    def refit(self) -> PyTree:
        """The same, trained on all rows that are no test rows."""
        return self._refit(self.trial_id)

    def predict(self, frame: "pd.DataFrame") -> np.ndarray:
        """Predict with one network refitted on all training rows (made at the first call).

        Returns:
          [n] in the target's units, or class labels.
        """
        predictor: Any = self._training.predictor(self.complete, self.refit())
        return predictor.predict(frame)


def incumbent_of(
    store: Store,
    training: Training,
    kept: Callable[[Member], PyTree],
    refit: Callable[[int], PyTree],
) -> Incumbent:
    """The best trial of a store.

    Raises:
      MachineError: if every trial diverged or none is complete.
    """
    trial_id = trials.best_trial(store)
    row = store.trials()[trial_id]
    members = [
        m
        for m in store.member_arrays(trial_id)
        if m["fold"] < training.num_members and m["replicate"] == 0
    ]
    error = row["standard_error"]
    return Incumbent(
        trial_id,
        row["config"],
        row["score"],
        math.nan if error is None else error,
        [m["score"] for m in members],
        [m["curves"] for m in members],
        training,
        kept,
        refit,
    )
