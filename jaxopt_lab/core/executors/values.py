"""What equations are evaluated on in a kernel besides padded arrays: known numbers, random keys."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxopt_lab.core.executors.noise import COUNTER, Generator
from jaxopt_lab.core.executors.padding import NoKernelForm, Padded


class Context(NamedTuple):
    """How equations are evaluated.

    Attributes:
      precision: of products, a key of `pallas.PRESETS`; None as the device does by itself.
      noise: generator of random numbers.
      num_rows: rows of the chunk; arrays of random numbers with so many rows are of these rows.
      first_row: uint32 scalar, which row of its minibatch is the chunk's first.
      apart: whether to refuse what lets one row see another.
      by_parts: whether products in passes are made of products of parts here, not by the compiler.
    """

    precision: str | None
    noise: Generator = COUNTER
    num_rows: int = 0
    first_row: Any = 0
    apart: bool = False
    by_parts: bool = True


@dataclass(frozen=True)
class Static:
    """A number that is known while tracing."""

    value: Any


@dataclass(frozen=True)
class Keys:
    """Random keys: one, or a list of them.

    Attributes:
      words: two uint32 scalars for each.
      shape: () or (n,).
    """

    words: tuple[Any, ...]
    shape: tuple[int, ...] = ()


#: (context, equation, its inputs) -> its outputs.
Rule = Callable[[Context, Any, list[Any]], list[Any]]


def literal(value: Any, aval: Any = None) -> Any:
    """A constant number as a value."""
    dtype = np.result_type(value) if aval is None else aval.dtype
    return Static(np.asarray(value, dtype)[()])


def as_padded(value: Any) -> Padded:
    """A number that is known, as an array."""
    if isinstance(value, Static):
        return Padded(value.value, (), not np.any(value.value))
    if isinstance(value, Keys):
        raise NoKernelForm("what is done with random keys has no kernel form")
    return value
