"""The best trial of a study so far."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jaxopt_lab.core.types import Config
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.problems.tabular.predictor import Predictor
from jaxopt_lab.storage.store import Store
from jaxopt_lab.study import trials

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Incumbent:
    """The best trial so far.

    Attributes:
      trial_id: its number.
      hyperparameters: what the sampler chose; `complete` fills in the defaults.
      score: mean over folds of the study's metric; lower is better.
      standard_error: over folds; NaN for one fold.
      folds: score of each fold.
      curves: per fold, name -> float32 [num_epochs].
    """

    trial_id: int
    hyperparameters: Config
    score: float
    standard_error: float
    folds: list[float]
    curves: list[dict[str, np.ndarray]]
    _refit: Callable[[int], Predictor]

    @property
    def complete(self) -> Config:
        """All hyperparameters, defaults included."""
        return hyperparameters.complete(self.hyperparameters)

    def predict(self, frame: "pd.DataFrame") -> np.ndarray:
        """Predict with one network refitted on all training rows (made at the first call).

        Returns:
          [n] in the target's units, or class labels.
        """
        return self._refit(self.trial_id).predict(frame)


def incumbent_of(store: Store, num_folds: int, refit: Callable[[int], Predictor]) -> Incumbent:
    """The best trial of a store.

    Raises:
      MachineError: if every trial diverged or none is complete.
    """
    trial_id = trials.best_trial(store)
    row = store.trials()[trial_id]
    members = [
        m for m in store.member_arrays(trial_id) if m["fold"] < num_folds and m["replicate"] == 0
    ]
    error = row["standard_error"]
    return Incumbent(
        trial_id,
        row["config"],
        row["score"],
        math.nan if error is None else error,
        [m["score"] for m in members],
        [m["curves"] for m in members],
        refit,
    )
