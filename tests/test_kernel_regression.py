"""Kernel regression: scikit-learn's numbers, errors of leaving a row out, a member of ensembles."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.gaussian_process.kernels import Matern
from sklearn.kernel_ridge import KernelRidge

import jaxopt_lab as lab
from jaxopt_lab.cli import run, tune
from jaxopt_lab.datasets import TargetLoss, baselines
from jaxopt_lab.problems.tabular import kernels
from jaxopt_lab.problems.tabular.kernels import Kernel
from jaxopt_lab.tuning import committees, kernel_regression, other_candidates
from jaxopt_lab.tuning.kernel_regression import fit_kernel


def bowl(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A smooth function of three columns, and some noise."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(rows, 3))
    target = np.cos(inputs[:, 0] + inputs[:, 1]) + 0.5 * inputs[:, 2] ** 2
    return inputs, target + rng.normal(0, 0.1, rows)


def only(monkeypatch: pytest.MonkeyPatch, width: float, penalty: float) -> None:
    monkeypatch.setattr(kernel_regression, "WIDTHS", (width,))
    monkeypatch.setattr(kernel_regression, "PENALTIES", np.array([penalty]))


@pytest.mark.parametrize("has_weights", [False, True])
def test_it_predicts_what_scikit_learn_does(
    monkeypatch: pytest.MonkeyPatch, has_weights: bool
) -> None:
    (inputs, target), (new, _) = bowl(80), bowl(30, 1)
    weights = np.random.default_rng(2).uniform(0.2, 3.0, 80) if has_weights else None
    only(monkeypatch, 0.7, 0.05)
    ours = fit_kernel(inputs, target, weights, 0)
    shares = np.ones(80) if weights is None else weights / weights.mean()
    matern = Matern(float(ours.width[0]), nu=1.5)
    bias = np.average(target, weights=shares)
    theirs = KernelRidge(alpha=0.05, kernel="precomputed")
    theirs.fit(matern(inputs), target - bias, sample_weight=shares)
    found = ours.predict(new)
    np.testing.assert_allclose(found[:, 0], theirs.predict(matern(new, inputs)) + bias, rtol=1e-8)
    np.testing.assert_array_equal(ours.predict(new[4:5]), found[4:5])
    monkeypatch.setattr(kernels, "_AT_ONCE", 160)
    np.testing.assert_array_equal(ours.predict(new), found)
    assert ours.predict(new[:0]).shape == (0, 1)


def test_errors_of_leaving_a_row_out_are_those_of_fitting_without_it() -> None:
    inputs, target = bowl(25)
    roots = np.sqrt(np.random.default_rng(3).uniform(0.5, 2.0, 25))
    kernel = kernels.matern(kernels.distances(inputs, inputs))
    least = np.inf
    for penalty in kernel_regression.PENALTIES:
        errors = []
        for i in range(25):
            rest = np.arange(25) != i
            model = KernelRidge(alpha=penalty, kernel="precomputed")
            model.fit(kernel[np.ix_(rest, rest)], target[rest], sample_weight=roots[rest] ** 2)
            errors.append(roots[i] * (target[i] - model.predict(kernel[[i]][:, rest])[0]))
        least = min(least, float(np.mean(np.square(errors))))
    found, _ = kernel_regression._left_out(kernel, target, roots)
    assert found == pytest.approx(least, rel=1e-6)


def test_smooth_functions_have_wide_kernels_and_noise_large_penalties() -> None:
    inputs, target = bowl(300)
    new, truth = bowl(300, 1)
    error = np.mean((fit_kernel(inputs, target, None, 0).predict(new)[:, 0] - truth) ** 2)
    assert error < 0.1 * np.var(truth)
    noise = np.random.default_rng(4).normal(size=300)
    assert np.std(fit_kernel(inputs, noise, None, 0).predict(new)) < 0.3


def test_rows_it_cannot_be_fitted_to_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, target = bowl(30)
    with pytest.raises(ValueError, match="all alike"):
        fit_kernel(np.zeros((30, 3)), target, None, 0)
    monkeypatch.setattr(kernel_regression, "MAX_ROWS", 29)
    with pytest.raises(ValueError, match="at most 29 rows, not 30"):
        fit_kernel(inputs, target, None, 0)


def test_it_is_a_candidate_of_means_of_few_rows() -> None:
    names, most = other_candidates.names, kernel_regression.MAX_ROWS
    assert "kernel_regression" in names(True, num_rows=most)
    assert "kernel_regression" not in names(True, num_rows=most + 1)
    assert "kernel_regression" not in names(False, num_rows=100)
    assert "kernel_regression" not in names(True, TargetLoss("quantile", 0.9), 100)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("centres", np.zeros((3, 2), np.float32)),
        ("centres", np.full((3, 2), np.nan)),
        ("coefficients", np.zeros(4)),
        ("width", np.zeros(1)),
        ("width", np.ones(2)),
        ("bias", np.array(1.0)),
        ("bias", np.array([np.inf])),
    ],
)
def test_a_kernel_that_cannot_be_is_refused(name: str, value: np.ndarray) -> None:
    known = Kernel(np.zeros((3, 2)), np.zeros(3), np.ones(1), np.zeros(1))
    with pytest.raises(ValueError, match="a kernel's"):
        dataclasses.replace(known, **{name: value})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of a smooth function with gaps and labels, and what it printed."""
    place = tmp_path_factory.mktemp("kernel")
    inputs, target = bowl(200)
    frame = pd.DataFrame(inputs, columns=["a", "b", "c"])
    frame["kind"] = np.where(np.arange(200) % 3 == 0, "x", "y")
    frame["value"] = target + (frame["kind"] == "x")
    frame.loc[::9, "b"] = np.nan
    frame.to_csv(place / "bowl.csv", index=False)
    (place / "tiny.toml").write_text(
        "[space]\nlearning_rate = { uniform = [0.01, 0.1] }\nnum_layers = 1\nhidden_size = 4\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(tune, "prepare_jax", lambda num_devices: None)
        patch.setattr(baselines, "fit_baselines", lambda *args: {})
        one = {name: tried[:1] for name, tried in committees.TRIED.items()}
        patch.setattr(committees, "TRIED", one)
        options = "--space tiny.toml --trials 2 --folds 2 --epochs 2 --ensemble all --out run"
        assert run(f"tune bowl.csv --target value {options}".split()) == 0
    return place


def test_the_folder_predicts_what_was_tested(folder: Path) -> None:
    rows = pd.read_csv(folder / "run" / "test_predictions.csv")
    model, table = lab.Predictor.load(folder / "run" / "model"), pd.read_csv(folder / "bowl.csv")
    (kernel,) = (other for other in model.others if other.name == "kernel_regression")
    assert kernel.weight > 0.5
    assert json.loads((folder / "run" / "model" / "model.json").read_text())["schema"] == 8
    some = table.iloc[rows["row"]]
    np.testing.assert_allclose(model.predict(some), rows["ensemble"], rtol=1e-12)
    odd = some.iloc[:3].assign(kind=["z", None, "x"], a=["?", "3", None])
    assert np.isfinite(model.predict(odd)).all()


def test_its_columns_are_shuffled_for_importance(folder: Path) -> None:
    content = json.loads((folder / "run" / "best.json").read_text())
    effects = content["effects"]
    assert effects["model"] == "ensemble"
    assert {column["name"] for column in effects["columns"]} == {"a", "b", "c", "kind"}
    assert all(column["mean"] > 0 for column in effects["columns"])
    page = (folder / "run" / "report.html").read_text()
    assert "<td>Kernel regression</td>" in page
