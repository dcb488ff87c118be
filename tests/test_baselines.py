"""Scores against scikit-learn's, and baselines against plain scikit-learn code."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
    root_mean_squared_log_error,
)

from jaxopt_lab import datasets
from jaxopt_lab.datasets.baselines import MAX_TREE_CATEGORIES, fit_baselines, noting, tree_frames
from jaxopt_lab.datasets.scores import classification_scores, regression_scores


def make_frame(rows=240) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    area = rng.lognormal(4.0, 0.5, rows)
    wall = rng.choice(["brick", "wood", "stone"], rows)
    worth = area * pd.Series(wall).map({"brick": 1.2, "wood": 1.0, "stone": 2.0}).to_numpy()
    return pd.DataFrame(
        {
            "area": np.where(rng.random(rows) < 0.05, np.nan, area),
            "wall": wall,
            "sold": pd.Timestamp(2020, 1, 1) + pd.to_timedelta(rng.integers(0, 500, rows), "D"),
            "price": worth * np.exp(rng.normal(0.0, 0.1, rows)),
        }
    )


def split(frame: pd.DataFrame, **options):
    table = datasets.load_table(frame, "price", **options)
    train, test = datasets.test_split(table, 0.25, 0)
    return table.take(train), table.take(test)


def test_regression_scores_are_sklearns():
    rng = np.random.default_rng(0)
    truth, guess = rng.lognormal(size=50), rng.lognormal(size=50)
    scores = regression_scores(truth, guess)
    assert scores["rmse"] == pytest.approx(root_mean_squared_error(truth, guess))
    assert scores["mae"] == pytest.approx(mean_absolute_error(truth, guess))
    assert scores["r2"] == pytest.approx(r2_score(truth, guess))
    log_rmse = root_mean_squared_log_error(truth - 1.0 + 1e-15, guess - 1.0 + 1e-15)
    assert scores["log_rmse"] == pytest.approx(log_rmse)
    assert "log_rmse" not in regression_scores(truth - 5.0, guess)
    assert np.isfinite(regression_scores(truth, guess - 5.0)["log_rmse"])
    with pytest.raises(ValueError, match="shape"):
        regression_scores(truth, guess[:3])


def test_classification_scores_are_sklearns():
    rng = np.random.default_rng(0)
    truth, chance = rng.integers(0, 3, 60), rng.dirichlet(np.ones(3), 60)
    scores = classification_scores(truth, chance)
    assert scores["accuracy"] == pytest.approx(accuracy_score(truth, chance.argmax(1)))
    assert scores["log_loss"] == pytest.approx(log_loss(truth, chance))
    assert scores["macro_f1"] == pytest.approx(f1_score(truth, chance.argmax(1), average="macro"))
    assert np.isfinite(classification_scores([0, 1], [[0.0, 1.0], [1.0, 0.0]])["log_loss"])
    with pytest.raises(ValueError, match="shape"):
        classification_scores(truth, chance[:, 0])


def test_regression_baselines():
    train, test = split(make_frame())
    assert train.log_target
    scores = fit_baselines(train, test, seed=0)
    assert list(scores) == ["mean", "ridge", "hist_gradient_boosting", "untuned_mlp"]
    assert all(set(s) == {"rmse", "mae", "r2", "log_rmse"} for s in scores.values())
    assert scores["ridge"]["log_rmse"] < 0.6 * scores["mean"]["log_rmse"]
    assert scores == fit_baselines(train, test, seed=0)
    geometric_mean = np.exp(np.log(train.target).mean())
    expected = regression_scores(test.target, np.full(len(test), geometric_mean))
    assert scores["mean"] == pytest.approx(expected)


def test_boosting_is_plain_sklearn_on_the_raw_table():
    frame = make_frame().drop(columns="sold")
    table = datasets.load_table(frame, "price")
    train, test = datasets.test_split(table, 0.25, 3)
    ours = fit_baselines(table.take(train), table.take(test), seed=3)["hist_gradient_boosting"]
    features = frame.drop(columns="price").astype({"wall": "category"})
    model = HistGradientBoostingRegressor(categorical_features="from_dtype", random_state=3)
    model.fit(features.iloc[train], np.log(frame["price"].iloc[train]))
    predicted = np.exp(model.predict(features.iloc[test]))
    assert ours == regression_scores(frame["price"].iloc[test], predicted)


def test_plain_target_baselines():
    train, test = split(make_frame(), log_target="no")
    scores = fit_baselines(train, test, seed=0)
    expected = regression_scores(test.target, np.full(len(test), train.target.mean()))
    assert scores["mean"] == pytest.approx(expected)


def test_classification_baselines():
    frame = make_frame()
    frame["price"] = np.where(frame["price"] > frame["price"].median(), "dear", "cheap")
    train, test = split(frame)
    scores = fit_baselines(train, test, seed=0)
    assert list(scores)[1:] == ["logistic_regression", "hist_gradient_boosting", "untuned_mlp"]
    assert all(set(s) == {"accuracy", "log_loss", "macro_f1"} for s in scores.values())
    assert scores["majority"]["log_loss"] == pytest.approx(np.log(2.0), rel=1e-3)
    assert scores["logistic_regression"]["accuracy"] > 0.8


def test_trees_get_the_training_categories_in_both_tables():
    rows = 900
    rng = np.random.default_rng(0)
    frame = make_frame(rows).assign(street=[f"s{k}" for k in rng.integers(0, 400, rows)])
    train, test = split(frame)
    known, new = tree_frames(train, test)
    assert known["street"].dtype == new["street"].dtype
    assert len(known["street"].cat.categories) == MAX_TREE_CATEGORIES
    assert list(known.columns) == list(new.columns)
    assert {"sold.year", "sold.ordinal"} <= set(known.columns)
    assert train.frame["wall"].dtype != known["wall"].dtype
    assert fit_baselines(train, test, seed=0)["hist_gradient_boosting"]["r2"] > 0.5


def test_a_baseline_that_fails_is_noted_and_left_out():
    train, test = split(make_frame(11))
    failed = {}
    scores = fit_baselines(train, test, seed=0, failed=failed)
    assert set(scores) | set(failed) == {"mean", "ridge", "hist_gradient_boosting", "untuned_mlp"}
    assert failed["untuned_mlp"] == "it has too few rows to set some aside for early stopping"
    assert "mean" in scores


def test_unknown_reasons_of_the_library_are_marked_as_its_own():
    failed = {}
    with noting("ridge", failed):
        Ridge(alpha=-1.0).fit([[1.0], [2.0]], [1.0, 2.0])
    with noting("ours", failed):
        raise ValueError("its predictions are not finite")
    assert failed["ridge"].startswith("scikit-learn says: ")
    assert failed["ours"] == "its predictions are not finite"


@pytest.mark.parametrize("scale", [1e36, 1e200])
def test_baselines_of_any_magnitude(scale):
    train, test = split(make_frame(), log_target="no")
    usual = fit_baselines(train, test, seed=0)
    frame = make_frame()
    frame["price"] *= scale
    found = fit_baselines(*split(frame, log_target="no"), seed=0)
    for name, values in usual.items():
        assert found[name]["r2"] == pytest.approx(values["r2"], rel=1e-3, abs=1e-3)
        assert found[name]["rmse"] / scale == pytest.approx(values["rmse"], rel=1e-2)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e155, 1e299])
def test_scores_of_any_magnitude(scale):
    rng = np.random.default_rng(0)
    truth, guess = rng.lognormal(size=50), rng.lognormal(size=50)
    usual, found = regression_scores(truth, guess), regression_scores(truth * scale, guess * scale)
    assert found["rmse"] / scale == pytest.approx(usual["rmse"])
    assert found["mae"] / scale == pytest.approx(usual["mae"])
    assert found["r2"] == pytest.approx(usual["r2"])
