"""One conformance suite for every plain model: listing a new one here tests it."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from jaxopt_lab import models
from jaxopt_lab.core.devices import float64
from jaxopt_lab.core.hparams import Hparams
from jaxopt_lab.models.activations import activation_function
from jaxopt_lab.models.recurrences import CELLS, recurrence

OUTPUTS, ROWS, MAX_STEPS = 3, 12, 150
Builder = Callable[[int | None], nn.Module]


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)


def vectors() -> jax.Array:
    return normal(ROWS, 5)


def images() -> jax.Array:
    return normal(ROWS, 7, 6, 2)


def sequences(steps: int = 7) -> jax.Array:
    """Of 1 to 6 steps; the last channel is the mask; other draws do not depend on `steps`."""
    lengths = np.arange(ROWS) % 6 + 1
    real = np.arange(steps) < lengths[:, None]
    values = np.random.default_rng(0).normal(size=(ROWS, 7, 2)).astype(np.float32)
    values = np.pad(values, [(0, 0), (0, max(0, steps - 7)), (0, 0)])[:, :steps]
    joined = np.concatenate([values * real[..., None], real[..., None]], axis=-1)
    return jnp.asarray(joined, jnp.float32)


#: name -> (number of outputs -> module, its inputs)
MODELS: dict[str, tuple[Builder, Callable[[], jax.Array]]] = {
    "mlp": (lambda n: models.MLP(n, hidden_size=8), vectors),
    "mlp-tanh": (lambda n: models.MLP(n, 3, 8, jnp.tanh), images),
    "cnn": (lambda n: models.CNN(n, (4, 16), hidden_size=8), images),
    "cnn-plain": (lambda n: models.CNN(n, (4, 4, 4, 4), 2, 0, "silu", False), images),
    "rnn": (lambda n: models.RNN(n, "vanilla", hidden_size=6), sequences),
    "gru": (lambda n: models.RNN(n, "gru", 2, 6), sequences),
    "lstm": (lambda n: models.RNN(n, "lstm", 2, 6, "mean"), sequences),
}
each_model = pytest.mark.parametrize("name", MODELS)
#: Of models that differ in sizes and activations only, the second is for `--runslow`.
each_kind = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in ("mlp-tanh", "cnn-plain") else name
        for name in MODELS
    ],
)
each_cell = pytest.mark.parametrize("cell", CELLS)
each_pooling = pytest.mark.parametrize("pooling", ["last", "mean"])


@functools.partial(jax.jit, static_argnums=0)
def apply(net: nn.Module, variables: Any, inputs: Any, hparams: Any = None) -> Any:
    """Compiled as a whole: one by one its operations take longer, and more memory."""
    return net.apply(variables, inputs, hparams=hparams)


@functools.cache
def init(name: str, num_outputs: int | None = OUTPUTS) -> tuple[nn.Module, jax.Array, Any]:
    build, inputs_of = MODELS[name]
    net, inputs = build(num_outputs), inputs_of()
    return net, inputs, jax.jit(net.init)(jax.random.key(0), inputs)


def make_train(name: str) -> Callable[..., Any]:
    """(key, hparams, steps) -> (variables, losses [MAX_STEPS]): Adam on classes of the rows."""
    build, inputs_of = MODELS[name]
    net, inputs = build(OUTPUTS), inputs_of()
    labels = jnp.arange(ROWS) % OUTPUTS

    def train(key: jax.Array, hparams: Hparams, steps: int) -> Any:
        init_key, noise_key = jax.random.split(key)
        params_and_rest = net.init(init_key, inputs)
        params = params_and_rest["params"]
        stats = {k: v for k, v in params_and_rest.items() if k != "params"}
        optimizer = optax.adam(hparams["learning_rate"])

        def loss_of(params: Any, stats: Any, key: jax.Array) -> Any:
            out, stats = net.apply(
                {"params": params, **stats},
                inputs,
                train=True,
                hparams=hparams,
                rngs={"dropout": key},
                mutable=list(stats),
            )
            loss = optax.softmax_cross_entropy_with_integer_labels(out, labels).mean()
            return loss, stats

        def step(i: jax.Array, carry: Any) -> Any:
            params, stats, state, losses = carry
            key = jax.random.fold_in(noise_key, i)
            (loss, stats), gradient = jax.value_and_grad(loss_of, has_aux=True)(params, stats, key)
            updates, state = optimizer.update(gradient, state)
            return optax.apply_updates(params, updates), stats, state, losses.at[i].set(loss)

        carry = params, stats, optimizer.init(params), jnp.zeros(MAX_STEPS)
        params, stats, _, losses = jax.lax.fori_loop(0, steps, step, carry)
        return {"params": params, **stats}, losses

    return train


@functools.cache
def trained_by(name: str) -> Callable[..., Any]:
    """One compiled training for all tests of a model."""
    return jax.jit(make_train(name))


def hparams_of(rate: Any = 1e-2, dropout: Any = 0.2) -> Hparams:
    return Hparams({"learning_rate": jnp.float32(rate), "dropout": jnp.float32(dropout)})


@each_model
def test_outputs_have_one_row_per_row(name: str) -> None:
    net, inputs, variables = init(name)
    out = apply(net, variables, inputs)
    chex.assert_shape(out, (ROWS, OUTPUTS))
    chex.assert_type(out, jnp.float32)
    chex.assert_tree_all_finite(variables)
    found = apply(net, variables, inputs[:5])
    np.testing.assert_allclose(found, out[:5], rtol=1e-5, atol=1e-6)
    single = MODELS[name][0](None)
    shape = jax.eval_shape(single.init_with_output, jax.random.key(0), inputs)[0].shape
    assert shape == (ROWS,)


@each_kind
def test_it_learns_and_stays_finite(name: str, request: pytest.FixtureRequest) -> None:
    if name == "cnn" and jax.__version_info__ >= (0, 11):
        # Without optimisation XLA of JAX 0.12 makes NaN of it.
        request.getfixturevalue("as_users_compile")
    variables, losses = trained_by(name)(jax.random.key(0), hparams_of(), MAX_STEPS)
    chex.assert_tree_all_finite((variables, losses))
    assert losses[-1] < 0.6 * losses[0]


@each_model
def test_the_key_decides(name: str) -> None:
    train = trained_by(name)
    first, again, other = (train(jax.random.key(i), hparams_of(), 5) for i in (0, 0, 1))
    chex.assert_trees_all_equal(first, again)
    assert not np.array_equal(first[1], other[1])


@each_kind
def test_a_population_trains_as_each_alone(name: str, request: pytest.FixtureRequest) -> None:
    if name == "cnn":
        # Of a bias before a norm only rounding errors are the gradient; Adam makes steps of them.
        request.getfixturevalue("as_users_compile")
    rates, drops = jnp.asarray([1e-3, 3e-3, 1e-3]), jnp.asarray([0.0, 0.3, 1.0])
    keys = jax.random.split(jax.random.key(0), 3)
    population = jax.jit(jax.vmap(make_train(name), (0, 0, None)))
    together = population(keys, hparams_of(rates, drops), 5)
    for i in range(3):
        alone = trained_by(name)(keys[i], hparams_of(rates[i], drops[i]), 5)
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        chex.assert_trees_all_close(mine, alone, rtol=2e-3, atol=2e-5)
    # A rate of dropout is traced, 0 and 1 included: nothing was compiled again for them.
    assert trained_by(name)._cache_size() == 1


@each_model
def test_evaluation_draws_nothing_and_a_rate_of_zero_drops_nothing(name: str) -> None:
    net, inputs, variables = init(name)
    out = apply(net, variables, inputs, hparams_of(dropout=0.9))
    chex.assert_trees_all_equal(out, apply(net, variables, inputs))

    @jax.jit
    def train(hparams: Any, **rngs: jax.Array) -> Any:
        options = {"train": True, "mutable": ["batch_stats"]}
        return net.apply(variables, inputs, hparams=hparams, rngs=rngs, **options)[0]

    undropped = train(hparams_of(dropout=0.0), dropout=jax.random.key(0))
    np.testing.assert_allclose(undropped, train(None), rtol=1e-5, atol=1e-6)
    dropped = train(hparams_of(dropout=0.5), dropout=jax.random.key(0))
    assert not np.allclose(dropped, undropped)


@each_model
def test_training_lowers_for_accelerators(name: str) -> None:
    traced = trained_by(name).trace(jax.random.key(0), hparams_of(), 5)
    for platform in ("cuda", "tpu"):
        assert traced.lower(lowering_platforms=(platform,)).as_text()


@each_cell
@each_pooling
def test_padding_changes_nothing(cell: str, pooling: str) -> None:
    net = models.RNN(OUTPUTS, cell, 2, 6, pooling)
    short, long = sequences(6), np.array(sequences(15))
    long[..., :-1][long[..., -1] == 0] = np.nan
    variables = jax.jit(net.init)(jax.random.key(0), short)

    def total(variables: Any, inputs: Any) -> Any:
        out = net.apply(variables, inputs)
        return (out**2).sum(), out

    slope = jax.jit(jax.value_and_grad(total, has_aux=True))
    (_, found), gradient = slope(variables, short)
    (_, padded), of_padded = slope(variables, jnp.asarray(long))
    np.testing.assert_allclose(padded, found, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(of_padded, gradient, rtol=1e-4, atol=1e-5)
    alone = apply(net, variables, short[2:3, :3])
    np.testing.assert_allclose(alone, found[2:3], rtol=1e-5, atol=1e-6)


@each_cell
@each_pooling
def test_every_real_step_counts(cell: str, pooling: str) -> None:
    net = models.RNN(OUTPUTS, cell, 1, 6, pooling)
    inputs = sequences()
    variables = jax.jit(net.init)(jax.random.key(0), inputs)
    gradient = jax.jit(jax.grad(lambda x: (net.apply(variables, x) ** 2).sum()))(inputs)
    seen = np.abs(gradient[..., :-1]).max(axis=-1) > 0
    np.testing.assert_array_equal(seen, inputs[..., -1] > 0)


FLAX_CELLS = {
    "vanilla": (nn.SimpleCell, ["i"], ["h"]),
    "gru": (nn.GRUCell, ["ir", "iz", "in"], ["hr", "hz", "hn"]),
    "lstm": (nn.OptimizedLSTMCell, ["if", "ii", "io", "ig"], ["hf", "hi", "ho", "hg"]),
}


@each_cell
def test_a_layer_computes_what_flax_computes(cell: str) -> None:
    kind, inputs_of, hiddens_of = FLAX_CELLS[cell]
    inputs = jnp.ones((4, 9, 6)).at[..., :-1].set(jax.random.normal(jax.random.key(2), (4, 9, 5)))
    ours = models.RNN(OUTPUTS, cell, 1, 6)
    params = jax.jit(ours.init)(jax.random.key(0), inputs)["params"]
    theirs = nn.RNN(kind(6))
    copied: Any = jax.jit(theirs.init)(jax.random.key(0), inputs[..., :-1])["params"]["cell"]
    drive, kernel = params["layer_0_input"], params["layer_0_kernel"]
    bias = jax.random.normal(jax.random.key(3), drive["bias"].shape)
    params["layer_0_input"]["bias"] = bias
    # An LSTM of Flax has its biases at the recurrent products, a GRU at those of the inputs.
    biased = hiddens_of if cell == "lstm" else inputs_of
    for i, (name, hidden, holder) in enumerate(zip(inputs_of, hiddens_of, biased, strict=True)):
        part = slice(6 * i, 6 * i + 6)
        copied[name]["kernel"] = drive["kernel"][:, part]
        copied[hidden]["kernel"] = kernel[:, part]
        copied[holder]["bias"] = bias[part]
    if cell == "gru":
        copied["hn"]["bias"] = jnp.zeros(6)
    states = jax.jit(theirs.apply)({"params": {"cell": copied}}, inputs[..., :-1])
    head = params["output"]
    expected = states[:, -1] @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(apply(ours, {"params": params}, inputs), expected, atol=1e-5)


@each_cell
@pytest.mark.parametrize("platform", ["cpu", "default"])
def test_the_derivative_of_a_recurrence(
    cell: str, platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against differences in float64, with steps of padding between others."""
    chosen = lambda *args, **branches: branches[platform](*args)  # noqa: E731
    monkeypatch.setattr(jax.lax, "platform_dependent", chosen)
    gates, rng = CELLS[cell].num_gates, np.random.default_rng(0)
    real = rng.random((6, 3)) > 0.3
    with float64():
        inputs = jnp.asarray(rng.normal(size=(6, 3, 4)))
        shapes = (4, 5), (5,), (5, 5)
        weights = [[jnp.asarray(rng.normal(size=s)) for _ in range(gates)] for s in shapes]

        @jax.jit
        def states(inputs: Any, weights: Any) -> Any:
            return recurrence(cell, inputs, jnp.asarray(real), *weights)

        check_grads(states, (inputs, weights), order=1, modes=["rev"], rtol=1e-6)
        found = np.asarray(states(inputs, weights))
    held = ~real[1:]
    np.testing.assert_array_equal(found[1:][held], found[:-1][held])


def convolutions() -> Iterator[Any]:
    for features in (3, 16):
        for padding in ("SAME", "VALID", ((2, 0), (1, 3))):
            for strides in (1, (2, 3)):
                options = {"features": features, "padding": padding, "strides": strides}
                marks = pytest.mark.slow if (features == 3) == (strides == 1) else ()
                yield pytest.param(options, id=f"{features}-{padding}-{strides}", marks=marks)
    for options in ({"kernel_dilation": 2}, {"feature_group_count": 2}):
        yield pytest.param({"features": 4, **options}, id=next(iter(options)))


@pytest.mark.parametrize("options", list(convolutions()))
def test_a_convolution_is_the_one_of_jax(options: dict[str, Any]) -> None:
    plain = nn.Conv(kernel_size=(3, 2), **options)
    fast = plain.clone(conv_general_dilated=models.conv_general_dilated)
    variables = jax.jit(plain.init)(jax.random.key(0), images())

    def loss(net: nn.Module, variables: Any, inputs: Any) -> Any:
        out = net.apply(variables, inputs)
        return (out**2).sum(), out

    compiled = jax.jit(jax.value_and_grad(loss, (1, 2), has_aux=True), static_argnums=0)
    for inputs in (images(), images()[:1, :4, :4]):
        found, expected = (compiled(net, variables, inputs) for net in (fast, plain))
        chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_pooling_is_the_one_of_flax(size: int) -> None:
    expected = nn.max_pool(images(), (size, size), (size, size))
    np.testing.assert_array_equal(models.max_pool(images(), size), expected)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_dropout_keeps_the_mean_and_drops_its_share(rate: float) -> None:
    x, rngs = jnp.ones((1000, 64)), {"dropout": jax.random.key(6)}

    def drop(x: jax.Array, rate: Any) -> jax.Array:
        return models.Dropout().apply({}, x, rate, train=True, rngs=rngs)

    out = jax.jit(drop)(x, rate)
    chex.assert_trees_all_equal(out, jax.jit(drop, static_argnums=1)(x, rate))
    assert float((out == 0).mean()) == pytest.approx(rate, abs=0.01)
    assert float(out.mean()) == pytest.approx(float(rate < 1), abs=0.03)
    gradient = jax.jit(jax.grad(lambda x, rate: drop(x, rate).sum()))(x, rate)
    np.testing.assert_array_equal(gradient, out)


def test_entries_along_broadcast_axes_share_their_noise() -> None:
    x, rngs = jnp.ones((20, 5, 8)), {"dropout": jax.random.key(0)}
    out = models.Dropout((1,)).apply({}, x, 0.5, train=True, rngs=rngs)
    np.testing.assert_array_equal(out, np.broadcast_to(out[:, :1], out.shape))
    assert len(np.unique(out[:, 0], axis=0)) > 10


def test_what_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"unknown activation 'rleu'.*relu"):
        activation_function("rleu")
    with pytest.raises(ValueError, match=r"unknown cell 'lstmm'.*lstm"):
        models.RNN(1, "lstmm")
    with pytest.raises(ValueError, match=r"unknown pooling 'max'.*mean"):
        models.RNN(1, pooling="max")
