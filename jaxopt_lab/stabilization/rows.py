"""What may be wrong with the rows themselves, and the same rows without it.

Rows far from all others, a target with a heavy tail, inputs of a scale that no initialisation
expects, too few rows to validate on: each is looked for, and where it is found one more split of
the data is laid beside the given one, on which the base can be trained without it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxopt_lab.problems.mlp.data import Criterion, FoldArrays
from jaxopt_lab.stabilization.members import (
    OUTLIERS,
    SCALE,
    TARGET,
    TARGET_SCALE,
    VALIDATION,
    Member,
)
from jaxopt_lab.stabilization.thresholds import THRESHOLDS

#: A value so many usual spreads from its column's median is far from all others, if no more than
#: `RARE` of the rows have such; a target so many from its own is in the tail.
FAR, RARE, TAIL = 20.0, 0.01, 5.0
#: With fewer validation rows, and four times as many to train on, some of these validate as well.
FEW_VALID, ENOUGH_VALID = 150, 500
#: Rows that are named.
MOST_ROWS = 20
#: The interquartile range of a standard normal.
_QUARTILES = 1.349
#: Medians are taken over so many rows.
_SAMPLE = 4096
#: Larger arrays are not searched for outliers.
_MOST_VALUES = 5e7


class Faults(NamedTuple):
    """What was seen of rows.

    Attributes:
      outliers: indices of the rows that are far from all others.
      tail_share: share of the targets in the tail; NaN of classes.
      input_scale: root mean square of the largest column, or one over it if that is greater.
      target_scale: root mean square of the targets; NaN of classes.
    """

    outliers: np.ndarray
    tail_share: float
    input_scale: float
    target_scale: float


#: Of rows of which nobody knows.
SOUND = Faults(np.zeros(0, np.int64), float("nan"), 1.0, float("nan"))


class Rows(NamedTuple):
    """Rows with what was found about them.

    Attributes:
      arrays: split 0 as given; further ones where something was found.
      members: the base on each of those.
      faults: what was found.
    """

    arrays: FoldArrays
    members: tuple[Member, ...]
    faults: Faults

    @property
    def outliers(self) -> tuple[int, ...]:
        """Indices of the rows that are far from all others."""
        return tuple(int(row) for row in self.faults.outliers)


class Split(NamedTuple):
    """Rows to train and to validate on.

    Attributes:
      inputs: [N, ..., columns].
      targets: [N, ...].
      train: indices of training rows.
      valid: indices of validation rows.
    """

    inputs: np.ndarray
    targets: np.ndarray
    train: np.ndarray
    valid: np.ndarray


def looked_at(arrays: FoldArrays, criterion: Criterion) -> Rows:
    """Look for all of it in the first split.

    Args:
      arrays: of a task.
      criterion: tells whether the target is a number.

    Returns:
      The same arrays where nothing was found.
    """
    train = np.asarray(arrays.train_rows[0][: int(arrays.num_train[0])])
    valid = np.asarray(arrays.valid_rows[0][: int(arrays.num_valid[0])])
    given = Split(np.asarray(arrays.inputs[0]), np.asarray(arrays.targets[0]), train, valid)
    numbers = criterion.num_outputs == 1 and given.targets.ndim == 1
    seen = faults(given.inputs, given.targets if numbers else None, train, valid)
    found = mended(given, seen)
    members = tuple(
        Member(name, {}, family, split=number, comparable=is_comparable(given, split))
        for number, (name, family, split) in enumerate(found, 1)
    )
    laid_out = _laid_out([given, *(split for _, _, split in found)]) if found else arrays
    return Rows(laid_out, members, seen)


def is_comparable(given: Split, other: Split) -> bool:
    """Whether losses of two splits are of the same validation rows, in the same unit."""
    return other.targets is given.targets and np.array_equal(other.valid, given.valid)


def mended(given: Split, seen: Faults) -> list[tuple[str, str, Split]]:
    """The same rows without each fault.

    Args:
      given: as they are.
      seen: what was found about them.

    Returns:
      What a person calls it, its family, and the split; of each fault that was found.
    """
    train, valid, outliers = given.train, given.valid, seen.outliers
    found: list[tuple[str, str, Split]] = []
    if len(outliers):
        fewer = given._replace(
            train=train[~np.isin(train, outliers)], valid=valid[~np.isin(valid, outliers)]
        )
        plural = "s" if len(outliers) > 1 else ""
        found.append((f"without {len(outliers)} outlying row{plural}", OUTLIERS, fewer))
    heavy = seen.tail_share >= THRESHOLDS["tail_share"]
    if heavy:
        logs = given._replace(targets=_log_scale(given.targets, train))
        found.append(("a log scale of the target", TARGET, logs))
    elif seen.target_scale >= THRESHOLDS["input_scale"]:
        unit = given._replace(targets=_standardised(given.targets, np.setdiff1d(train, outliers)))
        found.append(("standardised targets", TARGET_SCALE, unit))
    if seen.input_scale >= THRESHOLDS["input_scale"]:
        inputs = given._replace(inputs=_standardised(given.inputs, train))
        found.append(("standardised inputs", SCALE, inputs))
    if 0 < len(valid) < FEW_VALID and len(train) >= 4 * FEW_VALID:
        moved = np.random.default_rng(0).permutation(train)[: min(ENOUGH_VALID, len(train) // 5)]
        more = np.concatenate([valid, moved])
        split = given._replace(train=np.setdiff1d(train, moved), valid=more)
        found.append((f"more validation rows ({len(valid)} → {len(more)})", VALIDATION, split))
    return [one for one in found if len(one[2].train) and len(one[2].valid)]


def faults(
    inputs: np.ndarray, targets: np.ndarray | None, train: np.ndarray, valid: np.ndarray
) -> Faults:
    """Look at rows.

    Args:
      inputs: [N, ..., columns].
      targets: [N] numbers; None of classes and others.
      train: indices of training rows.
      valid: indices of validation rows.
    """
    used = np.unique(np.concatenate([train, valid]))
    away = _distances(inputs[used])
    # Encodings bend: where many rows are far from a column's middle, none is an outlier of it.
    rare = np.mean(away > FAR, axis=0) <= RARE
    far = _seldom(away.max(axis=1, initial=0.0, where=rare))
    tail_share = target_scale = float("nan")
    if targets is not None:
        off = _distances(targets[used][:, None].astype(np.float64)).max(axis=1, initial=0.0)
        tail_share = float(np.mean(off > TAIL))
        if tail_share < THRESHOLDS["tail_share"]:
            far = np.maximum(far, _seldom(off))
    outliers = used[far > FAR]
    sound = np.setdiff1d(train, outliers)
    if targets is not None and len(sound):
        target_scale = float(np.sqrt(np.mean(targets[sound].astype(np.float64) ** 2)))
    return Faults(outliers, tail_share, _scale(inputs[sound]), target_scale)


def remarks(found: Faults) -> list[str]:
    """What a person should look at first, a line each; nothing was trained to prove it."""
    lines = []
    if len(found.outliers):
        named = ", ".join(str(row) for row in found.outliers[:MOST_ROWS])
        more = " and others" if len(found.outliers) > MOST_ROWS else ""
        lines.append(f"rows far from all others, from 0: {named}{more}; look at them first")
    if found.tail_share >= THRESHOLDS["tail_share"]:
        lines.append(
            f"{found.tail_share:.0%} of the targets lie {TAIL:g} usual spreads or more from their "
            "median: try them on a log scale"
        )
    if found.input_scale >= THRESHOLDS["input_scale"]:
        lines.append(
            f"the largest input column is {found.input_scale:.3g} times larger, or smaller, than "
            "initialisations expect: standardise the inputs"
        )
    return lines


def _seldom(far: np.ndarray) -> np.ndarray:
    """Distances of rows; 0 throughout where more of them than `RARE` are far."""
    return far if np.mean(far > FAR) <= RARE else np.zeros_like(far)


def _distances(values: np.ndarray) -> np.ndarray:
    """The greatest distance of each row's values from each column's median [N, columns], in usual
    spreads; columns half of whose values are the same are left out."""
    if not values.size or values.size > _MOST_VALUES:
        return np.zeros((len(values), 1))
    columns = values.reshape(len(values), -1, values.shape[-1])
    sample = columns[:: max(len(columns) // _SAMPLE, 1)].reshape(-1, values.shape[-1])
    low, middle, high = np.quantile(sample, [0.25, 0.5, 0.75], axis=0)
    spread = (high - low) / _QUARTILES
    known = spread > 1e-9 * np.maximum(np.abs(middle), 1e-30)
    if not known.any():
        return np.zeros((len(values), 1))
    away = np.abs(columns[..., known] - middle[known]) / spread[known]
    return away.max(axis=1)


def _scale(inputs: np.ndarray) -> float:
    columns = inputs.reshape(-1, inputs.shape[-1]).astype(np.float64)
    largest = float(np.sqrt(np.mean(columns**2, axis=0)).max(initial=0.0))
    return max(largest, 1.0 / largest) if largest > 0 else 1.0


def _standardised(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Each column by its training rows; one column of numbers [N] is one."""
    columns = values[train].reshape(-1, *values.shape[max(values.ndim - 1, 1) :])
    columns = columns.astype(np.float64)
    spread = columns.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    return ((values - columns.mean(axis=0)) / spread).astype(np.float32)


def _log_scale(targets: np.ndarray, train: np.ndarray) -> np.ndarray:
    """asinh about the median, in usual spreads: a logarithm far out, on either side; mean 0 and
    standard deviation 1 over the training rows."""
    mine = targets[train].astype(np.float64)
    low, middle, high = np.quantile(mine, [0.25, 0.5, 0.75])
    unit = max(float(high - low) / _QUARTILES, 1e-30)
    logs = np.arcsinh((targets.astype(np.float64) - middle) / unit)
    spread = max(float(logs[train].std()), 1e-30)
    return ((logs - logs[train].mean()) / spread).astype(np.float32)


def _laid_out(splits: Sequence[Split]) -> FoldArrays:
    """All splits as folds; inputs and targets once where all have the same."""

    def stack(name: str) -> np.ndarray:
        every = [getattr(split, name) for split in splits]
        same = all(values is every[0] for values in every)
        return np.stack(every[:1] if same else every)

    def padded(name: str) -> tuple[np.ndarray, np.ndarray]:
        every = [np.asarray(getattr(split, name), np.int32) for split in splits]
        most = max(len(rows) for rows in every)
        numbers = np.asarray([len(rows) for rows in every], np.int32)
        return np.stack([np.pad(rows, (0, most - len(rows))) for rows in every]), numbers

    train, num_train = padded("train")
    valid, num_valid = padded("valid")
    return FoldArrays(stack("inputs"), stack("targets"), train, num_train, valid, num_valid)
