"""Activation functions by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

ACTIVATION_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "sigmoid": jax.nn.sigmoid,
}


def activation_function(kind: str | Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Look an activation up; a function is returned as it is.

    Raises:
      ValueError: if there is none of that name.
    """
    if callable(kind):
        return kind
    if kind not in ACTIVATION_FUNCTIONS:
        known = ", ".join(ACTIVATION_FUNCTIONS)
        raise ValueError(f"unknown activation {kind!r}, choose from {known}, or give a function")
    return ACTIVATION_FUNCTIONS[kind]
