"""Numbers are encoded by bins, but taken as they are where bins drown a small table."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from jaxopt_lab import datasets
from jaxopt_lab.datasets import number_encodings
from jaxopt_lab.tuning import tune


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
    return tune.number_encoding(table, numeric, num_bins, notes), len(notes)


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
