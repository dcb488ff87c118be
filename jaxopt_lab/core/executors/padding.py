"""Arrays in a kernel: every size a power of two, and what was added masked where it would count."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

#: Sizes up to this one are multiplied element by element; a larger one is at least `LEAST`, which
#: is what tensor cores take.
NARROW, LEAST = 4, 16


class NoKernelForm(Exception):
    """What a kernel cannot compute; the message completes "vmap: ..."."""


def padded_size(size: int) -> int:
    """The power of two that an axis takes in a kernel.

    Example:
      >>> [padded_size(n) for n in (1, 3, 4, 5, 16, 17)]
      [1, 4, 4, 16, 16, 32]
    """
    power = 1 << max(size - 1, 0).bit_length()
    return power if power <= NARROW else max(power, LEAST)


def padded_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of all axes."""
    return tuple(map(padded_size, shape))


@dataclass(frozen=True)
class Padded:
    """An array as a kernel holds it.

    Attributes:
      array: of `padded_shape(shape)`.
      shape: of the array that it stands for.
      clean: whether it is known to be zero outside that.
      rows: the axis along which rows of data lie; None where it depends on none.
      made_of: what it was computed from, where a later equation can do both at once: see
        `instructions`.
    """

    array: Any
    shape: tuple[int, ...]
    clean: bool = False
    rows: int | None = None
    made_of: Any = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing was added."""
        return padded_shape(self.shape) == self.shape

    @property
    def is_clean(self) -> bool:
        """Whether what was added, if anything, is zero."""
        return self.clean or self.is_whole

    @property
    def dtype(self) -> Any:
        """Of the array."""
        return jnp.result_type(self.array)


def inside(shape: tuple[int, ...], axes: tuple[int, ...] | None = None) -> Any:
    """Where a padded array is real: bool of `padded_shape(shape)`; None if everywhere.

    Args:
      shape: without padding.
      axes: to look at; all by default.
    """
    whole, found = padded_shape(shape), None
    for axis in range(len(shape)) if axes is None else axes:
        if shape[axis] == whole[axis]:
            continue
        real = jax.lax.broadcasted_iota(jnp.int32, whole, axis) < shape[axis]
        found = real if found is None else found & real
    return found


def cleaned(value: Padded) -> Padded:
    """The same with zeros where it was padded."""
    if value.is_clean:
        return value
    return Padded(masked(value, 0), value.shape, True, value.rows)


def masked(value: Padded, neutral: Any, axes: tuple[int, ...] | None = None) -> Any:
    """The array with `neutral` where it was padded along some axes."""
    real = inside(value.shape, axes)
    if real is None:
        return value.array
    return jnp.where(real, value.array, jnp.asarray(neutral, value.dtype))


def to_padded(array: Any, leading: int = 0) -> Any:
    """Add zeros to an array, outside a kernel.

    Args:
      array: with `leading` axes that stay as they are.
      leading: how many.
    """
    shape = array.shape[leading:]
    added = [(0, p - n) for p, n in zip(padded_shape(shape), shape, strict=True)]
    if not any(after for _, after in added):
        return array
    return jnp.pad(array, [(0, 0)] * leading + added)


def from_padded(array: Any, shape: tuple[int, ...]) -> Any:
    """Undo `to_padded`: `shape` with its leading axes."""
    return array if array.shape == shape else array[tuple(map(slice, shape))]
