"""Rows of a fold, as its own encoding gives them."""

import jax.numpy as jnp
from jaxtyping import Array

from jaxopt_lab.problems.mlp.data import FoldArrays


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
