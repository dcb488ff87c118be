"""Losses of a number: what each predicts, its score, and how it comes through to predictions."""

import json
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from sklearn.metrics import mean_pinball_loss

import jaxopt_lab as lab
from jaxopt_lab.cli import run, tune
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets import TargetTransform, baselines, table_of
from jaxopt_lab.datasets.target_losses import HUBER_DELTA, LOSSES, TargetLoss
from jaxopt_lab.problems.mlp.data import regression
from jaxopt_lab.report.best_file import read_best
from jaxopt_lab.tuning import other_candidates

EACH = [TargetLoss(name, 0.8 if name == "quantile" else None) for name in LOSSES]
SPACE = "[space]\nlearning_rate = { uniform = [0.02, 0.05] }\nnum_layers = 1\nhidden_size = 16\n"
SPACE += 'activation = "gelu"\nschedule = "cosine"\n'
each_loss = pytest.mark.parametrize("loss", EACH, ids=LOSSES)


def houses(rows: int, seed: int) -> pd.DataFrame:
    """Prices with a skew, so that their logarithm is learnt."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(1.0, 9.0, rows).round(3)
    price = np.exp(0.4 * size + rng.normal(0, 0.3, rows)).round(4)
    return pd.DataFrame({"size": size, "price": price})


@each_loss
def test_what_is_trained_is_what_is_scored(loss: TargetLoss) -> None:
    rng = np.random.default_rng(0)
    truth, guess = rng.normal(size=(2, 50)).astype(np.float32)
    trained = regression(loss).loss(jnp.asarray(guess[:, None]), jnp.asarray(truth))
    np.testing.assert_allclose(trained, loss.of(truth - guess), rtol=1e-5, atol=1e-7)
    assert regression(loss) is regression(TargetLoss(loss.name, loss.quantile)), "compiled once"
    mean = float(np.mean(loss.of((truth - guess) / 3.0)))
    assert loss.error(truth, guess, 3.0) == pytest.approx(loss.score(mean, 3.0))


def test_losses_are_those_of_the_libraries() -> None:
    errors = np.random.default_rng(0).normal(size=40)
    nothing = np.zeros(40)
    found = {loss.name: loss.of(errors) for loss in EACH}
    np.testing.assert_allclose(found["huber"], optax.huber_loss(errors, delta=HUBER_DELTA), 1e-5)
    pinball = mean_pinball_loss(errors, nothing, alpha=0.8)
    assert found["quantile"].mean() == pytest.approx(pinball)
    assert EACH[1].error(errors, nothing, 7.0) == pytest.approx(np.abs(errors).mean())
    # Of errors far beyond its delta Huber's score is the absolute error.
    assert EACH[2].error(1e4 * errors, nothing, 1.0) == pytest.approx(
        1e4 * np.abs(errors).mean(), rel=1e-3
    )


@each_loss
@pytest.mark.parametrize("weighted", [False, True])
def test_the_constant_has_the_least_loss(loss: TargetLoss, weighted: bool) -> None:
    rng = np.random.default_rng(1)
    target = np.exp(rng.normal(size=31))
    weights = rng.uniform(0.1, 3.0, 31) if weighted else np.ones(31)
    tried = np.linspace(target.min(), target.max(), 2001)
    least = min(np.average(loss.of(target - c), weights=weights) for c in tried)
    mine = np.average(loss.of(target - loss.constant(target, weights)), weights=weights)
    assert mine <= least + 1e-9


def test_a_few_wild_targets_leave_the_scale_alone() -> None:
    target = np.random.default_rng(0).normal(100.0, 10.0, 500)
    wild = np.concatenate([target, np.full(20, 1e5)])
    robust, usual = (TargetTransform.fit(wild, robust=choice) for choice in (True, False))
    assert 8.0 < robust.scale < 12.0
    assert abs(robust.mean - 100.0) < 2.0
    assert usual.scale > 1e4
    assert TargetTransform.fit(target, robust=True).scale == pytest.approx(target.std(), rel=0.1)
    # Equal quartiles, or targets that float32 would take for infinite, leave mean and deviation.
    for values in (np.array([0.0] * 9 + [5.0]), np.array([1e-30, 2e-30, 3e-30, 4e-30, 1e30])):
        assert TargetTransform.fit(values, robust=True) == TargetTransform.fit(values)


@pytest.mark.parametrize(
    ("name", "quantile", "message"),
    [
        ("absolut", None, "unknown loss 'absolut'. Did you mean 'absolute'"),
        (3, None, "unknown loss 3"),
        ("quantile", None, "needs its quantile"),
        ("quantile", 90, "between 0 and 1, got 90"),
        ("quantile", "0.9", "between 0 and 1"),
        ("quantile", float("nan"), "between 0 and 1"),
        ("absolute", 0.5, "not for absolute"),
    ],
)
def test_what_is_no_loss_is_refused(name: object, quantile: object, message: str) -> None:
    table = table_of(houses(20, 0)[["size"]], houses(20, 0)["price"].to_numpy())
    with pytest.raises(UserError, match=re.escape(message)):
        lab.tasks.tabular(table, loss=name, quantile=quantile)


def test_classes_have_no_such_loss() -> None:
    table = table_of(houses(20, 0)[["size"]], np.arange(20) % 2, classes=("a", "b"))
    with pytest.raises(UserError, match="the loss huber needs a number"):
        lab.tasks.tabular(table, loss="huber")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of the 0.9 quantile, with trees beside the networks."""
    place = tmp_path_factory.mktemp("losses")
    houses(400, 0).to_csv(place / "houses.csv", index=False)
    (place / "high.toml").write_text(f'{SPACE}[loss]\nname = "quantile"\nquantile = 0.9\n')
    (place / "plain.toml").write_text(SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(tune, "prepare_jax", lambda num_devices: None)
        patch.setattr(other_candidates, "names", lambda *args: ("hist_gradient_boosting",))
        options = "--trials 2 --folds 2 --epochs 40 --out study --ensemble all"
        assert run(f"tune houses.csv --target price --space high.toml {options}".split()) == 0
    return place


def test_about_that_share_of_new_rows_lies_below(folder: Path) -> None:
    model, new = lab.Predictor.load(folder / "study" / "model"), houses(2000, 1)
    for single in (True, False):
        assert 0.83 < np.mean(new["price"] <= model.predict(new, single)) < 0.95


def test_the_score_is_the_loss_of_held_out_rows(folder: Path) -> None:
    best = read_best(folder / "study" / "best.json")
    assert best["validation"]["metric"] == "log_pinball"
    rows = pd.read_csv(folder / "study" / "test_predictions.csv")
    for name in ("single", "ensemble"):
        found = best["test"][name]
        assert set(found) == {"log_pinball", "pinball", "share_below"}
        truth, guess = rows["truth"], rows[name]
        assert found["pinball"] == pytest.approx(mean_pinball_loss(truth, guess, alpha=0.9))
        of_logs = mean_pinball_loss(np.log(truth), np.log(guess), alpha=0.9)
        assert found["log_pinball"] == pytest.approx(of_logs)
    assert set(best["baselines"]) == {"quantile", "hist_gradient_boosting"}
    assert 0.8 < best["baselines"]["quantile"]["share_below"] < 1.0
    assert best["effects"]["metric"] == "log_pinball"


def test_study_model_and_page_say_what_is_predicted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    content = json.loads(Path("study/model/model.json").read_text())
    assert (content["schema"], content["loss"], content["quantile"]) == (4, "quantile", 0.9)
    houses(5, 2).to_csv("new.csv", index=False)
    assert run(["predict", "study", "new.csv", "-o", "out.csv"]) == 0
    assert "5 predictions of price, the quantile 0.9: out.csv" in capsys.readouterr().out
    page = Path("study/report.html").read_text()
    assert "predicts the quantile 0.9" in page
    assert "Loss (pinball)" in page


def test_trials_are_compared_by_it(folder: Path) -> None:
    with lab.Study.load(folder / "study", folder / "houses.csv") as study:
        loss, prepared = study.problem.target_loss, study.training.prepared
        assert loss == TargetLoss("quantile", 0.9)
        member = study.store.member_arrays(0)[0]
        transform, valid = prepared.transforms[0], prepared.folds[0][1]
        truth = np.log(study.problem.table.target[prepared.development[valid]])
        guess = np.log(transform.inverse(member.outputs[:, 0]))
        assert member.score == pytest.approx(mean_pinball_loss(truth, guess, alpha=0.9), rel=1e-3)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("predict study houses.csv -o o.csv --interval 0.9", "an end of an interval"),
        ("tune houses.csv --target price --loss quantile", "needs its quantile"),
        ("tune houses.csv --target price --loss hubert", "Did you mean 'huber'"),
        ("tune houses.csv --target price --quantile 0.9", "is for the loss quantile"),
        ("tune houses.csv --target price --loss quantile --quantile 1", "between 0 and 1"),
        ("tune houses.csv --target price --space high.toml --loss huber", "give one of them"),
        ("tune houses.csv --target price --space odd.toml", "Did you mean 'quantile'"),
        ("tune houses.csv --target price --space plain.toml --out study", "other"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tune, "prepare_jax", lambda num_devices: None)
    Path("odd.toml").write_text(f'{SPACE}[loss]\nname = "quantile"\nquantil = 0.9\n')
    assert run(command.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize("name", ["hist_gradient_boosting", "lightgbm"])
@pytest.mark.parametrize("loss", [EACH[1], EACH[3]], ids=["absolute", "quantile"])
def test_trees_are_fitted_by_the_same_loss(name: str, loss: TargetLoss) -> None:
    if name == "lightgbm":
        pytest.importorskip("lightgbm")
    rng = np.random.default_rng(0)
    size = rng.uniform(1.0, 9.0, 300)
    table = table_of(pd.DataFrame({"size": size}), size + np.exp(1.5 * rng.normal(size=300)))
    task = lab.tasks.tabular(table, loss=loss.name, quantile=loss.quantile)
    prepared = task.prepare(1, 0)
    where = (table, prepared.encoders[-1], prepared.transforms[-1], 0)
    means = {}
    for fitted in (loss, TargetLoss()):
        other = other_candidates.fit(name, *where, loss=fitted)
        assert other.reader is not None
        outputs = other.model.predict(other.reader.raw(table.frame))[:, 0]
        errors = prepared.transforms[-1].forward(table.target) - outputs
        means[fitted.name] = loss.of(errors).mean()
    assert means[loss.name] < means["squared"]
    assert "ridge" not in other_candidates.names(True, EACH[3])


def test_baselines_are_fitted_by_it() -> None:
    frame = houses(300, 0)
    table = table_of(frame[["size"]], frame["price"].to_numpy())
    found = baselines.fit_baselines(table, table, 0, loss=EACH[1])
    assert set(found) == {"median", "ridge", "hist_gradient_boosting", "untuned_mlp"}
    errors = np.abs(table.target - np.median(table.target))
    assert found["median"]["mae"] == pytest.approx(errors.mean())


@pytest.mark.slow
def test_outliers_of_the_target_cost_the_median_little() -> None:
    rng = np.random.default_rng(0)
    size = rng.uniform(-1.0, 1.0, 300)
    clean = 3.0 * size + rng.normal(0, 0.1, 300)
    target = np.where(rng.random(300) < 0.1, 300.0, clean)
    space = {"learning_rate": 0.02, "num_layers": 1, "hidden_size": 16, "activation": "gelu"}
    options: dict[str, Any] = {"cv": 1, "space": space, "numeric": "standard", "random_state": 0}
    model = lab.sklearn.TunedRegressor(1, num_epochs=30, loss="absolute", **options)
    model.fit(size[:, None], target)
    assert np.mean(np.abs(model.predict(size[:, None]) - clean)) < 0.3
    assert model.scoring_ == "neg_mean_absolute_error"
    study = model.study_
    valid = study.training.prepared.folds[0][1]
    transform = study.training.prepared.transforms[0]
    (outputs,) = (
        m.outputs for m in study.store.member_arrays(0) if (m.fold, m.replicate) == (0, 0)
    )
    errors = np.abs(transform.inverse(outputs[:, 0]) - target[valid])
    assert model.best_score_ == pytest.approx(-errors.mean(), rel=1e-4)
    with pytest.raises(UserError, match="unknown loss"):
        lab.sklearn.TunedRegressor(loss="mae").fit(size[:, None], target)
