"""The data stream of a cohort: a random order of rows, rows of a fold."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxopt_lab.core.types import PRNGKey
from jaxopt_lab.problems.mlp.data import FoldArrays


def shuffled(key: PRNGKey, rows: Array, num_real: Array) -> Array:
    """A random order of the real rows, which come first; one sort of random bits."""
    bits = jax.random.bits(key, rows.shape, jnp.uint32) >> 1
    is_real = jnp.arange(rows.shape[0]) < num_real
    bits = jnp.where(is_real, bits, np.uint32(0xFFFFFFFF))
    return jax.lax.sort((bits, rows), num_keys=1)[1]


def gather(arrays: FoldArrays, fold: Array, rows: Array) -> tuple[Array, Array]:
    """Inputs and targets of rows, as a fold's own encoding gives them."""
    folds, num_rows = arrays.inputs.shape[:2]
    flat = jnp.minimum(fold, folds - 1) * num_rows + rows
    inputs = arrays.inputs.reshape(-1, *arrays.inputs.shape[2:])[flat]
    folds = arrays.targets.shape[0]
    flat = jnp.minimum(fold, folds - 1) * num_rows + rows
    targets = arrays.targets.reshape(-1, *arrays.targets.shape[2:])[flat]
    return inputs, targets


def round_up(number: int, step: int) -> int:
    """The least multiple of `step` that is at least `number`."""
    return -(-number // step) * step
