"""Weights are taken apart by layer and put together; sums of gradients stand still on demand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_lab.problems.mlp import optimizers, skipping

PARAMS = {
    name: {"kernel": jnp.full((2, 2), value), "bias": jnp.full(2, -value)}
    for name, value in (("hidden_0", 1.0), ("hidden_1", 2.0), ("output", 3.0))
}


def test_what_is_taken_apart_is_put_together() -> None:
    chain = optax.chain(optax.clip(1.0), optax.scale_by_adam(), optax.add_decayed_weights(0.1))
    tree = PARAMS, chain.init(PARAMS), ()
    parts = [skipping.only(tree, names) for names in (["hidden_0", "output"], ["hidden_1"])]
    assert list(parts[1][0]) == ["hidden_1"]
    assert list(optax.tree.get(parts[1][1], "mu")) == ["hidden_1"]
    again = skipping.joined(parts)
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    jax.tree.map(np.testing.assert_array_equal, again, tree)


@pytest.mark.parametrize(
    ("wanted", "is_first", "expected"), [(True, False, 7.0), (True, True, 2.0), (False, True, 5.0)]
)
def test_the_gradient_of_summing_is_the_sum_so_far(
    wanted: bool, is_first: bool, expected: float
) -> None:
    def loss(params: Any) -> Any:
        summed = skipping.summing(params, jnp.asarray(wanted), so_far, jnp.asarray(is_first))
        return 2.0 * sum(x.sum() for x in jax.tree.leaves(summed))

    so_far = jax.tree.map(lambda x: jnp.full_like(x, 5.0), PARAMS)
    value, gradient = jax.jit(jax.value_and_grad(loss))(PARAMS)
    assert value == 2.0 * sum(x.sum() for x in jax.tree.leaves(PARAMS))
    for leaf in jax.tree.leaves(gradient):
        np.testing.assert_array_equal(leaf, expected)


@pytest.mark.parametrize("most", [0.1, 1e3])
@pytest.mark.parametrize("penalties", [(), ("l1", "l2", "clip_value")], ids=["alone", "penalized"])
def test_a_part_is_clipped_as_within_the_whole(penalties: tuple[str, ...], most: float) -> None:
    features = frozenset({"clip_norm", *penalties})
    values = {"l1": 0.1, "l2": 0.2, "clip_value": 1.2, "clip_norm": most, "learning_rate": 1.0}
    hparams = {name: jnp.float32(value) for name, value in values.items()}
    gradient = jax.tree.map(lambda x: 0.5 * x, PARAMS)
    norm = optimizers.penalized_norm(gradient, PARAMS, hparams, features, False)
    whole = optimizers.build(["sgd"], hparams, features, 1.0)
    of_part = optimizers.build(["sgd"], hparams, features, 1.0, norm=norm)
    expected = whole.update(gradient, whole.init(PARAMS), PARAMS)[0]
    for name, layer in PARAMS.items():
        part, mine = {name: layer}, {name: gradient[name]}
        found = of_part.update(mine, of_part.init(part), part)[0]
        jax.tree.map(np.testing.assert_array_equal, found[name], expected[name])
