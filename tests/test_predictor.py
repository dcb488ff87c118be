"""Trained networks that leave the study: the same predictions anywhere, and nothing executed."""

import contextlib
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load, save

import jaxopt_lab as lab
from jaxopt_lab.core.errors import MachineError, UserError
from jaxopt_lab.problems.mlp import forward, hyperparameters
from jaxopt_lab.problems.mlp.network import PaddedMLP
from jaxopt_lab.problems.tabular.predictor import Predictor, assemble
from jaxopt_lab.storage.packing import flatten, unflatten

#: `jaxopt_lab.problems.tabular` is also the name of a function.
MODULE = sys.modules[Predictor.__module__]


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
        (hyperparameters.complete(rows[i].config), study.kept((i, fold, 0)), fold)
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


@pytest.mark.usefixtures("full_precision")
@pytest.mark.parametrize("activation", hyperparameters.ACTIVATIONS)
def test_outputs_on_the_host_are_those_of_the_network(activation: str) -> None:
    model = PaddedMLP(num_layers=2, hidden_size=8, num_outputs=3, activations=(activation,))
    rng = np.random.default_rng(0)
    # Wide enough for saturation; the last two columns are padding.
    inputs = np.pad(4 * rng.normal(size=(20, 5)), [(0, 0), (0, 2)]).astype(np.float32)
    hparams = hyperparameters.traced(hyperparameters.complete({"activation": activation}))
    hparams = {name: jnp.asarray(value) for name, value in hparams.items()}
    hparams["hidden_size"] = jnp.asarray(8)
    params = model.init(jax.random.key(0), jnp.asarray(inputs), hparams)["params"]
    expected = model.apply({"params": params}, jnp.asarray(inputs), hparams)
    found = forward.outputs(jax.device_get(params), 2, activation, inputs[:, :5])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


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
    for other in ("table.csv", houses.to_dict("list"), houses["area"], houses.to_numpy()):
        with pytest.raises(UserError, match=r"a pandas frame, not .*load_frame"):
            predictor.predict(other)


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


# A folder that is half written, damaged, or changed.


def other_model(predictor: Predictor) -> Predictor:
    """The same networks in another order: another description and other weights."""
    return dataclasses.replace(
        predictor, networks=predictor.networks[::-1], ensemble=predictor.ensemble[::-1]
    )


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_a_publication_that_is_killed_leaves_the_old_model_or_the_new_one(
    predictor: Predictor,
    houses: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
) -> None:
    predictor.save(tmp_path)
    taken = 0

    class Killed(BaseException):
        pass

    def step(original: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal taken
            if taken == steps:
                raise Killed
            taken += 1
            return original(*args, **kwargs)

        return wrapped

    new = other_model(predictor)
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", step(os.replace))
        with pytest.raises(Killed) if steps < 3 else contextlib.nullcontext():
            new.save(tmp_path)
    expected = predictor if steps < 2 else new
    found = Predictor.load(tmp_path).predict_raw(houses, single=True)
    np.testing.assert_array_equal(found, expected.predict_raw(houses, single=True))
    new.save(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"model.json", "weights.safetensors"}
    found = Predictor.load(tmp_path).predict_raw(houses, single=True)
    np.testing.assert_array_equal(found, new.predict_raw(houses, single=True))


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_flipped_bit_is_found(predictor: Predictor, tmp_path: Path, name: str) -> None:
    predictor.save(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    for place in np.linspace(0, len(content) - 1, 12).astype(int):
        flipped = content.copy()
        flipped[place] ^= 1
        (tmp_path / name).write_bytes(flipped)
        with pytest.raises(UserError, match=r"damaged|later version"):
            Predictor.load(tmp_path)


def without_checksums(folder: Path) -> dict[str, Any]:
    """Turn a folder into one of an earlier version; the content of its `model.json`."""
    content = json.loads((folder / "model.json").read_text())
    content.pop("sha256"), content.pop("weights_sha256")
    (folder / "model.json").write_text(json.dumps(content))
    return content


def test_an_older_folder_still_predicts(
    predictor: Predictor, houses: pd.DataFrame, tmp_path: Path
) -> None:
    predictor.save(tmp_path)
    without_checksums(tmp_path)
    found = Predictor.load(tmp_path).predict_raw(houses)
    np.testing.assert_array_equal(found, predictor.predict_raw(houses))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_no_number_is_refused(
    predictor: Predictor, tmp_path: Path, value: float
) -> None:
    predictor.save(tmp_path)
    without_checksums(tmp_path)
    path = tmp_path / "weights.safetensors"
    arrays = {name: array.copy() for name, array in load(path.read_bytes()).items()}
    arrays["1/output/bias"][0] = value
    path.write_bytes(save(arrays))
    with pytest.raises(UserError, match="output/bias of network 1 holds a weight that is not"):
        Predictor.load(tmp_path)


def test_predictions_that_are_no_numbers_are_refused(
    predictor: Predictor, houses: pd.DataFrame
) -> None:
    broken = jax.tree.map(lambda leaf: leaf * np.nan, predictor.networks[1].params)
    networks = (predictor.networks[0], predictor.networks[1]._replace(params=broken))
    model = dataclasses.replace(predictor, networks=networks)
    assert np.isfinite(model.predict_raw(houses, single=True)).all()
    with pytest.raises(MachineError, match="no finite prediction of data row 1"):
        model.predict_raw(houses)


def leaves(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """Paths to values of JSON, of long lists the first one only."""
    items = list(enumerate(value))[:1] if isinstance(value, list) else value.items()
    for key, inner in items:
        yield (*at, key)
        if isinstance(inner, list | dict):
            yield from leaves(inner, (*at, key))


GONE = object()
MUTATIONS = [None, True, -1, 0, 7, 1e308, float("nan"), 10**30, "x", "", [], [None], {}, {"a": 1}]


def mutated(value: Any, path: tuple, new: Any) -> Any:
    copy = dict(value) if isinstance(value, dict) else list(value)
    head, *rest = path
    if rest:
        copy[head] = mutated(value[head], tuple(rest), new)
    elif new is GONE:
        del copy[head]
    else:
        copy[head] = new
    return copy


def test_a_changed_description_is_refused_in_one_line_or_predicts(
    predictor: Predictor, houses: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor.save(tmp_path)
    content, refused, rows = without_checksums(tmp_path), 0, houses.head(2)
    # Networks are checked when loaded; compiling one for every mutation would take minutes.
    monkeypatch.setattr(
        MODULE,
        "apply_network",
        lambda network, inputs: np.zeros((len(inputs), network.architecture["num_outputs"])),
    )
    for path in leaves(content):
        for new in [*MUTATIONS, GONE]:
            (tmp_path / "model.json").write_text(json.dumps(mutated(content, path, new)))
            try:
                model = Predictor.load(tmp_path)
                model.encoders[0].check(rows)
                assert np.isfinite(model.predict_raw(rows)).all()
            except (UserError, MachineError):
                refused += 1
            except Exception as error:
                raise AssertionError(f"{path} = {new!r}: {error!r}") from error
    assert refused > 300
