"""What a scheduler of a population is: who learns on from whom, and with which values."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.types import PRNGKey
from jaxopt_lab.spaces.distributions import Choice, Distribution, IntUniform
from jaxopt_lab.spaces.space import SearchSpace

#: A whole number of more values than these is explored like a real one, and rounded.
MAX_LEVELS = 1024


class Axis(NamedTuple):
    """One hyperparameter as a population explores it: an axis of the unit cube.

    Attributes:
      free: whether its value may change while a trial trains.
      levels: [n] the places of all its values, ascending; empty for a range of real numbers.
      ordered: whether near levels are like values.
    """

    free: bool
    levels: Float[np.ndarray, " n"]
    ordered: bool = True


class Past(NamedTuple):
    """What members of a population came to in the generations before, for whoever learns from it.

    Attributes:
      generations: [n] when, from 0.
      points: [n, d] their places in the unit cube during that generation.
      gains: [n] by how much the score fell in it; NaN where it is not finite.
    """

    generations: Int[np.ndarray, " n"]
    points: Float[np.ndarray, "n d"]
    gains: Float[np.ndarray, " n"]


class Seen(NamedTuple):
    """A population at the end of a generation.

    Attributes:
      scores: [P] lower is better; a mean over splits and seeds; NaN of a member that diverged.
      points: [P, d] places in the unit cube.
      axes: d of them.
      past: of all generations up to this one.
      generation: which one ends, from 0.
      num_generations: in all.
    """

    scores: Float[np.ndarray, " p"]
    points: Float[np.ndarray, "p d"]
    axes: tuple[Axis, ...]
    past: Past
    generation: int = 0
    num_generations: int = 1


class Decision(NamedTuple):
    """How a population goes on.

    Attributes:
      parents: [P] whose state each member goes on from: its own index, or that of a member with a
        finite score.
      points: [P, d] with which values: those it had, or, of a copy, its parent's after exploring.
    """

    parents: Int[np.ndarray, " p"]
    points: Float[np.ndarray, "p d"]


#: Numbers that tell the uses of a decision's key apart.
EXPLOITS, EXPLORES, MODELS = 0, 1, 2
#: (key, scores [P]) -> parents [P].
Exploit = Callable[[PRNGKey, Any], Int[np.ndarray, " p"]]
#: (key, population, parents [P]) -> points [P, d] of copies of these parents.
Explore = Callable[[PRNGKey, Seen, Any], Float[np.ndarray, "p d"]]


class Named(NamedTuple):
    """A pure function and what a study calls it: the kind and its settings."""

    name: str
    call: Callable[..., Any]


class PopulationScheduler(NamedTuple):
    """Pure functions by which a population learns while it trains.

    Attributes:
      name: what a study stores: the kind and its settings.
      every: units of a generation; None for a tenth of the budget.
      exploit: who goes on from whom.
      explore: with which values copies go on.
    """

    name: str
    every: int | None
    exploit: Exploit
    explore: Explore

    def decide(self, key: PRNGKey, seen: Seen) -> Decision:
        """End a generation: the same key and population give the same decision, bit for bit.

        A member whose parent is itself keeps its place. What is not free is the parent's.
        """
        parents = self.exploit(key, seen.scores)
        explored = self.explore(key, seen, parents)
        free = np.array([axis.free for axis in seen.axes], bool)
        inherited = np.where(free, explored, seen.points[parents])
        copied = parents != np.arange(len(parents))
        return Decision(parents, np.where(copied[:, None], inherited, seen.points))

    def units(self, budget: int, unit: str = "unit") -> int:
        """Units of a generation in a budget.

        Raises:
          UserError: if the budget holds one generation only, after which nothing is copied.
        """
        found = max(1, budget // 10) if self.every is None else self.every
        if found < budget:
            return found
        if unit == "run":
            raise UserError(
                "a population changes values while its members train, and a function is one "
                "whole run; give its steps to lab.from_steps"
            )
        raise UserError(
            f"a population learns between generations, and a budget of {budget} {unit}s holds one "
            f"of {found}; give every = {max(1, budget // 10)} or a longer budget"
        )


def make_scheduler(kind: str, every: Any, exploit: Named, explore: Named) -> PopulationScheduler:
    """A scheduler of checked parts; its name says all settings.

    Raises:
      UserError: if `every` is no whole number of at least 1.
    """
    is_whole = isinstance(every, int | np.integer) and not isinstance(every, bool)
    if every is not None and (not is_whole or every < 1):
        raise UserError(f"every must be a whole number of units, at least 1, got {every!r}")
    rhythm = "a tenth of the budget" if every is None else str(int(every))
    name = f"{kind} every {rhythm}, {exploit.name}, {explore.name}"
    return PopulationScheduler(
        name, None if every is None else int(every), exploit.call, explore.call
    )


def axes_of(space: SearchSpace, free: Collection[str]) -> tuple[Axis, ...]:
    """The axes of a space.

    Args:
      space: whose unit cube is explored.
      free: the hyperparameters whose values may change while a trial trains.
    """
    return tuple(
        Axis(name in free, _levels(dist), not isinstance(dist, Choice) or dist.ordered)
        for name, dist in space.parameters.items()
    )


def _levels(dist: Distribution) -> Float[np.ndarray, " n"]:
    if isinstance(dist, Choice):
        return np.array([dist.to_unit(value) for value in dist.ranked])
    if isinstance(dist, IntUniform) and dist.cardinality <= MAX_LEVELS:
        whole = range(int(dist.low), int(dist.high) + 1)
        return np.array([dist.to_unit(value) for value in whole])
    return np.zeros(0)


def nearest(levels: Float[np.ndarray, " n"], points: Float[np.ndarray, " p"]) -> Any:
    """[P] the index of the level nearest to each point."""
    return np.abs(points[:, None] - levels[None, :]).argmin(axis=1)


def is_improvement(
    ours: Float[np.ndarray, " p"], theirs: Float[np.ndarray, " p"]
) -> Bool[np.ndarray, " p"]:
    """Whether another's score is finite and ours is higher or not finite."""
    return np.isfinite(theirs) & (~np.isfinite(ours) | (ours > theirs))
