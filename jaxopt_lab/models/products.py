"""The matrix product of a dense layer, with a gradient that is fast in a population on a CPU."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

from jaxopt_lab.core.types import BoolScalar

#: Below this many outputs (a head) the transposition costs more than it gains.
MIN_OUTPUTS = 16
#: A kernel of more numbers than this is not transposed, if there are fewer rows to transpose.
MAX_TURNED = 64 * 64
#: Rows common to all trials are copied to each, up to this many numbers.
MAX_SHARED = 2048


@custom_vmap
def _matmul(inputs: Float[Array, "b n"], kernel: Float[Array, "n m"]) -> Float[Array, "b m"]:
    """`inputs @ kernel`; under `vmap`, few inputs common to many kernels are repeated for each.

    Otherwise XLA makes one product of all kernels side by side, and turns them and the result. On a
    CPU it would undo the repetition, but for a barrier.
    """
    return inputs @ kernel


@_matmul.def_vmap
def _matmul_rule(
    axis_size: int, batched: list[bool], inputs: Array, kernel: Array
) -> tuple[Array, bool]:
    if not any(batched):  # so asked by loops, until their carry is known to differ by trial
        return _matmul.fun(inputs, kernel), False
    axes = tuple(0 if is_batched else None for is_batched in batched)
    several = jax.vmap(_matmul.fun, in_axes=axes)
    if axes != (None, 0) or inputs.size > MAX_SHARED:
        return several(inputs, kernel), True

    copies = jnp.broadcast_to(inputs, (axis_size, *inputs.shape))
    copies = jax.lax.platform_dependent(
        copies, cpu=jax.lax.optimization_barrier, default=lambda copies: copies
    )
    return copies @ kernel, True


@jax.custom_vjp
def product(inputs: Float[Array, "b n"], kernel: Float[Array, "n m"]) -> Float[Array, "b m"]:
    """`inputs @ kernel`.

    The gradient of the kernel contracts the leading axis of both its operands, which XLA's CPU
    backend leaves to a library half as fast as the one that it uses for other products. There the
    inputs are transposed first; and for the gradient of the inputs, which takes a transposed
    kernel, a few rows instead of a large kernel. See `docs/performance.md`.
    """
    return _matmul(inputs, kernel)


def _forward(inputs: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _matmul(inputs, kernel), (inputs, kernel)


def _backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    inputs, kernel = kept

    def transposed_first(x: Array, g: Array) -> Array:
        return _matmul(jax.lax.optimization_barrier(x.T), g)

    of_kernel = jax.lax.platform_dependent(
        inputs, gradient, cpu=transposed_first, default=lambda x, g: _matmul(x.T, g)
    )
    return _of_inputs(gradient, kernel), of_kernel


def _of_inputs(gradient: Array, kernel: Array) -> Array:
    """`gradient @ kernel.T`; a CPU transposes the lesser of both and, if so, the result."""
    barrier = jax.lax.optimization_barrier
    if kernel.size <= MAX_TURNED or gradient.shape[0] >= min(kernel.shape):
        return gradient @ kernel.T

    def rows_turned(gradient: Array, kernel: Array) -> Array:
        turned = barrier(_matmul(kernel, barrier(gradient.T)))
        return with_layout_constraint(turned.T, Layout((0, 1)))

    return jax.lax.platform_dependent(
        gradient, kernel, cpu=rows_turned, default=lambda g, k: g @ k.T
    )


product.defvjp(_forward, _backward)


@jax.custom_vjp
def product_if(
    wanted: BoolScalar, inputs: Float[Array, "b n"], kernel: Float[Array, "n m"]
) -> Float[Array, "b m"]:
    """`product` where it is wanted, else zeros, as its gradients are: nothing is multiplied.

    Differentiated as it stands, the branch would return a copy of the kernel for its gradient.
    """
    return _either(wanted, inputs, kernel)


def _either(wanted: BoolScalar, inputs: Array, kernel: Array) -> Array:
    return jax.lax.cond(wanted, _matmul, _nothing, inputs, kernel)


def _nothing(inputs: Array, kernel: Array) -> Array:
    return jnp.zeros((inputs.shape[0], kernel.shape[1]), jnp.result_type(inputs, kernel))


def _forward_if(wanted: BoolScalar, inputs: Array, kernel: Array) -> tuple[Array, Any]:
    return _either(wanted, inputs, kernel), (wanted, inputs, kernel)


def _backward_if(kept: Any, gradient: Array) -> tuple[None, Array, Array]:
    wanted, *operands = kept
    blank = lambda kept, _: jax.tree.map(jnp.zeros_like, kept)  # noqa: E731
    return None, *jax.lax.cond(wanted, _backward, blank, tuple(operands), gradient)


product_if.defvjp(_forward_if, _backward_if)


def dot_general(
    inputs: Array,
    kernel: Array,
    dimensions: Any,
    precision: Any = None,
    wanted: BoolScalar | None = None,
) -> Array:
    """What `flax.linen.Dense` calls: `product` for rows and a wide layer, else XLA's own.

    Args:
      wanted: if given, of rows: zeros unless it is true.
    """
    if wanted is not None:
        return product_if(wanted, inputs, kernel)
    is_plain = inputs.ndim == kernel.ndim == 2 and dimensions == (((1,), (0,)), ((), ()))
    if is_plain and kernel.shape[1] >= MIN_OUTPUTS and precision is None:
        return product(inputs, kernel)
    return jax.lax.dot_general(inputs, kernel, dimensions, precision=precision)
