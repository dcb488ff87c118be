"""Splits are scikit-learn's; what would leak or starve is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    train_test_split,
)

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.problems.supervised.splits import split_rows

_LABELS = np.array([0] * 30 + [1] * 8 + [2] * 4)


def _same(found: Any, expected: Any) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours[0], np.sort(theirs[0]))
        np.testing.assert_array_equal(ours[1], np.sort(theirs[1]))


def test_folds_are_scikit_learns() -> None:
    rows = np.zeros(42)
    stratified = StratifiedKFold(4, shuffle=True, random_state=5)
    _same(split_rows(4, 42, _LABELS, random_state=5), stratified.split(rows, _LABELS))
    # A class of fewer rows than folds, or targets that are no labels: folds without strata.
    plain = KFold(6, shuffle=True, random_state=0)
    _same(split_rows(6, 42, _LABELS), plain.split(rows))
    _same(split_rows(6, 42, _LABELS.astype(float)), plain.split(rows))
    _same(split_rows(6, 42, {"a": _LABELS}), plain.split(rows))
    _same(
        split_rows(ShuffleSplit(3, random_state=1), 42), ShuffleSplit(3, random_state=1).split(rows)
    )


def test_a_share_is_held_out_with_strata() -> None:
    expected = train_test_split(np.arange(42), test_size=0.25, random_state=3, stratify=_LABELS)
    _same(split_rows(0.25, 42, _LABELS, random_state=3), [expected])
    assert len(split_rows(0.25, 42, np.arange(42))[0][1]) == 11


def test_groups_stay_together() -> None:
    groups = np.arange(42) // 3
    _same(split_rows(GroupKFold(3), 42, None, groups),
          GroupKFold(3).split(np.zeros(42), groups=groups))  # fmt: skip


def test_pairs_as_they_are() -> None:
    mask = np.arange(6) < 4
    for pairs in ([([3, 0, 1], [2, 5])], ([3, 0, 1], [5, 2, 4]), iter([([0], [1])])):
        assert split_rows(pairs, 6)
    train, valid = split_rows([(mask, ~mask)], 6)[0]
    assert train.tolist() == [0, 1, 2, 3]
    assert valid.tolist() == [4, 5]
    assert train.dtype == np.int32
    (train, valid), *others = split_rows([([0, 1], [2, 3]), ([2, 3], [0, 1])], 6)
    assert train.tolist() == [0, 1]
    assert len(others) == 1


def test_none_trains_on_everything() -> None:
    ((train, valid),) = split_rows(None, 5)
    assert train.tolist() == [0, 1, 2, 3, 4]
    assert len(valid) == 0


@given(st.integers(2, 40), st.integers(2, 10), st.integers(1, 4))
def test_every_row_is_validated_once(num_rows: int, num_folds: int, num_classes: int) -> None:
    labels = np.arange(num_rows) % num_classes
    if num_folds > num_rows:
        with pytest.raises(UserError):
            split_rows(num_folds, num_rows, labels)
        return
    pairs = split_rows(num_folds, num_rows, labels)
    assert sorted(np.concatenate([valid for _, valid in pairs])) == list(range(num_rows))
    for train, valid in pairs:
        assert sorted([*train, *valid]) == list(range(num_rows))


class _Empty:
    def split(self, x: Any, y: Any = None, groups: Any = None) -> Any:
        yield np.arange(5), np.arange(0)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (1, "folds from 2, a share between 0 and 1, or None for no validation, got 1"),
        (2.5, "whole number of folds from 2"),
        (-0.1, "whole number of folds from 2"),
        (50, "50 folds are more than the 42 rows"),
        (0.999, "cannot hold out 0.999 of 42 rows"),
        ("kfold", "splits must be a number of folds"),
        (True, "splits must be a number of folds"),
        ([], "splits holds no pair"),
        (0, "or None for no validation, got 0"),
        (float("nan"), "or None for no validation, got nan"),
        ([([0, 1], [2, 2])], "split 0 has validation row 2 more than once"),
        ([([0, 1], [1, 2])], "split 0 trains on 1 of its validation rows, row 1 first"),
        ([([0, 1], [42])], "split 0 has validation rows outside 0 to 41: 42 to 42"),
        ([([], [1])], "split 0 has no training rows"),
        ([([0.5, 1], [2])], "split 0 must be a pair"),
        ([3, 4, 5], "split 0 must be a pair"),
        (_Empty(), "split 0 has no validation rows"),
        (GroupKFold(3), "GroupKFold could not split 42 rows"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(splits: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as found:
        split_rows(splits, 42, _LABELS)
    assert "\n" not in str(found.value)


def test_groups_need_a_splitter_and_a_label_for_each_row() -> None:
    with pytest.raises(UserError, match="groups need a splitter that reads them"):
        split_rows(3, 42, groups=np.zeros(42))
    with pytest.raises(UserError, match="one label for each of 42 rows"):
        split_rows(GroupKFold(3), 42, groups=np.zeros(41))
