"""The matrix product of a dense layer, with a gradient that is fast in a population on a CPU."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float

#: Below this many outputs (a head) the transposition costs more than it gains.
MIN_OUTPUTS = 16
#: Rows common to all trials are copied to each, up to this many numbers.
MAX_SHARED = 2048


@custom_vmap
def _matmul(inputs: Float[Array, "b n"], kernel: Float[Array, "n m"]) -> Float[Array, "b m"]:
    """`inputs @ kernel`; under `vmap`, few inputs common to many kernels are repeated on a CPU.

    Otherwise XLA makes one product of all kernels side by side, and turns them and the result.
    """
    return inputs @ kernel


@_matmul.def_vmap
def _matmul_rule(
    axis_size: int, batched: list[bool], inputs: Array, kernel: Array
) -> tuple[Array, bool]:
    axes = tuple(0 if is_batched else None for is_batched in batched)
    several = jax.vmap(_matmul.fun, in_axes=axes)
    if axes != (None, 0) or inputs.size > MAX_SHARED:
        return several(inputs, kernel), True

    def repeated(inputs: Array, kernel: Array) -> Array:
        copies = jnp.broadcast_to(inputs, (axis_size, *inputs.shape))
        return jax.lax.optimization_barrier(copies) @ kernel

    return jax.lax.platform_dependent(inputs, kernel, cpu=repeated, default=several), True


@jax.custom_vjp
def product(inputs: Float[Array, "b n"], kernel: Float[Array, "n m"]) -> Float[Array, "b m"]:
    """`inputs @ kernel`.

    The gradient of the kernel contracts the leading axis of both its operands, which XLA's CPU
    backend leaves to a library half as fast as the one that it uses for other products. There the
    inputs are transposed first. See `docs/performance.md`.
    """
    return _matmul(inputs, kernel)


def _forward(inputs: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _matmul(inputs, kernel), (inputs, kernel)


def _backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    inputs, kernel = kept

    def transposed_first(x: Array, g: Array) -> Array:
        return _matmul(jax.lax.optimization_barrier(x.T), g)

    of_kernel = jax.lax.platform_dependent(
        inputs, gradient, cpu=transposed_first, default=lambda x, g: x.T @ g
    )
    return gradient @ kernel.T, of_kernel


product.defvjp(_forward, _backward)


def dot_general(inputs: Array, kernel: Array, dimensions: Any, precision: Any = None) -> Array:
    """What `flax.linen.Dense` calls: `product` for rows and a wide layer, else XLA's own."""
    is_plain = inputs.ndim == kernel.ndim == 2 and dimensions == (((1,), (0,)), ((), ()))
    if is_plain and kernel.shape[1] >= MIN_OUTPUTS and precision is None:
        return product(inputs, kernel)
    return jax.lax.dot_general(inputs, kernel, dimensions, precision=precision)
