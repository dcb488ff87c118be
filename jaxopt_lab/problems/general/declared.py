"""Which hyperparameters of a space are static, and how the others are traced."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.status import Config
from jaxopt_lab.spaces.distributions import Choice, Distribution, IntUniform, Range
from jaxopt_lab.spaces.space import SearchSpace

#: Combinations of static values that are looked at before anything compiles, at most.
MAX_COMBINATIONS = 64
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class Declared:
    """The hyperparameters of a space, as programs see them.

    Attributes:
      space: the study's.
      keywords: those that the builder takes.
      static: those that Python must see; the keywords among them.
      dtypes: of the others: float32, int32 or bool.
    """

    space: SearchSpace
    keywords: tuple[str, ...]
    static: tuple[str, ...]
    dtypes: Mapping[str, np.dtype]

    def complete(self, config: Mapping[str, Any]) -> Config:
        """With a value for every traced hyperparameter: one that its condition switches off takes
        the middle of its range, which nothing should read, and a static one is left out."""
        full = dict(config)
        for name in self.dtypes:
            if name not in full:
                full[name] = self.space.parameters[name].from_unit(0.5)
        return full

    def static_values(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Those of a configuration."""
        return {name: config[name] for name in self.static if name in config}

    def traced(self, configs: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Name -> [n]."""
        return {
            name: np.asarray([config[name] for config in configs], dtype)
            for name, dtype in self.dtypes.items()
        }

    def combinations(self) -> Iterator[Config]:
        """Configurations of all static values (the first `MAX_COMBINATIONS`); others are in the
        middle of their ranges."""
        lists = {name: _values(self.space, name) for name in self.static}
        middle = self.space.from_unit(np.full((1, self.space.num_dims), 0.5))[0]
        products = itertools.product(*lists.values())
        for values in itertools.islice(products, MAX_COMBINATIONS):
            yield self.complete({**middle, **dict(zip(lists, values, strict=True))})

    @property
    def num_combinations(self) -> int:
        """How many programs the static values make, at most."""
        number = 1
        for name in self.static:
            number *= len(_values(self.space, name))
        return number


def declare(space: SearchSpace, keywords: Sequence[str]) -> Declared:
    """Tell static from traced hyperparameters.

    Static is what the builder takes by keyword, what the space marks, and what is no number: text,
    None, a list.

    Args:
      space: of the study.
      keywords: of the builder.

    Raises:
      UserError: for a static hyperparameter with a real range, or a number beyond 32 bits.
    """
    static, dtypes = [], {}
    for name in (*space.names, *space.fixed):
        dist = space.parameters.get(name)
        values = [space.fixed[name]] if dist is None else list(dist.extremes)
        marked = bool(getattr(dist, "static", False))
        if name in keywords or marked or not all(isinstance(v, int | float) for v in values):
            if dist is not None and not isinstance(dist, Choice | IntUniform):
                why = "a keyword of the builder" if name in keywords else "marked static"
                raise UserError(
                    f"{name} is {why}, so each of its values is a program of its own; give it a "
                    f"lab.Choice([...]) instead of {dist!r}"
                )
            static.append(name)
        else:
            dtypes[name] = _dtype(name, dist, values)
    return Declared(space, tuple(k for k in keywords if k in static), tuple(static), dtypes)


def _dtype(name: str, dist: Distribution | None, values: list[Any]) -> np.dtype:
    if all(isinstance(v, bool) for v in values):
        return np.dtype(bool)
    # The ends of a real range may be written as whole numbers: Uniform(0, 1).
    real = isinstance(dist, Range) and not isinstance(dist, IntUniform)
    if not real and all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        if not all(_INT32.min <= v <= _INT32.max for v in values):
            raise UserError(
                f"{name} has a whole number beyond 32 bits in {dist or values[0]!r}; write it as a "
                "float, or mark it static"
            )
        return np.dtype(np.int32)
    return np.dtype(np.float32)


def _values(space: SearchSpace, name: str) -> list[Any]:
    if name in space.fixed:
        return [space.fixed[name]]
    dist = space.parameters[name]
    if isinstance(dist, Choice):
        return list(dist.values)
    return list(range(int(dist.low), int(dist.high) + 1))  # type: ignore[attr-defined]
