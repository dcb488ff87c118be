"""A two-dimensional convolution that is fast inside a loop on a CPU."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_lab.models.products import MIN_OUTPUTS, product


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Array:
    """What `flax.linen.Conv` calls: `jax.lax.conv_general_dilated`, as one matrix product on a CPU.

    XLA's CPU backend computes convolutions inside loops, and those of a population, some ten
    times slower than the product of all patches with the kernel. An ordinary convolution of images
    (two axes, no dilation, no groups) becomes that product there; on accelerators, and for any
    other convolution, this is JAX's own.

    Args:
      lhs: images [b, h, w, c].
      rhs: kernel [kh, kw, c, o].
      window_strides: and all that follows: see `jax.lax.conv_general_dilated`.

    Examples:
      >>> import flax.linen as nn
      >>> layer = nn.Conv(16, (3, 3), conv_general_dilated=conv_general_dilated)
    """

    def of_jax(images: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(
            images,
            kernel,
            window_strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            batch_group_count=batch_group_count,
            precision=precision,
            preferred_element_type=preferred_element_type,
        )

    layout = jax.lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    is_plain = (
        lhs.ndim == 4
        and layout == jax.lax.conv_dimension_numbers(lhs.shape, rhs.shape, ("NHWC", "HWIO", "NHWC"))
        and all(n == 1 for n in [*(lhs_dilation or ()), *(rhs_dilation or ())])
        and feature_group_count == batch_group_count == 1
        and precision is None
        and preferred_element_type is None
    )
    if not is_plain:
        return of_jax(lhs, rhs)
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], window_strides, padding)
    pads, strides = [(int(low), int(high)) for low, high in padding], tuple(window_strides)

    def by_patches(images: Array, kernel: Array) -> Array:
        return convolve_patches(images, kernel, strides, pads)

    return jax.lax.platform_dependent(lhs, rhs, cpu=by_patches, default=of_jax)


def convolve_patches(
    images: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c o"],
    strides: tuple[int, ...],
    pads: Sequence[tuple[int, int]],
) -> Float[Array, "b y x o"]:
    """A convolution as the product of all patches with the kernel.

    Args:
      images: channels last.
      kernel: of the same channels.
      strides: of rows and columns.
      pads: zeros (before, after) the rows and the columns.
    """
    kh, kw, channels, outputs = kernel.shape
    padded = jnp.pad(images, ((0, 0), *pads, (0, 0)))
    rows = (padded.shape[1] - kh) // strides[0] + 1
    columns = (padded.shape[2] - kw) // strides[1] + 1
    patches = jnp.concatenate(
        [
            padded[
                :,
                i : i + (rows - 1) * strides[0] + 1 : strides[0],
                j : j + (columns - 1) * strides[1] + 1 : strides[1],
            ]
            for i in range(kh)
            for j in range(kw)
        ],
        axis=-1,
    )
    flat, matrix = patches.reshape(-1, kh * kw * channels), kernel.reshape(-1, outputs)
    out = product(flat, matrix) if outputs >= MIN_OUTPUTS else flat @ matrix
    return out.reshape(len(images), rows, columns, outputs)


def max_pool(images: Float[Array, "b h w c"], size: int) -> Float[Array, "b y x c"]:
    """The largest entry of each window of `size` x `size`; rows and columns left over are cut.

    As `flax.linen.max_pool(images, (size, size), (size, size))`, whose gradient on a CPU is slow.
    Of equal entries each gets a part of the gradient.
    """
    b, h, w, c = images.shape
    rows, columns = h // size, w // size
    cut = images[:, : rows * size, : columns * size]
    return cut.reshape(b, rows, size, columns, size, c).max(axis=(2, 4))
