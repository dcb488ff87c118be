"""Layers that no trial of a cohort has cost next to nothing: work on their weights is skipped.

Their products are skipped by `models.products.product_if`; here are the sum of their gradients over
a minibatch, and their update.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxopt_lab.core.types import BoolScalar, PyTree


def run_if(wanted: BoolScalar, body: Callable[[PyTree], PyTree], carry: PyTree) -> PyTree:
    """`body(carry)` if wanted, else `carry` itself.

    A loop of no or one turn: XLA's CPU backend copies all that passes through a `cond`. Under
    `vmap`, `wanted` must not be batched.
    """
    return jax.lax.fori_loop(0, wanted.astype(jnp.int32), lambda _, kept: body(kept), carry)


def add_to(so_far: PyTree, gradient: PyTree, is_first: BoolScalar) -> PyTree:
    """The sum of a minibatch's gradients up to this block; what was before its first is void."""
    return jax.tree.map(lambda s, g: jnp.where(is_first, g, s + g), so_far, gradient)


@jax.custom_vjp
def summing(params: PyTree, wanted: BoolScalar, so_far: PyTree, is_first: BoolScalar) -> PyTree:
    """`params`, whose gradient is `add_to(so_far, gradient, is_first)`; `so_far` if not wanted."""
    del wanted, so_far, is_first
    return params


def _summing_forward(
    params: PyTree, wanted: BoolScalar, so_far: PyTree, is_first: BoolScalar
) -> tuple[PyTree, PyTree]:
    return params, (wanted, so_far, is_first)


def _summing_backward(kept: PyTree, gradient: PyTree) -> tuple[PyTree, None, None, None]:
    wanted, so_far, is_first = kept
    return run_if(wanted, lambda s: add_to(s, gradient, is_first), so_far), None, None, None


summing.defvjp(_summing_forward, _summing_backward)


def only(tree: PyTree, names: Sequence[str]) -> PyTree:
    """Of all weights in a tree, an optimizer's state say, those of some layers.

    Args:
      tree: weights are its dicts, by name of the layer; all else stays.
      names: of the layers.
    """
    return jax.tree.map(
        lambda leaf: {name: leaf[name] for name in names} if isinstance(leaf, dict) else leaf,
        tree,
        is_leaf=_is_weights,
    )


def joined(parts: Sequence[PyTree]) -> PyTree:
    """Put together what `only` took apart; what is not weights is that of the first part."""

    def join(*leaves: PyTree) -> PyTree:
        if not isinstance(leaves[0], dict):
            return leaves[0]
        return {name: layer for leaf in leaves for name, layer in leaf.items()}

    return jax.tree.map(join, *parts, is_leaf=_is_weights)


def _is_weights(tree: PyTree) -> bool:
    return isinstance(tree, dict)
