"""Distributions of one hyperparameter, with conditions, to and from the unit interval and TOML."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.spaces.values import checked, plain, shown

_WHEN = "say it of the distribution: lab.Uniform(0.5, 0.99).when(optimizer='momentum')"
#: Whole numbers up to here are all exact in floating point.
MAX_EXACT = 2**53


@dataclass(frozen=True, repr=False)
class Distribution:
    """Base of all distributions; `condition` says when the parameter exists.

    Attributes:
      condition: pairs (parent, values): active only where every parent has one of the values.
      static: whether a function that is built from the space takes the value as a plain Python
        value that fixes its program, instead of a traced number.
    """

    condition: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    static: bool = False

    def when(self, **parents: Any) -> "Distribution":
        """Return a copy that is active only where each parent has (one of) the given value(s).

        Args:
          **parents: parent -> a value, or a list of values. A value that is a list itself stands
            in a list: `when(widths=[[64, 64]])`.

        Examples:
          >>> Uniform(0.5, 0.99).when(optimizer=["momentum", "nesterov"]).condition
          (('optimizer', ('momentum', 'nesterov')),)
        """
        pairs = tuple(
            (name, checked("when", v if isinstance(v, list | tuple) else [v]))
            for name, v in parents.items()
        )
        return replace(self, condition=self.condition + pairs)

    def from_unit(self, u: float) -> Any:
        """Map u in [0, 1] to a value."""
        raise NotImplementedError

    def from_units(self, column: Sequence[float]) -> list[Any]:
        """`from_unit` of each of many."""
        return [self.from_unit(u) for u in column]

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

    def __repr__(self) -> str:
        ends = list(self.extremes)
        text = shown(ends) if isinstance(self, Choice) else ", ".join(map(shown, ends))
        static = ", static=True" if self.static else ""
        when = ", ".join(f"{name}={shown(list(values))}" for name, values in self.condition)
        return f"{type(self).__name__}({text}{static})" + (f".when({when})" if when else "")

    @property
    def cardinality(self) -> int | float:
        """How many values there are; inf for a real range."""
        return math.inf


def _check_range(kind: str, low: Any, high: Any) -> None:
    for end in (low, high):
        is_number = isinstance(end, int | float) and not isinstance(end, bool)
        if not is_number or abs(end) > sys.float_info.max or end != end:
            raise UserError(
                f"{kind}: both ends must be finite numbers, got [{shown(low)}, {shown(high)}]"
            )
    if low >= high:
        raise UserError(f"{kind}: low must be below high, got [{low:g}, {high:g}]")
    if not math.isfinite(float(high) - float(low)):
        raise UserError(f"{kind}: range [{low:g}, {high:g}] is too wide for floating point")


@dataclass(frozen=True, repr=False)
class Range(Distribution):
    """Base of the distributions of numbers between two ends."""

    low: int | float = 0.0
    high: int | float = 1.0

    # `Any`, so that a wrong type gets our own message.
    @checked_call(
        by_place="give the two ends; several values are lab.Choice([...])",
        log="lab.LogUniform and lab.LogIntUniform are uniform in the logarithm",
        step="values in steps are lab.Choice([*range(low, high + 1, step)])",
        q="values in steps are lab.Choice([*range(low, high + 1, step)])",
        default="a study begins with given values by study.enqueue([{...}])",
        when=_WHEN,
    )
    def __init__(self, low: Any, high: Any, condition: tuple = (), *, static: Any = False) -> None:
        object.__setattr__(self, "low", plain(low))
        object.__setattr__(self, "high", plain(high))
        object.__setattr__(self, "condition", condition)
        object.__setattr__(self, "static", _flag(type(self).__name__, static))
        self.__post_init__()

    def __post_init__(self) -> None:
        _check_range(type(self).__name__, self.low, self.high)

    def with_ends(self, low: int | float, high: int | float) -> "Range":
        """The same with other ends."""
        return replace(self, low=low, high=high)

    def contains(self, value: Any) -> bool:
        value = plain(value)
        return isinstance(value, int | float) and self.low <= value <= self.high

    @property
    def extremes(self) -> tuple[Any, ...]:
        return (self.low, self.high)


def _flag(kind: str, static: Any) -> bool:
    static = plain(static)
    if not isinstance(static, bool):
        raise UserError(f"{kind}: static must be true or false, got {shown(static)}")
    return static


class Uniform(Range):
    """Real numbers in [low, high], uniform."""

    def from_unit(self, u: float) -> float:
        value = self.low * (1.0 - u) + self.high * u
        return float(min(max(value, self.low), self.high))

    def to_unit(self, value: int | float) -> float:
        return float((value - self.low) / (self.high - self.low))


class LogUniform(Range):
    """Real numbers in [low, high], uniform in the logarithm; low > 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise UserError(
                f"LogUniform: a logarithmic range cannot reach {self.low:g}; "
                "its low end must be above 0"
            )

    @cached_property
    def _logs(self) -> tuple[float, float]:
        """Of the low end, and of the ends' ratio."""
        return math.log(self.low), math.log(self.high) - math.log(self.low)

    def from_unit(self, u: float) -> float:
        if u >= 1.0:
            return float(self.high)
        low, span = self._logs
        value = math.exp(low + u * span)
        return float(min(max(value, self.low), self.high)) if u > 0.0 else float(self.low)

    def from_units(self, column: Sequence[float]) -> list[float]:
        # The function of the standard library: NumPy's may differ in the last bit.
        exp, (log, span), low, high = math.exp, self._logs, float(self.low), float(self.high)
        values = [exp(log + u * span) if 0.0 < u < 1.0 else (high if u else low) for u in column]
        return [low if x < low else high if x > high else x for x in values]

    def to_unit(self, value: int | float) -> float:
        low, span = self._logs
        return (math.log(value) - low) / span


class IntUniform(Range):
    """Whole numbers low, low + 1, ..., high, each as likely."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if max(abs(self.low), abs(self.high)) > MAX_EXACT:
            raise UserError(
                f"{type(self).__name__}: the ends must lie within 2^53 of zero, "
                f"got [{shown(self.low)}, {shown(self.high)}]"
            )
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
        value = plain(value)
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


@dataclass(frozen=True, init=False, repr=False)
class Choice(Distribution):
    """One of the given values: numbers, text, booleans, None, or lists of these.

    Numbers are ordered: near numbers are near in the unit cube. Lists become tuples.

    Examples:
      >>> Choice([[64, 64], [128], None]).values
      ((64, 64), (128,), None)
    """

    values: tuple[Any, ...] = ()

    @checked_call(by_place="give the values as one list: lab.Choice([1, 2, 3])", when=_WHEN)
    def __init__(self, values: Any, condition: tuple = (), *, static: Any = False) -> None:
        if isinstance(values, np.ndarray):
            values = values.tolist()
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise UserError(
                f"Choice: give a list of values, lab.Choice([...]), got {shown(values)}"
            )
        object.__setattr__(self, "values", tuple(checked("Choice", v) for v in values))
        object.__setattr__(self, "condition", condition)
        object.__setattr__(self, "static", _flag("Choice", static))
        if not self.values:
            raise UserError("Choice: the list of values is empty")
        if len(set(self.values)) < len(self.values):
            raise UserError(f"Choice: a value stands twice in {shown(list(self.values))}")

    def with_values(self, values: Sequence[Any]) -> "Choice":
        """The same with other values."""
        return replace(self, values=tuple(values))

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
        return (self.ranked.index(plain(value)) + 0.5) / len(self.values)

    def contains(self, value: Any) -> bool:
        return plain(value) in self.values

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
    """Read a plain value, or a distribution from `{kind = [...], when = {...}, static = true}`.

    A fixed list or None is written `{fixed = [...]}`.

    Raises:
      UserError: naming the hyperparameter and what would be right.
    """
    value = plain(value)
    if isinstance(value, Distribution):
        return value
    if isinstance(value, int | float | str):
        return checked(name, value)
    kinds = ", ".join(TOML_KINDS)
    if not isinstance(value, Mapping):
        raise UserError(
            f"{name}: write a plain value or one of {{ {kinds} = [...] }}, got {shown(value)}"
        )
    spec = dict(value)
    if set(spec) == {"fixed"}:
        return checked(name, spec["fixed"])
    condition, static = spec.pop("when", {}), spec.pop("static", False)
    if not isinstance(condition, Mapping):
        raise UserError(f"{name}: 'when' must be a table such as {{ optimizer = ['momentum'] }}")
    if len(spec) != 1:
        given = shown(", ".join(map(str, spec))) if spec else "none"
        raise UserError(f"{name}: give exactly one of {kinds}, got {given}")
    ((kind, args),) = spec.items()
    if kind not in TOML_KINDS:
        hint = did_you_mean(kind, TOML_KINDS)
        raise UserError(f"{name}: unknown distribution {shown(kind)}.{hint} Known: {kinds}")
    if not isinstance(args, list | tuple) or (kind != "choice" and len(args) != 2):
        what = "a list of values" if kind == "choice" else "[low, high]"
        raise UserError(f"{name}: {kind} takes {what}, got {shown(args)}")
    try:
        ends = [args] if kind == "choice" else args
        return TOML_KINDS[kind](*ends, static=static).when(**condition)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def to_dict(dist: Distribution) -> dict[str, Any]:
    """The JSON- and TOML-like description that `parse` reads."""
    out: dict[str, Any] = {_KIND_NAMES[type(dist)]: as_lists(dist.extremes)}
    if dist.condition:
        out["when"] = {name: as_lists(values) for name, values in dist.condition}
    if dist.static:
        out["static"] = True
    return out


def as_lists(value: Any) -> Any:
    """A value as JSON holds it: lists in the place of tuples."""
    return [as_lists(item) for item in value] if isinstance(value, tuple) else value
