"""A random order of rows, common to the trials of a cohort."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxopt_lab.core.types import PRNGKey


def shuffled(key: PRNGKey, rows: Any, num_real: Any) -> Array:
    """A random order of the real rows, which come first; one sort of random bits."""
    bits = jax.random.bits(key, rows.shape, jnp.uint32) >> 1
    is_real = jnp.arange(rows.shape[0]) < num_real
    bits = jnp.where(is_real, bits, np.uint32(0xFFFFFFFF))
    return jax.lax.sort((bits, rows), num_keys=1)[1]
