"""Several numbers of a row, learnt by one network: each in its own units, all by one number."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score, root_mean_squared_error

import jaxopt_lab as lab
from jaxopt_lab.cli import run, tune
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets import TargetLoss, TargetTransforms, decided_on, load_table
from jaxopt_lab.datasets.target_losses import LOSSES
from jaxopt_lab.problems.mlp.data import regression, weighted
from jaxopt_lab.problems.tabular.predictor import Predictor, assemble
from jaxopt_lab.problems.tabular.task import to_target
from jaxopt_lab.report.best_file import read_best
from jaxopt_lab.report.contents import read

SPACE = "[space]\nlearning_rate = { uniform = [0.02, 0.04] }\nnum_layers = 1\nhidden_size = 16\n"
LOSS = [TargetLoss(name, 0.8 if name == "quantile" else None) for name in LOSSES]
MARK = "<b>rent</b>"


def homes(rows: int = 300, seed: int = 0) -> pd.DataFrame:
    """A skewed price of millions that rises with the size, and a rent of tenths that falls."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(1.0, 9.0, rows).round(3)
    price = np.exp(12.0 + 0.5 * size + rng.normal(0, 0.1, rows))
    rent = 0.5 - 0.1 * size + rng.normal(0, 0.02, rows)
    noise = rng.normal(size=rows).round(3)
    return pd.DataFrame({"size": size, "noise": noise, "price": price, MARK: rent})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of both."""
    place = tmp_path_factory.mktemp("homes")
    homes().to_csv(place / "homes.csv", index=False)
    (place / "space.toml").write_text(SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(tune, "prepare_jax", lambda num_devices: None)
        command = ["tune", "homes.csv", "--target", f"{MARK},price", "--space", "space.toml"]
        options = "--trials 2 --folds 2 --epochs 40 --out study"
        assert run([*command, *options.split()]) == 0
    return place


def test_each_is_predicted_in_its_own_units(folder: Path) -> None:
    model, new = Predictor.load(folder / "study" / "model"), homes(400, 1)
    assert model.targets == (MARK, "price")
    for single in (True, False):
        found = model.predict(new, single)
        assert found.shape == (400, 2)
        assert r2_score(new[MARK], found[:, 0]) > 0.85
        assert r2_score(np.log(new["price"]), np.log(found[:, 1])) > 0.85


def test_scores_are_of_each_and_of_all_together(folder: Path) -> None:
    best = read_best(folder / "study" / "best.json")
    rows = pd.read_csv(folder / "study" / "test_predictions.csv")
    scale = Predictor.load(folder / "study" / "model").transforms[-1].scale  # of the refit
    assert best["validation"]["metric"] == "scaled_rmse"
    assert list(best["targets"]) == [MARK, "price"]
    assert [best["targets"][t]["metric"] for t in (MARK, "price")] == ["rmse", "log_rmse"]
    for name in ("single", "ensemble"):
        mine = [best["targets"][t]["test"][name] for t in (MARK, "price")]
        rent = root_mean_squared_error(rows[f"{MARK}_truth"], rows[f"{MARK}_{name}"])
        logs = np.log(rows[["price_truth", f"price_{name}"]].to_numpy())
        assert mine[0]["rmse"] == pytest.approx(rent)
        assert mine[1]["log_rmse"] == pytest.approx(root_mean_squared_error(*logs.T))
        ratios = np.array([mine[0]["rmse"], mine[1]["log_rmse"]]) / scale
        together = best["test"][name]["scaled_rmse"]
        assert together == pytest.approx(np.sqrt(np.mean(ratios**2)))
        assert together < 0.5 * best["baselines"]["mean"]["scaled_rmse"]
    assert best["effects"]["metric"] == "scaled_rmse"
    assert best["effects"]["columns"][0]["name"] == "size"
    for name in (MARK, "price"):
        assert 0.8 < best["targets"][name]["intervals"]["ensemble"]["coverage"] <= 1.0
        assert "hist_gradient_boosting" in best["targets"][name]["baselines"]


def test_the_score_of_a_trial_is_that_of_standardised_errors(folder: Path) -> None:
    with lab.Study.load(folder / "study", folder / "homes.csv") as study:
        assert [t.name for t in study.problem.table.targets] == [MARK, "price"]
        member = study.store.member_arrays(0)[0]
        prepared = study.training.prepared
        valid, transform = prepared.folds[0][1], prepared.transforms[0]
        truth = transform.forward(study.problem.table.target[prepared.development[valid]])
        assert member.score == pytest.approx(np.sqrt(np.mean((truth - member.outputs) ** 2)), 1e-4)


def test_predict_writes_a_column_for_each(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    new = homes(300, 3)
    new.drop(columns=["price", MARK]).to_csv("new.csv", index=False)
    assert run(["predict", "study", "new.csv", "-o", "out.csv", "--interval", "0.9"]) == 0
    found = pd.read_csv("out.csv")
    ends = [f"{name}{end}" for name in (MARK, "price") for end in ("", "_lower", "_upper")]
    assert list(found.columns) == ends
    for name in (MARK, "price"):
        inside = new[name].between(found[f"{name}_lower"], found[f"{name}_upper"])
        assert 0.8 < inside.mean() < 0.98
    factors = found["price_upper"] / found["price"]
    assert factors.max() == pytest.approx(factors.min()), "equally wide on the logarithm's scale"


def test_a_model_is_of_a_schema_of_its_own_and_comes_back(folder: Path, tmp_path: Path) -> None:
    model = Predictor.load(folder / "study" / "model")
    model.save(tmp_path / "again")
    content = json.loads((tmp_path / "again" / "model.json").read_text())
    assert (content["schema"], content["targets"]) == (7, [MARK, "price"])
    again = Predictor.load(tmp_path / "again")
    np.testing.assert_array_equal(again.predict(homes(9)), model.predict(homes(9)))
    del content["sha256"], content["weights_sha256"]
    for changed in ({"targets": [MARK, MARK]}, {"targets": [MARK, "price", "tax"]}):
        (tmp_path / "again" / "model.json").write_text(json.dumps({**content, **changed}))
        with pytest.raises(UserError, match="damaged"):
            Predictor.load(tmp_path / "again")


def test_onnx_computes_the_same(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model, rows = Predictor.load(folder / "study" / "model"), homes(9)
    model.save_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    feeds = {f"rows_{i}": encoded for i, encoded in model.encode(rows).items()}
    np.testing.assert_allclose(session.run(None, feeds)[0], model.predict(rows), rtol=1e-4)


def test_page_and_terminal_show_each(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    page = Path("study/report.html").read_text()
    for figure in ("predicted", "residuals", "predicted-1", "residuals-1"):
        assert f'id="plot-{figure}"' in page
    assert MARK not in page
    assert "Test scores of price" in page
    assert read("study").metric == "scaled_rmse"
    assert run(["show", "study"]) == 0
    assert "rmse" in capsys.readouterr().out


@pytest.mark.parametrize("loss", LOSS, ids=LOSSES)
def test_the_loss_is_the_mean_of_theirs(loss: TargetLoss) -> None:
    rng = np.random.default_rng(0)
    outputs, targets = rng.normal(size=(2, 40, 3)).astype(np.float32)
    weights = rng.uniform(0.5, 2.0, 40).astype(np.float32)
    one, three = regression(loss), regression(loss, 3)
    assert three is regression(loss, 3), "compiled once"
    each = [one.loss(jnp.asarray(outputs[:, [t]]), jnp.asarray(targets[:, t])) for t in range(3)]
    found = three.loss(jnp.asarray(outputs), jnp.asarray(targets))
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-6)
    beside = jnp.asarray(np.column_stack([targets, weights]))
    np.testing.assert_allclose(
        weighted(three, 3).loss(jnp.asarray(outputs), beside), weights * found, rtol=1e-6
    )
    scores = [loss.error(targets[:, t], outputs[:, t], 2.0) for t in range(3)]
    assert loss.shared(scores, [2.0] * 3) == pytest.approx(
        loss.score(float(np.mean(loss.of((targets - outputs) / 2.0))), 1.0)
    )


def test_one_target_twice_is_as_good_as_once() -> None:
    one, two = regression(), regression(num_targets=2)
    rng = np.random.default_rng(1)
    rows, targets, head = rng.normal(size=(30, 4)), rng.normal(size=30), rng.normal(size=(4, 1))
    twice = np.column_stack([targets, targets])

    def slope(criterion: Any, kernel: np.ndarray, truth: np.ndarray) -> np.ndarray:
        def mean_loss(inputs: jax.Array) -> jax.Array:
            return criterion.loss(inputs @ kernel, jnp.asarray(truth)).mean()

        return np.asarray(jax.grad(mean_loss)(jnp.asarray(rows)))

    # What reaches the trunk is the same where both heads are.
    expected = slope(one, head, targets)
    np.testing.assert_allclose(slope(two, np.tile(head, 2), twice), expected, rtol=1e-5, atol=1e-7)
    transforms = TargetTransforms.fit(np.exp(twice), [True, False])
    back = transforms.of_outputs(transforms.forward(np.exp(twice)))
    np.testing.assert_allclose(back, np.exp(twice), rtol=1e-5)


def test_members_and_neighbours_know_of_each() -> None:
    frame = homes(120).assign(count=np.arange(120) % 3)
    table = load_table(frame, target=["price", MARK], weights="count")
    assert len(table) == 80, "rows of weight 0 are left out"
    task = lab.tasks.tabular(table, near=("size", "noise"))
    fixed = {"learning_rate": 0.02, "ensemble_size": 2, "num_layers": 1, "hidden_size": 8}
    with lab.Study(task, lab.SearchSpace(**fixed)) as study:
        study.optimize("random", num_trials=1, num_epochs=3, num_folds=1)
        (member,) = study.store.member_arrays(0)
        prepared, config = study.training.prepared, study.training.complete(fixed)
        model = assemble(task, prepared, [(config, study.kept((0, 0, 0)), 0)], [1.0])
        assert len(model.encoders[0].near.names) == 4, "two means of each target"
        valid = table.frame.iloc[prepared.folds[0][1]]
        expected = to_target(member.outputs, prepared.transforms[0])
        np.testing.assert_allclose(model.predict(valid), expected, rtol=1e-4)


def test_rows_without_one_of_them_are_dropped() -> None:
    frame = homes(60)
    frame.loc[:4, "price"] = np.nan
    frame.loc[3:6, MARK] = np.nan
    table = load_table(frame, target=["price", MARK])
    assert "dropped 7 rows where a target is missing" in table.notes
    np.testing.assert_array_equal(table.target, frame[["price", MARK]].to_numpy()[7:])
    assert [target.log for target in table.targets] == [True, False]
    assert [t.log for t in load_table(frame, ["price", MARK], log_target="no").targets] == [
        False
    ] * 2
    # On rows of training the decision may be another one, for each by itself.
    usual = np.argsort(table.target[:, 0])[:20]
    again, notes = decided_on(table, usual)
    assert [target.log for target in again.targets] == [False, False]
    assert notes == ["learning price as it is, by the skewness of training rows"]


def test_a_column_with_a_comma_is_reached() -> None:
    frame = homes(40).rename(columns={MARK: "size,price"})
    assert load_table(frame, target="size,price").target_name == "size,price"
    assert [t.name for t in load_table(frame, target=["size,price", "price"]).targets] == [
        "size,price",
        "price",
    ]
    both = load_table(homes(40), target="price, size")
    assert [target.name for target in both.targets] == ["price", "size"]
    assert list(both.frame.columns) == ["noise", MARK]


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (["price", "kind"], {}, "'kind' holds classes; tune it by itself"),
        (["price", "rooms"], {}, "'rooms' holds classes; give --task regression"),
        (["price", "size"], {"task": "classification"}, "one by one"),
        (["price", "price"], {}, "'price' is named twice"),
        ("price,size,price", {}, "'price' is named twice"),
        ("price,sizes", {}, "no column 'sizes'. Did you mean 'size'?"),
        ([], {}, "no target"),
        (["price", "size"], {"group": "size"}, "group column 'size' is a target"),
        (["price", "noise"], {"log_target": "yes"}, "logarithm of target 'noise'"),
        (["price", "flat"], {}, "'flat' is constant where all targets are known"),
        (["price", "late"], {}, "no row has all targets"),
    ],
)
def test_what_cannot_be_is_refused(target: Any, options: dict[str, Any], message: str) -> None:
    frame = homes(60).assign(kind=["a", "b"] * 30, rooms=[1, 2, 3] * 20)
    frame["flat"] = np.where(frame.index < 30, 1.5, frame["noise"])
    frame["late"] = frame["noise"].where(frame.index >= 30)
    frame.loc[30:, "price"] = np.nan
    with pytest.raises(UserError) as error:
        load_table(frame, target=target, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("tune homes.csv --target size,price --ensemble all", "predicts one target"),
        ("tune homes.csv --target size --target kind", "no column 'kind'"),
        ("tune homes.csv --target size,price --out study --space space.toml", "other"),
        ("predict study homes.csv -o o.csv --interval 0.999", "are too few"),
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
    assert run(command.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
