"""What a sampler is, and the history it reads."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from jaxopt_lab.core.types import Config, PRNGKey
from jaxopt_lab.spaces.space import SearchSpace

#: The most proposals that one call may ask for.
MAX_PROPOSALS = 256


class Frame(NamedTuple):
    """A wider space around the one that is searched, and what is known there.

    Attributes:
      space: it holds every configuration of the space that is searched.
      history: trials that lie outside of that, in this space's coordinates.
    """

    space: SearchSpace
    history: "History"


_ARRAYS = ("points", "values", "infeasible", "pending", "noise")


@dataclass(frozen=True, init=False, eq=False)
class History:
    """Every point proposed so far, in the order of proposal; all a sampler ever knows.

    A value that is not finite and not pending counts as infeasible.

    Attributes:
      points: [n, d] float64, in the unit cube of the space.
      values: [n] float64, lower is better; NaN where unknown.
      infeasible: [n] bool, the trial diverged (its value is not read).
      pending: [n] bool, proposed and not finished (its value is not read).
      noise: [n] float64, standard error of each value in the unit of the value; 0 if unknown.
      frame: what is known outside of the space, where that is a part of a wider one; a sampler may
        learn from it, and proposes nothing there.

    Raises:
      ValueError: if the arrays differ in length or a point lies outside the unit cube.

    Examples:
      >>> History(np.array([[0.1], [0.9]]), np.array([1.0, np.nan])).infeasible
      array([False,  True])
    """

    points: Float[np.ndarray, "n d"]
    values: Float[np.ndarray, " n"]
    infeasible: Bool[np.ndarray, " n"]
    pending: Bool[np.ndarray, " n"]
    noise: Float[np.ndarray, " n"]
    frame: Frame | None

    def __init__(
        self,
        points: Any,
        values: Any,
        infeasible: Any = None,
        pending: Any = None,
        noise: Any = None,
        frame: Frame | None = None,
    ) -> None:
        points, values = np.array(points, np.float64), np.array(values, np.float64)
        num = values.size
        if points.ndim != 2 or values.ndim != 1 or len(points) != num:
            raise ValueError(
                f"points must be [n, d] and values [n], got {points.shape} and {values.shape}"
            )
        if not (np.all(points >= 0) and np.all(points <= 1)):
            raise ValueError("points must lie in the unit cube: every coordinate in [0, 1]")
        pending = np.array(np.zeros(num) if pending is None else pending, bool)
        infeasible = np.array(np.zeros(num) if infeasible is None else infeasible, bool)
        noise = np.array(np.zeros(num) if noise is None else noise, np.float64)
        for name, array in (("pending", pending), ("infeasible", infeasible), ("noise", noise)):
            if array.shape != (num,):
                raise ValueError(f"{name} must have shape ({num},), got {array.shape}")
        infeasible = (infeasible | ~np.isfinite(values)) & ~pending
        values = np.where(infeasible | pending, np.nan, values)
        noise = np.where(np.isfinite(noise) & (noise > 0), noise, 0.0)
        fields = {"points": points, "values": values, "infeasible": infeasible}
        for name, array in {**fields, "pending": pending, "noise": noise}.items():
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "frame", frame)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def observed(self) -> Bool[np.ndarray, " n"]:
        """[n] bool: the points whose value is known and finite."""
        return np.isfinite(self.values)

    def first(self, number: int) -> "History":
        """The history as it was after so many points; none if there were not so many."""
        first = [getattr(self, name)[: max(number, 0)] for name in _ARRAYS]
        return History(*first, self.frame)  # type: ignore[call-arg]

    @classmethod
    def empty(cls, space: SearchSpace) -> "History":
        """The history of a search that has not begun."""
        return cls(np.zeros((0, space.num_dims)), np.zeros(0))

    @classmethod
    def from_configs(
        cls,
        space: SearchSpace,
        configs: Sequence[Mapping[str, Any]],
        values: Any,
        *,
        infeasible: Any = None,
        pending: Any = None,
        noise: Any = None,
        frame: Frame | None = None,
    ) -> "History":
        """Build a history from configurations instead of points.

        Args:
          space: the space that the configurations come from.
          configs: n configurations; inactive parameters may be left out.
          values: n numbers, lower is better; NaN where unknown.
          infeasible: n booleans, or None for none (a non-finite value counts as infeasible).
          pending: n booleans, or None for none.
          noise: n standard errors, or None where none is known.
          frame: what is known outside of the space.

        Raises:
          ValueError: if the lengths differ.
        """
        return cls(space.to_unit(configs), values, infeasible, pending, noise, frame)

    def extended(
        self, space: SearchSpace, configs: Sequence[Mapping[str, Any]], values: Any
    ) -> "History":
        """Return a history with further observed configurations at its end."""
        return self.followed_by(History.from_configs(space, configs, values))

    def at(self, points: Any) -> "History":
        """Return the same trials with other coordinates, and without a frame."""
        return History(points, *(getattr(self, name) for name in _ARRAYS[1:]))

    def followed_by(self, more: "History") -> "History":
        """Return a history with another's trials at its end."""
        pairs = [(getattr(self, name), getattr(more, name)) for name in _ARRAYS]
        joined = [np.concatenate(pair) for pair in pairs]
        return History(*joined, self.frame)  # type: ignore[call-arg, arg-type]


#: (key, space, history, n) -> configurations.
Propose = Callable[[PRNGKey, SearchSpace, History, int], list[Config]]


class Sampler(NamedTuple):
    """A way of searching: a name, and a pure function that proposes configurations.

    Attributes:
      name: how the command line and the tables call it.
      propose: (key, space, history, n) -> n configurations; 1 <= n <= 256. The same key and
        history give the same proposals bit for bit. Pass the same key in every call of a search:
        what differs from call to call is the history, whose length is the number of points
        proposed before. In a finite space no configuration comes twice until all have come.
        Only `grid` may return fewer than n: what is left of it.
      sees_scores: whether proposals depend on scores; else a study asks for many at once, and
        devices never wait for them.
      propose_many: as `propose`, for any n at once: what calls for up to `MAX_PROPOSALS` at a time
        would give, each told of those before. None: it is called so.

    Examples:
      >>> from jaxopt_lab import search
      >>> from jaxopt_lab import Uniform
      >>> from jaxopt_lab import SearchSpace
      >>> space = SearchSpace(x=Uniform(-1, 1))
      >>> sampler = search.random()
      >>> history = History.empty(space)
      >>> configs = sampler.propose(jax.random.key(0), space, history, 8)
      >>> history = history.extended(space, configs, [c["x"] ** 2 for c in configs])
      >>> len(history)
      8
    """

    name: str
    propose: Propose
    sees_scores: bool = True
    propose_many: Propose | None = None


def check_request(
    space: SearchSpace, history: History, n: int, largest: float = MAX_PROPOSALS
) -> None:
    """Raise ValueError for a number of proposals or a history that does not fit the space."""
    if not 1 <= n <= largest:
        raise ValueError(f"n must lie in [1, {largest}], got {n}")
    if history.points.shape[1] != space.num_dims:
        raise ValueError(
            f"the history has {history.points.shape[1]} dimensions, the space {space.num_dims}"
        )


def generator(key: PRNGKey, *data: int) -> np.random.Generator:
    """Seed a numpy generator from a typed JAX key, and numbers that tell its uses apart."""
    words = np.asarray(jax.random.key_data(key)).ravel().astype(np.uint32)
    return np.random.default_rng([*(int(w) for w in words), *data])
