"""Sequences: reading and padding, recurrent networks that ignore padding, and a task of them."""

import gzip
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lab import datasets
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.problems.mlp.data import classification, regression
from jaxopt_lab.problems.mlp.recurrent import CELLS, TaskRNN
from jaxopt_lab.problems.mlp.rows import RowsTask

HPARAMS: dict[str, Any] = {"dropout": jnp.asarray(0.5)}
each_cell = pytest.mark.parametrize("cell", CELLS)


def sequences(lengths: list[int], steps: int, seed: int = 0) -> np.ndarray:
    """Random series of one length each, drawn one after another, padded to `steps`."""
    rng = np.random.default_rng(seed)
    series = [rng.normal(size=(n, 2)).astype(np.float32) for n in lengths]
    return datasets.pad(series, steps)


def make(cell: str, layers: int = 1) -> tuple[TaskRNN, Any]:
    model = TaskRNN(cell, layers, 5, 3)
    return model, model.init(jax.random.key(0), jnp.zeros((1, 7, 3)), HPARAMS)


@each_cell
def test_padding_changes_nothing(cell: str) -> None:
    model, params = make(cell)
    short, long = sequences([3, 6, 1], 6), sequences([3, 6, 1], 11)
    long[..., :-1] += 5.0 * (long[..., -1:] == 0)  # what stands in the padding does not matter
    found = [model.apply(params, jnp.asarray(x), HPARAMS) for x in (short, long)]
    assert found[0].shape == (3, 3)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-6)
    alone = model.apply(params, jnp.asarray(short[:1, :3]), HPARAMS)
    np.testing.assert_allclose(found[0][:1], alone, rtol=1e-5, atol=1e-6)


@each_cell
def test_gradients_ignore_padding_and_reach_the_first_step(cell: str) -> None:
    model, params = make(cell)

    def total(x: jax.Array) -> jax.Array:
        return (model.apply(params, x, HPARAMS) ** 2).sum()

    gradient = jax.grad(total)(jnp.asarray(sequences([3, 6], 9)))[..., :-1]
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[0, 3:], 0.0)
    assert np.abs(gradient[0, 0]).max() > 0
    assert np.abs(gradient[1, 5]).max() > 0


@each_cell
def test_every_step_counts(cell: str) -> None:
    model, params = make(cell, layers=1)
    inputs = sequences([6], 6)
    changed = inputs.copy()
    changed[0, 0, 0] += 1.0
    found = [model.apply(params, jnp.asarray(x), HPARAMS) for x in (inputs, changed)]
    assert not np.allclose(found[0], found[1])


def test_dropout_is_one_mask_for_all_steps() -> None:
    model, params = make("gru", layers=1)
    inputs = jnp.asarray(sequences([4, 4], 4))
    noise = model.noise(jax.random.split(jax.random.key(0), 2), 1)
    assert noise.shape == (1, 2, 5)
    plain = model.apply(params, inputs, HPARAMS)
    none = model.apply(params, inputs, {"dropout": jnp.asarray(0.0)}, noise)
    np.testing.assert_allclose(none, plain, rtol=1e-6)
    some = model.apply(params, inputs, HPARAMS, noise)
    assert not np.allclose(some, plain)
    bias = params["params"]["output"]["bias"]
    all_dropped = model.apply(params, inputs, {"dropout": jnp.asarray(0.99999)}, noise)
    np.testing.assert_allclose(all_dropped, jnp.broadcast_to(bias, (2, 3)), atol=1e-6)


def test_an_unknown_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown cell 'lstmm', choose from vanilla, gru, lstm"):
        TaskRNN("lstmm", 1, 4, 1)


def test_ts_files_are_read(tmp_path: Path) -> None:
    text = "# a comment\n@problemName x\n@data\n1,2,3:4,5,6:a\n7,8:9,10:b\n"
    plain, packed = tmp_path / "x.ts", tmp_path / "x.ts.gz"
    plain.write_text(text)
    packed.write_bytes(gzip.compress(text.encode()))
    for path in (plain, packed):
        series, labels = datasets.load_ts(path)
        assert labels == ["a", "b"]
        np.testing.assert_array_equal(series[0], [[1, 4], [2, 5], [3, 6]])
        np.testing.assert_array_equal(series[1], [[7, 9], [8, 10]])
    padded = datasets.pad(series)
    assert padded.shape == (2, 3, 3)
    np.testing.assert_array_equal(padded[1], [[7, 9, 1], [8, 10, 1], [0, 0, 0]])
    codes, names = datasets.as_classes(["b", "a", "b"])
    assert (codes.tolist(), names) == ([1, 0, 1], ["a", "b"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2:a\n", "no line @data"),
        ("@data\n", "holds no series"),
        ("@data\n1,2:3:a\n", "line 2"),
        ("@data\n1,x:a\n", "line 2"),
    ],
)
def test_a_bad_ts_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.ts"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        datasets.load_ts(path)
    with pytest.raises(UserError, match="there is no file"):
        datasets.load_ts(tmp_path / "none.ts")


def test_the_adding_problem_adds_what_is_marked() -> None:
    inputs, targets = datasets.adding_problem(50, 20, seed=1)
    np.testing.assert_allclose((inputs[..., 0] * inputs[..., 1]).sum(1), targets, rtol=1e-6)
    np.testing.assert_array_equal(inputs[:, :10, 1].sum(1), 1.0)
    np.testing.assert_array_equal(inputs[:, 10:, 1].sum(1), 1.0)
    np.testing.assert_array_equal(inputs[..., 2], 1.0)
    assert np.mean((datasets.adding_problem(5000, 10, 0)[1] - 1) ** 2) == pytest.approx(
        1 / 6, rel=0.05
    )


def test_a_task_of_rows_splits_as_told() -> None:
    inputs, targets = np.arange(12.0).reshape(6, 2), np.array([0, 1, 0, 1, 0, 1])
    task = RowsTask(inputs, targets, classification(2), np.array([4, 1]))
    arrays = task.fold_arrays(0)
    assert arrays.train_rows.tolist() == [[0, 2, 3, 5]]
    assert arrays.valid_rows.tolist() == [[4, 1]]
    assert (arrays.inputs.dtype, arrays.targets.dtype) == (np.float32, np.int32)
    for rows, message in (([], "some"), ([9], "distinct"), ([1, 1], "distinct")):
        with pytest.raises(UserError, match=message):
            RowsTask(inputs, targets, regression(), np.array(rows, int))
    with pytest.raises(UserError, match="as many rows"):
        RowsTask(inputs, targets[:3], regression(), np.array([0]))
