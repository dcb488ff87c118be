"""Members that share kernels: each is a plain network, they learn by their own losses, and what is
predicted is their mean."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_lab.models.activations import ACTIVATION_FUNCTIONS
from jaxopt_lab.problems.mlp import forward
from jaxopt_lab.problems.mlp.data import classification, regression
from jaxopt_lab.problems.mlp.hyperparameters import ENSEMBLE_FORMS, complete, traced
from jaxopt_lab.problems.mlp.members import mean_loss
from jaxopt_lab.problems.mlp.network import PaddedMLP, count_parameters, layer_shapes
from jaxopt_lab.problems.mlp.trainer import trim

pytestmark = pytest.mark.usefixtures("full_precision")
K, ROWS, FEATURES, OUTPUTS = 3, 7, 5, 2
WIDE, NARROW, DEEP, SHALLOW = 12, 6, 3, 2

SLOW = [pytest.mark.slow]
each_form = pytest.mark.parametrize("form", ENSEMBLE_FORMS)


def hparams_of(**config: Any) -> dict[str, jax.Array]:
    return {k: jnp.asarray(v) for k, v in traced(complete(config)).items()}


def rows() -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(size=(ROWS, FEATURES)), jnp.float32)


TARGETS = jnp.asarray(np.arange(ROWS) % OUTPUTS)


def disturbed(params: Any) -> Any:
    """Weights and adapters that differ from what they begin as, but where they are zero."""
    rng = np.random.default_rng(2)
    return jax.tree.map(
        lambda x: np.asarray(x + 0.3 * np.where(x == 0, 0, rng.normal(size=x.shape)), np.float32),
        jax.device_get(params),
    )


def begun(net: PaddedMLP) -> Any:
    """Parameters as they begin."""
    return jax.jit(net.init)(jax.random.key(0), rows(), HPARAMS)["params"]


class Plain(nn.Module):
    """A network as one would write it."""

    activation: str

    @nn.compact
    def __call__(self, x: Any, rates: Any = None) -> Any:
        for i in range(SHALLOW):
            x = ACTIVATION_FUNCTIONS[self.activation](nn.Dense(NARROW, name=f"hidden_{i}")(x))
        return nn.Dense(OUTPUTS, name="output")(x)


def alone(params: Any, member: int) -> Any:
    """One member's network: kernels with rows and columns rescaled, its biases, its head."""
    found = {}
    for name, layer in params.items():
        if name == "output":
            found[name] = {leaf: x[member] for leaf, x in layer.items()}
            continue
        kernel, bias = layer["kernel"], layer["bias"]
        kernel = kernel * layer["r"][member][:, None] if "r" in layer else kernel
        kernel = kernel * layer["s"][member] if "s" in layer else kernel
        found[name] = {"kernel": kernel, "bias": bias[member] if bias.ndim == 2 else bias}
    return found


def made(form: str, activation: str = "tanh", **more: Any) -> PaddedMLP:
    shape = {"num_layers": SHALLOW, "hidden_size": NARROW, **more}
    return PaddedMLP(
        num_outputs=OUTPUTS,
        with_orthogonal=False,
        activations=(activation,),
        ensemble_size=K,
        ensemble_form=form,
        **shape,
    )


HPARAMS = hparams_of(hidden_size=NARROW, num_layers=SHALLOW, dropout=0.3, activation="tanh")


@each_form
def test_members_are_plain_networks_and_learn_by_the_mean_of_their_losses(form: str) -> None:
    net, plain, loss = made(form), Plain("tanh"), classification(OUTPUTS).loss
    params = disturbed(begun(net))

    def together(params: Any) -> Any:
        outputs = net.apply({"params": params}, rows(), HPARAMS)
        return mean_loss(loss, outputs, TARGETS).mean(), outputs

    def one_by_one(params: Any) -> Any:
        outputs = [plain.apply({"params": alone(params, j)}, rows()) for j in range(K)]
        losses = [loss(found, TARGETS).mean() for found in outputs]
        return sum(losses) / K, jnp.stack(outputs)

    both = jax.jit(
        lambda p: [jax.value_and_grad(f, has_aux=True)(p) for f in (together, one_by_one)]
    )
    ((value, outputs), gradient), ((expected, separate), wanted) = jax.device_get(both(params))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(outputs, separate, rtol=1e-4, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), gradient, wanted
    )
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))
    # On the host rows may lack columns of padding, which the first layer has.
    wide = {**params, "hidden_0": dict(params["hidden_0"])}
    for leaf, axis in (("kernel", 0), ("r", 1)):
        if leaf in wide["hidden_0"]:
            grow = [(0, 2) if i == axis else (0, 0) for i in range(2)]
            wide["hidden_0"][leaf] = np.pad(params["hidden_0"][leaf], grow, constant_values=9.0)
    found = forward.outputs(wide, SHALLOW, "tanh", np.asarray(rows()))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, outputs, rtol=1e-4, atol=1e-5)


@each_form
def test_members_begin_apart_by_random_signs_of_one_adapter(form: str) -> None:
    net = made(form)
    params = begun(net)
    first = params["hidden_0"]["s" if form == "late" else "r"]
    assert set(np.unique(first)) == {-1.0, 1.0}
    assert len(np.unique(first, axis=0)) == K
    others = {(n, leaf) for n in params for leaf in params[n] if leaf in ("r", "s")}
    for name, leaf in others - {("hidden_0", "s" if form == "late" else "r")}:
        np.testing.assert_array_equal(params[name][leaf], 1.0)
    shapes = {name: {k: v.shape for k, v in layer.items()} for name, layer in params.items()}
    sizes = (FEATURES, NARROW, SHALLOW, OUTPUTS, K, form)
    assert shapes == layer_shapes(*sizes)
    assert sum(x.size for x in jax.tree.leaves(params)) == count_parameters(*sizes)


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=[] if form == "full" else SLOW) for form in ENSEMBLE_FORMS]
)
def test_a_padded_network_of_members_is_the_small_one(form: str) -> None:
    wide = {"hidden_size": WIDE, "num_layers": DEEP, "masked_width": True, "masked_depth": True}
    small, large = made(form, draw_width=WIDE), made(form, draw_width=WIDE, **wide)
    noise = np.random.default_rng(3).integers(0, 2**16, (DEEP, K * ROWS, WIDE), np.uint16)

    def learned(net: PaddedMLP, depth: Any) -> Any:
        params = begun(net)

        def loss(params: Any) -> Any:
            mine = jnp.asarray(noise[: net.num_layers, :, : net.hidden_size])
            outputs = net.apply({"params": params}, rows(), HPARAMS, mine, depth)
            return mean_loss(classification(OUTPUTS).loss, outputs, TARGETS).sum(), outputs

        (_, outputs), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        return outputs, params, gradient

    expected, found = jax.device_get([learned(small, None), learned(large, jnp.asarray(SHALLOW))])
    np.testing.assert_allclose(found[0], expected[0], rtol=2e-5, atol=1e-5)
    for mine, padded in zip(expected[1:], found[1:], strict=True):
        cut = trim(padded, SHALLOW, NARROW)
        for name, layer in mine.items():
            for leaf, value in layer.items():
                np.testing.assert_allclose(
                    cut[name][leaf], value, rtol=2e-4, atol=2e-5, err_msg=f"{name}/{leaf}"
                )
        rest, kept = (sum(np.abs(x).sum() for x in jax.tree.leaves(t)) for t in (padded, cut))
        assert rest == pytest.approx(kept, rel=1e-5)  # outside there is nothing


@pytest.mark.slow
def test_members_drop_their_own_units() -> None:
    net = made("mini")
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(3), i))(jnp.arange(2))
    noise = np.asarray(net.noise(keys, ROWS)).reshape(SHALLOW, K, 2 * ROWS, NARROW)
    assert not np.array_equal(noise[:, 0], noise[:, 1])
    halves = [np.asarray(net.noise(keys[i : i + 1], ROWS)) for i in range(2)]
    halves = [half.reshape(SHALLOW, K, ROWS, NARROW) for half in halves]
    np.testing.assert_array_equal(noise, np.concatenate(halves, axis=2))


@pytest.mark.parametrize("criterion", [regression(), classification(3)], ids=["number", "classes"])
def test_the_mean_prediction_is_what_outputs_say(criterion: Any) -> None:
    outputs = 3 * jax.random.normal(jax.random.key(4), (K, ROWS, criterion.num_outputs))
    found = criterion.average(outputs)
    if criterion.num_outputs == 1:
        np.testing.assert_allclose(found, np.mean(outputs, axis=0), rtol=1e-6)
    else:
        probabilities = jax.nn.softmax(outputs, axis=-1).mean(axis=0)
        np.testing.assert_allclose(jax.nn.softmax(found), probabilities, rtol=1e-5)
    np.testing.assert_allclose(forward.averaged(np.asarray(outputs)), found, rtol=1e-5, atol=1e-6)
