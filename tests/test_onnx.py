"""The winner of `tune` as an ONNX model: ONNX Runtime computes what the predictor does."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jaxopt_lab import datasets
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets.encoders import fit_encoder
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.problems.mlp.network import layer_shapes
from jaxopt_lab.problems.tabular.networks import Network
from jaxopt_lab.problems.tabular.other_kinds import Linear, Other
from jaxopt_lab.problems.tabular.predictor import Predictor

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def network(predictor: Predictor, activation: str, encoder: int, **members: Any) -> Network:
    """Of two layers, with random weights and rows in the first kernel that no column meets."""
    num_outputs = max(len(predictor.classes), 1)
    shape = {"num_layers": 2, "hidden_size": 5, "num_outputs": num_outputs, **members}
    num_inputs = predictor.encoders[encoder].num_features + 2
    sizes = (num_inputs, 5, 2, num_outputs, *members.values())
    rng = np.random.default_rng(len(activation) + encoder)
    params = {
        layer: {name: rng.normal(size=size).astype(np.float32) for name, size in leaves.items()}
        for layer, leaves in layer_shapes(*sizes).items()
    }
    return Network({**shape, "activations": [activation]}, params, encoder)


def predictor_of(houses: pd.DataFrame, target: str, log: str, tmp_path: Path) -> Predictor:
    """One of every activation, and every form of members."""
    houses.to_csv(tmp_path / "houses.csv", index=False)
    table = datasets.load_table(tmp_path / "houses.csv", target=target, log_target=log)
    halves = np.arange(150), np.arange(100, 300)
    encoders = tuple(fit_encoder(table.frame.iloc[rows], table.kinds) for rows in halves)
    transforms = tuple(
        datasets.TargetTransform.fit(table.target[rows], table.log_target) for rows in halves
    )
    found = Predictor(
        table.task,
        target,
        table.classes,
        encoders,
        transforms if table.task == "regression" else (),
        (),
        (),
    )
    networks = [network(found, name, i % 2) for i, name in enumerate(hyperparameters.ACTIVATIONS)]
    for form in ("mini", "late", "full"):
        networks.append(network(found, "relu", 0, ensemble_size=3, ensemble_form=form))
    weights = np.arange(len(networks), dtype=float)  # the first has none
    return dataclasses.replace(
        found, networks=tuple(networks), ensemble=tuple(weights / weights.sum())
    )


def run(path: Path, encoded: dict[int, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = {given.name for given in session.get_inputs()}
    assert wanted == {f"rows_{i}" for i in encoded}
    (found,) = session.run(None, {f"rows_{i}": rows for i, rows in encoded.items()})
    return np.asarray(found)


@pytest.mark.parametrize(
    ("target", "log"), [("price", "yes"), ("rooms", "no"), ("wall", "auto")], ids=str
)
def test_it_computes_what_the_predictor_does(
    target: str, log: str, houses: pd.DataFrame, tmp_path: Path
) -> None:
    predictor, path = predictor_of(houses, target, log, tmp_path), tmp_path / "model.onnx"
    for single in (False, True):
        predictor.save_onnx(path, single=single)
        expected = predictor.predict_raw(houses, single)
        assert np.ptp(expected) > 0
        found = run(path, predictor.encode(houses, single))
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        # Any number of rows, and what it is about.
        few = run(path, predictor.encode(houses.head(3), single))
        np.testing.assert_allclose(few, expected[:3], rtol=1e-4, atol=1e-6)
    about = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert about["target"] == target
    assert json.loads(about["classes"]) == list(predictor.classes)


def test_an_ensemble_with_other_kinds_is_refused(houses: pd.DataFrame, tmp_path: Path) -> None:
    predictor = predictor_of(houses, "price", "yes", tmp_path)
    linear = Linear(np.zeros((predictor.encoders[0].num_features, 1)), np.zeros(1))
    mixed = dataclasses.replace(predictor, others=(Other("ridge", 0.5, linear, 0),))
    with pytest.raises(UserError, match=r"has ridge in it; take the single network"):
        mixed.save_onnx(tmp_path / "model.onnx")
    mixed.save_onnx(tmp_path / "model.onnx", single=True)
