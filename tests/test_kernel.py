"""The executor `kernel`, interpreted where no GPU is: vmap's training, each trial alone."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kernel_harness import an_h100

import jaxopt_lab as lab
from jaxopt_lab.core import compilation
from jaxopt_lab.core.controls import Clock
from jaxopt_lab.core.engine import Engine
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.executors import fitting, kernel, launches, pallas
from jaxopt_lab.core.executors.noise import THREEFRY
from jaxopt_lab.core.executors.padding import NoKernelForm
from jaxopt_lab.core.hparams import Hparams
from jaxopt_lab.core.tracing.executors import choose_executor, choose_width
from jaxopt_lab.core.tracing.footprint import Footprint
from jaxopt_lab.core.trainable import Shared, guarded
from jaxopt_lab.problems.general.programs import StaticProgram

pytestmark = [
    pytest.mark.usefixtures("full_precision"),
    pytest.mark.skipif(
        jax.__version_info__ < kernel.OLDEST_JAX, reason="the kernel needs a later JAX"
    ),
]
WIDTH, UNITS = 3, 3
ON_GPU = jax.default_backend() == "gpu"
EXECUTOR = "kernel" if ON_GPU else "kernel-interpreted"


class Net(nn.Module):
    """Sizes that are no powers of two, a narrow head, Flax's own dropout."""

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        # A GPU's compiler takes minutes for the numbers that vmap draws.
        rate = 0.0 if ON_GPU else 0.2
        x = nn.Dropout(rate, deterministic=not train)(jnp.tanh(nn.Dense(20)(x)))
        return nn.Dense(1)(x)[..., 0]


def rows(num_columns: int = 5) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).standard_normal((90, num_columns)).astype(np.float32)
    return x, np.sin(2 * x[:, 0])


def chain(hparams: Any, total_steps: Any) -> optax.GradientTransformation:
    """Clipped, decayed, along a cosine."""
    return optax.chain(
        optax.clip_by_global_norm(hparams["clip_norm"]),
        optax.adamw(1.0, weight_decay=1e-2),
        optax.scale_by_schedule(
            lambda step: hparams["learning_rate"] * (1 + jnp.cos(jnp.pi * step / total_steps)) / 2
        ),
    )


def problem(model: Any = Net, **changes: Any) -> Any:
    """Two minibatches of two chunks, the last one ragged, of weighted rows."""
    given: dict[str, Any] = {
        "loss": optax.squared_error,
        "optimizer": chain,
        "metrics": {"absolute": lambda outputs, targets: jnp.abs(outputs - targets)},
        "splits": 3,
        "batch_size": 40,
        "sample_weight": np.arange(90) % 4,
        **changes,
    }
    return lab.supervised(model, given.pop("data", rows()), **given)


SPACE = lab.SearchSpace(
    learning_rate=lab.LogUniform(1e-3, 1e-1), clip_norm=lab.LogUniform(0.1, 10.0)
)


def engine(executor: Any, insists: bool = True) -> Engine:
    """Compiled fast, which makes no difference here."""
    # Both in float32 without passes, so that they can be compared.
    given = problem(precision="scalar")
    trainable = guarded(given.build(), "loss")
    made = Engine(
        trainable, given.data, WIDTH, 0, jax.devices()[:1], executor=executor, insists=insists,
        curve_length=4,
    )  # fmt: skip
    if made.compiler.on_cpu:
        made.compiler._options = lambda once: compilation._FAST_COMPILE
    return made


@pytest.fixture(scope="module")
def kernels() -> Iterator[Engine]:
    """Drawing what JAX draws, so that dropout can be compared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "NOISE", THREEFRY)
        yield engine(EXECUTOR)


def clock(unit: int, num_units: int) -> Clock:
    values = [np.asarray([value], np.int32) for value in (1, 0, unit, num_units, UNITS)]
    return Clock(*values)


SEEDS = (5, 6, 7)
RATES = {5: 1e-2, 6: 3e-3, 7: 3e-2, 8: 1e-3, 9: 1e30}


def values(seeds: tuple[int, ...]) -> dict[str, Any]:
    return {
        "learning_rate": np.asarray([RATES[seed] for seed in seeds], np.float32),
        "clip_norm": np.asarray([seed / 5 for seed in seeds], np.float32),
    }


def train(
    engine: Engine, seeds: tuple[int, ...], cuts: tuple[int, ...] = (UNITS,), state: Any = None
) -> tuple[Any, dict[str, np.ndarray]]:
    """States, and metrics [trials, units]."""
    hparams, done = values(seeds), UNITS - sum(cuts)
    if state is None:
        state = engine.init(np.asarray(seeds), clock(0, UNITS), hparams)
    parts = []
    for count in cuts:
        state, curves = engine.advance(state, clock(done, count), hparams)
        parts.append({k: np.asarray(v)[:, :count] for k, v in curves.metrics.items()})
        done += count
    return state, {k: np.concatenate([part[k] for part in parts], 1) for k in parts[0]}


@pytest.fixture(scope="module")
def trained(kernels: Engine) -> tuple[Any, dict[str, np.ndarray]]:
    return train(kernels, SEEDS)


def leaves(state: Any, slot: int) -> list[np.ndarray]:
    return [np.asarray(np.asarray(leaf)[slot]) for leaf in jax.tree.leaves(state)]


def test_a_kernel_trains_what_vmap_trains(trained: Any) -> None:
    """Padded widths, ragged minibatches, weights, dropout, clip, decay, schedule, validation."""
    expected, curves = train(engine("vmap"), SEEDS)
    for name, found in trained[1].items():
        np.testing.assert_allclose(found, curves[name], rtol=2e-5)
    assert trained[1].keys() == curves.keys()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), trained[0], expected
    )


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a GPU takes it")
def test_a_kernel_that_does_not_compile_is_one_line() -> None:
    with pytest.raises(UserError, match=r"executor='kernel' cannot be had here: .*leave executor"):
        train(engine("kernel"), SEEDS)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a GPU takes it")
def test_a_kernel_that_was_not_asked_for_makes_way_for_vmap() -> None:
    refused = engine("kernel", insists=False)
    with pytest.warns(UserWarning, match="vmap: a kernel cannot be had here"):
        state, _ = train(refused, SEEDS)
    assert refused.executor == "vmap"
    expected, _ = train(refused, SEEDS)
    jax.tree.map(np.testing.assert_array_equal, state, expected)


@pytest.mark.parametrize("seeds", [(7, 5, 8), (8, 7, 5)])
def test_any_slot_and_company_is_bitwise_the_same(
    kernels: Engine, trained: Any, seeds: tuple[int, ...]
) -> None:
    state, curves = train(kernels, seeds)
    for seed in (5, 7):
        here, there = seeds.index(seed), SEEDS.index(seed)
        jax.tree.map(np.testing.assert_array_equal, leaves(state, here), leaves(trained[0], there))
        np.testing.assert_array_equal(curves["loss"][here], trained[1]["loss"][there])


@pytest.mark.parametrize("cuts", [(1, 2), (2, 1), (1, 1, 1)])
def test_cutting_a_budget_into_calls_changes_nothing(
    kernels: Engine, trained: Any, cuts: tuple[int, ...]
) -> None:
    state, curves = train(kernels, SEEDS, cuts)
    jax.tree.map(np.testing.assert_array_equal, state, trained[0])
    jax.tree.map(np.testing.assert_array_equal, curves, trained[1])


def test_launches_of_a_unit_each_come_to_the_same(
    kernels: Engine, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "NOISE", THREEFRY)
    monkeypatch.setattr(fitting, "LEAST_STEPS", 1)
    state, curves = train(engine(EXECUTOR), SEEDS)
    jax.tree.map(np.testing.assert_array_equal, state, trained[0])
    jax.tree.map(np.testing.assert_array_equal, curves, trained[1])


def test_a_restored_trial_goes_on_in_other_company(kernels: Engine, trained: Any) -> None:
    hparams = values(SEEDS)
    state = kernels.init(np.asarray(SEEDS), clock(0, UNITS), hparams)
    state, _ = kernels.advance(state, clock(0, 1), hparams)
    others = (6, 6, 5)
    stored = [leaves(state, SEEDS.index(seed)) for seed in others]
    restored = kernels.restore(stored, clock(1, UNITS), values(others))
    state, _ = train(kernels, others, (2,), restored)
    jax.tree.map(np.testing.assert_array_equal, leaves(state, 2), leaves(trained[0], 0))


def test_a_trial_that_diverges_keeps_its_last_good_state_and_harms_nobody(
    kernels: Engine, trained: Any
) -> None:
    state, curves = train(kernels, (9, 5, 6))
    jax.tree.map(np.testing.assert_array_equal, leaves(state, 1), leaves(trained[0], 0))
    unit = int(np.asarray(state.diverged_at)[0])
    assert unit >= 0
    assert np.isnan(curves["loss"][0, unit:]).all()
    assert np.isfinite(curves["loss"][0, :unit]).all()
    assert all(np.isfinite(leaf).all() for leaf in leaves(state.inner, 0))


# Before anything is compiled.


def built(given: Any, interpret: bool = False, **keywords: Any) -> tuple[kernel.Kernel, Any, Any]:
    """A problem's kernel, the shapes of a trial, and what its trials share in a unit."""
    trainable = guarded(given.build(**keywords), "loss")
    number = jax.ShapeDtypeStruct((), jnp.float32)
    hparams = Hparams({"learning_rate": number, "clip_norm": number}, keywords)
    state = jax.eval_shape(trainable.init, jax.random.key(0), hparams)
    data = jax.tree.map(jnp.asarray, given.data)

    def shared_at(unit: Any) -> Shared:
        key = jax.random.fold_in(jax.random.key(7), unit)
        return Shared(key, jnp.int32(unit), jnp.int32(3), jnp.int32(0), data)

    found = kernel.build(trainable.row_loop, state, hparams, shared_at(0), interpret)
    return found, (state, hparams), shared_at


def test_a_kernel_lowers_for_cuda_and_all_its_sizes_are_powers_of_two() -> None:
    found, one, shared_at = built(problem())
    many = jax.tree.map(lambda x: jax.ShapeDtypeStruct((7, *x.shape), x.dtype), one)

    def run(state: Any, hparams: Any, num_units: Any) -> Any:
        return launches.advance(found, state, hparams, shared_at, num_units, 4)

    with an_h100():
        traced = jax.jit(run).trace(*many, 3)
        assert "triton" in traced.lower(lowering_platforms=("cuda",)).as_text()
    sizes = set()

    def look(jaxpr: Any) -> None:
        for equation in jaxpr.eqns:
            is_kernel = jaxpr is not inside
            for variable in equation.outvars if is_kernel else ():
                sizes.update(getattr(variable.aval, "shape", ()))
            for value in jax.tree.leaves(list(equation.params.values())):
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    look(inner)

    inside = None
    for equation in traced.jaxpr.eqns:
        if equation.primitive.name == "pallas_call":
            look(equation.params["jaxpr"])
    assert {16, 32} <= sizes
    assert all(size & (size - 1) == 0 for size in sizes)


class Conv(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(1)(nn.Conv(4, (3,))(x[..., None]).mean((1, 2))[:, None])[..., 0]


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        return nn.Dense(1)(nn.BatchNorm(use_running_average=not train)(x))[..., 0]


class Centred(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(1)(x - x.mean(0))[..., 0]


class Exact(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(1)(nn.gelu(nn.Dense(8)(x), approximate=False))[..., 0]


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(1)(nn.RNN(nn.SimpleCell(8))(x[..., None])[:, -1])[..., 0]


class Half(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(1, dtype=jnp.bfloat16)(x)[..., 0].astype(jnp.float32)


def mean_loss(module: Any, variables: Any, batch: Any) -> Any:
    outputs = module.apply(variables, batch.inputs)
    return jnp.mean((outputs - batch.targets) ** 2)


@lab.metrics.over_all_rows
def spread(outputs: Any, targets: Any) -> Any:
    return jnp.std(outputs - targets)


REASONS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "convolution": (Conv, {}, "convolution has no kernel form"),
    "batch norm": (Normalised, {}, "a module with batch_stats sees whole minibatches"),
    "mixed rows": (Centred, {}, "its rows are not computed apart from each other"),
    "erf": (Exact, {}, "the error function .* has no kernel form"),
    "loop": (Recurrent, {}, "a loop .* has no kernel form"),
    "bfloat16": (Half, {}, "bfloat16 numbers have no kernel form"),
    "mean": (Net, {"loss": mean_loss, "metrics": None}, "its loss is a mean over rows"),
    "metric": (Net, {"metrics": {"spread": spread}}, "the metric 'spread' is of all rows at once"),
}


@pytest.mark.parametrize("name", REASONS)
def test_what_a_kernel_cannot_do_is_named_before_anything_compiles(name: str) -> None:
    model, changes, reason = REASONS[name]
    with pytest.raises(NoKernelForm, match=reason):
        built(problem(model, **changes))


class Wide(nn.Module):
    width: int = 64

    @nn.compact
    def __call__(self, x: Any) -> Any:
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(1)(x)[..., 0]


FOOTPRINT = Footprint(
    peak_bytes=4000,
    trial_bytes=4000,
    shared_bytes=0,
    state_bytes=1000,
    flops=1e6,
    num_operations=100.0,
    primitives=frozenset(),
    kernels_differ=False,
    unknown_length=False,
)


@pytest.fixture(scope="module")
def wide() -> Any:
    """Two layers of 128 with three TF32 passes, ready to train."""
    given = problem(lambda: Wide(128), data=rows(16), precision="tf32x3")
    return given.training(SPACE, None, 0)


def choice(training: Any, executor: str | None, on_cpu: bool) -> tuple[str, str]:
    training.problem = dataclasses.replace(training.problem, executor=executor)
    training._choices.clear()
    return training.choice(StaticProgram({}), on_cpu)


def test_the_planner_says_why_a_trial_does_not_fit(wide: Any) -> None:
    reason = "331,776 bytes of shared memory wanted, 232,448 there"
    assert choice(wide, None, on_cpu=False) == ("vmap", reason)
    with pytest.raises(UserError, match=reason):
        choice(wide, "kernel", on_cpu=False)
    assert choice(wide, None, on_cpu=True)[0] in ("vmap", "map")
    with pytest.raises(UserError, match="it is for NVIDIA's GPUs, and this is a CPU"):
        choice(wide, "kernel", on_cpu=True)
    found = choice(wide, "kernel-interpreted", on_cpu=True)
    assert found == ("kernel-interpreted", "as asked for")


def test_a_jax_that_lacks_something_says_so_and_vmap_runs(
    wide: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing() -> Any:
        raise ImportError("cannot import name 'triton'")

    monkeypatch.setattr(pallas, "_names", nothing)
    executor, reason = choice(wide, None, on_cpu=False)
    assert executor == "vmap"
    assert "has no kernels as they are needed: cannot import name 'triton'" in reason


def test_a_kernel_is_taken_on_a_gpu_only_and_where_one_fits() -> None:
    for reason in ("", "convolution has no kernel form"):
        found = choose_executor(FOOTPRINT, "gpu", None, lambda interpret, why=reason: why)
        assert found[0] == ("vmap" if reason else "kernel")
        assert reason in found[1]
    for platform in ("cpu", "tpu"):
        assert choose_executor(FOOTPRINT, platform, None, lambda interpret: "")[0] == "vmap"
    with pytest.raises(UserError, match=r"only lab\.supervised and tables tell the executor"):
        choose_executor(FOOTPRINT, "gpu", "kernel", None)
    assert choose_width(FOOTPRINT, "kernel", "gpu", 10**6) == 4096
    assert choose_width(FOOTPRINT, "kernel", "gpu", 100) == 128


@pytest.mark.parametrize(
    ("layers", "width", "precision", "reported"),
    [
        (2, 128, "tf32x3", 294_912),
        (4, 64, "tf32x3", 238_592),
        (3, 128, "float32", 282_624),
    ],
)
def test_shared_memory_is_at_least_what_a_compiler_reported_and_little_more(
    layers: int, width: int, precision: str, reported: int
) -> None:
    shapes = [(16, width), *[(width, width)] * (layers - 1), (width, 1)]
    gradient = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    found = fitting.sizes_of(3 * gradient, gradient, 32, precision).shared_bytes
    assert reported <= found <= 1.15 * reported


@pytest.mark.parametrize(("width", "most"), [(32, 256), (64, 128), (128, 64)])
def test_large_minibatches_are_for_vmap(width: int, most: int) -> None:
    gradient = [jax.ShapeDtypeStruct((width, 64), jnp.float32) for _ in range(2)]
    for batch in (most, most + 1):
        sizes = fitting.sizes_of(3 * gradient, gradient, batch, "float32")
        why = fitting.misfit(sizes, batch, pallas.Machine())
        assert why.endswith(f"pays up to {most}") == (batch > most)


def test_a_wrong_precision_is_one_line() -> None:
    with pytest.raises(UserError, match=r"must be one of float32, .* Did you mean 'tf32'"):
        problem(precision="tf3")


@pytest.mark.slow
def test_a_study_in_kernels_goes_on_where_it_was_cut(tmp_path: Any) -> None:
    def study(name: str) -> lab.Study:
        return lab.Study(problem(executor=EXECUTOR), SPACE, tmp_path / name, seed=0)

    whole = study("whole")
    whole.optimize("random", 6, budget=3, round_size=2)
    with study("cut") as cut:
        cut.optimize("random", 2, budget=3, round_size=2)
    again = study("cut")
    again.optimize("random", 6, budget=3, round_size=2)
    assert again.trials.equals(whole.trials)


def test_who_plans_and_who_runs_trace_once(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    trace = kernel._traced
    monkeypatch.setattr(kernel, "_traced", lambda *args: seen.append(args) or trace(*args))
    study = lab.Study(problem(executor=EXECUTOR), SPACE, seed=0)
    study.optimize("random", 2, budget=1)
    (program,) = {job.program for job in [study.job(0, study.store.trials()[0].config, 0)]}
    assert study.training.client.choice(program, not ON_GPU)[0] == EXECUTOR
    assert len(seen) == 1
