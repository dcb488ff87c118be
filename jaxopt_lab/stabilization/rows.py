"""What may be wrong with the rows themselves, and the same rows without it.

Rows far from all others, a target with a heavy tail, inputs of a scale that no initialisation
expects, too few rows to validate on: each is looked for, and where it is found one more split of
the data is laid beside the given one, on which the base can be trained without it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxopt_lab.problems.mlp.data import Criterion, FoldArrays
from jaxopt_lab.stabilization.members import Member
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


class Rows(NamedTuple):
    """Rows with what was found about them.

    Attributes:
      arrays: split 0 as given; further ones where something was found.
      members: the base on each of those.
      outliers: indices of the rows that are far from all others.
      tail_share: share of the targets in the tail; NaN of classes.
      input_scale: root mean square of the largest column, or one over it if that is greater.
    """

    arrays: FoldArrays
    members: tuple[Member, ...]
    outliers: tuple[int, ...]
    tail_share: float
    input_scale: float


class Faults(NamedTuple):
    """What was found about rows: see `Rows`."""

    outliers: np.ndarray
    tail_share: float
    input_scale: float


class _Split(NamedTuple):
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
    given = _Split(np.asarray(arrays.inputs[0]), np.asarray(arrays.targets[0]), train, valid)
    numbers = criterion.num_outputs == 1 and given.targets.ndim == 1
    outliers, tail_share, scale = faults(
        given.inputs, given.targets if numbers else None, train, valid
    )
    found: list[tuple[Member, _Split]] = []

    def add(name: str, family: str, split: _Split) -> None:
        if len(split.train) and len(split.valid):
            same = split.targets is given.targets and np.array_equal(split.valid, valid)
            member = Member(name, {}, family, split=len(found) + 1, comparable=same)
            found.append((member, split))

    if len(outliers):
        add(
            f"without {len(outliers)} outlying row{'s' if len(outliers) > 1 else ''}",
            "outliers",
            given._replace(
                train=train[~np.isin(train, outliers)], valid=valid[~np.isin(valid, outliers)]
            ),
        )
    if numbers and tail_share >= THRESHOLDS["tail_share"]:
        targets = _log_scale(given.targets, train)
        add("a log scale of the target", "target", given._replace(targets=targets))
    if scale >= THRESHOLDS["input_scale"]:
        inputs = _standardised(given.inputs, train)
        add("standardised inputs", "scale", given._replace(inputs=inputs))
    if len(valid) < FEW_VALID and len(train) >= 4 * FEW_VALID:
        moved = np.random.default_rng(0).permutation(train)[: min(ENOUGH_VALID, len(train) // 5)]
        more = np.concatenate([valid, moved])
        fewer = np.setdiff1d(train, moved)
        name = f"more validation rows ({len(valid)} → {len(more)})"
        add(name, "validation", given._replace(train=fewer, valid=more))
    members = tuple(member for member, _ in found)
    laid_out = _laid_out([given, *(split for _, split in found)]) if found else arrays
    return Rows(laid_out, members, tuple(int(i) for i in outliers), tail_share, scale)


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
    tail_share = float("nan")
    if targets is not None:
        off = _distances(targets[used][:, None].astype(np.float64)).max(axis=1, initial=0.0)
        tail_share = float(np.mean(off > TAIL))
        if tail_share < THRESHOLDS["tail_share"]:
            far = np.maximum(far, _seldom(off))
    outliers = used[far > FAR]
    return Faults(outliers, tail_share, _scale(inputs[np.setdiff1d(train, outliers)]))


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


def of_targets(targets: np.ndarray, train: np.ndarray) -> str:
    """What a person should look at first where nothing is learned: whether a network has to learn
    the unit of its targets before anything else; else "".

    Args:
      targets: [N, ...] numbers.
      train: indices of training rows.
    """
    size = float(np.sqrt(np.mean(targets[train].astype(np.float64) ** 2)))
    if size < THRESHOLDS["input_scale"]:
        return ""
    return (
        f"it learns nothing, and its targets have a root mean square of {size:.3g}, where initial "
        "outputs are of the order of 1: standardise the targets"
    )


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


def _standardised(inputs: np.ndarray, train: np.ndarray) -> np.ndarray:
    columns = inputs[train].reshape(-1, inputs.shape[-1]).astype(np.float64)
    spread = columns.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    return ((inputs - columns.mean(axis=0)) / spread).astype(np.float32)


def _log_scale(targets: np.ndarray, train: np.ndarray) -> np.ndarray:
    """asinh about the median, in usual spreads: a logarithm far out, on either side; mean 0 and
    standard deviation 1 over the training rows."""
    mine = targets[train].astype(np.float64)
    low, middle, high = np.quantile(mine, [0.25, 0.5, 0.75])
    unit = max(float(high - low) / _QUARTILES, 1e-30)
    logs = np.arcsinh((targets.astype(np.float64) - middle) / unit)
    spread = max(float(logs[train].std()), 1e-30)
    return ((logs - logs[train].mean()) / spread).astype(np.float32)


def _laid_out(splits: Sequence[_Split]) -> FoldArrays:
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
