"""The exact default: trials of equal static hyperparameters share a program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxopt_lab.core.status import Config


class StaticProgram:
    """A program of some static values; equal by what they print, so that lists are values, too.

    Args:
      values: name -> Python value.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = dict(values)
        self._text = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
        self._hash = hash(self._text)

    def group(self, config: Config) -> tuple[int, ...]:
        """Nothing besides."""
        del config
        return ()

    def order(self, config: Config) -> int:
        """All are alike."""
        del config
        return 0

    def extra(self, configs: Sequence[Config]) -> tuple[int, ...]:
        """Nothing."""
        del configs
        return ()

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, StaticProgram) and self._text == other._text)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        # Hashes of texts differ by process.
        return StaticProgram, (self.values,)

    def __str__(self) -> str:
        return self._text or "one program"

    def __repr__(self) -> str:
        return f"StaticProgram({self._text})"


_ALONE = StaticProgram({})


@dataclass(frozen=True)
class StaticPrograms:
    """One program for each combination of static values.

    Attributes:
      names: of the static hyperparameters.
      largest: bound of the cohort width: places for the trials that are expected to train together.
    """

    names: tuple[str, ...]
    largest: int

    def signature(self, config: Config) -> StaticProgram:
        """The program of a complete configuration."""
        values = {name: config[name] for name in self.names if name in config}
        return StaticProgram(values) if values else _ALONE

    def max_cohort(self, program: StaticProgram) -> int:
        """The same for all."""
        del program
        return self.largest

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"names": list(self.names), "largest": self.largest}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "StaticPrograms":
        """Read what `to_dict` wrote."""
        return cls(tuple(content["names"]), int(content["largest"]))
