"""Splits are scikit-learn's own; what cannot be split is refused in one line."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from jaxopt_lab import datasets
from jaxopt_lab.core.errors import UserError


def make_table(classes: bool) -> datasets.Table:
    rng = np.random.default_rng(0)
    price = rng.choice(["a", "b", "c"], 50, p=[0.6, 0.3, 0.1]) if classes else rng.normal(size=50)
    return datasets.load_table(pd.DataFrame({"x": rng.normal(size=50), "price": price}), "price")


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_test_split_is_sklearns(classes, seed):
    table = make_table(classes)
    train, test = datasets.test_split(table, 0.2, seed)
    stratify = table.target if classes else None
    expected = train_test_split(np.arange(50), test_size=0.2, random_state=seed, stratify=stratify)
    np.testing.assert_array_equal(train, expected[0])
    np.testing.assert_array_equal(test, expected[1])


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("num_folds", [2, 5])
def test_folds_are_sklearns(classes, num_folds):
    target = make_table(classes).target
    splitter = (StratifiedKFold if classes else KFold)(num_folds, shuffle=True, random_state=3)
    expected = list(splitter.split(target[:, None], target))
    pairs = datasets.folds(target, num_folds, 3, classes)
    assert len(pairs) == num_folds
    for (train, valid), (their_train, their_valid) in zip(pairs, expected, strict=True):
        np.testing.assert_array_equal(train, their_train)
        np.testing.assert_array_equal(valid, their_valid)


@pytest.mark.parametrize("num_folds", [1, 3])
def test_every_row_is_in_one_part(num_folds):
    for train, valid in datasets.folds(make_table(False).target, num_folds, 0, False):
        np.testing.assert_array_equal(np.sort(np.r_[train, valid]), np.arange(50))


def test_one_fold_is_a_hold_out():
    ((train, valid),) = datasets.folds(make_table(True).target, 1, 0, True, holdout_fraction=0.3)
    assert (len(train), len(valid)) == (35, 15)
    assert (np.diff(train) > 0).all()


@pytest.mark.parametrize(
    ("target", "num_folds", "stratify", "message"),
    [
        (np.arange(5.0), 6, False, "6 folds are more than the 5 training rows"),
        (np.arange(5.0), 0, False, "at least 1"),
        (np.array([0] * 9 + [1] * 2), 3, True, "smallest class has only 2 training rows"),
        (np.array([0] * 9 + [1]), 1, True, "class '1' has one row only"),
        (np.arange(20) // 2, 1, True, "that is 4, and there are 10 classes"),
    ],
)
def test_refused_folds(target, num_folds, stratify, message):
    with pytest.raises(UserError, match=message):
        datasets.folds(target, num_folds, 0, stratify)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 2.0, float("nan")])
def test_refused_fractions(fraction):
    with pytest.raises(UserError, match="between 0 and 1"):
        datasets.test_split(make_table(False), fraction, 0)


def test_a_class_of_one_row_is_refused():
    frame = pd.DataFrame({"x": np.arange(30.0), "price": ["a"] * 29 + ["b"]})
    with pytest.raises(UserError, match="class 'b' has one row only"):
        datasets.test_split(datasets.load_table(frame, "price"), 0.2, 0)


def test_messages_name_the_label():
    target = np.array([0] * 9 + [1] * 2)
    assert datasets.rarest(target, ("usual", "rare")) == (2, "'rare'")
    with pytest.raises(UserError, match=r"only 2 training rows: 'rare'; use at most 2 folds"):
        datasets.folds(target, 3, 0, True, classes=("usual", "rare"))
