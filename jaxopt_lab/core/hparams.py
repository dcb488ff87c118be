"""The hyperparameters that reach a trial's pure functions."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax


@jax.tree_util.register_pytree_with_keys_class
class Hparams(Mapping[str, Any]):
    """An immutable mapping whose entries can also be had as attributes.

    Traced values are the leaves of the pytree; static ones are plain Python values and part of its
    structure. `{**config, **hparams}` and `hparams.learning_rate` both work.

    Args:
      traced: name -> array or tracer.
      static: name -> Python value.

    Examples:
      >>> hparams = Hparams({"learning_rate": 0.1}, {"num_units": 32})
      >>> hparams["num_units"], hparams.learning_rate, {**hparams}
      (32, 0.1, {'learning_rate': 0.1, 'num_units': 32})
    """

    __slots__ = ("_static", "_traced")

    _static: dict[str, Any]
    _traced: dict[str, Any]

    def __init__(self, traced: Mapping[str, Any], static: Mapping[str, Any] | None = None) -> None:
        object.__setattr__(self, "_traced", dict(traced))
        object.__setattr__(self, "_static", dict(static or {}))

    def __getitem__(self, name: str) -> Any:
        if name in self._traced:
            return self._traced[name]
        if name in self._static:
            return self._static[name]
        raise KeyError(
            f"there is no hyperparameter {name!r} in the space; it has: {', '.join(self) or 'none'}"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(*error.args) from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise TypeError("hyperparameters cannot be changed; copy them: {**hparams, name: value}")

    __setitem__ = __setattr__

    def __iter__(self) -> Iterator[str]:
        yield from self._traced
        yield from self._static

    def __len__(self) -> int:
        return len(self._traced) + len(self._static)

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={value!r}" for name, value in self.items())
        return f"Hparams({inner})"

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        """Leaves by name, in the order of the names."""
        names = tuple(sorted(self._traced))
        leaves = tuple((jax.tree_util.DictKey(name), self._traced[name]) for name in names)
        return leaves, (names, _Static(self._static))

    @classmethod
    def tree_unflatten(cls, aux: Any, leaves: Any) -> "Hparams":
        """From what `tree_flatten_with_keys` gave."""
        names, static = aux
        return cls(dict(zip(names, leaves, strict=True)), static.values)


def altered(hparams: Hparams, changes: Mapping[str, Any]) -> Hparams:
    """A copy with other traced values.

    Args:
      hparams: of one trial.
      changes: name -> array or tracer; None takes one out.
    """
    traced = {**hparams._traced, **changes}
    return Hparams({k: v for k, v in traced.items() if v is not None}, hparams._static)


class _Static:
    """Static values as part of a pytree's structure: hashable, whatever they are."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = dict(values)
        self._text = repr(sorted(self.values.items(), key=lambda item: item[0]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Static) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return self._text
