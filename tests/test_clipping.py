"""Clipping that adapts: Optax's own where it has it, and what history is for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_lab.problems.mlp import clipping

WEIGHTS = {"kernel": jnp.asarray([[1.0, 0.0], [2.0, 0.0]]), "bias": jnp.asarray([0.5, -0.5])}


def test_clipping_to_weights_is_optax_own() -> None:
    rng = np.random.default_rng(0)
    gradient = jax.tree.map(lambda w: jnp.asarray(rng.normal(size=w.shape), jnp.float32), WEIGHTS)
    for share in (0.01, 0.5, 100.0):
        mine, own = clipping.to_weights(share), optax.adaptive_grad_clip(share)
        found, _ = mine.update(gradient, mine.init(WEIGHTS), WEIGHTS)
        expected, _ = own.update(gradient, own.init(WEIGHTS), WEIGHTS)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)


def test_one_large_gradient_is_cut_to_what_was_before() -> None:
    chain = clipping.to_history(1.05)
    usual = jax.tree.map(jnp.ones_like, WEIGHTS)
    state = chain.init(WEIGHTS)
    for _ in range(3):
        found, state = chain.update(usual, state)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, usual)
    for _ in range(3):
        huge = jax.tree.map(lambda g: 1e6 * g, usual)
        found, state = chain.update(huge, state)
        assert all(float(jnp.max(leaf)) < 1.06 for leaf in jax.tree.leaves(found))
    # A tensor is clipped by its own history, and one without any not at all.
    nothing = {**usual, "bias": jnp.zeros(2)}
    state = chain.init(WEIGHTS)
    for gradient in (nothing, usual):
        found, state = chain.update(gradient, state)
        np.testing.assert_allclose(found["bias"], gradient["bias"])


def test_off_changes_nothing_even_where_a_gradient_is_zero() -> None:
    for chain in (clipping.to_weights(jnp.inf), clipping.to_history(jnp.inf)):
        state = chain.init(WEIGHTS)
        for scale in (0.0, 1.0, 1e6):
            gradient = jax.tree.map(lambda w, scale=scale: scale * w, WEIGHTS)
            found, state = chain.update(gradient, state, WEIGHTS)
            jax.tree.map(np.testing.assert_array_equal, found, gradient)
