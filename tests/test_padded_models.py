"""One conformance suite for every model that serves many shapes, and the parts of such models."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lab.models.activations import ACTIVATION_FUNCTIONS
from jaxopt_lab.problems.mlp.hyperparameters import ACTIVATIONS, INITIALIZATIONS, complete, traced
from jaxopt_lab.problems.mlp.initializers import AUTO, init_kernel
from jaxopt_lab.problems.mlp.network import PaddedMLP, count_parameters, drop
from jaxopt_lab.problems.mlp.network import uniform16 as eager_uniform16

#: name -> class that takes the arguments of `PaddedMLP`.
MODELS = {"mlp": PaddedMLP}
WIDE, NARROW, DEEP, SHALLOW, FEATURES, OUTPUTS = 24, 10, 4, 2, 5, 3

uniform16 = jax.jit(eager_uniform16, static_argnums=1)

each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
each_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def hparams_of(**config: Any) -> dict[str, jax.Array]:
    return {k: jnp.asarray(v) for k, v in traced(complete(config)).items()}


def rows(n: int = 7) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(size=(n, FEATURES)), jnp.float32)


@partial(jax.jit, static_argnums=0)
def value_and_gradient(net: Any, hparams: Any, noise: Any = None, depth: Any = None) -> Any:
    """Outputs, parameters and gradients of a quadratic loss."""
    params = net.init(jax.random.key(0), rows(), hparams)["params"]

    def loss(params: Any) -> Any:
        out = net.apply({"params": params}, rows(), hparams, noise, depth)
        return (out**2).sum(), out

    (_, out), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    return out, params, gradient


def assert_same_network(small: Any, large: Any) -> None:
    """Same outputs; the true block of weights and gradients the same, zero outside it."""
    np.testing.assert_allclose(small[0], large[0], rtol=2e-5, atol=1e-5)
    for mine, padded in zip(small[1:], large[1:], strict=True):
        for name, layer in padded.items():
            for leaf, value in layer.items():
                block = np.zeros_like(value)
                if name in mine:
                    part = mine[name][leaf]
                    block[tuple(slice(0, n) for n in part.shape)] = part
                np.testing.assert_allclose(value, block, rtol=2e-4, atol=2e-5, err_msg=name)


def any_activation(model: Any, num_layers: int, hidden_size: int, **more: Any) -> Any:
    """One network, and so one program, for every activation."""
    return model(num_layers, hidden_size, OUTPUTS, ACTIVATIONS, with_orthogonal=False, **more)


@each_model
def test_outputs_have_one_row_per_row(model: Any) -> None:
    for layers in (1, 3):
        net = model(layers, WIDE, OUTPUTS, ("relu",), with_orthogonal=False)
        hparams = hparams_of(hidden_size=WIDE, num_layers=layers)
        out, params, _ = value_and_gradient(net, hparams)
        assert out.shape == (7, OUTPUTS)
        assert out.dtype == jnp.float32
        assert len(params) == layers + 1
        assert params["hidden_0"]["kernel"].shape == (FEATURES, WIDE)
        assert all(not layer["bias"].any() for layer in params.values())


@each_model
@each_activation
def test_a_padded_network_is_the_narrow_one(model: Any, activation: str) -> None:
    hparams = hparams_of(hidden_size=NARROW, num_layers=SHALLOW, activation=activation, dropout=0.3)
    narrow = any_activation(model, SHALLOW, NARROW, draw_width=WIDE)
    wide = any_activation(model, SHALLOW, WIDE, masked_width=True, draw_width=WIDE)
    keys = jax.random.split(jax.random.key(2), 1)
    small = value_and_gradient(narrow, hparams, narrow.noise(keys, 7))
    assert_same_network(small, value_and_gradient(wide, hparams, wide.noise(keys, 7)))
    assert small[2]["hidden_0"]["kernel"].any()


@each_model
@each_activation
@pytest.mark.parametrize("depth", [None, SHALLOW, 3, DEEP])
def test_a_masked_deep_network_is_the_shallow_one(
    model: Any, activation: str, depth: int | None
) -> None:
    hparams = hparams_of(hidden_size=NARROW, num_layers=SHALLOW, activation=activation)
    shallow = any_activation(model, SHALLOW, NARROW)
    deep = any_activation(model, DEEP, NARROW, masked_depth=True)
    traced_depth = None if depth is None else jnp.asarray(depth)
    found = value_and_gradient(deep, hparams, depth=traced_depth)
    assert_same_network(value_and_gradient(shallow, hparams), found)


@each_model
@each_activation
def test_several_activations_are_the_one_that_is_picked(model: Any, activation: str) -> None:
    hparams = hparams_of(hidden_size=NARROW, num_layers=2, activation=activation)
    one = model(2, NARROW, OUTPUTS, (activation,), with_orthogonal=False)
    found = value_and_gradient(any_activation(model, 2, NARROW), hparams)
    assert_same_network(value_and_gradient(one, hparams), found)


@each_model
@pytest.mark.parametrize("rows_per_key", [1, 4])
def test_noise_of_a_block_is_that_of_its_parts(model: Any, rows_per_key: int) -> None:
    net = model(2, NARROW, OUTPUTS, ("relu",))
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(3), i))(jnp.arange(8))
    noise = jax.jit(net.noise, static_argnums=1)
    whole = noise(keys, rows_per_key)
    assert whole.shape == (2, 8 * rows_per_key, NARROW)
    parts = [noise(keys[i : i + 2], rows_per_key) for i in range(0, 8, 2)]
    np.testing.assert_array_equal(whole, np.concatenate(parts, axis=1))
    assert len(np.unique(whole[0], axis=0)) == 8 * rows_per_key
    assert not np.array_equal(whole[0], whole[1])


@pytest.mark.parametrize("width", [1, 7, 48])
def test_a_narrower_draw_is_a_part_of_a_wider_one(width: int) -> None:
    key = jax.random.key(4)
    np.testing.assert_array_equal(uniform16(key, (9, width)), uniform16(key, (9, 64))[:, :width])


def test_noise_is_uniform_over_all_levels() -> None:
    noise = np.asarray(uniform16(jax.random.key(5), (1000, 64))).astype(float) / 2**16
    assert noise.mean() == pytest.approx(0.5, abs=5e-3)
    assert np.histogram(noise, 16, (0, 1))[0] / noise.size == pytest.approx([1 / 16] * 16, abs=5e-3)
    assert abs(np.corrcoef(noise[:, 0], noise[:, 1])[0, 1]) < 0.1


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_its_share(rate: float) -> None:
    x = jnp.ones((1000, 64))
    out = drop(x, uniform16(jax.random.key(6), x.shape), jnp.float32(rate))
    assert float((out == 0).mean()) == pytest.approx(rate, abs=0.01)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.03)
    if rate == 0.0:
        np.testing.assert_array_equal(out, x)


def test_a_higher_rate_drops_what_a_lower_one_drops_and_more() -> None:
    noise = uniform16(jax.random.key(6), (1000, 64))
    few, many = (drop(jnp.ones((1000, 64)), noise, jnp.float32(r)) == 0 for r in (0.2, 0.4))
    assert bool((many | ~few).all())


ROWS, COLUMNS = 300, 200
REFERENCE = {
    "he_normal": jax.nn.initializers.he_normal(),
    "he_uniform": jax.nn.initializers.he_uniform(),
    "xavier_normal": jax.nn.initializers.glorot_normal(),
    "xavier_uniform": jax.nn.initializers.glorot_uniform(),
    "lecun_normal": jax.nn.initializers.lecun_normal(),
    "lecun_uniform": jax.nn.initializers.lecun_uniform(),
}


def kernel(
    kind: str, shape: tuple[int, int], true: tuple[int, int] | None = None, act: str = "relu"
) -> np.ndarray:
    fans = tuple(jnp.float32(n) for n in true or shape)
    codes = jnp.int32(INITIALIZATIONS.index(kind)), jnp.int32(ACTIVATIONS.index(act))
    return np.asarray(drawn(shape, fans, codes))


@partial(jax.jit, static_argnums=0)
def drawn(shape: tuple[int, int], fans: Any, codes: Any) -> jax.Array:
    return init_kernel(jax.random.key(7), shape, fans, *codes, max(ROWS, shape[0]), True)


@pytest.mark.parametrize("kind", REFERENCE)
def test_initialisers_have_the_spread_of_jax_own(kind: str) -> None:
    found = kernel(kind, (ROWS, COLUMNS))
    expected = np.asarray(REFERENCE[kind](jax.random.key(8), (ROWS, COLUMNS)))
    assert found.std() == pytest.approx(expected.std(), rel=0.02)
    assert abs(found.mean()) < 4 * expected.std() / found.size**0.5
    assert np.abs(found).max() == pytest.approx(np.abs(expected).max(), rel=0.02)
    quantiles = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(
        np.quantile(found, quantiles),
        np.quantile(expected, quantiles),
        atol=0.03 * expected.std(),
    )


@pytest.mark.parametrize("shape", [(20, 20), (30, 12), (12, 30)])
def test_orthogonal_kernels_are_orthogonal(shape: tuple[int, int]) -> None:
    q = kernel("orthogonal", shape)
    gram = q.T @ q if shape[0] >= shape[1] else q @ q.T
    np.testing.assert_allclose(gram, np.eye(min(shape)), atol=2e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_auto_is_he_for_rectifiers_and_xavier_for_sigmoids(activation: str) -> None:
    found = kernel("auto", (40, 30), act=activation)
    np.testing.assert_array_equal(found, kernel(AUTO[activation], (40, 30)))
    assert AUTO[activation].startswith("xavier" if activation in ("tanh", "sigmoid") else "he")
    assert set(AUTO) == set(ACTIVATIONS) == set(ACTIVATION_FUNCTIONS)


@pytest.mark.parametrize("kind", INITIALIZATIONS)
@pytest.mark.parametrize("true", [(12, 9), (40, 9), (12, 30)])
def test_a_padded_kernel_holds_the_numbers_of_the_unpadded_one(
    kind: str, true: tuple[int, int]
) -> None:
    padded, alone = kernel(kind, (40, 30), true), kernel(kind, true)
    np.testing.assert_allclose(padded[: true[0], : true[1]], alone, rtol=1e-4, atol=2e-6)
    outside = np.ones(padded.shape, bool)
    outside[: true[0], : true[1]] = False
    assert not padded[outside].any()
    assert alone.all()


@pytest.mark.parametrize(("num_layers", "num_outputs"), [(1, 1), (4, 3)])
def test_weights_are_counted_without_making_them(num_layers: int, num_outputs: int) -> None:
    net = PaddedMLP(num_layers, 6, num_outputs, ("relu",))
    hparams = {k: jnp.asarray(v) for k, v in traced(complete({})).items()}
    params = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 5)), hparams)["params"]
    expected = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count_parameters(5, 6, num_layers, num_outputs) == expected
