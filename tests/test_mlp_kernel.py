"""The tabular MLP in the executor `kernel`, interpreted where no GPU is: what vmap trains."""

from typing import Any

import jax
import numpy as np
import pytest

from jaxopt_lab.core import compilation
from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.executors import fitting, kernel
from jaxopt_lab.core.runner import Runner
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.problems.mlp.client import RowsClient
from jaxopt_lab.problems.mlp.data import lay_out, regression
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
def compiled_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both in float32 without passes, so that they can be compared; optimised little."""
    monkeypatch.setitem(fitting.PRECISIONS, "float32", "scalar")
    if not ON_GPU:
        fast = lambda self, once: compilation._FAST_COMPILE  # noqa: E731
        monkeypatch.setattr(compilation.Compiler, "_options", fast)


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
    {"hidden_size": 13, "batch_size": 12, "activation": "gelu", "optimizer": "rmsprop", "l1": 1e-3},
]


@pytest.fixture(scope="module")
def merged() -> tuple[list[Any], list[Any]]:
    with pytest.MonkeyPatch.context() as patch:
        compiled_fast.__wrapped__(patch)  # type: ignore[attr-defined]
        return run(EXECUTOR, MERGED, True, folds=(0, 2)), run("vmap", MERGED, True, folds=(0, 2))


def test_padded_and_merged_networks_train_as_under_vmap(merged: Any) -> None:
    """Masked width and depth, blocks of rows, optimizers of one formula; the refit, too."""
    same(*merged)
