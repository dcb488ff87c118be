"""Whether a program can be compiled for an accelerator that is not here."""

from collections.abc import Callable
from typing import Any

import jax


def lowers(function: Callable[..., Any], arguments: tuple[Any, ...], platform: str) -> bool:
    """Whether every operation of a program has an implementation on a platform.

    Nothing is compiled and no such device is needed.

    Args:
      function: jitted or not.
      arguments: arrays, or their shapes and dtypes.
      platform: "cpu", "cuda", "rocm" or "tpu".

    Raises:
      Exception: whatever tracing the function raises; only a missing implementation gives False.

    Examples:
      >>> import jax.numpy as jnp
      >>> x = jax.ShapeDtypeStruct((3, 3), jnp.float32)
      >>> lowers(jnp.linalg.inv, (x,), "tpu"), lowers(jnp.linalg.eig, (x,), "tpu")
      (True, False)
    """
    traced = jax.jit(function).trace(*arguments)
    try:
        traced.lower(lowering_platforms=(platform,))
    except NotImplementedError:
        return False
    return True
