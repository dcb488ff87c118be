"""Hyperparameters that remember which of their names were asked for."""

from collections.abc import Mapping
from typing import Any

import jax

from jaxopt_lab.core.errors import did_you_mean
from jaxopt_lab.core.hparams import Hparams


class Lookups:
    """What was asked of hyperparameters while functions were traced.

    Attributes:
      found: names that were asked for and are there.
      missing: names that were asked for and are not.
    """

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.missing: dict[str, None] = {}


class UnknownName(KeyError, AttributeError):
    """A hyperparameter that is not in the space.

    Args:
      name: that was asked for.
      known: the names that there are.
    """

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        self.known = known
        has = ", ".join(known) or "none"
        self._text = (
            f"there is no hyperparameter {name!r} in the space (it has: {has})."
            f"{did_you_mean(name, known)}"
        )
        super().__init__(self._text)

    def __str__(self) -> str:
        return self._text


@jax.tree_util.register_pytree_with_keys_class
class RecordedHparams(Hparams):
    """Hyperparameters for a trace: lookups are recorded, unknown names raise `UnknownName`.

    Args:
      traced: name -> array or tracer.
      static: name -> Python value.
      lookups: what is written down.
    """

    __slots__ = ("_lookups",)

    _lookups: Lookups

    def __init__(
        self,
        traced: Mapping[str, Any],
        static: Mapping[str, Any] | None = None,
        lookups: Lookups | None = None,
    ) -> None:
        super().__init__(traced, static)
        object.__setattr__(self, "_lookups", lookups or Lookups())

    def __getitem__(self, name: str) -> Any:
        if name in self._traced or name in self._static:
            self._lookups.found.add(name)
            return super().__getitem__(name)
        self._lookups.missing[name] = None
        raise UnknownName(name, tuple(self))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __contains__(self, name: object) -> bool:
        return name in self._traced or name in self._static

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        """Leaves by name, in the order of the names."""
        leaves, aux = super().tree_flatten_with_keys()
        return leaves, (*aux, self._lookups)

    @classmethod
    def tree_unflatten(cls, aux: Any, leaves: Any) -> "RecordedHparams":
        """From what `tree_flatten_with_keys` gave."""
        names, static, lookups = aux
        return cls(dict(zip(names, leaves, strict=True)), static.values, lookups)
