"""Boosted trees: a shorter fit is the beginning of a longer one, thresholds may be drawn."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from jaxopt_lab.datasets import TargetLoss
from jaxopt_lab.datasets.baselines import few_threads
from jaxopt_lab.tuning.boosting import DEFAULT, FITS, Rows

KINDS = ["hist_gradient_boosting", "lightgbm"]
SQUARED = TargetLoss()


@pytest.fixture(params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "lightgbm":
        pytest.importorskip("lightgbm")
    return request.param


def additive(num: int, seed: int) -> Rows:
    """A sum of steps and much noise."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(num, 5))
    target = (inputs > 0).sum(axis=1) + rng.normal(0, 1.5, num)
    return Rows(inputs, target / target.std(), None)


def test_the_first_trees_are_those_of_a_shorter_fit(name: str) -> None:
    rows = additive(300, 0)
    label = np.digitize(rows.target, [2.0, 3.0])
    how = (rows._replace(target=label), [], np.arange(3), 0, SQUARED)
    with few_threads(300):
        long, short = (FITS[name](DEFAULT._replace(rounds=r), *how) for r in (12, 5))
    trees = long.trees(3, 12)
    assert len(trees.roots) == 36
    shorter = trees.first(15).predict(rows.inputs)
    assert_allclose(shorter, short.trees(3, 5).predict(rows.inputs), rtol=1e-9)
    assert_allclose(shorter, long.outputs(rows.inputs, 5), rtol=1e-9)
    assert trees.first(99) is trees


def test_thresholds_that_are_drawn_fit_the_rows_less() -> None:
    pytest.importorskip("lightgbm")
    rows = additive(300, 0)
    errors = []
    for extra in (False, True):
        tried = DEFAULT._replace(rounds=20, extra=extra)
        outputs = FITS["lightgbm"](tried, rows, [], None, 0, SQUARED).trees(1, 20)
        errors.append(float(np.mean((outputs.predict(rows.inputs)[:, 0] - rows.target) ** 2)))
    assert errors[1] > 1.1 * errors[0]
