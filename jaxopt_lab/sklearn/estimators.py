"""`TunedRegressor` and `TunedClassifier`: a table's whole search behind `fit` and `predict`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    assert_all_finite,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)

from jaxopt_lab import datasets
from jaxopt_lab import problems as tasks
from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.scalars import whole
from jaxopt_lab.datasets.target_losses import SQUARED, TargetLoss
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.sklearn.inputs import features_of, rows_of, seed_of, space_of, splits_of
from jaxopt_lab.sklearn.results import cv_results
from jaxopt_lab.spaces.values import plain
from jaxopt_lab.study.study import Study
from jaxopt_lab.study.watch import Progress
from jaxopt_lab.tuning import (
    final_models,
    number_columns,
    other_candidates,
    phases,
    ranking,
    tune,
)
from jaxopt_lab.tuning.settings import AUTO, NONE, Settings, default_budget, default_space

#: Fewer rows than these cannot be split.
MIN_ROWS = 4
#: Checks of `check_estimator` that do not hold, and why.
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": (
        "a row of weight 2 is one row of a minibatch whose loss counts twice, not two rows: "
        "minibatches, folds and initial weights differ"
    ),
}


#: Names of what `best_score_` is, of losses other than the squared error, in scikit-learn's way.
_SCORINGS = {
    "absolute": "neg_mean_absolute_error",
    "huber": "neg_mean_huber_loss",
    "quantile": "neg_mean_pinball_loss",
}


class _Tuned(BaseEstimator):
    """What both estimators share."""

    _scoring: ClassVar[str]

    @checked_call(seed="it is called random_state here", folds="it is called cv here")
    def __init__(
        self,
        num_trials: Any = None,
        *,
        num_epochs: Any = None,
        cv: Any = None,
        space: Any = None,
        search: Any = "bayesian",
        scheduler: Any = "race",
        ensemble_size: Any = final_models.NUM_CANDIDATES,
        ensemble: Any = "networks",
        members: Any = 1,
        numeric: Any = "auto",
        near: Any = "none",
        time_limit: Any = None,
        random_state: Any = None,
        directory: Any = None,
        verbose: Any = 0,
    ) -> None:
        self.num_trials = num_trials
        self.num_epochs = num_epochs
        self.cv = cv
        self.space = space
        self.search = search
        self.scheduler = scheduler
        self.ensemble_size = ensemble_size
        self.ensemble = ensemble
        self.members = members
        self.numeric = numeric
        self.near = near
        self.time_limit = time_limit
        self.random_state = random_state
        self.directory = directory
        self.verbose = verbose

    def _target(self, y: Any) -> tuple[np.ndarray, tuple[Any, ...]]:
        """The target as it is learnt, and the classes."""
        raise NotImplementedError

    def _log_target(self) -> bool:
        return False

    def _loss(self) -> TargetLoss:
        return SQUARED

    def _names(self, y: Any) -> list[str]:
        """Of several targets, where they have any."""
        del y
        return []

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> "_Tuned":
        """Search, refit the best network on all rows, and choose an ensemble.

        Args:
          X: [n, F] features, an array or a frame; NaN and None are missing values, text columns of
            frames and of object arrays are categories, dates or numbers in text.
          y: [n] target; a `TunedRegressor` takes several as the columns of [n, T].
          sample_weight: [n] at least 0, what each row counts in losses and scores.
          groups: [n] for splitters that take groups.

        Returns:
          Itself.

        Raises:
          ValueError: for data or parameters that cannot be, saying what to do.
          MachineError: if no trial was completed.
        """
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        features, names = features_of(self, X, reset=True), self._names(y)
        weights = None
        check_consistent_length(features, y, groups)
        if sample_weight is not None:
            weights = _check_sample_weight(
                sample_weight, features, dtype=np.float64, ensure_non_negative=True
            )
            kept = np.flatnonzero(weights)
            features, weights = features.iloc[kept], weights[kept]
            y, groups = rows_of(y, kept), None if groups is None else rows_of(groups, kept)
        target, classes = self._target(y)
        if len(target) < MIN_ROWS:
            raise UserError(
                f"n_samples = {len(target)} rows (of a weight above 0); at least {MIN_ROWS} are "
                "needed"
            )
        table = datasets.table_of(
            features,
            target,
            classes=classes,
            log_target=self._log_target(),
            weights=weights,
            names=names,
        )
        self._search(table, features, groups)
        return self

    def _search(self, table: datasets.Table, features: pd.DataFrame, groups: Any) -> None:
        seed, say, loss = seed_of(self.random_state), self._say(), self._loss()
        num_rows = len(table)
        default_folds = default_budget(num_rows, 1)[1]
        cv = default_folds if self.cv is None else plain(self.cv)
        splits = splits_of(cv, features, table.target, groups, bool(table.classes), seed)
        trials, epochs = (
            None if value is None else whole(name, plain(value), least=1)
            for name, value in (("num_trials", self.num_trials), ("num_epochs", self.num_epochs))
        )
        settings = Settings(
            trials=trials,
            folds=len(splits),
            epochs=epochs,
            seed=seed,
            search=self.search,
            scheduler="none" if self.scheduler is None else self.scheduler,
            space=space_of(self.space),
            test_fraction=0.0,
            time_limit=plain(self.time_limit),
            ensemble=self.ensemble,
            members=plain(self.members),
            near=self.near,
            loss=loss.name,
            quantile=loss.quantile,
        )
        size = plain(self.ensemble_size)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UserError(f"ensemble_size must be a whole number of at least 1, got {size!r}")
        kinds = settings.ensemble
        other_candidates.check_targets(table, kinds)
        if size == 1 and kinds == "all":
            raise UserError("ensemble_size=1 is one network; give at least 2 for ensemble='all'")
        notes = list(table.notes)
        near = tune.near_columns(table, settings.near if groups is None else NONE, notes)
        if groups is not None and self.near not in (AUTO, NONE):
            raise UserError("near does not go with groups: rows near by would be held out")
        numeric = number_columns.number_encoding(table, self.numeric, None, notes)
        asked = self.numeric if numeric == number_columns.BINS else numeric
        begun = number_columns.begun_with(self.directory)
        task = tasks.tabular(
            table,
            numeric=numeric,
            num_bins=number_columns.number_of_bins(table, asked, None, begun, notes),
            near=near,
            splits=splits,
            share_programs=True,
            loss=loss.name,
            quantile=loss.quantile,
        )
        encoded = task.prepare(len(splits), seed).arrays.inputs
        num_trials, _, num_epochs = default_budget(num_rows, encoded.shape[2])
        budget = (settings.trials or num_trials, len(splits), settings.epochs or num_epochs)
        study = Study(task, settings.space or default_space(num_rows), self.directory, seed)
        for note in notes:
            say(f"note: {note}")
        phases.search_phases(study, settings, budget, self._progress(say), say)
        phases.train_again(study, settings, self._progress(say), say)
        ranked = ranking.candidates(study)
        candidates, failed = 0 if size == 1 else size, dict[str, str]()
        self.predictor_ = final_models.final_predictor(
            study, ranked[0], ranked, candidates, kinds, failed
        )
        for name, reason in failed.items():
            say(f"note: {name} cannot be fitted to this table for the ensemble: {reason}")
        if study.directory is not None:
            self.predictor_.save(Path(study.directory) / "model")
        self.study_ = study
        self.cv_results_ = cv_results(study, ranked)
        self.best_index_ = ranked[0]
        self.best_params_ = dict(self.cv_results_["params"][ranked[0]])
        self.best_score_ = float(self.cv_results_["mean_test_score"][ranked[0]])
        self.best_config_ = hyperparameters.complete(self.best_params_)
        self.scoring_ = _SCORINGS.get(loss.name, self._scoring)
        if table.targets:
            self.scoring_ = f"neg_{task.metric}"
        self.n_splits_ = len(splits)

    def _say(self) -> Callable[[str], None]:
        return print if self.verbose else lambda text: None

    def _progress(self, say: Callable[[str], None]) -> Callable[[Progress], None]:
        def tell(now: Progress) -> None:
            best = "no score yet" if now.best is None else f"best {now.metric} {now.best:.4g}"
            say(f"{now.phase}: {now.jobs_done} of {now.jobs_total} networks, {best}")

        return tell

    def _raw(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self.predictor_.predict_raw(features_of(self, X, reset=False))

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "study_"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.target_tags.required = True
        return tags


_PARAMETERS = """
    Args:
      num_trials: configurations in all, half of them in refined ranges; by default 16 to 64, by
        the size of the table.
      num_epochs: of each network; by default 30 to 60.
      cv: number of folds (1 is one hold-out split), a splitter of scikit-learn, or pairs of rows;
        by default 5, 3 or 1, by the number of rows. Folds that a number asks for are shuffled by
        `random_state`.
      space: a `lab.SearchSpace`, a mapping of hyperparameters to distributions or values, or a TOML
        file; `tune`'s own by default.
      search: "bayesian", "random", "quasi_random" or "grid".
      scheduler: a name in `lab.schedulers.REGISTRY`, "race" or "hyperband" say; None or "none"
        stops no trial.
      ensemble_size: the most trials whose networks are averaged; 1 predicts with the refitted best
        one alone.
      members: train the winner's configuration once more as networks of so many members that share
        their kernels, and take one where it scores better; 1 for none.
      numeric: encoding of numbers: "piecewise_linear", "quantile" or "standard"; "auto" is the
        first, but the last where that makes more columns than there are rows and tells less, and
        with fewer bins where these tell more.
      near: two columns that say where a row is, such as longitude and latitude: the target of the
        nearest training rows becomes a feature; "auto" looks for them, "none" does not. Not with
        groups.
      time_limit: seconds after which searching stops.
      random_state: of splits, proposals, weights, data order and noise; a whole number gives the
        same result every time.
      directory: where the study is kept, in which the same `fit` goes on after an interruption, and
        from which `jaxopt-lab show` and `predict` read; None keeps it in memory.
      verbose: 1 prints a line for each wave of networks.
"""
_ATTRIBUTES = """
      best_params_: hyperparameters of the best trial; `best_config_` has the defaults, too.
      best_score_: its mean score over folds as `scoring_` says, greater is better.
      best_index_: its place in `cv_results_`.
      cv_results_: all trials, as scikit-learn's searches tell them; `status` says which were
        completed, stopped early, or diverged.
      predictor_: the networks; `predictor_.save(folder)` writes a model that `jaxopt-lab predict`
        reads.
      study_: the `lab.Study`; not pickled with the estimator.
      n_features_in_: number of features.
      feature_names_in_: their names, if X was a frame with text names.
"""


class TunedRegressor(RegressorMixin, _Tuned):
    __doc__ = f"""A tuned neural network, or an ensemble of them, that predicts numbers.
    {_PARAMETERS}
      log_target: learn the natural logarithm of y, which must be above 0.
      loss: what is minimised, and what trials are compared by: "squared" predicts the mean,
        "absolute" the median, "huber" what lies between, "quantile" the quantile below.
      quantile: of the loss "quantile", between 0 and 1; None for the others.

    Attributes:{_ATTRIBUTES}
    Examples:
      >>> from sklearn.datasets import load_diabetes
      >>> X, y = load_diabetes(return_X_y=True)
      >>> model = TunedRegressor(num_trials=4, num_epochs=10, cv=3, random_state=0)
      >>> model.fit(X, y).score(X, y)  # doctest: +SKIP
    """

    _scoring = "neg_root_mean_squared_error"
    #: Whether y was one column [n, 1], as which predictions are returned then.
    _is_column = False

    @checked_call(seed="it is called random_state here", folds="it is called cv here")
    def __init__(
        self,
        num_trials: Any = None,
        *,
        num_epochs: Any = None,
        cv: Any = None,
        space: Any = None,
        search: Any = "bayesian",
        scheduler: Any = "race",
        ensemble_size: Any = final_models.NUM_CANDIDATES,
        ensemble: Any = "networks",
        members: Any = 1,
        numeric: Any = "auto",
        near: Any = "none",
        time_limit: Any = None,
        random_state: Any = None,
        directory: Any = None,
        verbose: Any = 0,
        log_target: Any = False,
        loss: Any = "squared",
        quantile: Any = None,
    ) -> None:
        super().__init__(
            num_trials,
            num_epochs=num_epochs,
            cv=cv,
            space=space,
            search=search,
            scheduler=scheduler,
            ensemble_size=ensemble_size,
            ensemble=ensemble,
            members=members,
            numeric=numeric,
            near=near,
            time_limit=time_limit,
            random_state=random_state,
            directory=directory,
            verbose=verbose,
        )
        self.log_target = log_target
        self.loss = loss
        self.quantile = quantile

    def _log_target(self) -> bool:
        return bool(self.log_target)

    def _loss(self) -> TargetLoss:
        return TargetLoss(self.loss, plain(self.quantile))

    def _target(self, y: Any) -> tuple[np.ndarray, tuple[Any, ...]]:
        values = np.asarray(y)
        if values.ndim != 2:
            values = column_or_1d(y, warn=True)
        assert_all_finite(values, input_name="y")
        try:
            numbers = np.asarray(values, np.float64)
        except (TypeError, ValueError):
            raise UserError("y must hold numbers; for labels take TunedClassifier") from None
        if not numbers.size and numbers.ndim == 2:
            raise UserError("y has no columns: nothing to predict")
        self._is_column = numbers.shape[1:] == (1,)
        if self._is_column:
            numbers = numbers[:, 0]
        for place, column in enumerate(numbers.T if numbers.ndim == 2 else [numbers]):
            name = f"y[:, {place}]" if numbers.ndim == 2 else "y"
            if np.ptp(column) == 0.0 and len(column) > 1:
                raise UserError(f"{name} is constant: every row is {column[0]:g}")
            if self.log_target and column.min() <= 0:
                raise UserError(f"log_target: {name} must be above 0 in every row")
        return numbers, ()

    def _names(self, y: Any) -> list[str]:
        names = [str(name) for name in getattr(y, "columns", ())]
        return names if len(set(names)) == len(names) > 1 else []

    def predict(self, X: Any) -> np.ndarray:
        """Predict rows.

        Args:
          X: [n, F], as in `fit`.

        Returns:
          float64 [n], in the units of y; [n, T] where y had so many columns.
        """
        found = np.asarray(self._raw(X), np.float64)
        return found[:, None] if self._is_column else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class TunedClassifier(ClassifierMixin, _Tuned):
    __doc__ = f"""A tuned neural network, or an ensemble of them, that predicts classes.
    {_PARAMETERS}
    Attributes:
      classes_: labels, sorted.{_ATTRIBUTES}
    Examples:
      >>> from sklearn.datasets import load_iris
      >>> X, y = load_iris(return_X_y=True)
      >>> model = TunedClassifier(num_trials=4, num_epochs=10, cv=3, random_state=0)
      >>> model.fit(X, y).score(X, y)  # doctest: +SKIP
    """

    _scoring = "neg_log_loss"

    def _target(self, y: Any) -> tuple[np.ndarray, tuple[Any, ...]]:
        labels = column_or_1d(y, warn=True)
        assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise UserError(
                f"y has one class only, {str(self.classes_[0])[:40]!r}: nothing to tell apart"
            )
        return codes.astype(np.int32), tuple(self.classes_.tolist())

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities of rows.

        Args:
          X: [n, F], as in `fit`.

        Returns:
          float64 [n, C], in the order of `classes_`; rows sum to 1. They have a
          temperature (`predictor_.temperatures`) where that is better for certain.
        """
        return np.asarray(self._raw(X), np.float64)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row.

        Args:
          X: [n, F], as in `fit`.

        Returns:
          Labels [n].
        """
        most_likely = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[most_likely])
