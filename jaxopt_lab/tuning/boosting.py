"""Boosted trees of scikit-learn and LightGBM: one fit by settings in no library's words."""

import os
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxopt_lab.datasets import TargetLoss
from jaxopt_lab.problems.tabular.trees import (
    Trees,
    from_hist_gradient_boosting,
    from_lightgbm,
    places_of,
)

MAX_ROUNDS = 1000
#: Rounds without a better score on a fold's other rows, after which no more are fitted.
PATIENCE = 50
#: Of scikit-learn's, which take several times as long.
_MAX_SLOW_ROUNDS = 400
#: Rounds between two looks at these rows, where a look means to begin a fit again.
_STEP = 25
#: Rows whose predictions are compared with the library's own.
_COMPARED = 256


class Boosting(NamedTuple):
    """Settings in no library's words.

    Attributes:
      learning_rate: of each tree.
      leaves: of a tree at most.
      depth: of a tree at most; None for any.
      leaf_rows: training rows in a leaf at least.
      rows: share of the training rows that a tree is fitted to; scikit-learn's see all.
      columns: share of the columns that a tree, or with scikit-learn a split, chooses from.
      l2: penalty of leaves' values.
      rounds: trees of each output.
      extra: whether a split's threshold is drawn, not the best (LightGBM alone).
      as_numbers: whether positions of labels are taken as numbers, not in sets.
    """

    learning_rate: float = 0.1
    leaves: int = 31
    depth: int | None = None
    leaf_rows: int = 20
    rows: float = 1.0
    columns: float = 1.0
    l2: float = 0.0
    rounds: int = 100
    extra: bool = False
    as_numbers: bool = False


#: What both libraries do unasked.
DEFAULT = Boosting()


class Rows(NamedTuple):
    """Rows as trees take them.

    Attributes:
      inputs: [n, F] float64, columns of labels as positions, NaN where missing.
      target: [n] standardised, or indices of classes.
      weights: [n] or None.
    """

    inputs: np.ndarray
    target: np.ndarray
    weights: np.ndarray | None


class Fitted(NamedTuple):
    """A fitted model.

    Attributes:
      best_round: the number of rounds with the best score on the watched rows; all without.
      outputs: (inputs, rounds) -> its library's own outputs [n] or [n, k], of the classes it saw.
      trees: (number of outputs, rounds) -> its trees. It raises ValueError if they cannot be read.
    """

    best_round: int
    outputs: Callable[[np.ndarray, int], np.ndarray]
    trees: Callable[[int, int], Trees]


class Fit(Protocol):
    """Fits one kind of boosted trees."""

    def __call__(
        self,
        tried: Boosting,
        train: Rows,
        labels: list[int],
        classes: np.ndarray | None,
        seed: int,
        loss: TargetLoss,
        watched: Rows | None = None,
    ) -> Fitted:
        """Fit to rows.

        Args:
          tried: settings; with `watched` as many rounds as help instead of its own.
          train: the rows.
          labels: which columns are of labels, none where they are taken as numbers.
          classes: indices of the classes in `train`; None for regression.
          seed: `random_state`.
          loss: of a regression; Huber's is fitted as squares.
          watched: other rows, by whose score fitting ends early.
        """


def classes_of(target: np.ndarray) -> np.ndarray:
    """The classes of training rows.

    Raises:
      ValueError: if there is one alone.
    """
    classes = np.unique(target)
    if len(classes) < 2:
        raise ValueError("its training rows are of one class")
    return classes


def of_classes(rows: Rows, classes: np.ndarray | None) -> Rows:
    """Rows of classes that training saw."""
    if classes is None:
        return rows
    known = np.isin(rows.target, classes)
    if not known.any():
        raise ValueError("its training rows have none of the other rows' classes")
    weights = None if rows.weights is None else rows.weights[known]
    return Rows(rows.inputs[known], rows.target[known], weights)


def _hist_gradient_boosting(
    tried: Boosting,
    train: Rows,
    labels: list[int],
    classes: np.ndarray | None,
    seed: int,
    loss: TargetLoss,
    watched: Rows | None = None,
) -> Fitted:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    from jaxopt_lab.datasets.baselines import boosting_loss

    kind = HistGradientBoostingRegressor if classes is None else HistGradientBoostingClassifier
    model = kind(
        categorical_features=labels or None,
        random_state=seed,
        early_stopping=False,
        learning_rate=tried.learning_rate,
        max_leaf_nodes=tried.leaves,
        max_depth=tried.depth,
        min_samples_leaf=tried.leaf_rows,
        max_features=tried.columns,
        l2_regularization=tried.l2,
        max_iter=tried.rounds,
        warm_start=watched is not None,
        **boosting_loss(loss),
    )

    def fit(rounds: int) -> None:
        model.set_params(max_iter=rounds)
        model.fit(train.inputs, train.target, sample_weight=train.weights)

    best_round, best = tried.rounds, np.inf
    if watched is None:
        fit(tried.rounds)
    else:
        for rounds in range(_STEP, _MAX_SLOW_ROUNDS + 1, _STEP):
            fit(rounds)
            value = _watched_loss(model, watched, classes, loss)
            if value < best:
                best_round, best = rounds, value
            elif rounds >= best_round + PATIENCE:
                break

    def outputs(inputs: np.ndarray, rounds: int) -> np.ndarray:
        staged = model.staged_predict if classes is None else model.staged_decision_function
        return deque(islice(staged(inputs), rounds), maxlen=1)[0]

    def trees(num_outputs: int, rounds: int) -> Trees:
        try:
            found = from_hist_gradient_boosting(model, classes, num_outputs)
        except (AttributeError, KeyError, TypeError) as error:  # what is private may change
            raise ValueError(f"trees of this scikit-learn cannot be read ({error})") from None
        found = found.first(rounds * len(places_of(classes, num_outputs)[0]))
        some = train.inputs[:_COMPARED]
        _compare(found, some, outputs(some, rounds), classes)
        return found

    return Fitted(best_round, outputs, trees)


def _watched_loss(model: Any, watched: Rows, classes: np.ndarray | None, loss: TargetLoss) -> float:
    """What is minimised, on watched rows: by the loss, Huber's as squares, or by log loss."""
    if classes is None:
        errors = watched.target - model.predict(watched.inputs)
        each = errors**2 if loss.name == "huber" else loss.of(errors)
    else:
        chance = model.predict_proba(watched.inputs)
        place = np.searchsorted(classes, watched.target)
        each = -np.log(np.maximum(chance[np.arange(len(place)), place], 1e-12))
    return float(np.average(each, weights=watched.weights))


def _lightgbm(
    tried: Boosting,
    train: Rows,
    labels: list[int],
    classes: np.ndarray | None,
    seed: int,
    loss: TargetLoss,
    watched: Rows | None = None,
) -> Fitted:
    import lightgbm

    from jaxopt_lab.datasets.baselines import ROWS_PER_THREAD

    kind = lightgbm.LGBMRegressor if classes is None else lightgbm.LGBMClassifier
    threads = 1 if len(train.inputs) < ROWS_PER_THREAD else os.cpu_count()
    model = kind(
        random_state=seed,
        deterministic=True,
        force_row_wise=True,
        n_jobs=threads,
        verbose=-1,
        learning_rate=tried.learning_rate,
        num_leaves=tried.leaves,
        max_depth=-1 if tried.depth is None else tried.depth,
        min_child_samples=tried.leaf_rows,
        subsample=tried.rows,
        subsample_freq=int(tried.rows < 1),
        colsample_bytree=tried.columns,
        reg_lambda=tried.l2,
        extra_trees=tried.extra,
        n_estimators=tried.rounds if watched is None else MAX_ROUNDS,
        **_lightgbm_loss(loss),
    )
    more: dict[str, Any] = {}
    if watched is not None:
        stop = lightgbm.early_stopping(PATIENCE, first_metric_only=True, verbose=False)
        more = {"eval_X": watched.inputs, "eval_y": watched.target, "callbacks": [stop]}
        if watched.weights is not None:
            more["eval_sample_weight"] = [watched.weights]
    model.fit(train.inputs, train.target, train.weights, categorical_feature=labels, **more)

    def outputs(inputs: np.ndarray, rounds: int) -> np.ndarray:
        found = model.booster_.predict(inputs, raw_score=True, num_iteration=rounds)
        return np.asarray(found)

    def trees(num_outputs: int, rounds: int) -> Trees:
        dumped = model.booster_.dump_model(num_iteration=rounds)
        found = from_lightgbm(dumped, classes, num_outputs)
        some = train.inputs[:_COMPARED]
        _compare(found, some, outputs(some, rounds), classes)
        return found

    best_round = tried.rounds if watched is None else model.best_iteration_
    return Fitted(best_round, outputs, trees)


def _lightgbm_loss(loss: TargetLoss) -> dict[str, Any]:
    """What tells LightGBM of a loss that scikit-learn has, too."""
    if loss.name == "absolute":
        return {"objective": "regression_l1"}
    return {"objective": "quantile", "alpha": loss.quantile} if loss.name == "quantile" else {}


FITS: dict[str, Fit] = {
    "hist_gradient_boosting": _hist_gradient_boosting,
    "lightgbm": _lightgbm,
}


def _compare(
    trees: Trees, inputs: np.ndarray, theirs: np.ndarray, classes: np.ndarray | None
) -> None:
    """Hold our predictions against the library's own.

    Raises:
      ValueError: if they differ by more than rounding.
    """
    outputs, _ = places_of(classes, trees.num_outputs)
    ours = trees.predict(inputs)[:, outputs]
    if not np.allclose(ours, theirs.reshape(ours.shape), rtol=1e-9, atol=1e-9):
        raise ValueError("its trees predict something else than the library that made them")
