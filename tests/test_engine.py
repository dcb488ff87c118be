"""A trial in a population learns what it learns alone."""

import functools
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lab.core.controls import Clock
from jaxopt_lab.core.engine import Engine
from jaxopt_lab.core.trainable import Trainable
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.problems.mlp.data import lay_out, regression
from jaxopt_lab.problems.mlp.epochs import epochs
from jaxopt_lab.problems.mlp.hyperparameters import MERGEABLE
from jaxopt_lab.problems.mlp.signature import Signature
from jaxopt_lab.problems.mlp.trainer import Trainer, make_trainer

ROWS, FEATURES, WIDTH = 200, 5, 4
Quickly = Callable[[], AbstractContextManager[None]]
ON_CPU = jax.default_backend() == "cpu"
EXACT = Signature(
    optimizers=("adamw",),
    activations=("tanh",),
    num_layers=2,
    hidden_size=12,
    block=32,
    ema=False,
    early_stopping=False,
    penalize_biases=False,
    features=frozenset({"dropout", "weight_decay"}),
    draw_width=16,
    noise_rows=32,
)


def make_engine(signature: Signature, num_devices: int = 2, on_cpu: bool = ON_CPU) -> Engine:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(ROWS, FEATURES)).astype(np.float32)
    targets = (inputs[:, 0] * inputs[:, 1] + 0.1 * inputs[:, 2]).astype(np.float32)
    rows = np.arange(ROWS)
    arrays = lay_out([inputs], [targets], [(rows[:150], rows[150:]), (rows, rows[:0])])
    trainer = make_trainer(signature, regression(), arrays.inputs.shape[2:])
    devices = jax.local_devices()[:num_devices]
    return Engine(epochs(trainer, signature, arrays, 1, 1, on_cpu), arrays, WIDTH, 0, devices)


def train(
    engine: Engine,
    trials: list[int],
    calls: tuple[int, ...] = (3,),
    depth: int = 2,
    block: int = 32,
    **common: Any,
) -> dict[str, np.ndarray]:
    """Train trials (one per slot); a trial's number decides its hyperparameters.

    Args:
      engine: of a program that holds them.
      trials: numbers.
      calls: epochs of each call.
      depth: layers of the deepest trial of the cohort.
      block: rows per block of the program.
      **common: hyperparameters of all trials.
    """
    slots = [trials[i % len(trials)] for i in range(engine.num_slots)]
    rows = []
    for trial in slots:
        config = {
            "learning_rate": 1e30 if trial == 99 else 1e-3 / (1 + trial),
            "dropout": 0.1,
            "weight_decay": 1e-2,
            "activation": "tanh",
            "num_layers": 2,
            "hidden_size": 12,
            **common,
        }
        traced = hyperparameters.traced(hyperparameters.complete(config))
        rows.append({**traced, "total_steps": np.float32(15)})
    hparams = {name: np.asarray([row[name] for row in rows]) for name in rows[0]}
    num_devices = len(engine.devices)
    zero = np.zeros(num_devices, np.int32)
    blocks = zero + common.get("batch_size", 32) // block
    clock = Clock(zero, zero, zero, zero, zero + 3, (blocks, zero + depth))
    wave = engine.init(np.asarray(slots, np.int32), clock, hparams)
    pieces, done = [], 0
    for count in calls:
        now = clock._replace(unit=zero + done, num_units=zero + count)
        wave, curves = engine.advance(wave, now, hparams)
        pieces.append(jax.tree.map(lambda x, n=count: np.asarray(x)[:, :n], curves.metrics))
        done += count
    return jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *pieces)


def test_a_network_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing is a large part of the time of a compilation."""
    calls: list[str] = []
    original = make_trainer

    def counting(*args: Any) -> Trainer:
        found = original(*args)

        def step(*args: Any) -> Any:
            calls.append("step")
            return found.step(*args)

        def evaluate(*args: Any) -> Any:
            calls.append("evaluate")
            return found.evaluate(*args)

        return found._replace(step=step, evaluate=evaluate)

    monkeypatch.setitem(make_engine.__globals__, "make_trainer", counting)
    engine = make_engine(EXACT)
    monkeypatch.undo()
    train(engine, [0, 1])
    assert sorted(calls) == ["evaluate", "step"]


#: All at once.
EVERYTHING = {
    "hidden_size": 16,
    "masked_width": True,
    "num_layers": 4,
    "masked_depth": True,
    "accumulate": True,
    "activations": ("relu", "tanh"),
    "optimizers": MERGEABLE,
}
#: Programs of several shapes that can train the trial of `EXACT`.
each_merge = pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 16, "masked_width": True},
        {"num_layers": 4, "masked_depth": True},
        {"accumulate": True},
        {"activations": ("relu", "tanh")},
        {"optimizers": MERGEABLE},
        EVERYTHING,
    ],
    ids=["width", "depth", "blocks", "activations", "optimizers", "all"],
)


@pytest.fixture(scope="module")
def engine_of() -> Callable[[Signature], Engine]:
    """Engines of two devices, one of each signature."""
    return functools.cache(make_engine)


@pytest.fixture(scope="module")
def exact(engine_of: Callable[[Signature], Engine]) -> Engine:
    return engine_of(EXACT)


@pytest.fixture(scope="module")
def alone(exact: Engine) -> np.ndarray:
    """Validation curve of trial 0 among copies of itself."""
    return np.asarray(train(exact, [0])["loss"][0])


@pytest.mark.parametrize("slot", [0, 1, 3, -4, -1])
def test_any_slot_and_company_is_bitwise_the_same(
    exact: Engine, alone: np.ndarray, slot: int
) -> None:
    company = list(range(5, 5 + exact.num_slots))
    slot %= exact.num_slots
    company[slot] = 0
    found = train(exact, company)["loss"]
    np.testing.assert_array_equal(found[slot], alone)
    assert not np.array_equal(found[slot - 1], alone)


def test_a_diverging_neighbour_harms_nobody(exact: Engine, alone: np.ndarray) -> None:
    found = train(exact, [99, 0, 99, 99])["loss"]
    assert not np.isfinite(found[0]).all()
    np.testing.assert_array_equal(found[1], alone)


def test_cutting_a_budget_into_calls_changes_nothing(exact: Engine, alone: np.ndarray) -> None:
    np.testing.assert_array_equal(train(exact, [0], calls=(1, 2))["loss"][0], alone)


def test_new_values_compile_nothing(exact: Engine) -> None:
    train(exact, [1])
    before = exact.compile_seconds
    train(exact, [2, 3], dropout=0.3, weight_decay=0.5, schedule="cosine", calls=(2,))
    assert exact.compile_seconds == before


@each_merge
def test_a_merged_program_trains_the_same_network(
    engine_of: Callable[[Signature], Engine], alone: np.ndarray, changes: dict[str, Any]
) -> None:
    found = train(engine_of(replace(EXACT, **changes)), [0, 1])["loss"][0]
    np.testing.assert_allclose(found, alone, rtol=1e-5)


@each_merge
def test_a_diverging_neighbour_harms_nobody_in_a_merged_program(
    engine_of: Callable[[Signature], Engine], changes: dict[str, Any]
) -> None:
    merged = engine_of(replace(EXACT, **changes))
    among_its_like = train(merged, [0])["loss"][0]
    found = train(merged, [99, 0, 99, 99])["loss"]
    assert not np.isfinite(found[0]).all()
    np.testing.assert_array_equal(found[1], among_its_like)


#: All that acts on weights, so that a skipped layer would be missed.
PENALTIES = {"l1": 1e-3, "l2": 1e-2, "clip_value": 0.5, "clip_norm": 0.3, "ema_decay": 0.9}


CLIPPED, PENALISED = ("clip_norm",), ("l1", "l2", "clip_value", "clip_norm")
ONE = ("adamw",)


@pytest.mark.parametrize(
    ("names", "optimizers", "accumulate"),
    [
        pytest.param(CLIPPED, ONE, False, id="clipped-one-whole"),
        pytest.param(PENALISED, MERGEABLE, True, id="penalised-merged-blocks"),
        pytest.param(PENALISED, ONE, False, id="penalised-one-whole", marks=pytest.mark.slow),
        pytest.param(CLIPPED, ONE, True, id="clipped-one-blocks", marks=pytest.mark.slow),
        pytest.param(CLIPPED, MERGEABLE, False, id="clipped-merged-whole", marks=pytest.mark.slow),
        pytest.param(CLIPPED, MERGEABLE, True, id="clipped-merged-blocks", marks=pytest.mark.slow),
        pytest.param(PENALISED, ONE, True, id="penalised-one-blocks", marks=pytest.mark.slow),
        pytest.param(
            PENALISED, MERGEABLE, False, id="penalised-merged-whole", marks=pytest.mark.slow
        ),
    ],
)
def test_skipped_layers_leave_penalties_norms_and_averages_alone(
    names: tuple[str, ...], optimizers: tuple[str, ...], accumulate: bool, quickly: Quickly
) -> None:
    """In company of deeper trials, for which nothing is skipped, a trial is bitwise the same."""
    own = replace(
        EXACT,
        features=EXACT.features | set(names),
        ema=True,
        penalize_biases=True,
    )
    with quickly():
        alone = train(make_engine(own), [0, 1], **PENALTIES)["loss"]
    deep = make_engine(
        replace(own, num_layers=4, masked_depth=True, accumulate=accumulate, optimizers=optimizers)
    )
    skipped, computed = (train(deep, [0, 1], depth=n, **PENALTIES) for n in (2, 4))
    np.testing.assert_allclose(skipped["loss"], alone, rtol=1e-5)
    np.testing.assert_array_equal(skipped["loss"], computed["loss"])
    np.testing.assert_array_equal(skipped["train_loss"], computed["train_loss"])


@pytest.mark.parametrize(
    "optimizer",
    [
        name if name in ("sgd", "adam", "adamw") else pytest.param(name, marks=pytest.mark.slow)
        for name in MERGEABLE
    ],
)
def test_every_optimizer_of_a_merged_program_decays_as_alone(
    engine_of: Callable[[Signature], Engine], optimizer: str
) -> None:
    """Adam ignores the decay, in company as alone."""
    values = {"optimizer": optimizer, "weight_decay": 0.5, "learning_rate": 1e-3}
    own = train(engine_of(replace(EXACT, optimizers=(optimizer,))), [0], **values)
    merged = train(engine_of(replace(EXACT, optimizers=MERGEABLE)), [0, 1], **values)
    np.testing.assert_allclose(merged["loss"][0], own["loss"][0], rtol=1e-5)


def test_batches_of_blocks_are_true_batches(engine_of: Callable[[Signature], Engine]) -> None:
    whole = train(engine_of(replace(EXACT, block=96)), [0, 1], block=96, batch_size=96)
    blocks = train(engine_of(replace(EXACT, **EVERYTHING)), [0, 1], batch_size=96)
    np.testing.assert_allclose(blocks["loss"], whole["loss"], rtol=1e-5)
    np.testing.assert_allclose(blocks["train_loss"], whole["train_loss"], rtol=1e-5)


def test_the_number_of_devices_changes_nothing(alone: np.ndarray, quickly: Quickly) -> None:
    with quickly():
        found = train(make_engine(EXACT, num_devices=1), [0])["loss"][0]
    np.testing.assert_allclose(found, alone, rtol=1e-5)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="about XLA's CPU backend")
@pytest.mark.parametrize(
    "optimizers",
    [
        pytest.param((name,), id=name, marks=pytest.mark.slow)
        for name in ("momentum", "nesterov", "adam", "rmsprop")
    ]
    + [pytest.param(("adamw",), id="adamw"), pytest.param(MERGEABLE, id="all")],
)
def test_a_step_copies_neither_weights_nor_moments(
    engine_of: Callable[[Signature], Engine], optimizers: tuple[str, ...]
) -> None:
    """With Optax's own formulas it copies all of them (seen with jaxlib 0.10)."""
    engine = engine_of(replace(EXACT, optimizers=optimizers))
    train(engine, [0, 1, 2, 3])
    text = engine.compiler.program("advance").as_text()
    inside = text[: text.index("\nENTRY")]
    assert "[4,12,12]" in inside
    assert not re.findall(r"copy[\w.]* = f32\[4,12,12\]\S* (?:copy|fusion)\(%get-tuple", inside)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="about XLA's CPU backend")
def test_skipping_layers_copies_neither_weights_nor_moments_nor_gradients(
    engine_of: Callable[[Signature], Engine],
) -> None:
    engine = engine_of(replace(EXACT, **EVERYTHING))
    train(engine, [0, 1, 2, 3])
    text = engine.compiler.program("advance").as_text()
    inside = text[: text.index("\nENTRY")]
    assert "[4,16,16]" in inside
    assert not re.findall(r"copy[\w.]* = f32\[4,16,16\]\S* (?:copy|fusion)\(%get-tuple", inside)


@pytest.mark.slow
def test_bfloat16_learns_about_the_same_with_weights_in_float32(alone: np.ndarray) -> None:
    engine = make_engine(replace(EXACT, precision="bfloat16"))
    found = train(engine, [0, 1])
    np.testing.assert_allclose(found["loss"][0], alone, rtol=0.05)
    assert not np.array_equal(found["loss"][0], alone)
    state = engine.trainable.init(jax.random.key(0), traced_defaults())
    params = jax.tree.leaves(state.train.params)
    assert {leaf.dtype for leaf in params} == {np.dtype("float32")}
    # In any slot and company it is bitwise the same, like float32.
    again = train(engine, [3, 99, 0, 5])["loss"][2]
    np.testing.assert_array_equal(again, found["loss"][0])


def test_matrix_products_are_pinned_on_accelerators_only() -> None:
    seen = []

    def init(key: Any, hparams: Any) -> Any:
        seen.append(jax.config.jax_default_matmul_precision)
        return jnp.zeros(())

    def step(state: Any, hparams: Any, shared: Any) -> Any:
        seen.append(jax.config.jax_default_matmul_precision)
        return state + 1, {"loss": state}

    engine = Engine(Trainable(init, step), np.zeros(1), WIDTH, 0)
    assert engine.compiler.on_cpu == (jax.default_backend() == "cpu")
    engine.compiler.on_cpu = False
    train(engine, [0], calls=(1,))
    assert set(seen) == {"highest"}
    assert jax.config.jax_default_matmul_precision is None


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="compares with the code for a CPU")
@pytest.mark.parametrize("orthogonal", [False, True])
def test_the_code_for_accelerators_trains_the_same_network(
    orthogonal: bool, quickly: Quickly
) -> None:
    """No layer is skipped there, and initial weights are drawn for all trials at once."""
    kind = "orthogonal" if orthogonal else "he_normal"
    features = EXACT.features | ({"orthogonal"} if orthogonal else set())
    merged = replace(EXACT, features=features, num_layers=4, masked_depth=True)
    curves = []
    for on_cpu in (True, False):
        engine = make_engine(merged, on_cpu=on_cpu)
        engine.init_in_turn = orthogonal
        engine.compiler.on_cpu = on_cpu
        with quickly():
            curves.append(train(engine, [0, 1, 2], initialization=kind)["loss"])
    np.testing.assert_allclose(*curves, rtol=1e-5)


def traced_defaults() -> dict[str, Any]:
    traced = hyperparameters.traced(hyperparameters.complete({"hidden_size": 12, "num_layers": 2}))
    return {k: jnp.asarray(v) for k, v in {**traced, "total_steps": np.float32(15)}.items()}
