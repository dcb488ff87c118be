"""The tabular MLP in the executor `kernel`, interpreted where no GPU is: what vmap trains."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from kernel_harness import an_h100

import jaxopt_lab as lab
from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.executors import fitting, kernel, launches
from jaxopt_lab.core.runner import Runner
from jaxopt_lab.core.trainable import Shared
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.problems.mlp.client import RowsClient
from jaxopt_lab.problems.mlp.data import classification, lay_out, regression
from jaxopt_lab.problems.mlp.programs import Programs

pytestmark = [
    pytest.mark.usefixtures("full_precision"),
    pytest.mark.skipif(
        jax.__version_info__ < kernel.OLDEST_JAX, reason="the kernel needs a later JAX"
    ),
]
ON_GPU = jax.default_backend() == "gpu"
EXECUTOR = "kernel" if ON_GPU else "kernel-interpreted"
EPOCHS, NUM_ROWS = 4, 70
BASE: dict[str, Any] = {
    "num_layers": 2,
    "hidden_size": 20,
    "batch_size": 24,
    "activation": "tanh",
    "learning_rate": 1e-2,
}


def arrays_of(targets: np.ndarray | None = None) -> Any:
    """Two folds of 50 and 20 rows, and the refit on all of them."""
    x = np.random.default_rng(0).standard_normal((NUM_ROWS, 5)).astype(np.float32)
    given = np.sin(2 * x[:, 0]).astype(np.float32) if targets is None else targets
    rows, nothing = np.arange(NUM_ROWS), np.arange(0)
    folds = [(rows[20:], rows[:20]), (rows[:50], rows[50:]), (rows, nothing)]
    return lay_out([x], [given], folds)


def programs(configs: list[dict[str, Any]], merged: bool) -> Programs:
    """Of some configurations one for all shapes, or each its own."""
    several = {name: sorted({c[name] for c in configs}) for name in ("hidden_size", "num_layers")}
    names = {c["activation"] for c in configs}, {c["optimizer"] for c in configs}
    features = frozenset().union(*(hyperparameters.features_on(c) for c in configs))
    return Programs(
        widths=(24,) if merged else tuple(several["hidden_size"]),
        depths=(max(several["num_layers"]),) if merged else tuple(several["num_layers"]),
        block=12 if merged else 0,
        activations=tuple(sorted(names[0])) if merged else (),
        noise_rows=12,
        draw_width=24,
        features=features,
        masked_width=merged,
        masked_depth=merged,
        optimizers=tuple(sorted(names[1])) if merged else (),
    )


def run(
    executor: str,
    changes: list[dict[str, Any]],
    merged: bool = False,
    arrays: Any = None,
    criterion: Any = None,
    folds: tuple[int, ...] = (0,),
) -> list[Any]:
    """Results of trials in their order, trained together where they share a program."""
    configs = [hyperparameters.complete({**BASE, **change}) for change in changes]
    chosen = programs(configs, merged)
    client = RowsClient(
        arrays_of() if arrays is None else arrays, criterion or regression(), executor=executor
    )
    runner = Runner(client, 0, devices=jax.devices()[:1])
    jobs = [
        Job(i, fold, 0, config, chosen.signature(config), EPOCHS, EPOCHS)
        for fold in folds
        for i, config in enumerate(configs)
    ]
    found = [result for report in runner.run(jobs) for result in report.results]
    return sorted(found, key=lambda result: (result.job.fold, result.job.trial_id))


@pytest.fixture(autouse=True)
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both in float32 without passes, so that they can be compared."""
    monkeypatch.setitem(fitting.PRECISIONS, "float32", "scalar")


def same(found: list[Any], expected: list[Any], rtol: float = 2e-4) -> None:
    for mine, other in zip(found, expected, strict=True):
        assert mine.curves.keys() == other.curves.keys()
        for name, values in other.curves.items():
            np.testing.assert_allclose(mine.curves[name], values, rtol=rtol, atol=1e-6)
        np.testing.assert_array_equal(mine.curves["keep"], other.curves["keep"])
        for a, b in zip(jax.tree.leaves(mine.params), jax.tree.leaves(other.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=20 * rtol, atol=2e-5)
        num_valid = 20 if mine.job.fold < 2 else 0
        outputs = mine.info["outputs"][:num_valid], other.info["outputs"][:num_valid]
        np.testing.assert_allclose(*outputs, rtol=20 * rtol, atol=2e-5)
        np.testing.assert_array_equal(mine.info["diverged_at"], other.info["diverged_at"])


#: Narrower, shallower, larger batches, other activations and optimizers in one program.
MERGED = [
    {"weight_decay": 0.1, "clip_norm": 1.0, "optimizer": "adamw"},
    {"hidden_size": 9, "num_layers": 1, "activation": "relu", "optimizer": "sgd", "l2": 1e-3},
    {"hidden_size": 13, "batch_size": 12, "activation": "gelu", "optimizer": "rmsprop"},
    {"hidden_size": 9, "num_layers": 1, "optimizer": "sgd", "learning_rate": 1e30},
]


def test_padded_and_merged_networks_train_as_under_vmap() -> None:
    """Masked width and depth, blocks of rows, optimizers of one formula; the refit, too."""
    found = [run(executor, MERGED, True, folds=(0, 2)) for executor in (EXECUTOR, "vmap")]
    assert [result.info["diverged_at"] >= 0 for result in found[0]] == [
        False,
        False,
        False,
        True,
    ] * 2
    same(*found)


EVERYTHING = {
    "ema": True,
    "early_stopping": True,
    "early_stopping_patience": 2,
    "schedule": "reduce_on_plateau",
    "plateau_patience": 1,
    "l1": 1e-3,
    "clip_value": 0.5,
    "learning_rate": 0.1,
    "batch_size": 50,
}


def test_what_a_network_keeps_from_epoch_to_epoch_is_kept_in_a_kernel() -> None:
    """Averages, the best epoch's weights and outputs, a rate reduced on a plateau; classes."""
    labels = (np.arange(NUM_ROWS) % 3).astype(np.int32)
    given = ([EVERYTHING, {**EVERYTHING, "learning_rate": 0.01}], False, arrays_of(labels))
    found = [run(executor, *given, classification(3)) for executor in (EXECUTOR, "vmap")]
    same(*found)
    assert not all(found[0][0].curves["keep"])


def traced(client: RowsClient, changes: list[dict[str, Any]], merged: bool) -> Any:
    """A kernel, the shapes of one trial, and what its trials share in a unit."""
    configs = [hyperparameters.complete({**BASE, **change}) for change in changes]
    program = programs(configs, merged).signature(configs[0])
    trainable = client.trainable(program, on_cpu=False)
    hparams = {k: jnp.asarray(v) for k, v in hyperparameters.traced(configs[0]).items()}
    hparams["total_steps"] = jnp.ones(())
    one = jax.eval_shape(lambda h: (trainable.init(jax.random.key(0), h), h), hparams)
    data = jax.tree.map(jnp.asarray, client.data)

    def shared_at(unit: Any) -> Shared:
        key = jax.random.fold_in(jax.random.key(7, impl="threefry2x32"), unit)
        zero = jnp.int32(0)
        return Shared(key, jnp.int32(unit), jnp.int32(3), zero, data, (zero + 1, zero))

    return kernel.build(trainable.row_loop, *one, shared_at(0)), one, shared_at


@pytest.mark.parametrize("changes", [MERGED, [{**EVERYTHING, "dropout": 0.2}]])
def test_kernels_of_tables_lower_for_cuda(changes: Any) -> None:
    found, one, shared_at = traced(
        RowsClient(arrays_of(), regression()), changes, changes is MERGED
    )
    many = jax.tree.map(lambda x: jax.ShapeDtypeStruct((7, *x.shape), x.dtype), one)

    def train(state: Any, hparams: Any, num_units: Any) -> Any:
        return launches.advance(found, state, hparams, shared_at, num_units, 4)

    with an_h100():
        lowered = jax.jit(train).trace(*many, 3).lower(lowering_platforms=("cuda",))
    assert "triton" in lowered.as_text()


def test_who_plans_and_who_runs_trace_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And again for other arithmetic."""
    seen = []
    trace = kernel._traced
    monkeypatch.setattr(kernel, "_traced", lambda *args: seen.append(args) or trace(*args))
    run(EXECUTOR, [{"num_layers": 1}])
    assert len(seen) == 1
    client = RowsClient(arrays_of(), regression(), executor=EXECUTOR)
    found = [traced(client, [{}], False)[0] for _ in range(2)]
    assert found[0].gradient is found[1].gradient
    monkeypatch.setitem(fitting.PRECISIONS, "float32", "tf32")
    assert traced(client, [{}], False)[0].gradient is not found[0].gradient
    assert len(seen) == 3


def test_dropout_is_drawn_anew_and_the_same_in_any_company() -> None:
    still = {"learning_rate": 1e-8, "dropout": 0.3, "num_layers": 1}
    alone, other = run(EXECUTOR, [still])[0], run("vmap", [still])[0]
    found = run(EXECUTOR, [still, {**still, "dropout": 0.0}])
    for name, values in alone.curves.items():
        np.testing.assert_array_equal(found[0].curves[name], values)
    losses = alone.curves["train_loss"]
    assert len(set(losses)) == EPOCHS
    # Without a step that counts: what is drawn differs, what it does to the loss does not.
    np.testing.assert_allclose(losses.mean(), other.curves["train_loss"].mean(), rtol=0.2)
    assert len(set(found[1].curves["train_loss"].round(4))) == 1


@pytest.mark.skipif(ON_GPU, reason="it asks what an H100 would do")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"hidden_size": 512}, "bytes of shared memory wanted"),
        ({"ensemble_size": 4}, "members that share weights"),
        ({"precision": "bfloat16"}, "bfloat16 numbers have no kernel form"),
        (
            {"early_stopping": True, "early_stopping_monitor": "calibrated_loss"},
            "a loss at several temperatures",
        ),
    ],
)
def test_the_planner_takes_a_kernel_where_one_fits(change: dict[str, Any], reason: str) -> None:
    config = hyperparameters.complete({**BASE, **change})
    client = RowsClient(arrays_of(), regression())
    executor, why = client.choice(programs([config], False).signature(config), on_cpu=False)
    assert executor == ("vmap" if reason else "kernel")
    assert reason in why


def test_what_is_observed_within_an_epoch_has_no_kernel() -> None:
    config = hyperparameters.complete(BASE)
    client = RowsClient(arrays_of(), regression(), evaluations=2, executor="kernel-interpreted")
    with pytest.raises(UserError, match="observed within an epoch"):
        client.executor(programs([config], False).signature(config), on_cpu=True)


def test_a_table_may_ask_for_an_executor_that_there_is() -> None:
    frame = pd.DataFrame({"x": np.arange(40.0) % 7, "y": np.arange(40.0) % 5})
    table = lab.datasets.load_table(frame, target="y")
    asked = lab.tasks.tabular(table, executor="vmap")
    assert asked.describe()["executor"] == "vmap"
    with pytest.raises(UserError, match="executor must be one of"):
        lab.tasks.tabular(table, executor="pmap")
