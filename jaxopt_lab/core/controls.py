"""What the host tells a wave, in few arrays: moving four bytes to a device takes as long as moving
four thousand."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

#: Hyperparameters, name -> [D * V] float32 or int32, on the host.
Values = Mapping[str, Any]


class Clock(NamedTuple):
    """Scalars of one cohort (per device [D], int32).

    Attributes:
      fold: which fold it reads.
      replicate: which seeds it uses.
      epoch: epochs trained before.
      num_epochs: epochs to train now.
      blocks: blocks of rows per minibatch.
      depth: the most layers of any of its trials.
    """

    fold: Any
    replicate: Any
    epoch: Any
    num_epochs: Any
    blocks: Any
    depth: Any

    def packed(self) -> np.ndarray:
        """As one array, [D, 6]."""
        return np.stack(self, axis=1).astype(np.int32)

    @classmethod
    def of_device(cls, packed: Array) -> "Clock":
        """The scalars of one device from its part, [1, 6]."""
        return cls(*packed[0])


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["floats", "integers"],
    meta_fields=["float_names", "integer_names"],
)
@dataclass(frozen=True)
class Packed:
    """Hyperparameters of a wave as two arrays.

    Attributes:
      floats: [D * V, m] float32.
      integers: [D * V, n] int32.
      float_names: m names, of the columns.
      integer_names: n.
    """

    floats: Any
    integers: Any
    float_names: tuple[str, ...]
    integer_names: tuple[str, ...]

    def unpacked(self) -> dict[str, Array]:
        """Name -> [D * V]."""
        columns = {name: self.floats[:, i] for i, name in enumerate(self.float_names)}
        return columns | {name: self.integers[:, i] for i, name in enumerate(self.integer_names)}


def packed(values: Values | Packed) -> Packed:
    """Pack hyperparameters; what is packed stays."""
    if isinstance(values, Packed):
        return values
    floats, integers = (
        {name: row for name, row in values.items() if np.asarray(row).dtype == kind}
        for kind in (np.float32, np.int32)
    )
    assert len(floats) + len(integers) == len(values)
    return Packed(
        np.stack(list(floats.values()), axis=1),
        np.stack(list(integers.values()), axis=1),
        tuple(floats),
        tuple(integers),
    )
