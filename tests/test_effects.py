"""Permutation importance: the definition, on whatever the ensemble is made of, within bounds."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import jaxopt_lab as lab
from jaxopt_lab.problems.tabular import effects
from jaxopt_lab.problems.tabular.effects import permutation_importance
from jaxopt_lab.report.best_file import read_best
from jaxopt_lab.report.page import page_of
from jaxopt_lab.tuning import final_models, tune
from jaxopt_lab.tuning.settings import Settings


def rooms(rows: int = 200) -> pd.DataFrame:
    """`size` says most, the `day` little, `kind` something, `noise` nothing."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": rng.uniform(0, 8, rows),
            "kind <b>": rng.choice(["a", "b", "c"], rows),
            "noise": rng.normal(size=rows),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 400, rows), "D"),
        }
    )
    price = 10 * frame["size"] + 8 * (frame["kind <b>"] == "b") + rng.normal(0, 1, rows)
    return frame.assign(price=price)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[lab.Predictor, pd.DataFrame, Path]:
    """A model of networks, trees and ridge, rows that it did not see, and its folder."""
    place = tmp_path_factory.mktemp("effects")
    space = lab.SearchSpace(learning_rate=lab.Choice([0.02, 0.03]), num_layers=1, hidden_size=4)
    settings = Settings(
        trials=2, folds=2, epochs=5, space=space, numeric="standard", ensemble="all", search="grid"
    )
    with pytest.MonkeyPatch.context() as patch:
        # All kinds, whatever would be best.
        patch.setattr(final_models.ensemble, "greedy", lambda p, *_: np.full(len(p), 1 / len(p)))
        patch.setattr("jaxopt_lab.datasets.baselines.fit_baselines", lambda *args: {})
        table = lab.datasets.load_table(rooms(), "price")
        content = tune.run(table, settings, place, say=lambda text: None)
    assert len(content["ensemble"]["members"]) >= 4
    return lab.Predictor.load(place / "model"), rooms().iloc[-60:], place


def rmse(predicted: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((predicted - truth) ** 2)))


def test_it_is_the_definition(study) -> None:
    model, frame, _ = study
    truth = frame["price"].to_numpy()
    found = permutation_importance(model, frame, truth, rmse, seed=3)
    assert found.rows == 60
    assert not found.single
    rng, expected = np.random.default_rng(3), {}
    base = rmse(model.predict(frame), truth)
    for column in model.encoders[0].columns:
        for _ in range(found.repeats):
            shuffled = frame.copy()
            shuffled[column] = frame[column].to_numpy()[rng.permutation(60)]
            expected.setdefault(column, []).append(rmse(model.predict(shuffled), truth) - base)
    assert found.error == pytest.approx(base)
    assert found.columns.keys() == expected.keys()
    for column, rises in expected.items():
        np.testing.assert_allclose(found.columns[column], rises, rtol=1e-5, atol=1e-6)


def test_what_says_most_comes_first(study) -> None:
    _, _, place = study
    content = json.loads((place / "best.json").read_text())["effects"]
    names = [row["name"] for row in content["columns"]]
    assert names[:2] == ["size", "kind <b>"]
    assert content["model"] == "ensemble"
    means = {row["name"]: row["mean"] for row in content["columns"]}
    assert means["size"] > 10 * abs(means["noise"])
    assert all(row["deviation"] > 0 for row in content["columns"][:2])


def test_the_page_shows_it(study) -> None:
    _, _, place = study
    page = page_of(place).decode()
    assert "What the predictions rest on" in page
    assert "kind &lt;b&gt;</td>" in page
    repeats = read_best(place / "best.json")["effects"]["repeats"]
    assert 2 <= repeats <= effects.REPEATS
    assert f"{repeats} shuffles" in page


def test_work_is_bounded(study, monkeypatch: pytest.MonkeyPatch) -> None:
    model, frame, _ = study
    many, truth = pd.concat([frame] * 4), np.tile(frame["price"].to_numpy(), 4)
    monkeypatch.setattr(effects, "MAX_WORK", 1e5)
    few = permutation_importance(model, many, truth, rmse, seed=0)
    assert few.single, "the ensemble would take too long"
    assert few.rows < len(many)
    assert few.repeats == 2
    monkeypatch.setattr(effects, "MAX_WORK", 1e3)
    assert permutation_importance(model, many, truth, rmse, seed=0) is None
