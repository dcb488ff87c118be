"""What the host tells a wave, in few arrays: moving four bytes to a device takes as long as moving
four thousand."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

#: Traced hyperparameters, name -> [D * V], on the host.
Values = Mapping[str, Any]


class Clock(NamedTuple):
    """Scalars of one cohort (per device [D], int32).

    Attributes:
      fold: which member of its trial it trains: a split of the data, a seed.
      replicate: which seeds it uses.
      unit: units trained before.
      num_units: units to train now.
      budget: units in the whole budget.
      extra: of its program, see `cohorts.Program.extra`.
    """

    fold: Any
    replicate: Any
    unit: Any
    num_units: Any
    budget: Any
    extra: tuple[Any, ...] = ()

    def packed(self) -> np.ndarray:
        """As one array, [D, 5 + number of extras]."""
        return np.stack([*self[:-1], *self.extra], axis=1).astype(np.int32)

    @classmethod
    def of_device(cls, packed: Array) -> "Clock":
        """The scalars of one device from its part, [1, ...]."""
        values = list(packed[0])
        fold, replicate, unit, num_units, budget, *extra = values
        return cls(fold, replicate, unit, num_units, budget, tuple(extra))


@partial(jax.tree_util.register_dataclass, data_fields=["columns"], meta_fields=["names"])
@dataclass(frozen=True)
class Packed:
    """Traced hyperparameters of a wave: one array for each dtype.

    Attributes:
      columns: [D * V, n] each.
      names: of the columns, for each of these arrays.
    """

    columns: tuple[Any, ...]
    names: tuple[tuple[str, ...], ...]

    def unpacked(self) -> dict[str, Any]:
        """Name -> [D * V]."""
        return {
            name: array[:, i]
            for array, names in zip(self.columns, self.names, strict=True)
            for i, name in enumerate(names)
        }


def packed(values: Values | Packed) -> Packed:
    """Pack hyperparameters; what is packed stays."""
    if isinstance(values, Packed):
        return values
    by_dtype: dict[str, dict[str, np.ndarray]] = {}
    for name, row in values.items():
        row = np.asarray(row)
        by_dtype.setdefault(row.dtype.name, {})[name] = row
    groups = [by_dtype[kind] for kind in sorted(by_dtype)]
    columns = tuple(np.stack(list(group.values()), axis=1) for group in groups)
    return Packed(columns, tuple(tuple(group) for group in groups))
