"""Numbers are encoded by bins, but taken as they are where bins drown a small table."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxopt_lab as lab
from jaxopt_lab import datasets
from jaxopt_lab.datasets import number_encodings
from jaxopt_lab.tuning import number_columns


def spectra(num_rows: int = 120, num_channels: int = 24) -> pd.DataFrame:
    """Channels that are sums of three smooth curves, and noise."""
    rng = np.random.default_rng(0)
    shapes = np.sin(np.outer([1, 2, 3], np.linspace(0, 3, num_channels)))
    values = rng.normal(size=(num_rows, 3)) @ shapes
    values += 0.01 * rng.normal(size=values.shape)
    return pd.DataFrame(values, columns=[f"at_{i}" for i in range(num_channels)])


def asked(frame: pd.DataFrame, target: Any, numeric: Any = "auto", num_bins: Any = None) -> Any:
    notes: list[str] = []
    table = datasets.load_table(frame.assign(y=target), "y", log_target="no")
    return number_columns.number_encoding(table, numeric, num_bins, notes), len(notes)


def test_a_sum_over_many_channels_is_left_as_it_is() -> None:
    frame = spectra()
    target = frame.to_numpy() @ np.cos(np.arange(frame.shape[1]))
    assert asked(frame, target) == ("standard", 1)


def test_several_targets_count_alike() -> None:
    frame = spectra()
    steps = np.abs(frame["at_3"]) + np.abs(frame["at_20"])
    places = np.arange(frame.shape[1])
    one, another = (frame.to_numpy() @ wave(places) for wave in (np.cos, np.sin))

    def found(first: Any, second: Any) -> str:
        return datasets.find_encoding(
            datasets.load_table(frame.assign(y=first, z=second), ["y", "z"])
        )

    assert found(one, 1e6 * another) == "standard"
    assert found(one, 1e6 * steps) == found(1e6 * one, steps) == "piecewise_linear"


def test_where_bins_tell_more_or_are_asked_for_they_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = spectra()
    steps = np.abs(frame["at_3"]) + np.abs(frame["at_20"])
    assert asked(frame, steps) == ("piecewise_linear", 0)
    linear = frame.to_numpy() @ np.cos(np.arange(frame.shape[1]))
    assert asked(frame, linear, "quantile") == ("quantile", 0)
    assert asked(frame, linear, num_bins=8) == ("piecewise_linear", 0)
    few = frame[["at_0", "at_12"]]
    monkeypatch.setattr(number_encodings, "_error", lambda *args: pytest.fail("asked"))
    assert asked(few, linear) == ("piecewise_linear", 0), "fewer columns than rows"
    classes = np.where(linear > np.median(linear), "high", "low")
    assert asked(few, classes) == ("piecewise_linear", 0)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_classes_by_a_sum_over_many_channels_too(num_classes: int) -> None:
    frame = spectra()
    linear = frame.to_numpy() @ np.cos(np.arange(frame.shape[1]))
    assert asked(frame, parts(linear, num_classes)) == ("standard", 1)
    steps = np.abs(frame["at_3"]) + np.abs(frame["at_20"])
    assert asked(frame, parts(steps, num_classes)) == ("piecewise_linear", 0)


def test_classes_that_folds_lack_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = spectra()
    linear = frame.to_numpy() @ np.cos(np.arange(frame.shape[1]))
    rare = parts(linear, 2)
    rare[:2] = "rare"
    assert asked(frame, rare)[0] in ("standard", "piecewise_linear")
    monkeypatch.setattr(number_encodings, "_MOST_ROWS", 60)
    assert asked(frame, parts(linear, 2)) == ("standard", 1), "told by a part of the rows"


def parts(values: Any, num_classes: int) -> np.ndarray:
    """Classes of about equal size in the order of values."""
    places = np.argsort(np.argsort(values)) * num_classes // len(values)
    return np.array(["low", "mid", "high"], object)[places]


def drifts(num_rows: int = 500) -> tuple[datasets.Table, datasets.Table]:
    """Eight columns that matter in proportion; the same, and the first in ever steeper steps."""
    rng = np.random.default_rng(1)
    values = rng.uniform(size=(num_rows, 8))
    frame = pd.DataFrame(values, columns=[f"x{i}" for i in range(8)])
    straight = values.sum(axis=1) + rng.normal(size=num_rows)
    jagged = 3.0 * (np.floor(30 * values[:, 0]) % 2) + 0.1 * straight
    return tuple(
        datasets.load_table(frame.assign(y=y), "y", log_target="no") for y in (straight, jagged)
    )


def test_fewer_bins_where_they_tell_more_of_rows_held_out() -> None:
    straight, jagged = drifts()
    assert datasets.find_num_bins(straight) in (6, 12)
    assert datasets.find_num_bins(jagged) is None
    by_class = straight.frame.assign(y=parts(straight.target, 2))
    assert datasets.find_num_bins(datasets.load_table(by_class, "y")) in (6, 12)


def test_bins_are_asked_for_only_where_rows_are_few_and_columns_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    straight, _ = drifts()
    monkeypatch.setattr(number_encodings, "_error", lambda *args: pytest.fail("asked"))
    assert datasets.find_num_bins(straight.take(np.arange(399))) is None
    few = straight.frame.round(0).assign(y=straight.target)
    assert datasets.find_num_bins(datasets.load_table(few, "y", log_target="no")) is None
    monkeypatch.setattr(number_encodings, "_ROWS_FOR_BINS", (400, 499))
    assert datasets.find_num_bins(straight) is None


def test_too_many_columns_for_regressions_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    _, jagged = drifts()
    tried: list[int] = []

    def error(table: Any, numeric: str, pairs: Any, num_bins: int) -> float:
        tried.append(num_bins)
        return {32: 0.1, 24: 0.5, 12: 0.3, 6: 0.4}[num_bins]

    monkeypatch.setattr(number_encodings, "_error", error)
    assert datasets.find_num_bins(jagged) is None
    assert set(tried) == {32, 24, 12, 6}
    monkeypatch.setattr(number_encodings, "_MOST_COLUMNS", 8 * 26)
    tried.clear()
    assert datasets.find_num_bins(jagged) == 12
    assert set(tried) == {24, 12, 6}
    monkeypatch.setattr(number_encodings, "_MOST_COLUMNS", 8)
    assert datasets.find_num_bins(jagged) is None


def test_a_number_of_bins_that_was_asked_for_or_begun_with_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    straight, _ = drifts()
    notes: list[str] = []
    monkeypatch.setattr(number_columns, "find_num_bins", lambda table: 12)
    assert number_columns.number_of_bins(straight, "auto", None, {}, notes) == 12
    assert "12 bins instead of 32" in notes.pop()
    monkeypatch.setattr(number_columns, "find_num_bins", lambda table: pytest.fail("asked"))
    assert number_columns.number_of_bins(straight, "auto", 32, {}, notes) == 32
    for encoding in ("standard", "quantile", "piecewise_linear"):
        assert number_columns.number_of_bins(straight, encoding, None, {}, notes) is None
    assert number_columns.begun_with(None) == number_columns.begun_with(tmp_path) == {}
    space = lab.SearchSpace(hidden_size=4, num_layers=1)
    for num_bins, known in ((None, None), (12, 12)):  # as an earlier version would, and this one
        task = lab.tasks.tabular(straight, num_bins=num_bins)
        with lab.Study(task, space, tmp_path / str(num_bins)):
            pass
        begun = number_columns.begun_with(tmp_path / str(num_bins))
        assert number_columns.number_of_bins(straight, "auto", None, begun, notes) == known
    assert len(notes) == 1
