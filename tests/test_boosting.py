"""Boosted trees, and committees of them that are chosen on folds."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from jaxopt_lab.datasets import TargetLoss
from jaxopt_lab.datasets.baselines import few_threads
from jaxopt_lab.problems.tabular.trees import Trees, weighted
from jaxopt_lab.tuning import committees
from jaxopt_lab.tuning.boosting import DEFAULT, FITS, Rows
from jaxopt_lab.tuning.committees import PLAIN, fit_committee, search

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


def labelled(num: int, seed: int, is_ordered: bool) -> Rows:
    """Forty labels in the first column: their order tells all, or little."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 40, num)
    effect = label / 40 if is_ordered else np.random.default_rng(9).permutation(40)[label] / 40
    target = 3 * effect + rng.normal(0, 1.0, num)
    return Rows(np.column_stack([label, rng.normal(size=(num, 2))]).astype(float), target, None)


def error(predicted: np.ndarray, rows: Rows) -> float:
    return float(np.mean((predicted[:, 0] - rows.target) ** 2))


def test_a_committee_beats_what_comes_unasked(name: str) -> None:
    folds = [(additive(200, 2 * fold), additive(200, 2 * fold + 1)) for fold in (0, 1)]
    new, how = additive(1000, 9), ([], None, 0, SQUARED)
    with few_threads(200):
        found = search(name, folds, [[], []], 1, True, 0, SQUARED)
        plain = FITS[name](DEFAULT, folds[0][0], *how).trees(1, DEFAULT.rounds)
        best = fit_committee(name, found.committee, folds[0][0], [], None, 1, 0, SQUARED)
    assert sum(weight for _, weight in found.committee) == pytest.approx(1)
    fast = [s.rounds for s, _ in found.committee if s.learning_rate == DEFAULT.learning_rate]
    assert all(rounds < DEFAULT.rounds for rounds in fast), "noise is fitted for as long"
    assert error(best.predict(new.inputs), new) < 0.95 * error(plain.predict(new.inputs), new)
    known = error(found.predicted[0], folds[0][1])
    assert known < 0.95 * error(plain.predict(folds[0][1].inputs), folds[0][1])


def test_rows_of_weight_nought_do_not_choose(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(committees.TRIED, name, committees.TRIED[name][1:2])
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
    assert plain.committee == weighted.committee
    assert_allclose(weighted.predicted[0][:200], plain.predicted[0], rtol=1e-12)


def test_classes_that_a_fold_lacks_do_no_harm(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(committees.TRIED, name, committees.TRIED[name][:1])
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


def test_on_the_rows_it_is_chosen_on_no_setting_alone_is_better(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds = [(additive(150, 2 * fold), additive(150, 2 * fold + 1)) for fold in (0, 1)]

    def found() -> float:
        with few_threads(150):
            predicted = search(name, folds, [[], []], 1, True, 0, SQUARED).predicted
        return sum(error(p, rows) for p, (_, rows) in zip(predicted, folds, strict=True))

    together, tried = found(), committees.TRIED[name]
    for settings in tried[:3]:
        monkeypatch.setitem(committees.TRIED, name, (settings,))
        assert together <= found() * (1 + 1e-9)


@pytest.mark.parametrize(("num_rows", "is_ordered"), [(200, True), (1500, False)])
def test_labels_are_numbers_where_that_tells_more(
    num_rows: int, is_ordered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lightgbm")
    some = DEFAULT._replace(learning_rate=0.1, leaf_rows=5)
    monkeypatch.setitem(committees.TRIED, "lightgbm", (some, some._replace(as_numbers=True)))
    folds = [(labelled(num_rows, s, is_ordered), labelled(600, s + 9, is_ordered)) for s in (0, 1)]
    with few_threads(num_rows):
        found = search("lightgbm", folds, [[0], [0]], 1, True, 0, SQUARED)
        trees = fit_committee("lightgbm", found.committee, folds[0][0], [0], None, 1, 0, SQUARED)
    weight = sum(weight for settings, weight in found.committee if settings.as_numbers)
    assert weight > 0.5 if is_ordered else weight < 0.5
    assert (trees.labels >= 0).any() == any(not s.as_numbers for s, _ in found.committee)


def test_nothing_is_tried_twice_where_there_are_no_labels() -> None:
    for tried in committees.TRIED.values():
        with_labels, without = (len(committees._different(tried, has)) for has in (True, False))
        assert with_labels == len(set(tried)) == len(tried)
        assert without == len({settings._replace(as_numbers=False) for settings in tried})


def test_one_model_of_weighted_parts_is_their_weighted_mean(name: str) -> None:
    rng = np.random.default_rng(0)
    inputs = np.column_stack([rng.integers(0, 12, 300), rng.normal(size=(300, 2))]).astype(float)
    label = (inputs[:, 0] % 3).astype(int)
    parts: list[tuple[Trees, float]] = []
    with few_threads(300):
        for place, weight in enumerate((0.25, 0.75)):
            rows = Rows(inputs[place::2], label[place::2], None)
            committee = ((DEFAULT._replace(rounds=4 + place), 1.0),)
            made = fit_committee(name, committee, rows, [0], np.arange(3), 4, 0, SQUARED)
            parts.append((made, weight))
    inputs[::9, 0], inputs[::7, 1] = np.nan, np.nan
    found = weighted(parts).predict(inputs)
    wanted = sum(weight * trees.predict(inputs) for trees, weight in parts)
    assert_allclose(found, wanted, rtol=1e-12)
    assert (found[:, 3] < found[:, :3].max(axis=1) - 600).all(), "a class that no row had"


def test_a_committee_of_one_is_its_library_s_model(name: str) -> None:
    rows = additive(200, 0)
    with few_threads(200):
        made = fit_committee(name, PLAIN, rows, [], None, 1, 0, SQUARED)
        plain = FITS[name](DEFAULT, rows, [], None, 0, SQUARED).outputs(rows.inputs, 100)
    assert_allclose(made.predict(rows.inputs)[:, 0], plain, rtol=1e-9)


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
