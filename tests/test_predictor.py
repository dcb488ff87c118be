"""Trained networks that leave the study: the same predictions anywhere, and nothing executed."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

import jaxopt_lab as lab
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.problems.mlp.network import PaddedMLP
from jaxopt_lab.problems.tabular.predictor import Predictor, assemble, flatten, unflatten


@pytest.fixture(scope="module", params=["price", "wall"])
def predictor(request: pytest.FixtureRequest, houses: pd.DataFrame, tmp_path_factory) -> Predictor:
    """Two networks of different shapes, of a regression on a log scale or a classification."""
    path = tmp_path_factory.mktemp("data") / "houses.csv"
    houses.to_csv(path, index=False)
    log = "yes" if request.param == "price" else "auto"
    table = lab.datasets.load_table(str(path), target=request.param, log_target=log)
    task = lab.tasks.tabular(table, numeric="standard")
    space = lab.SearchSpace(hidden_size=lab.Choice([4, 6]), num_layers=lab.Choice([1, 2]))
    study = lab.Study(task, space)
    study.optimize(lab.search.grid(), 4, num_epochs=1, num_folds=2)
    rows = study.store.trials()
    networks = [
        (hyperparameters.complete(rows[i]["config"]), study.kept((i, fold, 0)), fold)
        for i, fold in ((0, 0), (3, 1))
    ]
    return assemble(task, study.training.prepared, networks, [0.25, 0.75])


def test_the_ensemble_is_the_weighted_mean(predictor: Predictor, houses: pd.DataFrame) -> None:
    first = predictor.predict_raw(houses, single=True)
    other = Predictor(
        **{
            **{name: getattr(predictor, name) for name in predictor.__dataclass_fields__},
            "ensemble": (0.0, 1.0),
        }
    ).predict_raw(houses)
    both = predictor.predict_raw(houses)
    if predictor.task == "regression":  # on the scale on which it was learned
        first, other, both = np.log(first), np.log(other), np.log(both)
    else:
        np.testing.assert_allclose(both.sum(axis=1), 1.0)
    np.testing.assert_allclose(both, 0.25 * first + 0.75 * other, rtol=1e-6)


def test_predictions_are_in_full_precision_on_any_device(
    predictor: Predictor, houses: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def apply(model: PaddedMLP, params: dict, inputs: np.ndarray) -> np.ndarray:
        seen.append(jax.config.jax_default_matmul_precision)
        return np.zeros((len(inputs), model.num_outputs))

    monkeypatch.setattr("jaxopt_lab.problems.tabular.predictor._apply", apply)
    predictor.predict_raw(houses)
    assert set(seen) == {"highest"}


def test_a_copied_folder_predicts_the_same(
    predictor: Predictor, houses: pd.DataFrame, tmp_path: Path
) -> None:
    predictor.save(tmp_path / "model")
    shutil.move(tmp_path / "model", tmp_path / "elsewhere")
    assert {p.name for p in (tmp_path / "elsewhere").iterdir()} == {
        "model.json",
        "weights.safetensors",
    }
    again = Predictor.load(tmp_path / "elsewhere")
    for single in (True, False):
        expected = predictor.predict(houses, single)
        np.testing.assert_array_equal(again.predict(houses, single), expected)


def test_rows_do_not_depend_on_their_company(predictor: Predictor, houses: pd.DataFrame) -> None:
    whole = predictor.predict_raw(houses)
    shuffled = houses.sample(frac=1.0, random_state=0)
    np.testing.assert_allclose(predictor.predict_raw(shuffled), whole[shuffled.index], rtol=1e-5)
    np.testing.assert_allclose(predictor.predict_raw(houses.iloc[:1]), whole[:1], rtol=1e-5)


def test_columns_may_come_in_any_order_but_must_be_there(
    predictor: Predictor, houses: pd.DataFrame
) -> None:
    expected = predictor.predict(houses)
    turned = houses[houses.columns[::-1]].assign(more=1)
    np.testing.assert_array_equal(predictor.predict(turned), expected)
    with pytest.raises(UserError, match=r"lacks a needed column: 'area'.*Area"):
        predictor.predict(houses.rename(columns={"area": "Area"}))


def test_unseen_and_missing_values_still_give_numbers(
    predictor: Predictor, houses: pd.DataFrame
) -> None:
    odd = houses.head(3).astype({"area": object})
    odd.loc[0, "area"], odd.loc[1, "area"] = None, "n/a"
    odd.loc[2, "heating"] = "nuclear"
    assert np.isfinite(predictor.predict_raw(odd)).all()


def test_a_later_version_and_damage_are_told_apart(predictor: Predictor, tmp_path: Path) -> None:
    predictor.save(tmp_path)
    path = tmp_path / "model.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "schema": 99}))
    with pytest.raises(UserError, match="later version"):
        Predictor.load(tmp_path)
    path.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Predictor.load(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=r"model\.json is missing"):
        Predictor.load(tmp_path)


def test_names_of_nested_weights_come_back() -> None:
    tree = {
        "hidden_0": {"kernel": np.ones(2), "bias": np.zeros(1)},
        "output": {"kernel": np.ones(1)},
    }
    assert set(flatten(tree)) == {"hidden_0/kernel", "hidden_0/bias", "output/kernel"}
    assert jax.tree.structure(unflatten(flatten(tree))) == jax.tree.structure(tree)
