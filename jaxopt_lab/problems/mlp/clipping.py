"""Clipping that adapts: to the weights of a unit, or to a tensor's own gradients so far."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxopt_lab.core.types import PyTree

#: Least norm of a unit's weights that `to_weights` reckons with, as in Optax.
_LEAST_NORM = 1e-3
#: Decay of the mean norms that `to_history` keeps.
HISTORY_DECAY = 0.98
_NEW = 0.02


def to_weights(share: Any) -> optax.GradientTransformation:
    """Clip the gradient norm of each unit to a share of the norm of its weights.

    A unit is a column of a kernel (all axes but the last), or a whole vector. The same updates as
    `optax.adaptive_grad_clip`, for tensors of any rank.

    Args:
      share: of the norm of the weights; inf for no clipping.

    Source: Brock et al. 2021, arXiv:2102.06171.
    """

    def clip(gradient: Array, weights: Array) -> Array:
        most = share * jnp.maximum(_unit_norm(weights), _LEAST_NORM)
        norm = _unit_norm(gradient)
        return jnp.where(norm < most, gradient, gradient / jnp.maximum(norm, 1e-6) * most)

    return optax.stateless(lambda updates, params: jax.tree.map(clip, updates, params))


def to_history(factor: Any) -> optax.GradientTransformation:
    """Clip the gradient norm of each tensor to a multiple of the decaying mean of its own.

    What is averaged are the clipped norms, so that one large gradient does not open the way for the
    next. The mean begins as the first norm; the clipping to a fixed norm of AdaGC's first hundred
    updates is left out.

    Args:
      factor: of the mean; inf for no clipping.

    Source: Wang et al. 2025, arXiv:2502.11034 (AdaGC).
    """

    def init(params: PyTree) -> PyTree:
        return jax.tree.map(lambda _: jnp.zeros((), jnp.float32), params)

    def update(updates: PyTree, means: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        del params
        norms = jax.tree.map(lambda g: jnp.sqrt(jnp.sum(g**2)), updates)
        # A mean of 0 is none yet.
        clipped = jax.tree.map(
            lambda n, m: jnp.where(m > 0, jnp.minimum(n, factor * m), n), norms, means
        )
        scaled = jax.tree.map(
            lambda g, n, c: g * (c / jnp.maximum(n, 1e-12)), updates, norms, clipped
        )
        new = jax.tree.map(
            lambda m, c: jnp.where(m > 0, HISTORY_DECAY * m + _NEW * c, c), means, clipped
        )
        return scaled, new

    return optax.GradientTransformation(init, update)


def _unit_norm(tensor: Array) -> Array:
    axes = tuple(range(tensor.ndim - 1)) if tensor.ndim > 1 else None
    return jnp.sqrt(jnp.sum(tensor**2, axis=axes, keepdims=True))


def history_code(factor: float) -> str:
    """`to_history` as code to paste: an expression that uses `optax`, `jax`, `jnp`."""
    norm = "jnp.sqrt(jnp.sum(g ** 2))"
    clipped = f"jnp.where(m > 0, jnp.minimum({norm}, {factor!r} * m), {norm})"
    mean = f"jnp.where(m > 0, {HISTORY_DECAY} * m + {_NEW} * {clipped}, {clipped})"
    return (
        "optax.GradientTransformation("
        "lambda p: jax.tree.map(lambda _: jnp.zeros(()), p), "
        "lambda g, s, p=None: ("
        f"jax.tree.map(lambda g, m: g * {clipped} / jnp.maximum({norm}, 1e-12), g, s), "
        f"jax.tree.map(lambda g, m: {mean}, g, s)))"
    )
