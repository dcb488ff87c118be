"""Estimators are at home in scikit-learn: its own checks, its tools, its words."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

import jaxopt_lab as lab
from jaxopt_lab.core.compilation import Compiler
from jaxopt_lab.sklearn import (
    EXPECTED_FAILURES,
    PopulationSearchCV,
    TunedClassifier,
    TunedRegressor,
)

SMALL: dict[str, Any] = {
    "num_trials": 2,
    "num_epochs": 20,
    "cv": 2,
    "numeric": "standard",
    "random_state": 0,
    "space": {
        "learning_rate": {"log_uniform": [1e-2, 3e-2]},
        "hidden_size": 32,
        "num_layers": 1,
        "batch_size": 16,
    },
}
#: Checks that need no program besides that of a table of at most 64 rows.
QUICK = (
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_estimators_overwrite_params",
    "check_dont_overwrite_parameters",
    "check_estimators_fit_returns_self",
    "check_readonly_memmap_input",
    "check_estimators_unfitted",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_n_features_in_after_fitting",
    "check_mixin_order",
    "check_estimators_dtypes",
    "check_all_zero_sample_weights_error",
    "check_complex_data",
    "check_estimators_empty_data_messages",
    "check_estimator_sparse_array",
    "check_estimators_pickle",
    "check_supervised_y_no_nan",
    "check_parameters_default_constructible",
    "check_fit2d_1sample",
    "check_get_params_invariance",
    "check_set_params",
    "check_fit1d",
    "check_requires_y_none",
    "check_supervised_y_2d",
)


def rows(num_rows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Three features, and a target that two of them make."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(num_rows, 3))
    return inputs, inputs[:, 0] - inputs[:, 1] + 0.1 * rng.normal(size=num_rows)


@pytest.fixture(scope="module")
def fitted() -> TunedRegressor:
    """A regressor that has learnt."""
    return TunedRegressor(**SMALL).fit(*rows())


@pytest.mark.parametrize("name", QUICK)
def test_checks_of_scikit_learn(name: str) -> None:
    if not hasattr(estimator_checks, name):
        pytest.skip("this version of scikit-learn has no such check")
    getattr(estimator_checks, name)("TunedRegressor", TunedRegressor(**SMALL))


@pytest.mark.parametrize("name", ["check_estimators_unfitted", "check_classifiers_one_label"])
def test_checks_of_classifiers(name: str) -> None:
    getattr(estimator_checks, name)("TunedClassifier", TunedClassifier(**SMALL))


def test_targets_may_be_what_only_becomes_an_array() -> None:
    target = estimator_checks._NotAnArray(np.arange(5.0))
    found, classes = TunedRegressor(**SMALL)._target(target)
    np.testing.assert_array_equal(found, np.arange(5.0))
    assert classes == ()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [TunedRegressor, TunedClassifier])
def test_all_checks_of_scikit_learn(kind: Any) -> None:
    assert len(EXPECTED_FAILURES) <= 3
    found = estimator_checks.check_estimator(
        kind(**SMALL), expected_failed_checks=EXPECTED_FAILURES, on_fail=None, on_skip=None
    )
    assert len(found) > 50
    assert not [entry["check_name"] for entry in found if entry["status"] == "failed"]


def test_several_targets_are_the_columns_of_y(fitted: TunedRegressor) -> None:
    inputs, first = rows()
    both = pd.DataFrame({"low": first, "high": 1e6 + 1e5 * inputs[:, 2]})
    model = TunedRegressor(**SMALL).fit(inputs, both)
    found = model.predict(inputs)
    assert found.shape == (60, 2)
    assert model.predictor_.targets == ("low", "high")
    each = [r2_score(both[name], found[:, i]) for i, name in enumerate(both)]
    assert min(each) > 0.7
    assert model.score(inputs, both) == pytest.approx(np.mean(each))
    assert model.scoring_ == "neg_scaled_rmse"
    assert -1.0 < model.best_score_ < 0.0
    with pytest.raises(lab.UserError, match="predicts one target"):
        TunedRegressor(**SMALL, ensemble="all").fit(inputs, both)
    one = TunedRegressor(**SMALL).fit(inputs, first[:, None])
    np.testing.assert_array_equal(one.predict(inputs), fitted.predict(inputs)[:, None])


def test_a_fitted_estimator_travels_without_its_study(fitted: TunedRegressor) -> None:
    inputs, target = rows()
    there = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(there.predict(inputs), fitted.predict(inputs))
    assert fitted.score(inputs, target) > 0.8
    assert isinstance(fitted.study_, lab.Study)
    assert not hasattr(there, "study_")
    assert not hasattr(clone(fitted), "predictor_")


def test_the_same_random_state_gives_the_same_numbers(fitted: TunedRegressor) -> None:
    inputs, target = rows()
    again = clone(fitted).set_params(random_state=np.int64(0)).fit(inputs, target)
    np.testing.assert_array_equal(again.predict(inputs), fitted.predict(inputs))
    assert again.best_params_ == fitted.best_params_


def test_a_table_of_like_size_compiles_nothing(
    fitted: TunedRegressor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Compiler) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(Compiler, "compile_lowered", refuse)
    inputs, target = rows(50)
    assert clone(fitted).fit(inputs[:, :2], target).predict(inputs[:, :2]).shape == (50,)


def test_results_are_told_as_searches_tell_them(fitted: TunedRegressor) -> None:
    results = fitted.cv_results_
    best = fitted.best_index_
    assert results["params"][best] == fitted.best_params_
    assert results["rank_test_score"][best] == 1
    assert results["mean_test_score"][best] == fitted.best_score_ < 0
    both = [results[f"split{fold}_test_score"][best] for fold in range(2)]
    assert fitted.best_score_ == pytest.approx(np.mean(both))
    assert pd.DataFrame(results).shape[0] == 2
    assert results["param_learning_rate"][best] == fitted.best_params_["learning_rate"]


def test_a_row_is_predicted_alike_in_any_company(fitted: TunedRegressor) -> None:
    inputs, _ = rows()
    one_by_one = [fitted.predict(inputs[i : i + 1])[0] for i in range(5)]
    np.testing.assert_array_equal(fitted.predict(inputs)[:5], one_by_one)


def test_tools_of_scikit_learn_take_it() -> None:
    inputs, target = rows()
    single = TunedRegressor(**{**SMALL, "ensemble_size": 1})
    assert cross_val_score(make_pipeline(StandardScaler(), single), inputs, target, cv=2).min() > 0
    search = GridSearchCV(single, {"num_epochs": [1, 20]}, cv=2).fit(inputs, target)
    assert search.best_params_ == {"num_epochs": 20}


def test_a_splitter_and_its_groups_make_the_folds() -> None:
    inputs, target = rows()
    groups = np.arange(60) // 20
    model = TunedRegressor(**{**SMALL, "cv": GroupKFold(2)}).fit(inputs, target, groups=groups)
    for train, valid in model.study_.problem.splits:
        assert not set(groups[train]) & set(groups[valid])


def mixed() -> tuple[pd.DataFrame, np.ndarray]:
    """Numbers with gaps and words, of which a word makes the class."""
    rng = np.random.default_rng(1)
    wall = rng.choice(["brick", "wood"], 60)
    size = np.where(rng.random(60) < 0.1, np.nan, rng.normal(size=60))
    return pd.DataFrame({"size": size, "wall": wall}), np.where(wall == "brick", "yes", "no")


@pytest.fixture(scope="module")
def classifier() -> TunedClassifier:
    """A classifier that has learnt from a frame."""
    return TunedClassifier(**SMALL).fit(*mixed())


def test_frames_keep_their_kinds_and_names(classifier: TunedClassifier) -> None:
    frame, labels = mixed()
    assert classifier.classes_.tolist() == ["no", "yes"]
    assert classifier.feature_names_in_.tolist() == ["size", "wall"]
    assert classifier.score(frame, labels) > 0.9
    np.testing.assert_allclose(classifier.predict_proba(frame).sum(axis=1), 1)
    with pytest.raises(ValueError, match="feature names should match"):
        classifier.predict(frame.rename(columns={"wall": "roof"}))


def test_polars_says_what_pandas_says(classifier: TunedClassifier) -> None:
    polars = pytest.importorskip("polars")
    frame, _ = mixed()
    other = polars.DataFrame(
        {"size": frame["size"].tolist(), "wall": frame["wall"].tolist()}, nan_to_null=True
    )
    np.testing.assert_array_equal(classifier.predict_proba(other), classifier.predict_proba(frame))


def test_rows_of_no_weight_do_not_count() -> None:
    inputs, target = rows(64)
    spoilt = np.where(np.arange(64) < 16, 1e3, target)
    weights = np.where(np.arange(64) < 16, 0.0, 3.0)
    with_weights = TunedRegressor(**SMALL).fit(inputs, spoilt, sample_weight=weights)
    np.testing.assert_allclose(with_weights.best_score_, -0.5, atol=0.5)
    assert with_weights.score(inputs[16:], target[16:]) > 0.8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cv": 0}, "cv must be at least 1"),
        ({"space": 3}, "space must be a lab.SearchSpace"),
        ({"space": {"lr": 0.1}}, "Did you mean 'learning_rate'"),
        ({"search": "bayes"}, "unknown search 'bayes'"),
        ({"num_trials": "many"}, "num_trials must be a whole number"),
        ({"num_epochs": 0}, "num_epochs must be at least 1"),
        ({"ensemble_size": 0}, "ensemble_size must be a whole number"),
    ],
)
def test_mistakes_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(lab.UserError, match=message):
        TunedRegressor(**{**SMALL, **changes}).fit(*rows())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TunedRegressor(trials=3), "TunedRegressor has no argument 'trials'.*'num_trials'"),
        (lambda: TunedClassifier(folds=3), "TunedClassifier has no argument 'folds'; it is .* cv"),
        (lambda: TunedRegressor(seed=3), "it is called random_state here"),
        (lambda: PopulationSearchCV(None), "PopulationSearchCV needs space"),
    ],
)
def test_arguments_of_other_names_are_named(make: Any, message: str) -> None:
    with pytest.raises(lab.UserError, match=message):
        make()
