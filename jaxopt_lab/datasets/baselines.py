"""What a network must beat: scikit-learn on the same split and the same target."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from traceback import walk_tb
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning, UndefinedMetricWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from jaxopt_lab.datasets.columns import MISSING, Kind, date_parts
from jaxopt_lab.datasets.encoders import MAX_TREE_CATEGORIES
from jaxopt_lab.datasets.scores import classification_scores, loss_scores
from jaxopt_lab.datasets.spread import magnitude
from jaxopt_lab.datasets.tables import Table
from jaxopt_lab.datasets.target_losses import SQUARED, TargetLoss

ROWS_PER_THREAD = 10_000
"""Gradient boosting takes one thread for a table of fewer rows."""

_MEANINGS = {
    "validation set is too small": "it has too few rows to set some aside for early stopping",
    # before scikit-learn 1.7
    "R^2 score is not well-defined": "it has too few rows to set some aside for early stopping",
    "least populated class": "a class has too few rows for some to be set aside for early stopping",
    "should be greater or equal to the number of classes": (
        "it has too few rows for each class to be among those set aside for early stopping"
    ),
    "the resulting train set will be empty": "it has too few rows",
    "needs samples of at least 2 classes": "its training rows are of one class",
}
"""What scikit-learn's reasons mean here, where nobody can change its arguments."""

Scores = dict[str, dict[str, float]]


def fit_baselines(
    train: Table,
    test: Table,
    seed: int,
    failed: dict[str, str] | None = None,
    loss: TargetLoss = SQUARED,
    scale: float = 1.0,
) -> dict[str, dict[str, float]]:
    """Fit the baselines on training rows and score them on test rows.

    Regression on `log_target` tables fits the logarithm, and scores in the target's units. The
    constant and gradient boosting are fitted by the loss that the network is, if it is absolute or
    that of a quantile.

    Args:
      train: training rows.
      test: test rows of the same table.
      seed: `random_state` of gradient boosting.
      failed: receives baseline -> reason where one cannot be fitted, to a table of a dozen rows
        say; it is left out of what is returned.
      loss: of a regression.
      scale: of the target's standardisation, for the score of Huber's loss.

    Returns:
      Baseline -> metric -> value: `mean` (`median`, `quantile` of other losses), `ridge`,
      `hist_gradient_boosting`, `untuned_mlp` for regression, of quantiles without `ridge` and
      `untuned_mlp`, which predict means; `majority`, `logistic_regression`,
      `hist_gradient_boosting`, `untuned_mlp` for classification. The untuned network is
      scikit-learn's with two layers of 128 and early stopping, otherwise its defaults.
    """
    noted = {} if failed is None else failed
    with few_threads(len(train)):
        if train.task == "regression":
            return _regression(train, test, seed, noted, loss, scale)
        return _classification(train, test, seed, noted)


def few_threads(num_rows: int) -> AbstractContextManager[Any]:
    """One thread for small tables: more would wait for each other, all the more where other work
    keeps cores busy."""
    return threadpool_limits(1 if num_rows < ROWS_PER_THREAD else None, user_api="openmp")


def boosting_loss(loss: TargetLoss) -> dict[str, Any]:
    """What tells scikit-learn's gradient boosting of a loss; it has none of Huber's."""
    if loss.name == "absolute":
        return {"loss": "absolute_error"}
    return {"loss": "quantile", "quantile": loss.quantile} if loss.name == "quantile" else {}


def _constant(loss: TargetLoss) -> tuple[str, DummyRegressor]:
    if loss.name == "quantile":
        return "quantile", DummyRegressor(strategy="quantile", quantile=loss.quantile)
    name = "median" if loss.is_robust else "mean"
    return name, DummyRegressor(strategy=name)


def _regression(
    train: Table, test: Table, seed: int, failed: dict[str, str], loss: TargetLoss, scale: float
) -> Scores:
    unit = magnitude(train.target)
    unit = 1.0 if train.log_target or 1e-30 < unit < 1e30 else unit  # trees sum in float32
    target = np.log(train.target) if train.log_target else train.target / unit
    linear = (_expand_dates(train), _expand_dates(test))
    trees = tree_frames(train, test)
    boosting = HistGradientBoostingRegressor(
        categorical_features="from_dtype", random_state=seed, **boosting_loss(loss)
    )
    name, constant = _constant(loss)
    ridge = make_pipeline(_linear_columns(linear[0]), RidgeCV(alphas=np.logspace(-3, 3, 13)))
    models: Mapping[str, Any] = {
        name: (constant, linear),
        "ridge": (ridge, linear),
        "hist_gradient_boosting": (boosting, trees),
        "untuned_mlp": (_untuned(MLPRegressor, linear[0], seed), linear),
    }
    if loss.name == "quantile":
        models = {n: found for n, found in models.items() if n not in ("ridge", "untuned_mlp")}
    scores = {}
    for name, (model, (known, new)) in models.items():
        with noting(name, failed):
            predicted = model.fit(known, target).predict(new)
            if not np.isfinite(predicted).all():
                raise ValueError("its predictions are not finite")
            predicted = np.exp(np.minimum(predicted, 700.0)) if train.log_target else predicted
            how = (loss, train.log_target, scale)
            scores[name] = loss_scores(test.target, predicted * unit, *how)
    return scores


def _classification(train: Table, test: Table, seed: int, failed: dict[str, str]) -> Scores:
    linear = (_expand_dates(train), _expand_dates(test))
    trees = tree_frames(train, test)
    boosting = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=seed)
    logistic = make_pipeline(_linear_columns(linear[0]), LogisticRegression(max_iter=1000))
    models: Mapping[str, Any] = {
        "majority": (DummyClassifier(strategy="prior"), linear),
        "logistic_regression": (logistic, linear),
        "hist_gradient_boosting": (boosting, trees),
        "untuned_mlp": (_untuned(MLPClassifier, linear[0], seed), linear),
    }
    scores = {}
    for name, (model, (known, new)) in models.items():
        with noting(name, failed):
            model.fit(known, train.target)
            chance = np.zeros((len(test), train.num_classes))
            chance[:, model.classes_] = model.predict_proba(new)
            scores[name] = classification_scores(test.target, chance)
    return scores


@contextmanager
def noting(name: str, failed: dict[str, str]) -> Iterator[None]:
    """Note that a model cannot be fitted, instead of losing the network for it."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            warnings.simplefilter("error", UndefinedMetricWarning)
            yield
    except (ValueError, ArithmeticError, np.linalg.LinAlgError, UndefinedMetricWarning) as error:
        failed[name] = _in_our_words(error)


def _in_our_words(error: Exception) -> str:
    """Why a model cannot be fitted; whose words they are where scikit-learn's advice about its own
    arguments, which nobody can follow here, is not known."""
    said = (str(error).splitlines() or [type(error).__name__])[0][:200]
    for words, meaning in _MEANINGS.items():
        if words in said:
            return meaning
    modules = (str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__))
    theirs = any(module.startswith("sklearn.") for module in modules)
    return f"scikit-learn says: {said}" if theirs else said


def _untuned(kind: type[Any], frame: pd.DataFrame, seed: int) -> Pipeline:
    """A network as it comes, its target standardised for regression."""
    network = kind(hidden_layer_sizes=(128, 128), early_stopping=True, random_state=seed)
    if kind is MLPRegressor:
        network = TransformedTargetRegressor(network, transformer=StandardScaler())
    return make_pipeline(_linear_columns(frame), network)


def tree_frames(train: Table, test: Table) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give both tables as gradient boosting takes them.

    Args:
      train: training rows.
      test: test rows of the same table.

    Returns:
      Frames with float64 columns (NaN where missing) and text columns as pandas categories,
      those of the training rows, the same in both.
    """
    known, new = _expand_dates(train), _expand_dates(test)
    for column in _named(train.kinds, "categorical"):
        frequent = known[column].value_counts().index[:MAX_TREE_CATEGORIES]
        kept = pd.CategoricalDtype(sorted(frequent))
        for frame in (known, new):
            seen = frame[column].where(frame[column].isin(kept.categories))
            frame[column] = seen.astype(kept)
    return known, new


def _named(kinds: Mapping[str, Kind], kind: Kind) -> list[str]:
    return [column for column, found in kinds.items() if found == kind]


def _expand_dates(table: Table) -> pd.DataFrame:
    """A copy of the features with each date as four columns of numbers."""
    frame = table.frame.copy()
    for column in _named(table.kinds, "date"):
        parts: Mapping[str, NDArray[np.float64]] = date_parts(frame.pop(column))
        for part, values in parts.items():
            frame[f"{column}.{part}"] = values
    return frame


def _linear_columns(frame: pd.DataFrame) -> ColumnTransformer:
    """Numbers filled, marked and standardised; text one-hot."""
    numbers = list(frame.select_dtypes("number").columns)
    text = [column for column in frame.columns if column not in numbers]
    fill = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    one_hot = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=5)
    label = SimpleImputer(strategy="constant", fill_value=MISSING, missing_values=np.nan)
    return ColumnTransformer(
        [
            ("numbers", make_pipeline(fill, StandardScaler()), numbers),
            ("text", make_pipeline(label, one_hot), text),
        ],
        sparse_threshold=0.0,
    )
