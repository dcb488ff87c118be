"""What a trace tells: dependencies, sameness, cost, executor, where a program lowers."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.tracing.check import check_trainable
from jaxopt_lab.core.tracing.dependencies import dependencies
from jaxopt_lab.core.tracing.executors import choose_executor, choose_width, overhead_share
from jaxopt_lab.core.tracing.footprint import Footprint, measure_footprint, trial_footprint
from jaxopt_lab.core.tracing.lowering import lowers
from jaxopt_lab.core.tracing.naming import listed, name_of, places
from jaxopt_lab.core.tracing.purity import RandomStates, same_program
from jaxopt_lab.core.trainable import Trainable

X = jnp.arange(3.0)


def drop_second(x: Any, y: Any) -> Any:
    """Computes with y, and throws it away."""
    del y
    return x * 2


@jax.jit
def jitted(x: Any, y: Any) -> Any:
    wasted = jnp.exp(y)
    return x + 1, wasted


@jax.custom_jvp
def curved(x: Any, y: Any) -> Any:
    jnp.sin(y)
    return x**2


curved.defjvp(lambda primals, tangents: (primals[0], tangents[0]))


@jax.custom_vjp
def bent(x: Any, y: Any) -> Any:
    return x**2


bent.defvjp(lambda x, y: (x**2, y), lambda y, g: (g, g * y))


def scan_wasting(x: Any, y: Any) -> Any:
    def turn(carry: Any, _: Any) -> Any:
        a, b = carry
        return (a + 1, b * y), a

    (a, _), stacked = jax.lax.scan(turn, (x, y), None, length=3)
    return a + stacked.sum(0)


def scan_shifting(x: Any, y: Any) -> Any:
    """What is read of y arrives after three turns."""

    def turn(carry: Any, _: Any) -> Any:
        return (*carry[1:], carry[3]), None

    return jax.lax.scan(turn, (x, x, x, y), None, length=5)[0][0]


def scan_overwriting(x: Any, y: Any) -> Any:
    return jax.lax.scan(lambda carry, _: (x, None), y, None, length=1)[0]


def while_wasting(x: Any, y: Any) -> Any:
    def turn(carry: Any) -> Any:
        i, a, b = carry
        return i + 1, a * 2, b * y

    return jax.lax.while_loop(lambda carry: carry[0] < 3, turn, (0, x, y))[1]


def while_as_long_as(x: Any, y: Any) -> Any:
    turn = lambda carry: (carry[0] + 1, carry[1] * 2)  # noqa: E731
    return jax.lax.while_loop(lambda carry: carry[0] < y[0], turn, (0.0, x))[1]


def while_letting_alone(x: Any, y: Any) -> Any:
    turn = lambda carry: (carry[0] + 1, carry[1])  # noqa: E731
    return jax.lax.while_loop(lambda carry: carry[0] < y[0], turn, (0.0, x))[1]


def branches_wasting(x: Any, y: Any) -> Any:
    return jax.lax.cond(x[0] > 0, lambda x, y: x, lambda x, y: x * 2, x, y)


def branches_asking(x: Any, y: Any) -> Any:
    return jax.lax.cond(y[0] > 0, lambda x: x, lambda x: x * 2, x)


def shape_only(x: Any, y: Any) -> Any:
    return x + jnp.zeros_like(y)


def gradient(x: Any, y: Any) -> Any:
    """The gradient by x of a sum does not see y."""
    return jax.grad(lambda x: jnp.sum(x**2) + jnp.sum(y))(x)


def reference(x: Any, y: Any) -> Any:
    box = jax.new_ref(x)
    box[...] = y
    return box[...]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (drop_second, {0}),
        (lambda x, y: jitted(x, y)[0], {0}),
        (lambda x, y: jitted(x, y)[1], {1}),
        (curved, {0}),
        (bent, {0}),
        (jax.checkpoint(drop_second), {0}),
        (jax.vmap(lambda x, y: jitted(x, y)[0]), {0}),
        (scan_wasting, {0}),
        (scan_shifting, {0, 1}),
        (scan_overwriting, {0}),
        (while_wasting, {0}),
        (while_as_long_as, {0, 1}),
        (while_letting_alone, {0}),
        (branches_wasting, {0}),
        (branches_asking, {0, 1}),
        (shape_only, {0}),
        (gradient, {0}),
        (reference, {0, 1}),
        (lambda x, y: jax.lax.fori_loop(0, 3, lambda i, a: a + y, x), {0, 1}),
        (lambda x, y: jax.lax.stop_gradient(y) * x, {0, 1}),
    ],
)
def test_dead_code_is_no_dependency(function: Callable[..., Any], expected: set[int]) -> None:
    (found,) = dependencies(jax.make_jaxpr(function)(X, X))
    assert found == expected


def trained(module: Any, inputs: Any, num_steps: int = 4) -> tuple[Callable[..., Any], tuple]:
    """A unit of some steps of Adam, and its arguments: weights, optimizer's state, rows."""
    optimizer = optax.adam(1e-3)
    params = module.init(jax.random.key(0), inputs[:1])

    def unit(params: Any, state: Any, inputs: Any) -> Any:
        def step(carry: Any, rows: Any) -> Any:
            params, state = carry
            loss, grads = jax.value_and_grad(
                lambda p: jnp.mean((module.apply(p, rows)[..., 0] - 1.0) ** 2)
            )(params)
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), loss

        batches = inputs.reshape(num_steps, -1, *inputs.shape[1:])
        return jax.lax.scan(step, (params, state), batches)

    return unit, (params, optimizer.init(params), inputs)


class Dense(nn.Module):
    """Two hidden layers."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        for _ in range(2):
            x = nn.relu(nn.Dense(128)(x))
        return nn.Dense(1)(x)


class Recurrent(nn.Module):
    """A GRU of 16 units."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(1)(nn.RNN(nn.GRUCell(16))(x)[:, -1])


class Convolutional(nn.Module):
    """A convolution, pooling, a dense layer."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.avg_pool(nn.relu(nn.Conv(8, (3, 3))(x)), (2, 2), (2, 2))
        return nn.Dense(1)(x.reshape(len(x), -1))


NETWORKS = {
    "dense": lambda: trained(Dense(), jnp.ones((256, 16))),
    "recurrent": lambda: trained(Recurrent(), jnp.ones((64, 12, 4))),
    "convolutional": lambda: trained(Convolutional(), jnp.ones((64, 8, 8, 2))),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_memory_is_within_a_factor_of_two_of_xlas(name: str) -> None:
    unit, arguments = NETWORKS[name]()
    found = measure_footprint(jax.make_jaxpr(unit)(*arguments))
    # Memory is assigned before code is made, so the fastest compilation will do.
    fast = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    memory = jax.jit(unit).lower(*arguments).compile(fast).memory_analysis()
    ends = memory.argument_size_in_bytes + memory.output_size_in_bytes
    assert 0.5 < (found.peak_bytes - ends) / memory.temp_size_in_bytes < 2.0
    assert 0.5 < found.peak_bytes / (ends + memory.temp_size_in_bytes) < 2.0


def test_operations_of_a_product_and_of_loops_are_counted() -> None:
    def product(x: Any, w: Any) -> Any:
        return x @ w

    def repeated(x: Any, w: Any) -> Any:
        return jax.lax.scan(lambda x, _: (x @ w, None), x, None, length=10)[0]

    x, w = jnp.ones((8, 16)), jnp.ones((16, 16))
    once = measure_footprint(jax.make_jaxpr(product)(x, w))
    often = measure_footprint(jax.make_jaxpr(repeated)(x, w))
    assert once.flops == 2 * 8 * 16 * 16
    assert often.flops == 10 * once.flops
    assert often.num_operations == pytest.approx(10 * once.num_operations, abs=2)
    assert not often.unknown_length
    assert {"dot_general", "scan"} <= often.primitives


def test_operations_of_convolutions_are_counted() -> None:
    def convolve(x: Any, kernel: Any) -> Any:
        return jax.lax.conv(x, kernel, (1, 1), "SAME")

    found = measure_footprint(
        jax.make_jaxpr(convolve)(jnp.ones((2, 3, 8, 8)), jnp.ones((5, 3, 3, 3)))
    )
    assert found.flops == 2 * (2 * 5 * 8 * 8) * (3 * 3 * 3)


def test_a_loop_of_unknown_length_is_flagged() -> None:
    program = jax.make_jaxpr(while_as_long_as)(X, X)
    assert measure_footprint(program).unknown_length
    assert not measure_footprint(jax.make_jaxpr(scan_wasting)(X, X)).unknown_length


def test_what_a_cohort_shares_is_told_apart() -> None:
    unit, (params, state, inputs) = NETWORKS["dense"]()
    leaves = len(jax.tree.leaves((params, state)))
    program = jax.make_jaxpr(unit)(params, state, inputs)
    found = measure_footprint(program, own=[*([True] * leaves), False])
    assert found.shared_bytes >= inputs.nbytes
    assert found.trial_bytes + found.shared_bytes == found.peak_bytes
    alone = measure_footprint(program)
    assert alone.shared_bytes == 0
    assert found.trial_bytes < alone.trial_bytes


@pytest.mark.parametrize(
    ("own", "expected"), [((True, False), False), ((False, True), True), ((False, False), False)]
)
def test_kernels_of_a_trials_own_are_seen_in_loops(own: tuple[bool, bool], expected: bool) -> None:
    def unit(x: Any, kernel: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            return (carry[0], jax.lax.conv(carry[0], carry[1], (1, 1), "SAME")[:1, :1]), None

        return jax.lax.scan(step, (x, kernel), None, length=2)

    program = jax.make_jaxpr(unit)(jnp.ones((1, 1, 3, 3)), jnp.ones((1, 1, 3, 3)))
    # The next kernel is made of the image: what is the image's own is the kernel's own then.
    expected = expected or own[0]
    assert measure_footprint(program, own=own).kernels_differ == expected


def test_two_traces_of_one_function_are_the_same_program() -> None:
    for name in NETWORKS:
        unit, arguments = NETWORKS[name]()
        first, second = (jax.make_jaxpr(lambda *a: unit(*a))(*arguments) for _ in range(2))  # noqa: B023
        assert same_program(first, second)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x: x + 1.0, lambda x: x + 2.0),
        (lambda x: x + np.arange(3.0), lambda x: x + np.arange(1.0, 4.0)),
        (lambda x: x - x[0], lambda x: x - x[1]),
        (lambda x: x * 2.0, lambda x: x * 2.0 + 1.0),
        (lambda x: (x, x + 1), lambda x: (x + 1, x)),
        (lambda x: jax.jit(lambda x: x + 1.0)(x), lambda x: jax.jit(lambda x: x + 2.0)(x)),
        (
            lambda x: jax.lax.scan(lambda c, _: (c + 1.0, None), x, None, length=2)[0],
            lambda x: jax.lax.scan(lambda c, _: (c + 2.0, None), x, None, length=2)[0],
        ),
    ],
)
def test_other_programs_differ(one: Callable[..., Any], other: Callable[..., Any]) -> None:
    assert not same_program(jax.make_jaxpr(one)(X), jax.make_jaxpr(other)(X))


def test_generators_that_moved_are_named() -> None:
    states = RandomStates()
    np.random.default_rng(0).normal()
    assert states.drawn_from() is None
    np.random.rand()  # noqa: NPY002
    assert states.drawn_from() == "np.random"


def build(width: int = 4) -> Trainable:
    """Linear regression whose state holds more than its metrics need."""

    def init(key: Any, hparams: Any) -> Any:
        return {
            "w": jax.random.normal(key, (width,)) * hparams["scale"],
            "rate": hparams["learning_rate"],
            "noted": hparams["note"],
        }

    def step(state: Any, hparams: Any, shared: Any) -> Any:
        grads = jax.grad(lambda w: jnp.mean((shared.data @ w) ** 2))(state["w"])
        w = state["w"] - state["rate"] * grads
        return {**state, "w": w}, {"loss": jnp.sum(w**2)}

    def evaluate(state: Any, hparams: Any, shared: Any) -> Any:
        return {"score": jnp.sum(state["w"]) * hparams["factor"], "weights": state["w"]}

    return Trainable(init, step, evaluate)


HPARAMS = {
    name: jax.ShapeDtypeStruct((), jnp.float32)
    for name in ("scale", "learning_rate", "note", "factor")
}
DATA = jax.ShapeDtypeStruct((8, 4), jnp.float32)


def test_what_functions_return_and_read() -> None:
    found = check_trainable(
        build, source="build", objective="score", traced=HPARAMS, static={"unused": 3}, data=DATA
    )
    assert found.state["w"].shape == (4,)
    assert {name: metric.shape for name, metric in found.metrics.items()} == {
        "loss": (),
        "score": (),
        "weights": (4,),
    }
    assert found.read == {"scale", "learning_rate", "factor"}
    assert found.unread == ("note", "unused")
    assert found.result == found.state
    assert found.info == {}


def test_what_only_the_kept_result_reads_counts() -> None:
    found = check_trainable(
        lambda: build()._replace(result=lambda state: state["noted"] * 2),
        source="build",
        objective="loss",
        traced=HPARAMS,
        data=DATA,
    )
    assert "note" in found.read
    assert found.result.shape == ()


def test_what_takes_two_units_to_arrive_is_read() -> None:
    def init(key: Any, hparams: Any) -> Any:
        return {"first": 0.0, "second": 0.0}

    def step(state: Any, hparams: Any, shared: Any) -> Any:
        new = {"first": jnp.float32(hparams.late), "second": state["first"]}
        return new, {"loss": jnp.float32(state["second"])}

    traced = {"late": np.int32(1)}
    found = check_trainable(
        lambda: Trainable(init, step), source="build", objective="loss", traced=traced
    )
    assert found.read == {"late"}


def test_hyperparameters_pass_through_jit_loops_and_copies() -> None:
    @jax.jit
    def inner(hparams: Any) -> Any:
        config = {"unknown": 1.0, **hparams}
        return config["scale"] * (2.0 if hparams.kind == "double" else 1.0)

    def step(state: Any, hparams: Any, shared: Any) -> Any:
        def turn(carry: Any, _: Any) -> Any:
            return carry * inner(hparams), None

        state, _ = jax.lax.scan(turn, state, None, length=3)
        return state, {"loss": state + hparams.get("absent", 0.0)}

    found = check_trainable(
        lambda: Trainable(lambda key, hparams: jnp.ones(()), step),
        source="build",
        objective="loss",
        traced={"scale": np.float32(1)},
        static={"kind": "double"},
    )
    assert found.read == {"scale", "kind"}
    assert found.missing == ("absent",)


def test_modules_with_collections_and_optax_pass() -> None:
    """Linen with BatchNorm, an Optax chain of traced hyperparameters, a state of mixed trees."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any, train: bool = True) -> Any:
            x = nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(x))
            return nn.Dense(1)(nn.relu(x))

    net = Net()

    def optimizer(hparams: Any) -> Any:
        return optax.chain(
            optax.clip_by_global_norm(hparams.clip_norm), optax.adamw(hparams.learning_rate)
        )

    def init(key: Any, hparams: Any) -> Any:
        variables = net.init(key, jnp.ones((1, 4)))
        return variables, optimizer(hparams).init(variables["params"])

    def step(state: Any, hparams: Any, shared: Any) -> Any:
        variables, moments = state

        def loss(params: Any) -> Any:
            outputs, rest = net.apply(
                {**variables, "params": params}, shared.data, mutable=["batch_stats"]
            )
            return jnp.mean(outputs**2), rest

        (value, rest), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        updates, moments = optimizer(hparams).update(grads, moments, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        return ({**variables, **rest, "params": params}, moments), {"loss": value}

    found = check_trainable(
        lambda: Trainable(init, step),
        source="build",
        objective="loss",
        traced={"clip_norm": np.float32(1), "learning_rate": np.float32(1e-3)},
        data=DATA,
    )
    assert found.unread == ()


def test_nnx_modules_pass() -> None:
    def init(key: Any, hparams: Any) -> Any:
        return nnx.state(nnx.Linear(4, 1, rngs=nnx.Rngs(key)))

    graph = nnx.graphdef(nnx.Linear(4, 1, rngs=nnx.Rngs(0)))

    def step(state: Any, hparams: Any, shared: Any) -> Any:
        value, grads = jax.value_and_grad(
            lambda state: jnp.mean(nnx.merge(graph, state)(shared.data) ** 2)
        )(state)
        return jax.tree.map(lambda w, g: w - hparams.rate * g, state, grads), {"loss": value}

    found = check_trainable(
        lambda: Trainable(init, step),
        source="build",
        objective="loss",
        traced={"rate": np.float32(1)},
        data=DATA,
    )
    assert found.read == {"rate"}


def test_a_trace_computes_nothing() -> None:
    """Arrays of a size that no machine has."""

    def init(key: Any, hparams: Any) -> Any:
        return jnp.zeros((1 << 20, 1 << 20)) + hparams.scale

    found = check_trainable(
        lambda: Trainable(init, lambda state, hparams, shared: (state, {"loss": state.mean()})),
        source="build",
        objective="loss",
        traced={"scale": np.float32(1)},
    )
    assert trial_footprint(found).peak_bytes >= 4 << 40


def test_data_is_shared_and_initialisation_counts() -> None:
    def init(key: Any, hparams: Any) -> Any:
        return jax.random.normal(key, (1000, 1000)).sum() * hparams.scale

    def step(state: Any, hparams: Any, shared: Any) -> Any:
        return state, {"loss": state + shared.data.sum()}

    found = check_trainable(
        lambda: Trainable(init, step),
        source="build",
        objective="loss",
        traced={"scale": np.float32(1)},
        data=jax.ShapeDtypeStruct((1000,), jnp.float32),
    )
    footprint = trial_footprint(found)
    assert 4000 <= footprint.shared_bytes < 4200
    assert footprint.trial_bytes >= 4_000_000
    assert footprint.state_bytes < 100


def footprint_of(**changed: Any) -> Footprint:
    """A small network's footprint, some of it replaced."""
    plain = Footprint(3000, 3000, 0, 500, 1e6, 2600.0, frozenset({"dot_general"}), False, False)
    return plain._replace(**changed)


def test_networks_get_their_executors() -> None:
    chosen = {}
    for name, make in NETWORKS.items():
        unit, arguments = make()
        found = measure_footprint(jax.make_jaxpr(unit)(*arguments))
        chosen[name] = choose_executor(found, "cpu")[0]
        assert choose_executor(found, "gpu")[0] == "vmap"
    assert chosen["convolutional"] == "map"
    assert chosen["recurrent"] == "vmap"


def test_large_operations_are_not_batched_on_a_cpu() -> None:
    small, large = footprint_of(), footprint_of(flops=1e12)
    assert overhead_share(small) > 0.5
    assert overhead_share(large) < 0.1
    assert choose_executor(small, "cpu")[0] == "vmap"
    executor, reason = choose_executor(large, "cpu")
    assert (executor, "large" in reason) == ("map", True)


def test_an_executor_can_be_asked_for() -> None:
    assert choose_executor(footprint_of(kernels_differ=True), "cpu", "vmap")[0] == "vmap"
    assert choose_executor(footprint_of(), "gpu", "map")[0] == "map"
    with pytest.raises(UserError, match=r"'kernel', or None .* got 'vmpa'. Did you mean 'vmap'"):
        choose_executor(footprint_of(), "cpu", "vmpa")


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("executor", ["vmap", "map"])
@pytest.mark.parametrize("num_trials", [1, 3, 64, 1000])
def test_widths_are_powers_of_two_within_their_bounds(
    platform: str, executor: Any, num_trials: int
) -> None:
    for size in (100, 3_000, 250_000, 10**7, 10**10):
        footprint = footprint_of(peak_bytes=size, trial_bytes=size, state_bytes=size // 4)
        width = choose_width(footprint, executor, platform, num_trials)
        assert width & (width - 1) == 0
        assert 1 <= width < 2 * num_trials
        limit = 64 * size
        limited = choose_width(footprint, executor, platform, num_trials, limit_bytes=limit)
        own = footprint.state_bytes if executor == "map" else size
        assert limited <= width or width == 1
        assert limited * own <= limit


def test_widths_follow_the_caches_and_the_memory() -> None:
    tiny, medium = footprint_of(trial_bytes=3_000), footprint_of(trial_bytes=250_000)
    large, huge = footprint_of(trial_bytes=2 << 20), footprint_of(trial_bytes=64 << 20)
    widths = [choose_width(f, "vmap", "cpu", 10_000) for f in (tiny, medium, large, huge)]
    assert widths == [128, 16, 8, 1]
    # Less to save: it stays in nearer caches.
    assert choose_width(large._replace(flops=1e9), "vmap", "cpu", 10_000) == 2
    assert choose_width(tiny, "vmap", "gpu", 10_000) == 1024
    assert choose_width(huge, "vmap", "gpu", 10_000) == 64


@pytest.mark.parametrize("platform", ["cuda", "tpu", "cpu"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_lower_for_every_platform(platform: str, name: str) -> None:
    unit, arguments = NETWORKS[name]()
    assert lowers(unit, arguments, platform)


def test_a_program_without_an_implementation_does_not_lower() -> None:
    square = jax.ShapeDtypeStruct((3, 3), jnp.float32)
    assert lowers(jnp.linalg.eig, (square,), "cpu")
    assert not lowers(jnp.linalg.eig, (square,), "tpu")
    with pytest.raises(TypeError):
        lowers(lambda x: x @ jnp.ones(4), (square,), "tpu")


def test_names_in_messages() -> None:
    def inner() -> None: ...

    name = name_of(inner, "?")
    assert name == "test_names_in_messages.inner"
    assert name_of(lambda: 0, "step of build") == "step of build"
    assert name_of(check_trainable, "train") == "train"
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert places(None) == []
