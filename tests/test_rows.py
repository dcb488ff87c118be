"""What is looked for in the rows of a diagnosis, and the splits without it."""

from typing import Any

import numpy as np
import pytest

from jaxopt_lab.problems.mlp.data import FoldArrays, classification, regression
from jaxopt_lab.problems.mlp.hyperparameters import complete
from jaxopt_lab.problems.mlp.rows import RowsTask
from jaxopt_lab.stabilization.members import BASE, Member
from jaxopt_lab.stabilization.population import Population
from jaxopt_lab.stabilization.rows import ENOUGH_VALID, Rows, faults, looked_at, remarks

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(900, 3)).astype(np.float32)
TARGETS = (INPUTS.sum(1) + RNG.normal(0, 0.1, 900)).astype(np.float32)


def task(inputs: np.ndarray = INPUTS, targets: np.ndarray = TARGETS, valid: int = 200) -> RowsTask:
    return RowsTask(inputs, targets, regression(), np.arange(valid))


def rows_of(**options: Any) -> tuple[Rows, FoldArrays]:
    mine = task(**options)
    given = mine.fold_arrays(0)
    return looked_at(given, mine.criterion), given


def test_of_rows_without_fault_nothing_changes() -> None:
    found, given = rows_of()
    assert found.arrays is given
    assert found.members == ()
    assert found.outliers == ()
    assert found.faults.tail_share < 0.01
    assert 0.9 < found.faults.input_scale < 1.2


@pytest.mark.parametrize("where", ["inputs", "targets"])
def test_rows_far_from_all_others_are_named_and_left_out(where: str) -> None:
    values = {"inputs": INPUTS.copy(), "targets": TARGETS.copy()}
    values[where][[7, 500]] = 1e3
    found, given = rows_of(**values)
    assert found.outliers == (7, 500)
    (member,) = found.members
    name = "without 2 outlying rows"
    # Row 7 validates: without it losses are of other rows.
    assert member == Member(name, {}, "outliers", split=1, comparable=False)
    arrays = found.arrays
    assert arrays.inputs.shape == given.inputs.shape
    np.testing.assert_array_equal(arrays.num_train, [700, 699])
    np.testing.assert_array_equal(arrays.num_valid, [200, 199])
    assert 500 not in arrays.train_rows[1][:699]
    assert 7 not in arrays.valid_rows[1][:199]
    np.testing.assert_array_equal(arrays.train_rows[0], given.train_rows[0])


def test_a_column_that_bends_hides_no_outlier() -> None:
    # As a piecewise linear encoding: 0, then 1 from just above the lower quartile on.
    bent = np.clip(20 * (INPUTS[:, :1] - np.quantile(INPUTS[:, 0], 0.25)) + 0.97, 0, 1)
    values = {"inputs": np.hstack([INPUTS, bent]), "targets": TARGETS.copy()}
    values["targets"][[7, 500]] = 1e3
    assert rows_of(**values)[0].outliers == (7, 500)
    # More than a hundredth of the rows far off, each in another column, is how inputs are.
    wide = np.repeat(INPUTS, 8, axis=1)
    wide[np.arange(24), np.arange(24)] = 1e3
    assert rows_of(inputs=wide)[0].outliers == ()
    assert rows_of(inputs=wide, targets=values["targets"])[0].outliers == (7, 500)


def test_many_are_no_outliers_but_a_tail() -> None:
    heavy = np.exp(2 * TARGETS).astype(np.float32)
    found, given = rows_of(targets=heavy)
    assert found.outliers == ()
    assert found.faults.tail_share > 0.05
    (member,) = found.members
    assert member.family == "target"
    logs = found.arrays.targets[1]
    order = np.argsort(heavy)
    assert (np.diff(logs[order]) >= 0).all()
    np.testing.assert_allclose(logs[found.arrays.train_rows[1]].std(), 1, rtol=1e-5)
    np.testing.assert_array_equal(found.arrays.targets[0], given.targets[0])


def test_classes_have_no_tail() -> None:
    classes = (TARGETS > 0).astype(np.int32)
    given = RowsTask(INPUTS, classes, classification(2), np.arange(200)).fold_arrays(0)
    found = looked_at(given, classification(2))
    assert np.isnan(found.faults.tail_share)
    assert found.members == ()


@pytest.mark.parametrize("factor", [300.0, 1e-3])
def test_inputs_of_a_strange_scale_are_standardised(factor: float) -> None:
    found, _ = rows_of(inputs=(factor * INPUTS).astype(np.float32))
    assert found.faults.input_scale == pytest.approx(max(factor, 1 / factor), rel=0.1)
    (member,) = found.members
    assert member.family == "scale"
    columns = found.arrays.inputs[1][found.arrays.train_rows[1]]
    np.testing.assert_allclose(columns.std(axis=0), 1, rtol=1e-4)


def test_what_is_strange_about_rows_is_said_in_words() -> None:
    train, valid = np.arange(200, 900), np.arange(200)
    assert remarks(faults(INPUTS, TARGETS, train, valid)) == []
    strange = (300 * INPUTS).astype(np.float32)
    strange[[7, 500]] = 1e9
    found = remarks(faults(strange, np.exp(2 * TARGETS), train, valid))
    assert found[0] == "rows far from all others, from 0: 7, 500; look at them first"
    assert "log scale" in found[1]
    assert found[2].startswith("the largest input column is 3")
    assert len(found) == 3
    # Classes and images have no tail, and half of their values may be the same.
    images = np.zeros((900, 4, 4, 1), np.float32)
    images[:, 0] = 1.0
    assert remarks(faults(images, None, train, valid)) == []


def test_few_validation_rows_get_more() -> None:
    found, _ = rows_of(valid=20)
    (member,) = found.members
    assert member.name == "more validation rows (20 → 196)"
    number = int(found.arrays.num_valid[1])
    assert number == 20 + min(ENOUGH_VALID, 880 // 5)
    train = set(found.arrays.train_rows[1][: int(found.arrays.num_train[1])].tolist())
    valid = set(found.arrays.valid_rows[1][:number].tolist())
    assert not train & valid
    assert len(train | valid) == 900
    assert rows_of(valid=20, inputs=INPUTS[:300], targets=TARGETS[:300])[0].members == ()


@pytest.mark.slow
def test_the_base_is_trained_on_the_rows_without_fault() -> None:
    outlying = TARGETS.copy()
    outlying[[7, 500]] = 1e3
    base = complete({"hidden_size": 4, "num_layers": 1, "batch_size": 50, "learning_rate": 0.01})
    population = Population(task(targets=outlying), base, 2, evaluations=4)
    (member,) = population.rows.members
    found = population.train([Member(BASE, {}), member], [0])
    before, after = (r[0].curves["loss"].mean() for r in found.values())
    assert after < before / 100
    assert population.outliers == (7, 500)
