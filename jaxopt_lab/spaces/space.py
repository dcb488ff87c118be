"""Search spaces: named distributions, conditions, and the way to and from the unit cube."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.types import Config
from jaxopt_lab.spaces.distributions import Choice, Distribution, as_lists, parse, to_dict
from jaxopt_lab.spaces.values import MAX_WHOLE, checked, plain, shown

#: Where a parameter that its condition switches off lies in the unit cube.
INACTIVE = 0.5


class SearchSpace:
    """Named distributions; a bare value is fixed.

    Args:
      **parameters: hyperparameter -> `Distribution`, or a number, text, boolean, None or list of
        these that is fixed.

    Raises:
      UserError: for a value of another type, or a condition whose parent is missing or that is part
        of a cycle.

    Examples:
      >>> from jaxopt_lab import LogUniform
      >>> space = SearchSpace(learning_rate=LogUniform(1e-4, 1e-1), batch_size=64)
      >>> space.from_unit([[0.5]])[0]["batch_size"]
      64
    """

    @checked_call(by_place="give each by its name: of a dict, lab.SearchSpace(**space)")
    def __init__(self, /, **parameters: Any) -> None:
        self.parameters: dict[str, Distribution] = {
            k: v for k, v in parameters.items() if isinstance(v, Distribution)
        }
        self.fixed: Config = {k: v for k, v in parameters.items() if k not in self.parameters}
        for name, value in self.fixed.items():
            if isinstance(value, Mapping):
                raise UserError(f"{name}: {shown(value)} is neither a distribution nor a value")
            self.fixed[name] = checked(name, value)
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
                raise UserError(f"conditions form a cycle: {_cycle(left)}")
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
        condition = self.parameters[name].condition
        return not condition or all(
            parent in config and plain(config[parent]) in values for parent, values in condition
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
        if any(dist.condition for dist in self.parameters.values()):
            return [self._config(row) for row in points]
        columns = zip(self.parameters.values(), points.T.tolist(), strict=True)
        values = zip(*(dist.from_units(column) for dist, column in columns), strict=True)
        return [{**dict(zip(self.names, row, strict=True)), **self.fixed} for row in values]

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
        for j, (name, dist) in enumerate(self.parameters.items()):
            active = [
                i
                for i, config in enumerate(configs)
                if name in config and (not dist.condition or self.is_active(name, config))
            ]
            out[active, j] = [dist.to_unit(configs[i][name]) for i in active]
        return out

    def why_outside(self, config: Mapping[str, Any]) -> str | None:
        """What keeps a configuration out of the space; None if it lies inside."""
        for name, value in self.fixed.items():
            if name in config and plain(config[name]) != value:
                return f"{name} is fixed at {value!r}, got {config[name]!r}"
        for name, dist in self.parameters.items():
            if dist.condition and not self.is_active(name, {**self.fixed, **config}):
                continue
            if name not in config:
                return f"{name} is missing"
            if not dist.contains(config[name]):
                return f"{name} = {config[name]!r} is not in {dist!r}"
        return None

    def extremes(self) -> dict[str, tuple[Any, ...]]:
        """name -> all values of a choice, the ends of a range, or the one fixed value."""
        values = {name: dist.extremes for name, dist in self.parameters.items()}
        return {**values, **{name: (value,) for name, value in self.fixed.items()}}

    def to_dict(self) -> dict[str, Any]:
        """A JSON- and TOML-like description; `from_dict` takes it back."""
        return {
            **{name: to_dict(dist) for name, dist in self.parameters.items()},
            **{name: _fixed_to_dict(value) for name, value in self.fixed.items()},
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "SearchSpace":
        """Build a space from `{name: value or {kind = [...]}}`; errors name the parameter."""
        return cls(**{name: parse(name, value) for name, value in table.items()})

    @classmethod
    def from_toml(cls, path: str | Path) -> "SearchSpace":
        """Read the table `[space]` of a TOML file.

        Raises:
          UserError: if the file is missing, is no TOML, or describes no valid space.
        """
        space = cls.from_dict(read_toml(path, "space"))
        for name, dist in space.parameters.items():
            for parent, values in dist.condition:
                _refuse_impossible(name, parent, values, space)
        return space

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(repr(self.to_dict()))

    def __repr__(self) -> str:
        inner = ", ".join(f"{k}={v!r}" for k, v in {**self.parameters, **self.fixed}.items())
        return f"SearchSpace({inner})"


def _refuse_impossible(name: str, parent: str, wanted: Sequence[Any], space: "SearchSpace") -> None:
    """Refuse a condition that never holds: its parameter would vanish without a word."""
    dist = space.parameters.get(parent)
    if dist is not None and not isinstance(dist, Choice):
        return
    values = [space.fixed[parent]] if dist is None else [*dist.values]
    if not any(value in values for value in wanted):
        given = " or ".join(map(shown, wanted)) or "in an empty list"
        hint = did_you_mean(str(wanted[0]), map(str, values)) if wanted else ""
        raise UserError(f"{name}: its condition never holds: {parent} is never {given}.{hint}")


def _cycle(parameters: Mapping[str, Distribution]) -> str:
    """One cycle of conditions as text, of parameters that all wait for one of them."""
    path = [next(iter(parameters))]
    while True:
        waits_for = next(p for p, _ in parameters[path[-1]].condition if p in parameters)
        if waits_for in path:
            return " -> ".join([*path[path.index(waits_for) :], waits_for])
        path.append(waits_for)


def _fixed_to_dict(value: Any) -> Any:
    """A fixed value as `parse` reads it."""
    return {"fixed": as_lists(value)} if value is None or isinstance(value, tuple) else value


def read_toml(path: str | Path, table: str, optional: bool = False) -> dict[str, Any]:
    """Read one table of a TOML file.

    Args:
      path: of the file.
      table: its name.
      optional: whether it may be missing: then it is empty.

    Raises:
      UserError: if the file is missing, is no TOML, or has no such table.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except RecursionError:
        raise UserError(f"{path}: its lists or tables are nested too deeply") from None
    except ValueError as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise UserError(f"{path} is not valid TOML: {_reason(error)}") from None
    if optional and table not in content:
        return {}
    if table in content and not isinstance(content[table], dict):
        raise UserError(f"{path}: {table} is no table; write [{table}] on a line of its own")
    if table not in content:
        found = f" It has: {', '.join(content)}." if content else ""
        raise UserError(f"{path} has no table [{table}].{found}{did_you_mean(table, content)}")
    if not content[table]:
        raise UserError(f"{path}: table [{table}] is empty")
    _check_whole_numbers(path, content[table])
    return content[table]


def _check_whole_numbers(path: str | Path, table: Mapping[str, Any]) -> None:
    """Refuse whole numbers that nothing later can hold, wherever they stand."""
    left = list(table.items())
    while left:
        name, value = left.pop()
        if isinstance(value, Mapping):
            left += [(name, inner) for inner in value.values()]
        elif isinstance(value, list):
            left += [(name, inner) for inner in value]
        elif isinstance(value, int) and abs(value) > MAX_WHOLE:
            raise UserError(
                f"{path}: {name}: {shown(value)} is too large; whole numbers end at 2^63 - 1"
            )


def _reason(error: ValueError) -> str:
    """What is wrong, without the interpreter's advice."""
    text = str(error)
    return "a number has too many digits" if "integer string conversion" in text else text
