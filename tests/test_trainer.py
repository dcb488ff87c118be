"""One trial: a step, blocks of rows, averages, early stopping, and a plain Optax loop to match."""

from dataclasses import replace
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_lab.core import engine
from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.keys import fold_in
from jaxopt_lab.core.results import Result
from jaxopt_lab.core.runner import Runner
from jaxopt_lab.problems.mlp import epochs as mlp_epochs
from jaxopt_lab.problems.mlp import optimizers
from jaxopt_lab.problems.mlp.client import RowsClient
from jaxopt_lab.problems.mlp.data import FoldArrays, lay_out, regression
from jaxopt_lab.problems.mlp.hyperparameters import complete, features_of
from jaxopt_lab.problems.mlp.network import PaddedMLP
from jaxopt_lab.problems.mlp.programs import Programs
from jaxopt_lab.problems.mlp.schedules import steps_per_epoch
from jaxopt_lab.problems.mlp.signature import Signature
from jaxopt_lab.problems.mlp.trainer import (
    Batch,
    Metrics,
    Minibatch,
    final_params,
    make_trainer,
    trim,
)
from jaxopt_lab.problems.shuffling import shuffled
from jaxopt_lab.problems.tabular.networks import Network, apply_network

pytestmark = pytest.mark.usefixtures("full_precision")
ROWS, TRAIN, FEATURES, EPOCHS = 130, 100, 4, 8


def make_arrays() -> FoldArrays:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    targets = np.sin(2 * inputs[:, 0]) + inputs[:, 1] * inputs[:, 2] + rng.normal(0, 0.3, ROWS)
    rows = np.arange(ROWS)
    folds = [(rows[:TRAIN], rows[TRAIN:]), (rows, rows[:0])]
    return lay_out([inputs], [targets.astype(np.float32)], folds)


ARRAYS = make_arrays()
BASE = complete({"hidden_size": 6, "num_layers": 2, "activation": "tanh", "learning_rate": 3e-3})


def signature_of(config: dict[str, Any], features: frozenset[str] | None = None) -> Signature:
    """The exact program of one configuration."""
    needed = features_of({k: [v] for k, v in config.items()}) if features is None else features
    size, layers = config["hidden_size"], config["num_layers"]
    exact = Programs((size,), (layers,), 0, (), config["batch_size"], size, needed, False, False)
    return exact.signature(config)


def train(config: dict[str, Any], fold: int = 0, epochs: int = EPOCHS) -> Result:
    """Train one trial through the whole machinery."""
    runner = Runner(
        RowsClient(ARRAYS, regression()), 0, {signature_of(config): 2}, jax.local_devices()[:1]
    )
    job = Job(3, fold, 0, config, signature_of(config), epochs, epochs)
    (report,) = runner.run([job])
    return report.results[0]


def plain_loop(config: dict[str, Any], epochs: int = EPOCHS) -> tuple[Any, dict[str, np.ndarray]]:
    """The same trial in plain Optax: true last minibatch, no masks, no padding, no vmap.

    Initial weights, order and noise come from their keys; the optimizer from the code that
    `optimizers.to_optax` prints, averages from that of `optimizers.averaging_code`.
    """
    key, sig = jax.random.key(0, impl="threefry2x32"), signature_of(config)
    trainer = make_trainer(sig, regression(), ARRAYS.inputs.shape[2:])
    hparams = engine_values(config)
    params = jax.jit(trainer.init)(fold_in(key, 3, 0, 0, engine._INIT), hparams).params
    net = PaddedMLP(sig.num_layers, sig.hidden_size, 1, sig.activations)
    batch = config["batch_size"]
    inputs, targets = ARRAYS.inputs[0], ARRAYS.targets[0]
    text = optimizers.to_optax(config, steps_per_epoch(TRAIN, batch), epochs)
    chain = eval(text, {"optax": optax, "jax": jax, "jnp": jnp})

    @jax.jit
    def evaluate(params: Any, x: Any, y: Any) -> Any:
        return jnp.mean((net.apply({"params": params}, x, hparams)[:, 0] - y) ** 2)

    @jax.jit
    def step(params: Any, state: Any, x: Any, y: Any, noise: Any) -> Any:
        def loss(params: Any) -> Any:
            out = net.apply({"params": params}, x, hparams, noise)
            return jnp.mean((out[:, 0] - y) ** 2)

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = chain.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    averaging = optimizers.averaging_code(config)
    state, average, count = chain.init(params), params, 0
    curves: dict[str, list[float]] = {"train_loss": [], "loss": []}
    for epoch in range(epochs):
        epoch_key = fold_in(key, 0, 0, epoch)
        order = shuffled(fold_in(epoch_key, mlp_epochs._ORDER), jnp.arange(ROWS), jnp.int32(TRAIN))
        total = 0.0
        for i, start in enumerate(range(0, TRAIN, batch)):
            rows = np.asarray(order[start : min(start + batch, TRAIN)])
            noise_key = jax.random.fold_in(fold_in(epoch_key, mlp_epochs._NOISE), i)
            noise = net.noise(noise_key[None], batch)[:, : len(rows)] if config["dropout"] else None
            params, state, loss = step(params, state, inputs[rows], targets[rows], noise)
            if averaging:
                scope = {"optax": optax, "params": params, "averaged": average, "step": count}
                exec(averaging, scope)
                average = scope["averaged"]
            count += 1
            total += float(loss) * len(rows)
        final = average if config["ema"] else params
        curves["train_loss"].append(total / TRAIN)
        curves["loss"].append(float(evaluate(final, ARRAYS.inputs[0][TRAIN:], targets[TRAIN:])))
    return final, {name: np.asarray(curve) for name, curve in curves.items()}


def engine_values(config: dict[str, Any]) -> dict[str, jax.Array]:
    runner = Runner(RowsClient(ARRAYS, regression()), 0)
    job = Job(0, 0, 0, config, signature_of(config), EPOCHS, EPOCHS)
    return {k: jnp.asarray(v[0]) for k, v in runner._hparams([job]).items()}


GOLDEN: dict[str, dict[str, Any]] = {
    "adamw": {"weight_decay": 0.1},
    "dropout": {"dropout": 0.3, "optimizer": "adam"},
    "schedule and clipping": {
        "optimizer": "nesterov",
        "learning_rate": 0.02,
        "schedule": "one_cycle",
        "warmup_fraction": 0.1,
        "clip_norm": 0.5,
        "l1": 1e-3,
        "l2": 1e-2,
    },
    "average": {"ema": True, "ema_decay": 0.9, "optimizer": "rmsprop", "batch_size": 16},
    "lion, whole rows": {"optimizer": "lion", "learning_rate": 1e-3, "batch_size": 50},
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_trial_is_what_a_plain_optax_loop_trains(name: str) -> None:
    config = complete({**BASE, **GOLDEN[name]})
    found, (params, curves) = train(config), plain_loop(config)
    for curve, expected in curves.items():
        np.testing.assert_allclose(found.curves[curve], expected, rtol=1e-4, err_msg=curve)
    assert found.curves["loss"][-1] < found.curves["loss"][0]
    for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(a, b[: a.shape[0]], rtol=2e-3, atol=2e-4)


def outputs_seen(result: Result) -> np.ndarray:
    """The validation outputs that were noted in training."""
    return result.info["outputs"][: ARRAYS.num_valid[result.job.fold]]


def outputs_of(result: Result) -> np.ndarray:
    """The validation outputs of a result's weights."""
    config = result.job.config
    shape = {k: config[k] for k in ("num_layers", "hidden_size")}
    network = Network({**shape, "num_outputs": 1, "activations": [config["activation"]]},
                      result.params, 0)  # fmt: skip
    return apply_network(network, ARRAYS.inputs[0][TRAIN:])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema": True},
        {"early_stopping": True, "early_stopping_patience": 2, "learning_rate": 0.1},
        {"early_stopping": True, "early_stopping_patience": 3, "learning_rate": 0.1, "ema": True},
    ],
    ids=["last", "average", "early stopping", "early stopping of the average"],
)
def test_outputs_and_weights_are_those_of_the_epoch_that_counts(changes: dict[str, Any]) -> None:
    found = train(complete({**BASE, **changes}), epochs=20)
    curve, kept = found.curves["loss"], np.flatnonzero(found.curves["keep"])
    if changes.get("early_stopping"):
        best, wait = 0, 0
        for epoch in range(1, 20):
            if wait < changes["early_stopping_patience"]:
                best, wait = (epoch, 0) if curve[epoch] < curve[best] else (best, wait + 1)
        assert wait >= changes["early_stopping_patience"]
        assert kept[-1] == best < 19
    else:
        assert len(kept) == 20
    targets = ARRAYS.targets[0][TRAIN:]
    loss = float(np.mean((outputs_seen(found)[:, 0] - targets) ** 2))
    assert loss == pytest.approx(curve[kept[-1]], rel=1e-5)
    np.testing.assert_allclose(outputs_of(found), outputs_seen(found), rtol=1e-4, atol=1e-5)


def test_plateau_lowers_the_rate_in_training() -> None:
    values = {"optimizer": "sgd", "learning_rate": 1e-3, "schedule": "reduce_on_plateau"}
    never = {"plateau_min_delta": 1e3, "plateau_patience": 2, "plateau_floor": 0.0}
    reduced = complete({**BASE, **values, **never, "plateau_factor": 0.0})
    found = train(reduced)
    # The first epoch improves on infinity; two bad ones later the rate is zero.
    assert len(np.unique(found.curves["loss"][:3])) == 3
    assert len(np.unique(found.curves["loss"][3:])) == 1
    steady = train(complete({**BASE, **values, "plateau_patience": 100}))
    np.testing.assert_array_equal(found.curves["loss"][:3], steady.curves["loss"][:3])
    assert steady.curves["loss"][3] != found.curves["loss"][3]


def test_without_validation_rows_the_training_loss_is_watched() -> None:
    values = {"optimizer": "sgd", "schedule": "reduce_on_plateau", "plateau_factor": 0.0}
    never = {"plateau_min_delta": 1e3, "plateau_patience": 1, "plateau_floor": 0.0}
    found = train(complete({**BASE, **values, **never}), fold=1)
    assert np.isnan(found.curves["loss"]).all()
    assert outputs_seen(found).shape == (0, 1)
    # From the third epoch on nothing moves: only the order in which losses are added does.
    np.testing.assert_allclose(found.curves["train_loss"][2:], found.curves["train_loss"][2],
                               rtol=1e-5)  # fmt: skip
    assert found.curves["train_loss"][1] < found.curves["train_loss"][0]


def test_a_diverged_trial_says_at_which_step() -> None:
    found = train(complete({**BASE, "optimizer": "sgd", "learning_rate": 1e30}))
    assert 1 <= found.info["diverged_at"] < 5
    assert np.isfinite(found.info["last_loss"])
    assert train(BASE).info["diverged_at"] == -1


FEATURES_ALL = frozenset({"dropout", "l2", "clip_norm", "weight_decay", "reduce_on_plateau"})


def make(changes: dict[str, Any], **more: Any) -> tuple[Any, Any, Any]:
    """A trainer, a fresh state and traced values."""
    config = complete({**BASE, **changes})
    sig = replace(signature_of(config, FEATURES_ALL), **more)
    trainer, values = (
        make_trainer(sig, regression(), ARRAYS.inputs.shape[2:]),
        engine_values(config),
    )
    return trainer, trainer.init(jax.random.key(0), values), values


def rows(start: int, count: int, real: int | None = None) -> Batch:
    mask = np.arange(count) < (count if real is None else real)
    piece = slice(start, start + count)
    return Batch(
        jnp.asarray(ARRAYS.inputs[0][piece]), jnp.asarray(ARRAYS.targets[0][piece]),
        jnp.asarray(mask),
        jnp.asarray(2),
    )  # fmt: skip


def keys(count: int, first: int = 0) -> jax.Array:
    one = partial(jax.random.fold_in, jax.random.key(9))
    return jax.vmap(one)(jnp.arange(first, first + count))


def assert_trees_close(a: Any, b: Any, rtol: float = 1e-5) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-6)


def block(i: int, blocks: int, size: int = 8) -> Minibatch:
    """Block `i` of a minibatch of so many."""
    is_first, is_last = jnp.asarray(i == 0), jnp.asarray(i == blocks - 1)
    return Minibatch(jnp.asarray(float(blocks * size)), is_first, is_last)


ONLY = block(0, 1, 32)


def test_masked_rows_count_for_nothing() -> None:
    changes = {"dropout": 0.2, "l2": 0.1, "batch_size": 8}
    trainer, state, values = make(changes, block=32, noise_rows=8)
    padded = rows(0, 32, real=24)
    padded = padded._replace(inputs=padded.inputs.at[24:].set(1e6))
    found, info = trainer.step(state, values, padded, keys(4), ONLY)
    expected, _ = trainer.step(state, values, rows(0, 24), keys(3), ONLY)
    assert_trees_close(found.params, expected.params)
    assert (int(found.step), float(info.num_rows)) == (1, 24.0)


def test_blocks_of_a_minibatch_make_one_update() -> None:
    changes = {"dropout": 0.2, "clip_norm": 0.1, "batch_size": 24}
    whole, state, values = make(changes, noise_rows=8)
    expected, _ = whole.step(state, values, rows(0, 24), keys(3), ONLY)
    blocks, state, values = make(changes, block=8, noise_rows=8, accumulate=True)
    for i in range(3):
        assert int(state.step) == 0
        part = keys(1, first=i)
        state, _ = blocks.step(state, values, rows(8 * i, 8), part, block(i, 3))
    assert int(state.step) == 1
    assert_trees_close(state.params, expected.params)


@pytest.mark.parametrize("blocks", [False, True], ids=["whole", "blocks"])
def test_a_diverged_trial_is_frozen_at_once(blocks: bool) -> None:
    trainer, state, values = make({"ema": True}, accumulate=blocks)
    state, _ = trainer.step(state, values, rows(0, 32), keys(1), ONLY)
    bad = rows(0, 32)._replace(targets=jnp.full(32, jnp.inf))
    frozen, _ = trainer.step(state, values, bad, keys(1), ONLY)
    assert int(frozen.diverged_at) == 1
    again, _ = trainer.step(frozen, values, rows(32, 32), keys(1), ONLY)
    for name in ("params", "opt_state", "step", "average", "last_loss"):
        chex.assert_trees_all_equal(getattr(frozen, name), getattr(again, name))
        if name != "last_loss":
            chex.assert_trees_all_equal(getattr(frozen, name), getattr(state, name))
    assert np.isnan(trainer.evaluate(again, values, rows(64, 32)).sums["loss"])
    assert np.isfinite(trainer.evaluate(state, values, rows(64, 32)).sums["loss"])


def test_what_happens_after_early_stopping_is_no_divergence() -> None:
    trainer, state, values = make({"early_stopping": True, "early_stopping_patience": 1})
    bad = rows(0, 32)._replace(targets=jnp.full(32, jnp.nan))
    going = trainer.end_epoch(state, values, Metrics(jnp.float32(1.0), jnp.float32(1.0)))
    stopped = trainer.end_epoch(going, values, Metrics(jnp.float32(1.0), jnp.float32(2.0)))
    assert bool(stopped.best.stopped) > bool(going.best.stopped)
    assert int(trainer.step(going, values, bad, keys(1), ONLY)[0].diverged_at) == 0
    assert int(trainer.step(stopped, values, bad, keys(1), ONLY)[0].diverged_at) == -1


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_loss_that_is_not_finite_is_never_the_best(bad: float) -> None:
    trainer, state, values = make({"early_stopping": True})
    start = final_params(state)
    moved = state._replace(params=jax.tree.map(lambda p: p + 1, state.params))
    after = trainer.end_epoch(moved, values, Metrics(jnp.float32(bad), jnp.float32(bad)))
    assert not bool(after.keep)
    assert_trees_close(final_params(after), start)
    better = trainer.end_epoch(moved, values, Metrics(jnp.float32(1.0), jnp.float32(1.0)))
    assert bool(better.keep)
    assert_trees_close(final_params(better), moved.params)


def test_without_validation_rows_the_last_epoch_is_kept() -> None:
    trainer, state, values = make({"early_stopping": True, "early_stopping_patience": 1})
    for epoch, train_loss in enumerate([1.0, 2.0, 3.0, 0.5]):
        params = jax.tree.map(lambda p, e=epoch: p + e, state.params)
        loss = jnp.float32(train_loss)
        state = trainer.end_epoch(
            state._replace(params=params), values, Metrics(loss, loss, jnp.zeros((), bool))
        )
        assert bool(state.keep)
        assert not bool(state.best.stopped)
        assert_trees_close(final_params(state), params)


def test_trimming_cuts_padding_away() -> None:
    net = PaddedMLP(3, 10, 2, ("relu",), masked_width=True, masked_depth=True)
    values = engine_values(complete({**BASE, "hidden_size": 6, "num_layers": 2}))
    params = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, FEATURES)), values)["params"]
    small = trim(jax.tree.map(np.asarray, params), 2, 6)
    shapes = {name: layer["kernel"].shape for name, layer in small.items()}
    assert shapes == {"hidden_0": (FEATURES, 6), "hidden_1": (6, 6), "output": (6, 2)}
    alone = PaddedMLP(2, 6, 2, ("relu",))
    x = jnp.asarray(ARRAYS.inputs[0][:5, :FEATURES])
    np.testing.assert_allclose(
        jax.jit(alone.apply)({"params": small}, x, values),
        jax.jit(net.apply)({"params": params}, x, values),
        rtol=1e-5, atol=1e-6,
    )  # fmt: skip
