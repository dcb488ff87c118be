"""Vectorised geometry of the unit cube: levels, snapping, activity, keys of rows, enumeration."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxopt_lab.core.types import Config
from jaxopt_lab.spaces.distributions import (
    Choice,
    Distribution,
    IntUniform,
    LogIntUniform,
    LogUniform,
    Uniform,
)
from jaxopt_lab.spaces.space import INACTIVE, SearchSpace

#: Finite spaces up to this size are enumerated when few configurations are left.
MAX_ENUMERATED = 100_000
#: Points that are looked at together for new ones.
_PIECE = 512


def parents_first(space: SearchSpace) -> tuple[str, ...]:
    """The parameters in their own order, except that a parent comes before its children."""
    order: dict[str, None] = {}
    for name in space.names:
        waiting = [name]
        while waiting:
            missing = [
                parent
                for parent, _ in space.parameters[waiting[-1]].condition
                if parent in space.parameters and parent not in order
            ]
            if missing:
                waiting.append(missing[0])
            else:
                order[waiting.pop()] = None
    return tuple(order)


def is_categorical(dist: Distribution) -> bool:
    """Whether the values have no order: a choice among more than two that are not all numbers."""
    return isinstance(dist, Choice) and not dist.ordered and len(dist.values) > 2


def _snap_column(dist: Distribution, u: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    if isinstance(dist, Uniform | LogUniform):
        return u
    if isinstance(dist, LogIntUniform):
        low, high = np.log(dist.low - 0.5), np.log(dist.high + 0.5)
        whole = np.clip(np.round(np.exp(low + u * (high - low))), dist.low, dist.high)
        return (np.log(whole) - low) / (high - low)
    if isinstance(dist, IntUniform | Choice):
        num = dist.cardinality
        return (np.minimum(np.floor(u * num), num - 1) + 0.5) / num
    return np.array([dist.to_unit(dist.from_unit(float(x))) for x in u], np.float64)


def snap(space: SearchSpace, points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Move points to where their configurations lie: `to_unit(from_unit(points))`, vectorised.

    Discrete coordinates go to the middle of their level, inactive ones to `INACTIVE`.
    """
    points = np.array(points, np.float64)
    for j, dist in enumerate(space.parameters.values()):
        points[:, j] = _snap_column(dist, points[:, j])
    return np.where(active_mask(space, points), points, INACTIVE)


def active_mask(space: SearchSpace, points: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, "n d"]:
    """[n, d] bool: which parameters exist at snapped points."""
    axis = {name: j for j, name in enumerate(space.names)}
    active = np.ones(points.shape, bool)
    for name in parents_first(space):
        for parent, allowed in space.parameters[name].condition:
            if parent in space.fixed:
                holds: Any = space.fixed[parent] in allowed
            else:
                column, inverse = np.unique(points[:, axis[parent]], return_inverse=True)
                decode = space.parameters[parent].from_unit
                holds = np.array([decode(float(u)) in allowed for u in column], bool)[inverse]
                holds = holds & active[:, axis[parent]]
            active[:, axis[name]] &= holds
    return active


class Features(NamedTuple):
    """What a kernel sees of points: columns, the dimension of each, and which are one-hot."""

    columns: Float[np.ndarray, "n e"]
    owner: Int[np.ndarray, " e"]
    categorical: Bool[np.ndarray, " e"]


def features(space: SearchSpace, points: Float[np.ndarray, "n d"]) -> Features:
    """Ordered dimensions as they are, one-hot columns per categorical one, of snapped points."""
    columns: list[np.ndarray] = []
    owner: list[int] = []
    categorical: list[bool] = []
    for j, dist in enumerate(space.parameters.values()):
        u = points[:, j]
        if is_categorical(dist):
            # The last column stands for "inactive", which may lie inside a level.
            inactive = ~active_mask(space, points)[:, j]
            level = np.minimum((u * dist.cardinality).astype(int), int(dist.cardinality) - 1)
            level = np.where(inactive, int(dist.cardinality), level)
            added = list(np.equal.outer(np.arange(dist.cardinality + 1), level).astype(np.float64))
        else:
            added = [u]
        columns += added
        owner += [j] * len(added)
        categorical += [is_categorical(dist)] * len(added)
    return Features(
        np.stack(columns, 1) if columns else np.zeros((len(points), 0)),
        np.array(owner, np.int64),
        np.array(categorical, bool),
    )


def row_keys(points: Float[np.ndarray, "n d"]) -> list[bytes]:
    """One key per row of snapped points: equal keys are equal configurations."""
    whole = np.ascontiguousarray(np.round(points * 2.0**30).astype(np.int64))
    if not whole.size:
        return [b""] * len(whole)
    keys: list[bytes] = whole.view(f"V{whole.strides[0]}").ravel().tolist()
    return keys


def known_keys(space: SearchSpace, points: Float[np.ndarray, "n d"]) -> set[bytes]:
    """Keys of the configurations of points that need not be snapped."""
    return set(row_keys(snap(space, points)))


def first_new(
    space: SearchSpace, points: Float[np.ndarray, "m d"], known: set[bytes], n: int
) -> Float[np.ndarray, "k d"]:
    """Snap points and return the first n whose keys are not known yet; adds their keys."""
    found, num_found = [np.zeros((0, points.shape[1]))], 0
    for start in range(0, len(points), _PIECE):
        snapped = snap(space, points[start : start + _PIECE])
        rows: list[int] = []
        for i, key in enumerate(row_keys(snapped)):
            if num_found + len(rows) == n:
                break
            if key not in known:
                known.add(key)
                rows.append(i)
        found.append(snapped[rows])
        num_found += len(rows)
        if num_found == n:
            break
    return np.concatenate(found)


class Enumeration:
    """Every combination of listed values, the last parameter fastest, conditions respected.

    A parent comes before its children; a parameter that its condition switches off takes no part,
    so no configuration comes twice.

    Args:
      space: the search space.
      values_of: distribution -> its values, in order.
    """

    def __init__(
        self, space: SearchSpace, values_of: Callable[[Distribution], Sequence[Any]]
    ) -> None:
        self._space = space
        self._order = parents_first(space)
        self._values = {n: list(values_of(d)) for n, d in space.parameters.items()}
        parents = {p for d in space.parameters.values() for p, _ in d.condition}
        self._parents = parents & set(space.parameters)

    def __len__(self) -> int:
        """Number of configurations."""

        @cache
        def count(depth: int, context: tuple[tuple[str, Hashable], ...]) -> int:
            if depth == len(self._order):
                return 1
            name = self._order[depth]
            if not self._active(name, dict(context)):
                return count(depth + 1, context)
            if name not in self._parents:
                return len(self._values[name]) * count(depth + 1, context)
            return sum(count(depth + 1, (*context, (name, v))) for v in self._values[name])

        return count(0, ())

    def _active(self, name: str, drawn: Config) -> bool:
        return self._space.is_active(name, {**self._space.fixed, **drawn})

    def __iter__(self) -> Iterator[Config]:
        def walk(depth: int, drawn: Config) -> Iterator[Config]:
            if depth == len(self._order):
                order = (*self._space.names, *self._space.fixed)
                full = {**self._space.fixed, **drawn}
                yield {name: full[name] for name in order if name in full}
                return
            name = self._order[depth]
            if not self._active(name, drawn):
                yield from walk(depth + 1, drawn)
                return
            for value in self._values[name]:
                yield from walk(depth + 1, {**drawn, name: value})

        return walk(0, {})


def all_points(space: SearchSpace) -> Float[np.ndarray, "n d"] | None:
    """Every configuration of a finite space as snapped points; None if too many to list."""
    if not np.isfinite(space.cardinality):
        return None

    def every(dist: Distribution) -> Sequence[Any]:
        if isinstance(dist, IntUniform):
            return range(int(dist.low), int(dist.high) + 1)
        return dist.extremes

    if any(d.cardinality > MAX_ENUMERATED for d in space.parameters.values()):
        return None
    configs = list(islice(Enumeration(space, every), MAX_ENUMERATED + 1))
    return snap(space, space.to_unit(configs)) if len(configs) <= MAX_ENUMERATED else None


def fill_up(
    space: SearchSpace,
    found: Float[np.ndarray, "m d"],
    spare: Float[np.ndarray, "s d"],
    known: set[bytes],
    n: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "n d"]:
    """Bring a batch to n points: unused configurations first, then repeats.

    Args:
      space: the search space.
      found: [m, d] the batch so far, m <= n.
      spare: [s, d] points to repeat, s >= 1, if the space has nothing new left.
      known: keys of what must not come again; keys of `found` are among them.
      n: number of points wanted.
      rng: shuffles what is left of a finite space.
    """
    if len(found) < n:
        everything = all_points(space)
        if everything is not None:
            shuffled = everything[rng.permutation(len(everything))]
            found = np.concatenate([found, first_new(space, shuffled, known, n - len(found))])
    if len(found) < n:
        repeats = snap(space, spare)[np.arange(n - len(found)) % len(spare)]
        found = np.concatenate([found, repeats])
    return found
