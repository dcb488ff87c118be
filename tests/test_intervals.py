"""Prediction intervals: ranks, coverage, the published folder, and what is refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import jaxopt_lab as lab
from jaxopt_lab.cli import run, tune
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets import baselines
from jaxopt_lab.problems.tabular.intervals import (
    Residuals,
    around,
    conformal_quantile,
    interval_scores,
)
from jaxopt_lab.report.best_file import read_best

SPACE = "[space]\nlearning_rate = { uniform = [0.01, 0.1] }\nnum_layers = 1\nhidden_size = 4\n"


def houses(rows: int, seed: int) -> pd.DataFrame:
    """Prices with a skew, so that their logarithm is learnt."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(1.0, 9.0, rows).round(3)
    price = np.exp(0.4 * size + rng.normal(0, 0.3, rows)).round(4)
    store = np.arange(rows) // 5
    return pd.DataFrame(
        {"store": store, "size": size, "kind": rng.choice(["a", "b"], rows), "price": price}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of a regression by two folds of whole stores."""
    place = tmp_path_factory.mktemp("intervals")
    houses(150, 0).to_csv(place / "houses.csv", index=False)
    (place / "tiny.toml").write_text(SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(tune, "prepare_jax", lambda num_devices: None)
        patch.setattr(baselines, "fit_baselines", lambda *args: {})  # they have no intervals
        options = "--group store --space tiny.toml --trials 2 --folds 2 --epochs 8"
        options += " --numeric standard --out study"
        assert run(f"tune houses.csv --target price {options}".split()) == 0
    return place


@pytest.mark.parametrize(
    ("number", "coverage", "rank"), [(19, 0.9, 18), (9, 0.9, 9), (9, 0.7, 7), (99, 0.95, 95)]
)
def test_the_rank_is_that_of_finite_samples(number: int, coverage: float, rank: int) -> None:
    assert conformal_quantile(np.arange(1.0, number + 1.0), coverage) == rank


@pytest.mark.parametrize("coverage", [0, 1, 1.5, -0.1, float("nan"), "0.9", None])
def test_a_coverage_lies_between_0_and_1(coverage: object) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        conformal_quantile(np.arange(50.0), coverage)


def test_few_rows_allow_no_great_coverage() -> None:
    with pytest.raises(UserError, match=r"8 held-out rows are too few .* 0\.9: at most 0\.888"):
        conformal_quantile(np.arange(8.0), 0.9)


def test_exchangeable_rows_are_covered() -> None:
    errors = np.abs(np.random.default_rng(0).normal(size=(2000, 20)))
    quantiles = [conformal_quantile(np.sort(row[:19]), 0.9) for row in errors]
    assert np.mean(errors[:, 19] <= quantiles) == pytest.approx(0.9, abs=0.025)


def test_ends_of_a_logarithm_are_factors() -> None:
    ends = around(np.array([2.0, 1e299]), np.log(3.0), log=True)
    np.testing.assert_allclose(ends[0], [2.0 / 3.0, 6.0])
    assert np.isfinite(around(np.array([1e299]), 500.0, log=True)).all()
    ends = around(np.array([2.0, 5.0]), 3.0, log=False)
    np.testing.assert_array_equal(ends, [[-1.0, 5.0], [2.0, 8.0]])
    scores = interval_scores(np.array([5.0, 9.0]), ends)
    assert scores == {"coverage": 0.5, "mean_width": 6.0}


def test_the_folder_holds_errors_of_rows_that_were_not_trained_on(folder: Path) -> None:
    model = lab.Predictor.load(folder / "study" / "model")
    assert model.residuals is not None
    assert len(model.residuals.single) == len(model.residuals.ensemble) == 120
    assert model.transforms[0].log
    # The winner's score of validation is the root mean square of the same errors, fold by fold.
    folds = json.loads((folder / "study" / "best.json").read_text())["validation"]["folds"]
    expected = np.sqrt(np.mean(np.square(folds)))
    assert np.sqrt(np.mean(model.residuals.single**2)) == pytest.approx(expected, rel=1e-4)


def test_new_rows_lie_within(folder: Path) -> None:
    model, new = lab.Predictor.load(folder / "study" / "model"), houses(400, 1)
    for single in (True, False):
        ends = model.predict_interval(new, coverage=0.8, single=single)
        found = model.predict(new, single)
        assert ends.shape == (400, 2)
        assert 0.7 < interval_scores(new["price"].to_numpy(), ends)["coverage"] < 0.92
        np.testing.assert_allclose(ends[:, 0] * ends[:, 1], found**2)
    wider = model.predict_interval(new, coverage=0.95)
    assert (wider[:, 1] > model.predict_interval(new, coverage=0.8)[:, 1]).all()


def test_coverage_of_test_rows_is_told(folder: Path) -> None:
    path = folder / "study" / "best.json"
    assert json.loads(path.read_text())["split"] == {"by": "group", "column": "store"}
    found = read_best(path)["intervals"]
    assert found["asked"] == 0.9
    model = lab.Predictor.load(folder / "study" / "model")
    rows = pd.read_csv(folder / "study" / "test_predictions.csv")
    ends = model.interval_around(rows["ensemble"].to_numpy(), 0.9)
    assert found["ensemble"] == pytest.approx(interval_scores(rows["truth"].to_numpy(), ends))
    assert set(rows["row"] // 5) == set(rows["row"][rows["row"] % 5 == 0] // 5), "whole stores"
    page = (folder / "study" / "report.html").read_text()
    assert f"{found['ensemble']['coverage']:.1%}, mean width" in page
    assert "rows of the same store kept together" in page


def test_predict_adds_two_columns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    houses(5, 2).drop(columns=["price", "store"]).to_csv("new.csv", index=False)
    assert run(["predict", "study", "new.csv", "-o", "out.csv", "--interval", "0.8"]) == 0
    found = pd.read_csv("out.csv")
    assert list(found) == ["price", "price_lower", "price_upper"]
    assert (found["price_lower"] < found["price"]).all()
    assert (found["price"] < found["price_upper"]).all()


def refused(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert run(command.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_has_no_intervals_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    houses(5, 2).to_csv("some.csv", index=False)
    model = lab.Predictor.load("study/model")
    dataclasses.replace(model, residuals=None).save("older")
    assert json.loads(Path("older/model.json").read_text())["schema"] == 1, "as earlier ones read"
    assert "run the tune command" in refused(
        "predict older some.csv -o o.csv --interval 0.9", capsys
    )
    assert run(["predict", "older", "some.csv", "-o", "o.csv"]) == 0
    assert "between 0 and 1" in refused("predict study some.csv -o o.csv --interval 90", capsys)
    assert "too few" in refused("predict study some.csv -o o.csv --interval 0.999", capsys)
    classes = dataclasses.replace(
        model, task="classification", classes=("a", "b"), transforms=(), residuals=None
    )
    with pytest.raises(UserError, match="'price' holds classes"):
        classes.predict_interval(houses(3, 0))


@pytest.mark.parametrize("values", [[2.0, 1.0], [-1.0, 1.0], [1.0, np.inf], []])
def test_residuals_that_cannot_be_are_refused(folder: Path, tmp_path: Path, values: list) -> None:
    from safetensors.numpy import load, save

    shutil.copytree(folder / "study" / "model", tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    content = json.loads(path.read_text())
    content.pop("sha256"), content.pop("weights_sha256")
    path.write_text(json.dumps(content))
    path = tmp_path / "model" / "weights.safetensors"
    arrays = {**load(path.read_bytes()), "residuals/single": np.array(values)}
    path.write_bytes(save(arrays))
    with pytest.raises(UserError, match="residuals of the single"):
        lab.Predictor.load(tmp_path / "model")
    with pytest.raises(ValueError, match="sorted"):
        Residuals(np.array([1.0]), np.array([2.0, 1.0]))
