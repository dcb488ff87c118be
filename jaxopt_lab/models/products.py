"""The matrix product of a dense layer, with a gradient that is fast in a population on a CPU."""

from typing import Any

import jax
from jaxtyping import Array, Float

#: Below this many outputs (a head) the transposition costs more than it gains.
MIN_OUTPUTS = 16


@jax.custom_vjp
def product(inputs: Float[Array, "b n"], kernel: Float[Array, "n m"]) -> Float[Array, "b m"]:
    """`inputs @ kernel`.

    The gradient of the kernel contracts the leading axis of both its operands, which XLA's CPU
    backend leaves to a library half as fast as the one that it uses for other products. There the
    inputs are transposed first. See `docs/performance.md`.
    """
    return inputs @ kernel


def _forward(inputs: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return inputs @ kernel, (inputs, kernel)


def _backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    inputs, kernel = kept

    def transposed_first(x: Array, g: Array) -> Array:
        return jax.lax.optimization_barrier(x.T) @ g

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
