"""Settings of trees that are tried on folds: the best is kept, odd rows do no harm."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from jaxopt_lab.datasets import TargetLoss
from jaxopt_lab.datasets.baselines import few_threads
from jaxopt_lab.tuning import boosting
from jaxopt_lab.tuning.boosting import DEFAULT, FITS, Rows, search

KINDS = ["hist_gradient_boosting", "lightgbm"]
SQUARED = TargetLoss()


@pytest.fixture(params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "lightgbm":
        pytest.importorskip("lightgbm")
    return request.param


def additive(num: int, seed: int) -> Rows:
    """A sum of steps and much noise, which deep trees fit."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(num, 5))
    target = (inputs > 0).sum(axis=1) + rng.normal(0, 1.5, num)
    return Rows(inputs, target / target.std(), None)


def error(predicted: np.ndarray, rows: Rows) -> float:
    return float(np.mean((predicted[:, 0] - rows.target) ** 2))


def test_the_best_of_what_is_tried_beats_what_comes_unasked(name: str) -> None:
    folds = [(additive(200, 2 * fold), additive(200, 2 * fold + 1)) for fold in (0, 1)]
    new, how = additive(1000, 9), ([], None, 0, SQUARED)
    with few_threads(200):
        found = search(name, folds, [[], []], 1, True, 0, SQUARED)
        plain = FITS[name](DEFAULT, folds[0][0], *how).trees(1, DEFAULT.rounds)
        best = FITS[name](found.settings, folds[0][0], *how).trees(1, found.settings.rounds)
    assert found.settings.rounds < DEFAULT.rounds, "noise is fitted for as long as anything else"
    assert error(best.predict(new.inputs), new) < 0.95 * error(plain.predict(new.inputs), new)
    known = error(found.predicted[0], folds[0][1])
    assert known < 0.95 * error(plain.predict(folds[0][1].inputs), folds[0][1])


def test_rows_of_weight_nought_do_not_choose(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(boosting.TRIED, name, boosting.TRIED[name][1:2])
    train, valid = additive(200, 0), additive(200, 1)
    odd = Rows(
        np.concatenate([valid.inputs, valid.inputs]),
        np.concatenate([valid.target, 50 - valid.target]),
        np.repeat([1.0, 0.0], 200),
    )
    with few_threads(200):
        plain, weighted = (
            search(name, [(train, rows)], [[]], 1, True, 0, SQUARED) for rows in (valid, odd)
        )
    assert plain.settings == weighted.settings
    assert_allclose(weighted.predicted[0][:200], plain.predicted[0], rtol=1e-12)


def test_classes_that_a_fold_lacks_do_no_harm(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(boosting.TRIED, name, boosting.TRIED[name][:1])
    rows = additive(160, 0)
    label = np.digitize(rows.target, np.quantile(rows.target, [0.2, 0.5, 0.8]))
    train = Rows(rows.inputs[label != 2], label[label != 2], None)
    with few_threads(300):
        found = search(name, [(train, rows._replace(target=label))], [[]], 4, False, 0, SQUARED)
    (outputs,) = found.predicted
    assert set(outputs.argmax(axis=1)) == {0, 1, 3}
    assert np.mean(outputs.argmax(axis=1) == label) > 0.5
    lacking = Rows(rows.inputs[label == 2], label[label == 2], None)
    with pytest.raises(ValueError, match="none of the other rows' classes"):
        search(name, [(train, lacking)], [[]], 4, False, 0, SQUARED)


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
