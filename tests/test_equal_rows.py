"""Equal rows stay together; what test rows could tell is not listened to."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from jaxopt_lab import datasets
from jaxopt_lab.problems.tabular.task import reopen, tabular
from jaxopt_lab.tuning import tune
from jaxopt_lab.tuning.settings import Settings


def doubled(classes: bool = False, rows: int = 120) -> pd.DataFrame:
    """Rows of which every third is there again, further down and with another target."""
    rng = np.random.default_rng(0)
    size = rng.uniform(0, 9, rows).round(4)
    size[5] = np.nan
    frame = pd.DataFrame({"size": size, "kind": rng.choice(["a", "b"], rows)})
    frame["price"] = rng.choice(["low", "high"], rows) if classes else rng.normal(5, 1, rows)
    again = frame.iloc[::3].assign(price=frame["price"].iloc[1::3].to_numpy())
    return pd.concat([frame, again], ignore_index=True)


def sides(frame: pd.DataFrame, pair: tuple[np.ndarray, np.ndarray]) -> list[set]:
    keys = np.array(
        [f"{size} {kind}" for size, kind in zip(frame["size"], frame["kind"], strict=True)]
    )
    return [set(keys[rows]) for rows in pair]


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("num_folds", [1, 4])
def test_equal_rows_are_on_one_side_of_every_split(classes: bool, num_folds: int) -> None:
    frame = doubled(classes)
    table = datasets.load_table(frame, "price")
    assert any(note.startswith("40 rows have the features of another") for note in table.notes)
    development, test = datasets.test_split(table, 0.25, 3)
    assert not set.intersection(*sides(frame, (development, test)))
    assert sorted([*development, *test]) == list(range(160))
    assert 0.15 < len(test) / 160 < 0.35
    rows = table.take(development)
    inner = frame.iloc[development].reset_index(drop=True)
    folds = datasets.table_folds(rows, num_folds, 3)
    for pair in folds:
        assert not set.intersection(*sides(inner, pair))
        assert sorted(np.concatenate(pair)) == list(range(len(rows)))
    if num_folds > 1:
        assert sorted(np.concatenate([valid for _, valid in folds])) == list(range(len(rows)))
    if classes:
        shares = [np.mean(rows.target[valid]) for _, valid in folds]
        assert np.ptp([*shares, rows.target.mean()]) < 0.3


def test_a_table_without_equal_rows_is_split_as_ever() -> None:
    frame = doubled().iloc[:120]
    table = datasets.load_table(frame, "price")
    assert table.equal is None
    known = datasets.folds(table.target, 3, 0, stratify=False)
    for (a, b), (c, d) in zip(datasets.table_folds(table, 3, 0), known, strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)


def test_rows_that_repeat_by_nature_are_split_like_others() -> None:
    frame = pd.DataFrame({"rooms": np.arange(200) % 12, "price": np.arange(200.0)})
    table = datasets.load_table(frame, "price", task="regression")
    assert table.equal is None
    assert any("repeat by nature: 12 different ones of 200" in note for note in table.notes)


def test_groups_and_times_go_before() -> None:
    frame = doubled().assign(store=np.arange(160) % 10)
    assert datasets.load_table(frame, "price", group="store").equal is None


def test_the_rarest_class_of_equal_rows_is_spread() -> None:
    frame = doubled(classes=True)
    frame.loc[120:129, "price"] = "rare"  # each of them beside a row of another class
    table = datasets.load_table(frame, "price")
    rare = table.classes.index("rare")
    for _, valid in datasets.table_folds(table, 5, 0):
        assert (table.target[valid] == rare).sum() == 2
    assert datasets.rarest(datasets.different_rows(table)) == (10, repr(str(rare)))


def test_a_study_of_an_earlier_version_keeps_its_splits() -> None:
    frame = doubled()
    task = tabular(datasets.load_table(frame, "price"), test_fraction=0.2)
    known = task.describe()
    assert reopen(known, frame).table.equal is not None
    del known["equal_rows"]
    again = reopen(known, frame)
    assert again.table.equal is None
    assert again.describe() == known


def split_frame() -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Rows, and which of them `tune` trains on and tests by with seed 0."""
    frame = pd.DataFrame({"size": np.random.default_rng(0).normal(size=100)})
    frame["price"] = 10 + frame["size"]
    return frame, *datasets.test_split(datasets.load_table(frame, "price"), 0.2, 0)


def test_a_column_that_varies_in_test_rows_only_is_no_feature() -> None:
    frame, _, test = split_frame()
    frame["late"], frame["also"] = 0.0, "a"
    frame.loc[test[:2], "late"], frame.loc[test[:3], "also"] = [1.0, 2.0], "b"
    table = datasets.load_table(frame, "price")
    assert {"late", "also"} < set(table.kinds)
    task = tabular(table, test_fraction=0.2, numeric="standard")
    assert all(e.columns == ("size",) for e in task.prepare(2, 0).encoders)
    _, _, notes = tune._begin(table, Settings(epochs=1), None)
    assert any("late, also" in note for note in notes)


def test_the_logarithm_is_decided_without_test_rows() -> None:
    frame, development, test = split_frame()
    frame.loc[test, "price"] = np.geomspace(10, 1e4, len(test))
    table = datasets.load_table(frame, "price")
    assert table.log_target, "the skewness of all rows"
    study, _, notes = tune._begin(table, Settings(epochs=1), None)
    assert not study.problem.table.log_target
    assert study.problem.metric == "rmse"
    assert any("learning price as it is" in note for note in notes)
    asked = datasets.load_table(frame, "price", log_target="yes")
    assert datasets.decided_on(asked, development) == (asked, [])
    same = datasets.decided_on(table, np.arange(100))[0]
    assert dataclasses.asdict(same)["log_target"]
