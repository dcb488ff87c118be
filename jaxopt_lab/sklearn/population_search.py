"""`PopulationSearchCV`: the search over a network of one's own, behind `fit` and `predict`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from sklearn.base import BaseEstimator
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.hparams import Hparams
from jaxopt_lab.core.types import PyTree
from jaxopt_lab.problems.general import GeneralProblem
from jaxopt_lab.problems.supervised import nnx_modules
from jaxopt_lab.problems.supervised.batches import Batch
from jaxopt_lab.problems.supervised.linen import linen_network, split
from jaxopt_lab.sklearn.inputs import seed_of, space_of, splits_of
from jaxopt_lab.sklearn.results import cv_results
from jaxopt_lab.spaces.values import plain
from jaxopt_lab.study.study import Study

#: Rows that are predicted at once; fewer are filled up, so that one program serves all.
ROWS = 256


class PopulationSearchCV(BaseEstimator):
    """Searches the hyperparameters of a problem of rows, as scikit-learn's searches do.

    All trials train side by side in few programs. There is no refit: the prediction is the mean
    over the networks of the best trial, one for each fold, of their outputs, or of their class
    probabilities.

    Args:
      problem: (data, splits) -> what `lab.supervised(model, data, splits=splits, ...)` returns.
        `data` is (inputs, targets): inputs [n, ...] float32 or int32, targets
        float32, or int32 indices of classes where y holds labels.
      space: a `lab.SearchSpace`, a mapping of names to distributions or values, or a TOML file.
      num_trials: configurations in all.
      budget: epochs of each; the problem's own by default.
      cv: number of folds (1 is one hold-out split), a splitter of scikit-learn, or pairs of rows.
      search: a sampler from `lab.search`, or its name.
      scheduler: from `lab.schedulers`, or its name; None trains all trials to the end.
      random_state: of splits, proposals, weights, data order and noise.
      directory: where the study is kept, in which the same `fit` goes on after an interruption;
        None keeps it in memory.

    Attributes:
      best_params_: hyperparameters of the best trial.
      best_score_: the mean of its objective over folds, greater is better: negative where the
        objective is minimised.
      best_index_: its place in `cv_results_`.
      cv_results_: all trials, as scikit-learn's searches tell them, and their `status`.
      classes_: labels, sorted; of a y of labels only.
      module_: the linen module of the best trial; of NNX what makes a module of `variables_`.
      variables_: what `module_.apply` (of NNX `module_`) takes, one of each fold.
      study_: the `lab.Study`; not pickled with the estimator.

    Examples:
      >>> def digits(data, splits):
      ...     return lab.supervised(model, data, loss=loss, splits=splits)  # doctest: +SKIP
      >>> search = PopulationSearchCV(digits, space, budget=10, cv=3)  # doctest: +SKIP
      >>> search.fit(X, y).best_params_  # doctest: +SKIP
    """

    @checked_call(seed="it is called random_state here", folds="it is called cv here")
    def __init__(
        self,
        problem: Any,
        space: Any,
        *,
        num_trials: Any = 32,
        budget: Any = None,
        cv: Any = 5,
        search: Any = "bayesian",
        scheduler: Any = None,
        random_state: Any = None,
        directory: Any = None,
    ) -> None:
        self.problem = problem
        self.space = space
        self.num_trials = num_trials
        self.budget = budget
        self.cv = cv
        self.search = search
        self.scheduler = scheduler
        self.random_state = random_state
        self.directory = directory

    def fit(self, X: Any, y: Any, groups: Any = None) -> "PopulationSearchCV":
        """Search.

        Args:
          X: [n, ...] numbers.
          y: [n] labels: text, whole numbers or truth values; or numbers with a fraction's type,
            [n] or [n, k].
          groups: [n] for splitters that take groups.

        Returns:
          Itself.

        Raises:
          ValueError: for data or parameters that cannot be, saying what to do.
          MachineError: if no trial was completed.
        """
        seed = seed_of(self.random_state)
        features, y = validate_data(self, X, y, allow_nd=True, multi_output=True)
        target = y.astype(np.float32) if y.dtype.kind == "f" else self._codes(y)
        is_classes = target.dtype == np.int32
        splits = splits_of(plain(self.cv), features, target, groups, is_classes, seed)
        problem = self.problem((_inputs(features), target), splits)
        if not isinstance(problem, GeneralProblem) or "module" not in problem.extras:
            raise UserError(
                "problem must return what lab.supervised(model, data, splits=splits, ...) returns, "
                f"got {type(problem).__name__}"
            )
        space = space_of(self.space)
        if space is None:
            raise UserError("say where to search: PopulationSearchCV(problem, space)")
        study = Study(problem, space, self.directory, seed)
        study.optimize(self.search, self.num_trials, budget=self.budget, scheduler=self.scheduler)
        best, ranked = study.best, study.store.best_trials(study.store.num_trials())
        self.study_, self.module_ = study, best.module
        self.variables_ = [best.result(fold) for fold in range(study.num_folds)]
        self.cv_results_ = cv_results(study, ranked)
        self.best_index_ = best.trial_id
        self.best_params_ = dict(best.hyperparameters)
        self.best_score_ = float(self.cv_results_["mean_test_score"][best.trial_id])
        self.n_splits_ = len(splits)
        return self

    def _codes(self, y: np.ndarray) -> np.ndarray:
        if y.ndim > 1:
            raise UserError(f"labels must be [n], got {list(y.shape)}; give numbers as floats")
        self.classes_, codes = np.unique(y, return_inverse=True)
        return codes.astype(np.int32)

    def _mean_outputs(self, X: Any, of_one: Callable[[Any], Any]) -> np.ndarray:
        """[n, ...] the mean over folds of a function of the outputs."""
        check_is_fitted(self)
        inputs = _inputs(validate_data(self, X, reset=False, allow_nd=True))
        forward = jax.jit(lambda variables, rows: of_one(self._outputs(variables, rows)))
        found = []
        for start in range(0, len(inputs), ROWS):
            rows = inputs[start : start + ROWS]
            filled = np.concatenate([rows, np.repeat(rows[:1], ROWS - len(rows), axis=0)])
            each = [np.asarray(forward(variables, filled)) for variables in self.variables_]
            found.append(np.asarray(np.mean(each, axis=0, dtype=np.float64))[: len(rows)])
        return np.concatenate(found)

    def _outputs(self, variables: PyTree, rows: Any) -> Any:
        batch = Batch(rows, None, jnp.ones(ROWS, bool), jnp.ones(ROWS, jnp.float32))
        numbers = {k: v for k, v in self.best_params_.items() if isinstance(v, (int, float))}
        values = {name: jnp.asarray(value, jnp.float32) for name, value in numbers.items()}
        hparams, key = Hparams(values), jax.random.key(0, impl="threefry2x32")
        if not isinstance(self.module_, nn.Module):
            return nnx_modules.call(self.module_(variables), batch, hparams, key, False)
        network = linen_network(self.module_, ())
        taken_apart = split(type(self.module_).__name__, variables)
        return network.apply(taken_apart, batch, hparams, key, False)[0]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities, of a y of labels.

        Args:
          X: [n, ...], as in `fit`.

        Returns:
          float64 [n, C], in the order of `classes_`.
        """
        check_is_fitted(self)
        if not hasattr(self, "classes_"):
            raise UserError("predict_proba is for labels, and y held numbers")
        found = self._mean_outputs(X, _probabilities)
        return np.stack([1 - found, found], axis=1) if found.ndim == 1 else found

    def predict(self, X: Any) -> np.ndarray:
        """Predict rows.

        Args:
          X: [n, ...], as in `fit`.

        Returns:
          Labels [n], or float64 in the shape of y.
        """
        check_is_fitted(self)
        if hasattr(self, "classes_"):
            return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])
        found = self._mean_outputs(X, lambda outputs: outputs)
        return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found

    def score(self, X: Any, y: Any) -> float:
        """Accuracy of labels, R² of numbers."""
        found = self.predict(X)
        if hasattr(self, "classes_"):
            return float(accuracy_score(y, found))
        return float(r2_score(np.reshape(y, found.shape), found))

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "study_"}


def _inputs(features: np.ndarray) -> np.ndarray:
    return features.astype(np.float32 if features.dtype.kind == "f" else np.int32)


def _probabilities(outputs: Any) -> Any:
    """Of logits [b, C]; of one logit [b] or [b, 1], those of the second class, [b]."""
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        return jax.nn.softmax(outputs)
    return jax.nn.sigmoid(outputs.reshape(outputs.shape[0]))
