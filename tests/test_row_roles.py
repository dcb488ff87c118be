"""Groups, times and weights: what splits keep together or apart, and what is refused."""

import dataclasses
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

import jaxopt_lab as lab
from jaxopt_lab import datasets
from jaxopt_lab.cli import run, tune
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.problems import reopen
from jaxopt_lab.tuning.settings import Settings
from jaxopt_lab.tuning.tune import plan

ROWS = 120


def sales(**replaced: object) -> pd.DataFrame:
    """Sales of ten stores of unlike size, on days that do not come in order."""
    rng = np.random.default_rng(0)
    columns = {
        "size": rng.uniform(1.0, 9.0, ROWS),
        "store": rng.choice(list("abcdefghij"), ROWS, p=np.arange(1, 11) / 55),
        "sold": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 60, ROWS), "D"),
        "trust": rng.choice([0.5, 1.0, 4.0], ROWS),
        "kind": rng.choice(["flat", "house"], ROWS),
        "price": rng.uniform(1.0, 2.0, ROWS),
    }
    return pd.DataFrame({**columns, **replaced})


def splits_of(table: datasets.Table, num_folds: int, seed: int = 0) -> list[tuple]:
    """Values of the rows on either side, of the test split and of every fold."""
    prepared = lab.tasks.tabular(table, test_fraction=0.2, numeric="standard").prepare(
        num_folds, seed
    )
    rows = prepared.development
    assert len(rows) + len(prepared.test) == len(table)
    inner = [(rows[train], rows[valid]) for train, valid in prepared.folds[:num_folds]]
    return [(rows, prepared.test), *inner]


@pytest.mark.parametrize("target", ["price", "kind"])
@pytest.mark.parametrize("num_folds", [1, 3])
def test_groups_stay_together(target: str, num_folds: int) -> None:
    frame = sales()
    table = datasets.load_table(frame, target, group="store")
    assert "store" not in table.frame
    splits = splits_of(table, num_folds)
    for train, held in splits:
        stores = frame["store"].to_numpy()
        assert len(train)
        assert len(held)
        assert not set(stores[train]) & set(stores[held])
    assert len(splits[0][1]) == pytest.approx(0.2 * ROWS, abs=6)
    if num_folds > 1:
        held = np.concatenate([valid for _, valid in splits[1:]])
        assert sorted(held) == sorted(splits[0][0]), "each row is validated once"


def test_another_seed_holds_out_other_groups() -> None:
    table = datasets.load_table(sales(), "price", group="store")
    tests = {tuple(splits_of(table, 1, seed)[0][1]) for seed in range(4)}
    assert len(tests) > 1
    assert tests == {tuple(splits_of(table, 1, seed)[0][1]) for seed in range(4)}


@pytest.mark.parametrize("written", ["date", "text", "number"])
@pytest.mark.parametrize("num_folds", [1, 4])
def test_later_rows_test_earlier_ones(written: str, num_folds: int) -> None:
    frame = sales()
    days = frame["sold"]
    if written == "text":
        frame["sold"] = days.dt.strftime("%d.%m.%Y")
    elif written == "number":
        frame["sold"] = days.dt.day_of_year
    table = datasets.load_table(frame, "price", time="sold")
    assert "sold" not in table.frame
    splits = splits_of(table, num_folds)
    for train, held in splits:
        assert days[train].max() < days[held].min()
    assert len(splits[0][1]) == pytest.approx(0.2 * ROWS, abs=4)
    for (_, before), (train, _) in pairwise(splits[1:]):
        assert set(before) <= set(train), "what was validated is trained on next"
        assert len(train) > 0.4 * ROWS


def test_columns_of_splits_are_features_if_asked() -> None:
    table = datasets.load_table(sales(), "price", time="sold", keep_split_column=True)
    assert table.kinds["sold"] == "date"
    table = datasets.load_table(
        sales(), "price", group="store", weights="trust", keep_split_column=True
    )
    assert "store" in table.frame
    assert "trust" not in table.frame


def test_weights_count_in_training_and_rows_without_are_left_out() -> None:
    frame = sales()
    frame.loc[[3, 5], "trust"] = 0.0
    frame.loc[7, "price"] = np.nan
    table = datasets.load_table(frame, "price", weights="trust", group="store")
    kept = frame.drop(index=[3, 5, 7])
    np.testing.assert_array_equal(table.weights, kept["trust"])
    np.testing.assert_array_equal(table.target, kept["price"])
    np.testing.assert_array_equal(table.frame["size"], kept["size"])
    assert len(set(zip(table.groups.tolist(), kept["store"], strict=True))) == 10
    assert "dropped 2 rows of weight 0" in table.notes
    task = lab.tasks.tabular(table, numeric="standard")
    prepared = task.prepare(1, 0)
    weights = prepared.arrays.targets[0][:, 1][prepared.folds[0][0]]
    np.testing.assert_allclose(weights.mean(), 1.0, rtol=1e-5)


def test_a_study_knows_its_splits_again() -> None:
    frame = sales()
    plain = datasets.load_table(frame, "price")
    table = datasets.load_table(frame, "price", time="sold", weights="trust")
    described = lab.tasks.tabular(table, test_fraction=0.2).describe()
    assert described.items() >= {"time": "sold", "weights": "trust"}.items()
    assert described != lab.tasks.tabular(plain, test_fraction=0.2).describe()
    again = reopen(described, frame)
    assert again.describe() == described
    np.testing.assert_array_equal(again.table.times, table.times)


@pytest.mark.parametrize(("turned", "said"), [(1, True), (-1, True), (0, False)])
def test_rows_in_the_order_of_a_date_are_told(turned: int, said: bool) -> None:
    frame = sales()
    days = frame["sold"].sort_values(ascending=turned > 0).to_numpy()
    frame = frame.assign(sold=days) if turned else frame
    notes = " ".join(datasets.load_table(frame, "price").notes)
    assert ("rows are in the order of sold" in notes) is said
    assert "in the order" not in " ".join(datasets.load_table(frame, "price", time="sold").notes)


@pytest.mark.parametrize(
    ("asked", "replaced", "message"),
    [
        ({"group": "stroe"}, {}, "no column 'stroe'. Did you mean 'store'"),
        ({"group": "store", "time": "sold"}, {}, "--group or --time, not both"),
        ({"group": "price"}, {}, "'price' is the target"),
        ({"group": "store", "weights": "store"}, {}, "'store' is the group column"),
        ({"group": "store"}, {"store": [None, *"ab" * 59, "a"]}, "no value .* data row 1 "),
        ({"time": "store"}, {}, "time column 'store' holds no value"),
        ({"time": "sold"}, {"sold": [*[1.5] * 119, np.nan]}, "data row 120 .1 such rows"),
        ({"weights": "trust"}, {"trust": [*[1.5] * 119, np.nan]}, "data row 120 .1 such rows"),
        ({"weights": "trust"}, {"trust": [-1.0, *[2.5] * 119]}, "is negative in data row 1 "),
        ({"weights": "trust"}, {"trust": [np.inf, *[2.5] * 119]}, "is infinite in data row 1 "),
        ({"weights": "trust"}, {"trust": [0.0] * 120}, "is 0 in every row"),
        ({"weights": "kind"}, {}, "weights column 'kind' holds no value"),
    ],
)
def test_what_cannot_be_is_refused(asked: dict, replaced: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        datasets.load_table(sales(**replaced), "price", **asked)


def test_a_class_without_weight_is_refused() -> None:
    frame = sales(trust=np.where(sales()["kind"] == "flat", 0.0, 1.0))
    with pytest.raises(UserError, match="class 'flat' has rows of weight 0 only"):
        datasets.load_table(frame, "kind", weights="trust")


@pytest.mark.parametrize(
    ("role", "values", "num_folds", "message"),
    [
        ("group", ["a"] * ROWS, 1, "leaves one group only"),
        ("group", ["a", "b", "c"] * 40, 3, "3 folds are more than the 2 groups of 'part'"),
        ("time", [3] * ROWS, 1, "holds one time only"),
        ("time", [1, 2, 3, 4] * 30, 4, r"too few different times \(3\) for 4 folds"),
    ],
)
def test_too_few_groups_or_times(role: str, values: list, num_folds: int, message: str) -> None:
    table = datasets.load_table(sales(part=values), "price", **{role: "part"})
    with pytest.raises(UserError, match=message):
        splits_of(table, num_folds)


def test_default_folds_come_down_where_there_are_few_times_or_groups() -> None:
    assert [datasets.most_time_folds(np.repeat(np.arange(n), 9), 5) for n in (1, 2, 3, 4, 9)] == [
        *(1, 1, 2, 2, 5)
    ]
    settings = Settings(trials=2, epochs=2)
    for role, expected in (
        ("time", "note: one hold-out split instead of 5 folds: there are too few different times"),
        ("group", "note: 2 folds instead of 5: there are no more groups"),
    ):
        table = datasets.load_table(sales(part=[1, 2, 3] * 40), "price", **{role: "part"})
        said: list[str] = []
        plan(table, settings, said.append)
        assert said[0] == expected


def test_a_table_has_groups_or_times() -> None:
    table = datasets.load_table(sales(), "price", group="store")
    with pytest.raises(ValueError, match="not by both"):
        dataclasses.replace(table, times=np.zeros(len(table)))


def test_the_command_line_takes_them(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tune, "prepare_jax", lambda num_devices: None)
    sales().to_csv("sales.csv", index=False)
    common = ["tune", "sales.csv", "--target", "price", "--folds", "9"]
    assert run([*common, "--group", "store", "--weights", "trust"]) == 2
    printed = capsys.readouterr()
    assert "9 folds are more than the" in printed.err
    assert "note: rows of the same store stay on one side of every split" in printed.out
    assert "note: rows count by trust" in printed.out
    assert run([*common, "--time", "sold", "--group", "store"]) == 2
    assert "not both" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
