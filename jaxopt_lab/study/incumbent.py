"""The best trial of a study so far."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxopt_lab.core.attributes import missing
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.types import Config, PyTree
from jaxopt_lab.problems.contract import Training
from jaxopt_lab.storage.rows import MemberKey
from jaxopt_lab.storage.store import Store
from jaxopt_lab.study import trials
from jaxopt_lab.study.later import later
from jaxopt_lab.study.lineages import Stage, generations_of, schedule_frame, schedule_of
from jaxopt_lab.study.lines import trial_line

if TYPE_CHECKING:
    import pandas as pd

#: What trials of other libraries have -> how it is written here.
_WORDS = {
    **dict.fromkeys(("value", "values", "loss", "metric"), "best.score"),
    **dict.fromkeys(("config", "hparams", "hyperparams"), "best.hyperparameters"),
    **dict.fromkeys(("weights", "parameters", "state_dict"), "best.params"),
    **dict.fromkeys(("apply", "model"), "best.module.apply(best.variables, inputs)"),
    **dict.fromkeys(("number", "id"), "best.trial_id"),
    "save": "best.save_safetensors(path) or best.save_orbax(path)",
}


@dataclass(frozen=True, repr=False)
class Incumbent:
    """The best trial so far.

    Attributes:
      trial_id: its number.
      hyperparameters: what the sampler chose; `complete` fills in the defaults.
      score: mean over folds of the study's objective.
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
    _problem: Any
    _training: Training
    _kept: Callable[[MemberKey], PyTree]
    _refit: Callable[[int], PyTree]
    _stages: list[Stage]

    @property
    def schedule(self) -> "pd.DataFrame":
        """The values that its state was trained with, from its root on: one row per generation,
        with `trial_id` in whose place it was, `unit` trained before, `units`, `score` at the end.

        Of a trial that was in no population it is one row.
        """
        return schedule_frame(self._stages, self._problem.objective.sign)

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

    @property
    def variables(self) -> PyTree:
        """What is kept of its first split and seed: of a linen module, all its collections."""
        return self.result()

    @property
    def params(self) -> PyTree:
        """The weights among its `variables`."""
        found = self.result()
        return found["params"] if isinstance(found, Mapping) and "params" in found else found

    @property
    def module(self) -> Any:
        """The network of its hyperparameters: `module.apply(best.variables, inputs)`.

        Raises:
          UserError: for a problem without modules.
        """
        extras = getattr(self._problem, "extras", {})
        if "module" not in extras:
            raise UserError("this problem has no module; study.best.result() is what it keeps")
        static = self._training.static_values(self.hyperparameters)
        return extras["module"](**static)

    def save_safetensors(self, path: str | Path, fold: int = 0) -> None:
        """Write what is kept of one training to a file that executes nothing when it is read.

        Names are the path in the tree joined by "/"; the hyperparameters stand in the metadata, as
        JSON.

        Args:
          path: of the file.
          fold: which split or seed.
        """
        about = {
            "trial_id": str(self.trial_id),
            "hyperparameters": json.dumps(self.hyperparameters),
        }
        later("integrations.weights", "save_safetensors")(self.result(fold), path, about)

    def save_orbax(self, path: str | Path, fold: int = 0) -> None:
        """Write what is kept of one training as a checkpoint of Orbax.

        Args:
          path: of a directory that is not there yet.
          fold: which split or seed.
        """
        later("integrations.weights", "save_orbax")(self.result(fold), path)

    def train_state(self, tx: Any) -> Any:
        """A `flax.training.train_state.TrainState` of a linen module, to train on by hand.

        Args:
          tx: the Optax transformation that goes on; its state starts anew.

        Returns:
          The state; `collections` holds what else the module has, running averages say.

        Raises:
          UserError: for a problem without a linen module.
        """
        return later("integrations.weights", "train_state")(self.module, self.variables, tx)

    def nnx_state(self) -> Any:
        """The `nnx.State` of an NNX module: `nnx.update(module, best.nnx_state())`.

        Raises:
          UserError: for a problem without an NNX module.
        """
        return later("integrations.weights", "nnx_state")(self.module, self.variables)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if hasattr(type(self), name):
                return object.__getattribute__(self, name)  # what the property itself raises
            raise missing("the best trial", name, [*vars(self), *dir(type(self))], _WORDS)

    def __repr__(self) -> str:
        return trial_line(self.trial_id, self._metric, self.score, self.hyperparameters)

    def _repr_html_(self) -> str:
        return str(later("integrations.notebook", "best_html")(self, self._metric))

    @property
    def _metric(self) -> str:
        return str(self._problem.objective.metric)

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
    problem: Any,
    training: Training,
    kept: Callable[[MemberKey], PyTree],
    refit: Callable[[int], PyTree],
) -> Incumbent:
    """The best trial of a store.

    Raises:
      MachineError: if every trial diverged or none is complete.
    """
    trial_id = trials.best_trial(store, getattr(problem, "doubt", str))
    row = store.trials()[trial_id]
    members = [
        m
        for m in store.member_arrays(trial_id)
        if m.fold < training.num_members and m.replicate == 0
    ]
    error, sign = row.standard_error, problem.objective.sign
    assert row.score is not None, "a completed trial has a score"
    units = max((m.num_units for m in members), default=0)
    stages = schedule_of(generations_of(store), trial_id, row.config, row.score, units)
    return Incumbent(
        trial_id,
        row.config,
        sign * row.score,
        math.nan if error is None else error,
        [sign * m.score for m in members if m.score is not None],
        [m.curves for m in members],
        problem,
        training,
        kept,
        refit,
        stages,
    )
