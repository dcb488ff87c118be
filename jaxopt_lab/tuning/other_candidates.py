"""Boosted trees, linear models and a kernel regression that the greedy ensemble may choose beside
networks.

Trees are a committee of a few settings, ridge and kernel regression have the best of some
penalties; logistic regression has one that a person would start with.
"""

import importlib.util
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets import Encoder, Table, TargetLoss, kin_of
from jaxopt_lab.datasets.encoders import fit_encoder, fit_raw
from jaxopt_lab.datasets.target_losses import SQUARED
from jaxopt_lab.problems.tabular.other_kinds import KERNEL, TREES, Linear, Other
from jaxopt_lab.problems.tabular.task import Prepared, Transform, to_averaged
from jaxopt_lab.problems.tabular.trees import places_of
from jaxopt_lab.tuning import committees
from jaxopt_lab.tuning.boosting import Rows, classes_of
from jaxopt_lab.tuning.committees import PLAIN, Committee
from jaxopt_lab.tuning.kernel_regression import MAX_ROWS, fit_kernel

#: What ensembles are made of: networks alone, or these models, too.
ENSEMBLES = ("networks", "all")
_ALPHAS = np.logspace(-1, 4, 11)
_LOGISTIC_C = 0.1


class Candidate(NamedTuple):
    """A model of another kind with what the ensemble is chosen by.

    Attributes:
      name: of `other_kinds`.
      predicted: out-of-fold predictions [n, o], on the scale that is averaged.
      committee: of trees; none for other models.
    """

    name: str
    predicted: np.ndarray
    committee: Committee = ()


def names(
    is_regression: bool, loss: TargetLoss = SQUARED, num_rows: int | None = None
) -> tuple[str, ...]:
    """The kinds that can be fitted here: LightGBM where it is installed, kernel regression to at
    most `MAX_ROWS` rows. It and ridge regression predict means, and so no quantile."""
    installed = importlib.util.find_spec("lightgbm") is not None
    trees = ("hist_gradient_boosting", *(("lightgbm",) if installed else ()))
    if loss.name == "quantile":
        return trees
    if not is_regression:
        return (*trees, "logistic_regression")
    few = num_rows is None or num_rows <= MAX_ROWS
    return (*trees, "ridge", *((KERNEL,) if few else ()))


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
    is_regression = table.task == "regression"
    for name in names(is_regression, loss, len(rows)):
        with noting(name, failed):
            how = _of_trees if name in TREES else _of_one_fit
            found.append(how(name, rows, prepared, num_folds, seed, loss))
    return found


def _of_trees(
    name: str, rows: Table, prepared: Prepared, num_folds: int, seed: int, loss: TargetLoss
) -> Candidate:
    from jaxopt_lab.datasets.baselines import few_threads

    transforms = _transforms(prepared, num_folds)
    folds, labels = [], []
    for (train, valid), encoder, transform in zip(
        prepared.folds[:num_folds], prepared.encoders[:num_folds], transforms, strict=True
    ):
        known, new = rows.take(train), rows.take(valid)
        reader = _reader(known, encoder)
        inputs = reader.raw(known.frame, kin_of(known))
        watched = Rows(reader.raw(new.frame), _learnt(new, transform), new.weights)
        folds.append((Rows(inputs, _learnt(known, transform), known.weights), watched))
        labels.append(_label_columns(reader))
    how = (rows.num_classes or 1, not rows.num_classes, seed, loss)
    with few_threads(len(rows)):
        best = committees.search(name, folds, labels, *how)
    parts = [_averaged(o, t) for o, t in zip(best.predicted, transforms, strict=True)]
    return Candidate(name, np.concatenate(parts), best.committee)


def _of_one_fit(
    name: str, rows: Table, prepared: Prepared, num_folds: int, seed: int, loss: TargetLoss
) -> Candidate:
    parts = []
    for fold, transform in enumerate(_transforms(prepared, num_folds)):
        train, valid = prepared.folds[fold]
        encoder, new = prepared.encoders[fold], rows.take(valid).frame
        other = fit(name, rows.take(train), encoder, transform, seed, loss=loss)
        outputs = other.model.predict(
            encoder.transform(new) if other.reader is None else other.read(new)
        )
        parts.append(_averaged(outputs, transform))
    return Candidate(name, np.concatenate(parts))


def _transforms(prepared: Prepared, num_folds: int) -> list[Transform | None]:
    """Of the target of each fold."""
    return list(prepared.transforms[:num_folds]) if prepared.transforms else [None] * num_folds


def _learnt(table: Table, transform: Transform | None) -> np.ndarray:
    """The target as it is fitted: standardised, or indices of classes."""
    if transform is None:
        return table.target
    return np.asarray(transform.forward(table.target), np.float64)


def _averaged(outputs: np.ndarray, transform: Transform | None) -> np.ndarray:
    """Predictions [n, o] as they are averaged."""
    found = to_averaged(outputs, transform)
    return found if transform is None else found[:, None]


def _reader(train: Table, encoder: Encoder) -> Encoder:
    """What reads a table for trees, which are told of neighbours as networks are."""
    read = fit_raw(
        train.frame, train.kinds, date_formats=train.date_formats, readings=train.readings
    )
    return replace(read, near=encoder.near)


def _standard(train: Table, encoder: Encoder) -> Encoder:
    """What reads a table for a kernel: numbers as they are, for bins would make all rows far."""
    read = fit_encoder(
        train.frame,
        train.kinds,
        numeric="standard",
        date_formats=train.date_formats,
        readings=train.readings,
    )
    return replace(read, near=encoder.near)


def fit(
    name: str,
    train: Table,
    encoder: Encoder,
    transform: Transform | None,
    seed: int,
    weight: float = 1.0,
    place: int = 0,
    loss: TargetLoss = SQUARED,
    committee: Committee = PLAIN,
) -> Other:
    """Fit one kind.

    Args:
      name: of `names`.
      train: training rows.
      encoder: of them, which feeds a linear model; others are told of neighbours as it is.
      transform: of their target; None for classes.
      seed: `random_state` of trees, and of what a kernel is decided on.
      weight: of the ensemble.
      place: of `encoder` and `transform` in the predictor.
      loss: of a regression; trees are fitted by it where their library has it, Huber's apart.
      committee: of trees.

    Raises:
      ValueError: if the rows are too few or too odd for it.
    """
    from jaxopt_lab.datasets.baselines import few_threads

    target = _learnt(train, transform)
    classes = None if transform is not None else classes_of(target)
    num_outputs = train.num_classes or 1
    kin = kin_of(train)
    with few_threads(len(train)):
        if name in _LINEAR:
            inputs = encoder.transform(train.frame, kin).astype(np.float64)
            made = _LINEAR[name](inputs, target, train.weights)
            linear = _linear(made, classes, num_outputs)
            return Other(name, weight, linear, place)
        if name == KERNEL:
            reader = _standard(train, encoder)
            inputs = reader.transform(train.frame, kin).astype(np.float64)
            return Other(
                name, weight, fit_kernel(inputs, target, train.weights, seed), place, reader
            )
        reader = _reader(train, encoder)
        rows = Rows(reader.raw(train.frame, kin), target, train.weights)
        how = (rows, _label_columns(reader), classes, num_outputs, seed, loss)
        trees = committees.fit_committee(name, committee, *how)
        return Other(name, weight, trees, place, reader)


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


_LINEAR = {"ridge": _ridge, "logistic_regression": _logistic}


def _label_columns(reader: Encoder) -> list[int]:
    from jaxopt_lab.datasets.column_codes import CategoryCode

    return [i for i, code in enumerate(reader.codes) if isinstance(code, CategoryCode)]
