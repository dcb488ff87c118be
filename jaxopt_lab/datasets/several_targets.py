"""Several numbers of a row that are predicted together, each on a scale of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets.columns import Column, FloatArray
from jaxopt_lab.datasets.target_column import TargetColumn, decide_log, read_target
from jaxopt_lab.datasets.targets import TargetTransform

if TYPE_CHECKING:
    from jaxopt_lab.datasets.tables import Table


class NumberTarget(NamedTuple):
    """One of several targets: its column, and whether its logarithm is learnt."""

    name: str
    log: bool


@dataclass(frozen=True)
class TargetTransforms:
    """A `TargetTransform` for each of several targets, which stand side by side as columns.

    Args:
      parts: of each target, in order.

    Raises:
      ValueError: for fewer than two.
    """

    parts: tuple[TargetTransform, ...]

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise ValueError(f"several targets are two or more, got {len(self.parts)}")

    @classmethod
    def fit(cls, target: ArrayLike, logs: Sequence[bool], robust: bool = False) -> TargetTransforms:
        """Learn from training rows, as `TargetTransform.fit` does from those of one target.

        Args:
          target: float [n, T], each column in its own units.
          logs: whether to take the logarithm of each.
          robust: median and quartiles.
        """
        columns = np.asarray(target, np.float64).T
        pairs = zip(columns, logs, strict=True)
        return cls(tuple(TargetTransform.fit(column, log, robust) for column, log in pairs))

    def forward(self, target: ArrayLike) -> NDArray[np.float32]:
        """Standardise; float [n, T] in the targets' units -> float32 [n, T]."""
        return self._by_column(target, [part.forward for part in self.parts])

    def of_outputs(self, outputs: NDArray[Any]) -> FloatArray:
        """Outputs of a network [n, T] -> float64 [n, T] in the targets' units."""
        wide = outputs.astype(np.float64)
        return self._by_column(wide, [part.inverse for part in self.parts])

    def to_learnt(self, values: FloatArray) -> FloatArray:
        """From the targets' units [n, T] to the logarithm of those whose logarithm is learnt."""
        return self._by_column(values, [part.to_learnt for part in self.parts])

    def from_learnt(self, values: FloatArray) -> FloatArray:
        """The way back."""
        return self._by_column(values, [part.from_learnt for part in self.parts])

    @property
    def mean(self) -> FloatArray:
        """What is subtracted from each target, [T]."""
        return np.array([part.mean for part in self.parts])

    @property
    def scale(self) -> FloatArray:
        """What each target is divided by then, [T]."""
        return np.array([part.scale for part in self.parts])

    @staticmethod
    def _by_column(values: ArrayLike, functions: Sequence[Any]) -> Any:
        columns = np.asarray(values, np.float64).T
        found = [function(column) for function, column in zip(functions, columns, strict=True)]
        return np.stack(found, axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Give the transforms as plain JSON values."""
        return {"parts": [part.to_dict() for part in self.parts]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TargetTransforms:
        """Rebuild transforms from `to_dict`."""
        if set(data) != {"parts"} or not isinstance(data["parts"], list):
            raise ValueError("not stored target transforms: they have parts")
        return cls(tuple(TargetTransform.from_dict(part) for part in data["parts"]))


def fit_target(table: Table, robust: bool = False) -> TargetTransform | TargetTransforms:
    """The transform of a table's target, or of its several targets, from all its rows."""
    if table.targets:
        return TargetTransforms.fit(table.target, [t.log for t in table.targets], robust)
    return TargetTransform.fit(table.target, table.log_target, robust)


def one_by_one(table: Table) -> list[Table]:
    """A table for each of several targets that has this one alone; the table itself for one."""
    return [
        replace(
            table,
            target=np.ascontiguousarray(table.target[:, place]),
            target_name=target.name,
            log_target=target.log,
            targets=(),
        )
        for place, target in enumerate(table.targets)
    ] or [table]


def names_of(asked: Sequence[str], columns: Collection[str]) -> list[str]:
    """Which columns are meant.

    Args:
      asked: a name each, or several with commas between them where no column has the whole for
        its name, and some column one of them.
      columns: that there are.

    Returns:
      Names that may be none of `columns`.

    Raises:
      UserError: if a column is named twice.
    """
    found: list[str] = []
    for text in asked:
        parts = [part for part in (part.strip() for part in text.split(",")) if part]
        found += [text] if text in columns or not set(parts) & set(columns) else parts
    for name in found:
        if found.count(name) > 1:
            raise UserError(f"target {name!r} is named twice; name each column once")
    return found


def read_targets(
    frame: pd.DataFrame, names: Sequence[str], task: str, columns: Mapping[str, Column]
) -> TargetColumn:
    """Read several target columns; rows where one of them is missing are left out.

    Args:
      frame: raw columns [n].
      names: of the targets, two or more.
      task: "auto" or "regression".
      columns: what each holds, from `decide_columns`.

    Returns:
      A column whose values are float64 [m, T].

    Raises:
      UserError: if one of them cannot be learnt as a number.
    """
    if task == "classification":
        raise UserError(
            "several targets are numbers, all of them; tune classes one by one, each by a --target "
            "of its own"
        )
    found = [read_target(frame[name], name, task, columns[name]) for name in names]
    for name, column in zip(names, found, strict=True):
        if column.task == "classification":
            numbers = columns[name].kind == "numeric"
            way = "give --task regression if they are numbers, or " if numbers else ""
            raise UserError(
                f"several targets are numbers, all of them, and {name!r} holds classes; {way}"
                "tune it by itself"
            )
    rows = np.logical_and.reduce([column.rows for column in found])
    if not rows.any():
        raise UserError(f"no row has all targets: {', '.join(names)}")
    values = np.stack([c.values[rows[c.rows]] for c in found], axis=1)
    for name, column in zip(names, values.T, strict=True):
        if np.ptp(column) == 0.0:
            raise UserError(
                f"target {name!r} is constant where all targets are known: every such row is "
                f"{column[0]:g}"
            )
    notes = tuple(note for column in found for note in column.notes)
    return TargetColumn(values, "regression", (), rows, notes)


def decide_logs(
    column: TargetColumn, names: Sequence[str], log_target: Any
) -> tuple[NumberTarget, ...]:
    """Decide for each of several targets by itself whether its logarithm is learnt.

    Args:
      column: from `read_targets`.
      names: of the targets.
      log_target: "auto", "yes", "no" or a bool for all, or a list of one for each.
    """
    wishes = log_target if isinstance(log_target, list) else [log_target] * len(names)
    if len(wishes) != len(names):
        raise UserError(f"log target is one for each of {len(names)} targets, got {len(wishes)}")
    each = zip(names, column.values.T, wishes, strict=True)
    return tuple(
        NumberTarget(name, decide_log(replace(column, values=values), name, wish))
        for name, values, wish in each
    )
