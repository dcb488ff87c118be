"""Boosted trees and linear models that the greedy ensemble may choose beside networks.

Their settings are those that a person gets without a thought, except that ridge regression chooses
its penalty: what is searched here are networks.
"""

import importlib.util
import os
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets import Encoder, Table, TargetLoss, kin_of
from jaxopt_lab.datasets.encoders import fit_raw
from jaxopt_lab.datasets.target_losses import SQUARED
from jaxopt_lab.problems.tabular.other_kinds import Linear, Other
from jaxopt_lab.problems.tabular.task import Prepared, Transform, to_averaged
from jaxopt_lab.problems.tabular.trees import (
    Trees,
    from_hist_gradient_boosting,
    from_lightgbm,
    places_of,
)

#: What ensembles are made of: networks alone, or these models, too.
ENSEMBLES = ("networks", "all")
_ALPHAS = np.logspace(-1, 4, 11)
_LOGISTIC_C = 0.1
#: Rows whose predictions are compared with the library's own.
_COMPARED = 256


class Candidate(NamedTuple):
    """A model of another kind with what the ensemble is chosen by.

    Attributes:
      name: of `other_kinds`.
      predicted: out-of-fold predictions [n, o], on the scale that is averaged.
    """

    name: str
    predicted: np.ndarray


def names(is_regression: bool, loss: TargetLoss = SQUARED) -> tuple[str, ...]:
    """The kinds that can be fitted here; LightGBM where it is installed. Ridge regression predicts
    means, and so no quantile."""
    linear = ["ridge" if is_regression else "logistic_regression"]
    if loss.name == "quantile":
        linear.clear()
    installed = importlib.util.find_spec("lightgbm") is not None
    return ("hist_gradient_boosting", *(("lightgbm",) if installed else ()), *linear)


def check_targets(table: Table, kinds: str) -> None:
    """See that an ensemble's members can predict the table's targets.

    Raises:
      UserError: for several targets and models that are no networks.
    """
    if table.targets and kinds == "all":
        raise UserError(
            "an ensemble of trees and linear models predicts one target; give --ensemble networks, "
            "or tune the targets one by one"
        )


def candidates(
    table: Table,
    prepared: Prepared,
    num_folds: int,
    seed: int,
    failed: dict[str, str],
    loss: TargetLoss = SQUARED,
) -> list[Candidate]:
    """Fit each kind on the training rows of every fold and predict the others.

    Args:
      table: with all its rows.
      prepared: the folds.
      num_folds: K.
      seed: `random_state` of trees.
      failed: receives name -> reason where a kind cannot be fitted.
      loss: of a regression.
    """
    from jaxopt_lab.datasets.baselines import noting

    rows, found = table.take(prepared.development), []
    for name in names(table.task == "regression", loss):
        with noting(name, failed):
            parts = []
            for fold in range(num_folds):
                train, valid = prepared.folds[fold]
                encoder = prepared.encoders[fold]
                transform = prepared.transforms[fold] if prepared.transforms else None
                other = fit(name, rows.take(train), encoder, transform, seed, loss=loss)
                parts.append(_predicted(other, rows.take(valid), encoder, transform))
            found.append(Candidate(name, np.concatenate(parts)))
    return found


def fit(
    name: str,
    train: Table,
    encoder: Encoder,
    transform: Transform | None,
    seed: int,
    weight: float = 1.0,
    place: int = 0,
    loss: TargetLoss = SQUARED,
) -> Other:
    """Fit one kind.

    Args:
      name: of `names`.
      train: training rows.
      encoder: of them, which feeds a linear model; trees are told of neighbours as it is.
      transform: of their target; None for classes.
      seed: `random_state` of trees.
      weight: of the ensemble.
      place: of `encoder` and `transform` in the predictor.
      loss: of a regression; trees are fitted by it where their library has it, Huber's apart.

    Raises:
      ValueError: if the rows are too few or too odd for it.
    """
    from jaxopt_lab.datasets.baselines import few_threads

    target = train.target if transform is None else transform.forward(train.target).astype(float)
    classes = None if transform is not None else np.unique(target)
    num_outputs = train.num_classes or 1
    if classes is not None and len(classes) < 2:
        raise ValueError("its training rows are of one class")
    kin = kin_of(train)
    with few_threads(len(train)):
        if name in _LINEAR:
            inputs = encoder.transform(train.frame, kin).astype(np.float64)
            made = _LINEAR[name](inputs, target, train.weights)
            linear = _linear(made, classes, num_outputs)
            return Other(name, weight, linear, place)
        reader = fit_raw(
            train.frame, train.kinds, date_formats=train.date_formats, readings=train.readings
        )
        reader = replace(reader, near=encoder.near)
        rows = (reader, reader.raw(train.frame, kin), target, train.weights)
        trees = _TREES[name](*rows, classes, seed, loss)
        return Other(name, weight, trees(num_outputs), place, reader)


def _predicted(
    other: Other, rows: Table, encoder: Encoder, transform: Transform | None
) -> np.ndarray:
    """Predictions [n, o] as they are averaged."""
    reader = other.reader
    inputs = encoder.transform(rows.frame) if reader is None else reader.raw(rows.frame)
    found = to_averaged(other.model.predict(inputs), transform)
    return found if transform is None else found[:, None]


def _ridge(inputs: np.ndarray, target: np.ndarray, weights: np.ndarray | None) -> Any:
    from sklearn.linear_model import RidgeCV

    return RidgeCV(alphas=_ALPHAS).fit(inputs, target, sample_weight=weights)


def _logistic(inputs: np.ndarray, target: np.ndarray, weights: np.ndarray | None) -> Any:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=_LOGISTIC_C, max_iter=1000)
    return model.fit(inputs, target, sample_weight=weights)


def _linear(model: Any, classes: np.ndarray | None, num_outputs: int) -> Linear:
    """The coefficients as [F, o] and [o]."""
    outputs, bias = places_of(classes, num_outputs)
    coefficients = np.atleast_2d(np.asarray(model.coef_, np.float64))
    kernel = np.zeros((coefficients.shape[1], num_outputs))
    kernel[:, outputs], bias[outputs] = coefficients.T, np.ravel(model.intercept_)
    return Linear(kernel, bias)


def _hist_gradient_boosting(
    reader: Encoder,
    inputs: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray | None,
    classes: np.ndarray | None,
    seed: int,
    loss: TargetLoss,
) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    from jaxopt_lab.datasets.baselines import boosting_loss

    kind = HistGradientBoostingRegressor if classes is None else HistGradientBoostingClassifier
    labels = _label_columns(reader)
    model = kind(categorical_features=labels or None, random_state=seed, **boosting_loss(loss))
    model.fit(inputs, target, sample_weight=weights)

    def trees(num_outputs: int) -> Trees:
        try:
            found = from_hist_gradient_boosting(model, classes, num_outputs)
        except (AttributeError, KeyError, TypeError) as error:  # what is private may change
            raise ValueError(f"trees of this scikit-learn cannot be read ({error})") from None
        some = inputs[:_COMPARED]
        theirs = model.predict(some) if classes is None else model.decision_function(some)
        _compare(found, some, theirs, classes)
        return found

    return trees


def _lightgbm(
    reader: Encoder,
    inputs: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray | None,
    classes: np.ndarray | None,
    seed: int,
    loss: TargetLoss,
) -> Any:
    import lightgbm

    from jaxopt_lab.datasets.baselines import ROWS_PER_THREAD

    kind = lightgbm.LGBMRegressor if classes is None else lightgbm.LGBMClassifier
    threads = 1 if len(inputs) < ROWS_PER_THREAD else os.cpu_count()
    model = kind(
        random_state=seed,
        deterministic=True,
        force_row_wise=True,
        n_jobs=threads,
        verbose=-1,
        **_lightgbm_loss(loss),
    )
    model.fit(inputs, target, sample_weight=weights, categorical_feature=_label_columns(reader))

    def trees(num_outputs: int) -> Trees:
        found = from_lightgbm(model.booster_.dump_model(), classes, num_outputs)
        some = inputs[:_COMPARED]
        _compare(found, some, np.asarray(model.booster_.predict(some, raw_score=True)), classes)
        return found

    return trees


def _lightgbm_loss(loss: TargetLoss) -> dict[str, Any]:
    """What tells LightGBM of a loss that scikit-learn has, too."""
    if loss.name == "absolute":
        return {"objective": "regression_l1"}
    return {"objective": "quantile", "alpha": loss.quantile} if loss.name == "quantile" else {}


_TREES = {"hist_gradient_boosting": _hist_gradient_boosting, "lightgbm": _lightgbm}
_LINEAR = {"ridge": _ridge, "logistic_regression": _logistic}


def _label_columns(reader: Encoder) -> list[int]:
    from jaxopt_lab.datasets.column_codes import CategoryCode

    return [i for i, code in enumerate(reader.codes) if isinstance(code, CategoryCode)]


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
