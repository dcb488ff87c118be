"""Distributions of one hyperparameter, with conditions, to and from the unit interval and TOML."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxopt_lab.core.errors import UserError, did_you_mean


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


def parse(name: str, value: Any) -> Any:
    """Read a plain value, or a distribution from `{kind = [...], when = {...}}`.

    Raises:
      UserError: naming the hyperparameter and what would be right.
    """
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


def to_dict(dist: Distribution) -> dict[str, Any]:
    """The JSON- and TOML-like description that `parse` reads."""
    args = list(dist.extremes)
    out: dict[str, Any] = {_KIND_NAMES[type(dist)]: args}
    if dist.condition:
        out["when"] = {name: list(values) for name, values in dist.condition}
    return out
