"""Search spaces: distributions, conditions, and the way between values and the unit cube."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxopt_lab.errors import UserError, did_you_mean
from jaxopt_lab.types import Config

#: Where a parameter that its condition switches off lies in the unit cube.
INACTIVE = 0.5


@dataclass(frozen=True)
class Distribution:
    """Base of all distributions; `condition` says when the parameter exists.

    Attributes:
      condition: pairs (parent, values): active only where every parent has one of the values.
    """

    condition: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def when(self, **parents: Any) -> "Distribution":
        """Return a copy that is active only where each parent has (one of) the given value(s).

        Example:
          >>> Uniform(0.5, 0.99).when(optimizer=["momentum", "nesterov"]).condition
          (('optimizer', ('momentum', 'nesterov')),)
        """
        pairs = tuple(
            (name, tuple(v) if isinstance(v, list | tuple) else (v,)) for name, v in parents.items()
        )
        return replace(self, condition=self.condition + pairs)

    def from_unit(self, u: float) -> Any:
        """Map u in [0, 1] to a value."""
        raise NotImplementedError

    def to_unit(self, value: Any) -> float:
        """Map a value to [0, 1]; `from_unit` takes it back to the value."""
        raise NotImplementedError

    def contains(self, value: Any) -> bool:
        """Whether the value can be drawn."""
        raise NotImplementedError

    @property
    def extremes(self) -> tuple[Any, ...]:
        """All values of a choice; the two ends of a range."""
        raise NotImplementedError

    @property
    def cardinality(self) -> int | float:
        """How many values there are; inf for a real range."""
        return math.inf


def _check_range(kind: str, low: Any, high: Any) -> None:
    for end in (low, high):
        if isinstance(end, bool) or not isinstance(end, int | float) or not math.isfinite(end):
            raise UserError(f"{kind}: both ends must be finite numbers, got [{low!r}, {high!r}]")
    if low >= high:
        raise UserError(
            f"{kind}: range [{low:g}, {high:g}] is upside down or empty; write low < high"
        )
    if not math.isfinite(high - low):
        raise UserError(f"{kind}: range [{low:g}, {high:g}] is too wide for floating point")


@dataclass(frozen=True)
class _Range(Distribution):
    low: int | float = 0.0
    high: int | float = 1.0

    # `Any`, so that a wrong type gets our own message.
    def __init__(self, low: Any, high: Any, condition: tuple = ()) -> None:
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)
        object.__setattr__(self, "condition", condition)
        self.__post_init__()

    def __post_init__(self) -> None:
        _check_range(type(self).__name__, self.low, self.high)

    def contains(self, value: Any) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    @property
    def extremes(self) -> tuple[Any, ...]:
        return (self.low, self.high)


class Uniform(_Range):
    """Real numbers in [low, high], uniform."""

    def from_unit(self, u: float) -> float:
        value = self.low * (1.0 - u) + self.high * u
        return float(min(max(value, self.low), self.high))

    def to_unit(self, value: int | float) -> float:
        return float((value - self.low) / (self.high - self.low))


class LogUniform(_Range):
    """Real numbers in [low, high], uniform in the logarithm; low > 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise UserError(
                f"LogUniform: a logarithmic range cannot reach {self.low:g}; "
                "its low end must be above 0"
            )

    def from_unit(self, u: float) -> float:
        if u >= 1.0:
            return float(self.high)
        value = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        return float(min(max(value, self.low), self.high)) if u > 0.0 else float(self.low)

    def to_unit(self, value: int | float) -> float:
        return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))


class IntUniform(_Range):
    """Whole numbers low, low + 1, ..., high, each as likely."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low != int(self.low) or self.high != int(self.high):
            raise UserError(
                f"IntUniform: ends must be whole numbers, got [{self.low}, {self.high}]"
            )
        object.__setattr__(self, "low", int(self.low))
        object.__setattr__(self, "high", int(self.high))

    def from_unit(self, u: float) -> int:
        return int(min(self.low + math.floor(u * (self.high - self.low + 1)), self.high))

    def to_unit(self, value: int) -> float:
        return (value - self.low + 0.5) / (self.high - self.low + 1)

    def contains(self, value: Any) -> bool:
        return super().contains(value) and value == int(value)

    @property
    def cardinality(self) -> int | float:
        return self.high - self.low + 1


class LogIntUniform(IntUniform):
    """Whole numbers in [low, high], uniform in the logarithm; low >= 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low < 1:
            raise UserError(f"LogIntUniform: low end must be at least 1, got {self.low}")

    def _ends(self) -> tuple[float, float]:
        return math.log(self.low - 0.5), math.log(self.high + 0.5)

    def from_unit(self, u: float) -> int:
        low, high = self._ends()
        return int(min(max(round(math.exp(low + u * (high - low))), self.low), self.high))

    def to_unit(self, value: int) -> float:
        low, high = self._ends()
        return (math.log(value) - low) / (high - low)


@dataclass(frozen=True, init=False)
class Choice(Distribution):
    """One of the given values. Numbers are ordered: near numbers are near in the unit cube."""

    values: tuple[Any, ...] = ()

    def __init__(self, values: Any, condition: tuple = ()) -> None:
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise UserError(f"Choice: give a list of values, got {values!r}")
        object.__setattr__(self, "values", tuple(values))
        object.__setattr__(self, "condition", condition)
        if not self.values:
            raise UserError("Choice: the list of values is empty")
        if any(not isinstance(v, int | float | str | bool) for v in self.values):
            raise UserError(f"Choice: values must be numbers, text or booleans, got {values!r}")
        if any(v != v for v in self.values):
            raise UserError(f"Choice: NaN is no value, got {values!r}")
        if len(set(self.values)) < len(self.values):
            raise UserError(f"Choice: a value stands twice in {list(self.values)!r}")

    @property
    def ordered(self) -> bool:
        """Whether all values are numbers."""
        return all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.values)

    @property
    def ranked(self) -> tuple[Any, ...]:
        """The values in the order of the unit cube."""
        return tuple(sorted(self.values)) if self.ordered else self.values

    def from_unit(self, u: float) -> Any:
        return self.ranked[min(int(u * len(self.values)), len(self.values) - 1)]

    def to_unit(self, value: Any) -> float:
        return (self.ranked.index(value) + 0.5) / len(self.values)

    def contains(self, value: Any) -> bool:
        return value in self.values

    @property
    def extremes(self) -> tuple[Any, ...]:
        return self.values

    @property
    def cardinality(self) -> int | float:
        return len(self.values)


TOML_KINDS: dict[str, type[Any]] = {
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "int_uniform": IntUniform,
    "log_int_uniform": LogIntUniform,
    "choice": Choice,
}
_KIND_NAMES = {kind: name for name, kind in TOML_KINDS.items()}


class SearchSpace:
    """Named distributions; a bare value is fixed.

    Args:
      **parameters: hyperparameter -> `Distribution`, or a number, text or boolean that is fixed.

    Raises:
      UserError: for a condition whose parent is missing or comes later in a circle.

    Example:
      >>> space = SearchSpace(learning_rate=LogUniform(1e-4, 1e-1), batch_size=64)
      >>> space.from_unit([[0.5]])[0]["batch_size"]
      64
    """

    def __init__(self, /, **parameters: Any) -> None:
        self.parameters: dict[str, Distribution] = {
            k: v for k, v in parameters.items() if isinstance(v, Distribution)
        }
        self.fixed: Config = {k: v for k, v in parameters.items() if k not in self.parameters}
        for name, value in self.fixed.items():
            if not isinstance(value, int | float | str | bool):
                raise UserError(f"{name}: {value!r} is neither a distribution nor a plain value")
        self._order = self._sort_by_condition()

    def _sort_by_condition(self) -> tuple[str, ...]:
        order: list[str] = []
        left = dict(self.parameters)
        for name, dist in left.items():
            for parent, _ in dist.condition:
                if parent not in self.parameters and parent not in self.fixed:
                    hint = did_you_mean(parent, [*self.parameters, *self.fixed])
                    raise UserError(
                        f"{name}: its condition names {parent!r}, which is not in the space.{hint}"
                    )
        while left:
            ready = [
                n
                for n, d in left.items()
                if all(p in order or p in self.fixed for p, _ in d.condition)
            ]
            if not ready:
                raise UserError(f"conditions run in a circle: {', '.join(left)}")
            order += ready
            left = {n: d for n, d in left.items() if n not in ready}
        return tuple(order)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters that vary: the axes of the unit cube."""
        return tuple(self.parameters)

    @property
    def num_dims(self) -> int:
        """Number of axes of the unit cube."""
        return len(self.parameters)

    @property
    def cardinality(self) -> int | float:
        """Number of points of the unconditioned product; inf with a real range."""
        return math.prod(d.cardinality for d in self.parameters.values())

    def is_active(self, name: str, config: Mapping[str, Any]) -> bool:
        """Whether the parameter exists in a configuration that already holds its parents."""
        return all(
            parent in config and config[parent] in values
            for parent, values in self.parameters[name].condition
        )

    def from_unit(self, points: Float[np.ndarray, "..."] | Sequence[Any]) -> list[Config]:
        """Map points of the unit cube to configurations (inactive parameters left out).

        Args:
          points: [n, num_dims] in [0, 1].

        Raises:
          ValueError: for a wrong shape or a coordinate outside [0, 1].
        """
        if not self.num_dims:
            return [dict(self.fixed) for _ in points]
        points = np.asarray(points, np.float64)
        if len(points) == 0:
            return []
        if points.ndim != 2 or points.shape[1] != self.num_dims:
            raise ValueError(f"points must be [n, {self.num_dims}], got shape {points.shape}")
        if not np.all(points >= 0) or not np.all(points <= 1):
            raise ValueError("coordinates must lie in [0, 1]")
        return [self._config(row) for row in points]

    def _config(self, row: Float[np.ndarray, " d"]) -> Config:
        axis = {name: i for i, name in enumerate(self.names)}
        drawn: Config = dict(self.fixed)
        for name in self._order:
            if self.is_active(name, drawn):
                drawn[name] = self.parameters[name].from_unit(float(row[axis[name]]))
        order = [n for n in (*self.names, *self.fixed) if n in drawn]
        return {n: drawn[n] for n in order}

    def to_unit(self, configs: Sequence[Mapping[str, Any]]) -> Float[np.ndarray, "n d"]:
        """Map configurations to the unit cube; an inactive parameter lies at `INACTIVE`."""
        out = np.full((len(configs), self.num_dims), INACTIVE)
        for i, config in enumerate(configs):
            for j, (name, dist) in enumerate(self.parameters.items()):
                if name in config and self.is_active(name, config):
                    out[i, j] = dist.to_unit(config[name])
        return out

    def extremes(self) -> dict[str, tuple[Any, ...]]:
        """name -> all values of a choice, the ends of a range, or the one fixed value."""
        values = {name: dist.extremes for name, dist in self.parameters.items()}
        return {**values, **{name: (value,) for name, value in self.fixed.items()}}

    def to_dict(self) -> dict[str, Any]:
        """A JSON- and TOML-like description; `from_dict` takes it back."""
        return {
            **{name: _dist_to_dict(dist) for name, dist in self.parameters.items()},
            **self.fixed,
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "SearchSpace":
        """Build a space from `{name: value or {kind = [...]}}`; errors name the parameter."""
        return cls(**{name: _parse(name, value) for name, value in table.items()})

    @classmethod
    def from_toml(cls, path: str | Path) -> "SearchSpace":
        """Read the table `[space]` of a TOML file.

        Raises:
          UserError: if the file is missing, is no TOML, or describes no valid space.
        """
        table = read_toml(path, "space")
        return cls.from_dict(table)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(repr(self.to_dict()))

    def __repr__(self) -> str:
        inner = ", ".join(f"{k}={v!r}" for k, v in {**self.parameters, **self.fixed}.items())
        return f"SearchSpace({inner})"


def read_toml(path: str | Path, table: str) -> dict[str, Any]:
    """Read one table of a TOML file.

    Raises:
      UserError: if the file is missing, is no TOML, or has no such table.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None
    if not isinstance(content.get(table), dict):
        found = f" It has: {', '.join(content)}." if content else ""
        raise UserError(f"{path} has no table [{table}].{found}{did_you_mean(table, content)}")
    if not content[table]:
        raise UserError(f"{path}: table [{table}] is empty")
    return content[table]


def _parse(name: str, value: Any) -> Any:
    if isinstance(value, int | float | str | bool | Distribution):
        return value
    kinds = ", ".join(TOML_KINDS)
    if not isinstance(value, Mapping):
        raise UserError(
            f"{name}: write a plain value or one of {{ {kinds} = [...] }}, got {value!r}"
        )
    spec = dict(value)
    condition = spec.pop("when", {})
    if not isinstance(condition, Mapping):
        raise UserError(f"{name}: 'when' must be a table such as {{ optimizer = ['momentum'] }}")
    if len(spec) != 1:
        raise UserError(f"{name}: give exactly one of {kinds}, got {', '.join(spec) or 'none'}")
    ((kind, args),) = spec.items()
    if kind not in TOML_KINDS:
        hint = did_you_mean(kind, TOML_KINDS)
        raise UserError(f"{name}: unknown distribution {kind!r}.{hint} Known: {kinds}")
    if not isinstance(args, list | tuple) or (kind != "choice" and len(args) != 2):
        what = "a list of values" if kind == "choice" else "[low, high]"
        raise UserError(f"{name}: {kind} takes {what}, got {args!r}")
    try:
        dist = TOML_KINDS[kind](args) if kind == "choice" else TOML_KINDS[kind](*args)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    return dist.when(**condition)


def _dist_to_dict(dist: Distribution) -> dict[str, Any]:
    args = list(dist.extremes)
    out: dict[str, Any] = {_KIND_NAMES[type(dist)]: args}
    if dist.condition:
        out["when"] = {name: list(values) for name, values in dist.condition}
    return out
