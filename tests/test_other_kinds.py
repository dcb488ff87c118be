"""Trees and linear models in an ensemble: the library's numbers, a folder that is inert."""

import dataclasses
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load, save
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

import jaxopt_lab as lab
from jaxopt_lab.cli import run, tune
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets import baselines
from jaxopt_lab.problems.tabular.trees import from_hist_gradient_boosting, from_lightgbm
from jaxopt_lab.report.best_file import read_best
from jaxopt_lab.sklearn import TunedRegressor
from jaxopt_lab.tuning import committees, other_candidates
from jaxopt_lab.tuning.other_candidates import fit
from jaxopt_lab.tuning.settings import Settings

needs_lightgbm = pytest.mark.skipif(
    importlib.util.find_spec("lightgbm") is None, reason="LightGBM is not installed"
)
SPACE = "[space]\nlearning_rate = { uniform = [0.01, 0.1] }\nnum_layers = 1\nhidden_size = 4\n"


@pytest.fixture(scope="module", autouse=True)
def _one_setting() -> Iterator[None]:
    """What is tried of trees is not what these tests are about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(committees, "TRIED", {name: t[:1] for name, t in committees.TRIED.items()})
        yield


def rooms(rows: int, seed: int) -> pd.DataFrame:
    """Prices that jump, which trees see at once; gaps, labels, a class with two edges."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(0, 8, rows).round(2)
    kind = rng.choice(["a", "b", "c", "d"], rows, p=[0.4, 0.3, 0.2, 0.1])
    price = 10 + 20 * (np.floor(size) % 2) + 5 * np.isin(kind, ["b", "d"]) + rng.normal(0, 1, rows)
    age = np.where(rng.random(rows) < 0.2, np.nan, rng.integers(0, 50, rows))
    level = np.select([price < 15, price < 28], ["low", "mid"], "high")
    return pd.DataFrame({"size": size, "age": age, "kind": kind, "price": price, "level": level})


def matrix(rows: int, seed: int) -> np.ndarray:
    """Positions of labels, some of them never trained on or missing, then numbers with gaps."""
    rng = np.random.default_rng(seed)
    labels = np.column_stack([rng.integers(0, 40, rows), rng.integers(0, 3, rows)])
    numbers = np.where(rng.random((rows, 3)) < 0.1, np.nan, rng.normal(size=(rows, 3)))
    return np.column_stack([labels, numbers])


@pytest.mark.parametrize("num_classes", [0, 2, 4])
@pytest.mark.parametrize("library", ["sklearn", pytest.param("lightgbm", marks=needs_lightgbm)])
def test_trees_predict_what_their_library_does(library: str, num_classes: int) -> None:
    train, new = matrix(400, 0), matrix(300, 1)
    new[::7, 0], new[::5, 1] = np.nan, np.nan
    signal = np.nan_to_num(train[:, 2]) + (train[:, 0] % 3) + train[:, 1]
    target = np.argsort(np.argsort(signal)) * num_classes // 400 if num_classes else signal
    classes = np.unique(target) if num_classes else None
    if library == "sklearn":
        kind = HistGradientBoostingClassifier if num_classes else HistGradientBoostingRegressor
        model = kind(max_iter=15, categorical_features=[0, 1], early_stopping=True, random_state=0)
        with baselines.few_threads(400):
            model.fit(train, target)
        theirs = model.decision_function(new) if num_classes else model.predict(new)
        ours = from_hist_gradient_boosting(model, classes, max(num_classes, 1))
    else:
        import lightgbm

        kind = lightgbm.LGBMClassifier if num_classes else lightgbm.LGBMRegressor
        model = kind(n_estimators=15, verbose=-1, n_jobs=1)
        model.fit(train, target, categorical_feature=[0, 1])
        theirs = model.booster_.predict(new, raw_score=True)
        ours = from_lightgbm(model.booster_.dump_model(), classes, max(num_classes, 1))
    found = ours.predict(new)
    assert found.shape == (300, max(num_classes, 1))
    found = found[:, 1:] if num_classes == 2 else found
    np.testing.assert_allclose(found, theirs.reshape(found.shape), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(ours.predict(new[5:6]), ours.predict(new)[5:6])
    assert (ours.labels >= 0).any(), "no split by labels was compared"


def test_a_class_that_training_did_not_see_is_not_predicted() -> None:
    table = lab.datasets.load_table(rooms(200, 0), "level")
    kept = table.take(table.target != 1)
    encoder = lab.tasks.tabular(table, numeric="standard").prepare(2, 0).encoders[0]
    for name in other_candidates.names(is_regression=False):
        outputs = fit(name, kept, encoder, None, 0)
        model = outputs.model
        feed = encoder.transform if outputs.reader is None else outputs.reader.raw
        found = model.predict(feed(table.frame))
        assert set(found.argmax(axis=1)) == {0, 2}
        assert (found[:, 1] < found.max(axis=1) - 600).all()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("left", lambda a: np.zeros_like(a)),
        ("right", lambda a: a + 10**6),
        ("roots", lambda a: a - 1),
        ("labels", lambda a: a + 99),
        ("outputs", lambda a: a + 1),
        ("value", lambda a: a * np.nan),
        ("value", lambda a: a[:-1]),
        ("threshold", lambda a: a.astype(np.float32)),
    ],
)
def test_trees_that_cannot_be_are_refused(name: str, change) -> None:
    with baselines.few_threads(60):
        model = HistGradientBoostingRegressor(max_iter=2).fit(matrix(60, 0), np.arange(60.0))
    trees = from_hist_gradient_boosting(model)
    with pytest.raises(ValueError, match="trees: "):
        dataclasses.replace(trees, **{name: change(getattr(trees, name))})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished studies of a regression and of classes, whose ensembles may be of all kinds."""
    place = tmp_path_factory.mktemp("others")
    rooms(240, 0).to_csv(place / "rooms.csv", index=False)
    (place / "tiny.toml").write_text(SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(tune, "prepare_jax", lambda num_devices: None)
        patch.setattr(baselines, "fit_baselines", lambda *args: {})  # they are no candidates
        options = "--space tiny.toml --trials 2 --folds 2 --epochs 3 --numeric standard"
        options += " --ensemble all"
        for target, out in (("price", "numbers"), ("level", "classes")):
            assert run(f"tune rooms.csv --target {target} {options} --out {out}".split()) == 0
    return place


def members(folder: Path, name: str) -> dict[str, dict]:
    content = json.loads((folder / name / "best.json").read_text())
    return {row["name"]: row for row in content["ensemble"]["members"]}


@pytest.mark.parametrize("name", ["numbers", "classes"])
def test_trees_join_where_they_help(folder: Path, name: str) -> None:
    found = members(folder, name)
    kinds = {"numbers": "ridge", "classes": "logistic_regression"}
    assert {"hist_gradient_boosting", kinds[name]} <= found.keys()
    assert sum(row["weight"] for row in found.values()) == pytest.approx(1)
    test = json.loads((folder / name / "best.json").read_text())["test"]
    error = {"numbers": "rmse", "classes": "log_loss"}[name]
    assert test["ensemble"][error] < 0.7 * test["single"][error]
    model = lab.Predictor.load(folder / name / "model")
    assert {other.name for other in model.others} == {
        label for label, row in found.items() if row["weight"] and not label.startswith("trial")
    }
    assert json.loads((folder / name / "model" / "model.json").read_text())["schema"] == 3


def test_the_folder_predicts_what_was_tested_row_by_row(folder: Path) -> None:
    rows = pd.read_csv(folder / "numbers" / "test_predictions.csv")
    model, table = lab.Predictor.load(folder / "numbers" / "model"), rooms(240, 0)
    some = table.iloc[rows["row"]]
    np.testing.assert_allclose(model.predict(some), rows["ensemble"], rtol=1e-12)
    np.testing.assert_allclose(model.predict(some.iloc[3:4]), rows["ensemble"][3:4], rtol=1e-6)
    np.testing.assert_allclose(model.predict(some, single=True), rows["single"], rtol=1e-12)
    odd = some.iloc[:3].assign(kind=["z", None, "a"], age=["?", "3", None])
    assert np.isfinite(model.predict(odd)).all()


def test_intervals_are_of_the_whole_ensemble(folder: Path) -> None:
    model, new = lab.Predictor.load(folder / "numbers" / "model"), rooms(500, 1)
    ends = model.predict_interval(new, 0.8)
    inside = (ends[:, 0] <= new["price"]) & (new["price"] <= ends[:, 1])
    assert 0.7 < inside.mean() < 0.9
    assert np.mean(model.residuals.ensemble) < 0.8 * np.mean(model.residuals.single)


def test_what_the_ensemble_is_made_of_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weight = members(folder, "numbers")["hist_gradient_boosting"]["weight"]
    assert run(["show", str(folder / "numbers")]) == 0
    assert f"gradient boosting {weight:.0%}" in capsys.readouterr().out
    page = (folder / "numbers" / "report.html").read_text()
    assert "What the ensemble is made of" in page
    assert f"<td>Gradient boosting</td><td class=n>{weight:.0%}</td>" in page
    assert read_best(folder / "numbers" / "best.json")["ensemble"]["members"]


def test_a_finished_study_takes_the_other_ensemble_without_a_search(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tune, "prepare_jax", lambda num_devices: None)
    command = "tune rooms.csv --target price --space tiny.toml --trials 2 --folds 2 --epochs 3"
    before = json.loads(Path("numbers/best.json").read_bytes())
    for ensemble, schema in (("networks", 2), ("all", 3)):
        options = f" --numeric standard --out numbers --ensemble {ensemble}"
        assert run((command + options).split()) == 0
        assert json.loads(Path("numbers/model/model.json").read_text())["schema"] == schema
    assert json.loads(Path("numbers/best.json").read_bytes())["ensemble"] == before["ensemble"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("others/0/left", lambda a: a * 0),
        ("others/0/code", lambda a: a),
        ("others/7/left", lambda a: a),
    ],
)
def test_a_changed_folder_is_refused(folder: Path, tmp_path: Path, name: str, value) -> None:
    dataclasses.replace(lab.Predictor.load(folder / "classes" / "model")).save(tmp_path)
    content = json.loads((tmp_path / "model.json").read_text())
    content.pop("sha256"), content.pop("weights_sha256")
    (tmp_path / "model.json").write_text(json.dumps(content))
    arrays = load((tmp_path / "weights.safetensors").read_bytes())
    arrays[name] = np.ascontiguousarray(value(arrays["others/0/left"]))
    (tmp_path / "weights.safetensors").write_bytes(save(arrays))
    with pytest.raises(UserError, match="is damaged"):
        lab.Predictor.load(tmp_path)


def test_words_that_are_no_ensemble_are_refused() -> None:
    with pytest.raises(UserError, match="ensemble must be networks or all, got 'trees'"):
        Settings(ensemble="trees")
    with pytest.raises(UserError, match="ensemble_size=1"):
        TunedRegressor(ensemble="all", ensemble_size=1).fit(rooms(50, 0)[["size"]], range(50))
