"""A search over a network of one's own, in scikit-learn's words."""

from typing import Any

import cloudpickle
import flax.linen as nn
import numpy as np
import optax
import pytest
from flax import nnx
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GroupKFold

import jaxopt_lab as lab
from jaxopt_lab.sklearn import PopulationSearchCV

SPACE = lab.SearchSpace(learning_rate=lab.LogUniform(1e-2, 1e-1))
SMALL: dict[str, Any] = {"num_trials": 3, "budget": 20, "cv": 2, "search": "random"}


def classifier(data: Any, splits: Any, model: Any = None) -> Any:
    return lab.supervised(
        model or nn.Dense(3),
        data,
        loss=optax.softmax_cross_entropy_with_integer_labels,
        metrics={"accuracy": lab.metrics.accuracy},
        objective="accuracy",
        direction="maximize",
        splits=splits,
        batch_size=25,
    )


def regressor(data: Any, splits: Any) -> Any:
    return lab.supervised(
        nn.Dense(1), data, loss=lab.metrics.squared_error, splits=splits, batch_size=20
    )


@pytest.fixture(scope="module")
def flowers() -> tuple[np.ndarray, np.ndarray]:
    """Four numbers of each flower, and its name."""
    inputs, codes = load_iris(return_X_y=True)
    return inputs, np.array(["setosa", "versicolor", "virginica"])[codes]


@pytest.fixture(scope="module")
def fitted(flowers: Any) -> PopulationSearchCV:
    return PopulationSearchCV(classifier, SPACE, random_state=0, **SMALL).fit(*flowers)


def test_the_best_trial_predicts_labels(fitted: PopulationSearchCV, flowers: Any) -> None:
    inputs, labels = flowers
    assert fitted.score(inputs, labels) > 0.8
    assert set(fitted.predict(inputs)) <= set(labels)
    np.testing.assert_allclose(fitted.predict_proba(inputs).sum(axis=1), 1, atol=1e-6)
    each = [np.asarray(fitted.module_.apply(v, inputs[:5])) for v in fitted.variables_]
    odds = np.mean([np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in each], axis=0)
    np.testing.assert_allclose(fitted.predict_proba(inputs[:5]), odds, atol=1e-5)


def test_results_are_told_as_searches_tell_them(fitted: PopulationSearchCV) -> None:
    results, best = fitted.cv_results_, fitted.best_index_
    assert results["params"][best] == fitted.best_params_ == fitted.study_.best.hyperparameters
    assert results["rank_test_score"][best] == 1
    assert fitted.best_score_ == np.nanmax(results["mean_test_score"]) > 0.7
    assert fitted.n_splits_ == 2
    assert "split1_test_score" in results


def test_the_same_random_state_gives_the_same_numbers(
    fitted: PopulationSearchCV, flowers: Any
) -> None:
    again = clone(fitted).fit(*flowers)
    np.testing.assert_array_equal(
        again.cv_results_["mean_test_score"], fitted.cv_results_["mean_test_score"]
    )


def test_it_travels_without_its_study(fitted: PopulationSearchCV, flowers: Any) -> None:
    there = cloudpickle.loads(cloudpickle.dumps(fitted))
    np.testing.assert_array_equal(there.predict_proba(flowers[0]), fitted.predict_proba(flowers[0]))
    assert not hasattr(there, "study_")


def test_numbers_and_groups() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(60, 3))
    target = inputs[:, 0] - inputs[:, 1]
    search = PopulationSearchCV(regressor, SPACE, random_state=0, **{**SMALL, "cv": GroupKFold(2)})
    search.set_params(num_trials=1, budget=30)
    search.fit(inputs, target, groups=np.arange(60) // 20)
    assert search.predict(inputs).shape == (60,)
    assert search.score(inputs, target) > 0.5
    assert search.best_score_ < 0
    with pytest.raises(lab.UserError, match="predict_proba is for labels"):
        search.predict_proba(inputs)


class Plane(nnx.Module):
    """Asks whether it is trained, and has a statistic of its own."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm = nnx.BatchNorm(4, momentum=0.5, rngs=rngs)
        self.out = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x: Any, train: bool) -> Any:
        return self.out(self.norm(x, use_running_average=not train))


@pytest.mark.slow
def test_a_module_of_nnx_predicts_and_travels(flowers: Any) -> None:
    def problem(data: Any, splits: Any) -> Any:
        return classifier(data, splits, Plane)

    search = PopulationSearchCV(problem, SPACE, random_state=0, **{**SMALL, "num_trials": 1})
    inputs, labels = flowers
    assert search.fit(inputs, labels).score(inputs, labels) > 0.8
    each = [np.asarray(search.module_(v)(inputs[:5], train=False)) for v in search.variables_]
    odds = np.mean([np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in each], axis=0)
    np.testing.assert_allclose(search.predict_proba(inputs[:5]), odds, atol=1e-5)
    there = cloudpickle.loads(cloudpickle.dumps(search))
    np.testing.assert_array_equal(there.predict_proba(inputs), search.predict_proba(inputs))


def test_mistakes_are_one_line(flowers: Any) -> None:
    with pytest.raises(lab.UserError, match="problem must return what"):
        PopulationSearchCV(lambda data, splits: data, SPACE).fit(*flowers)
    with pytest.raises(lab.UserError, match="say where to search"):
        PopulationSearchCV(classifier, None).fit(*flowers)
    with pytest.raises(lab.UserError, match="labels must be"):
        PopulationSearchCV(classifier, SPACE).fit(np.zeros((6, 2)), np.zeros((6, 2), int))
