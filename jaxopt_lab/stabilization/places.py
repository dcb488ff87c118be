"""How many variants train together: a cohort has places for so many, and empty ones cost as much.

The variants of a cohort share a seed and a batch size, and of most batch sizes there are few.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxopt_lab.core.cohorts import cheapest_width
from jaxopt_lab.core.types import Config
from jaxopt_lab.planning.costs import Epoch
from jaxopt_lab.stabilization import members, walk
from jaxopt_lab.stabilization.comparison import NUM_CONFIRMED
from jaxopt_lab.stabilization.members import Member


class Group(NamedTuple):
    """Variants that can train together, of each seed.

    Attributes:
      number: of variants.
      batch_size: theirs, where it makes a difference.
      is_fresh: whether they confirm, on seeds of their own.
    """

    number: int
    batch_size: int = 0
    is_fresh: bool = False


def groups_of_table(base: Config, num_rows: int, num_epochs: int, num_splits: int) -> list[Group]:
    """Of a whole comparison: ladder, cures with the usual walk, other rows, confirmation.

    Args:
      base: complete configuration.
      num_rows: training rows.
      num_epochs: of each training.
      num_splits: other rows that are tried.
    """
    first = members.ladder(base, num_rows, num_epochs)
    tried = members.cures(base, num_rows, (1.0, 1.0))
    steps = walk.walked(walk.steps(walk.of_table(base, num_rows)), [*first, *tried])
    own = base["batch_size"]
    confirmed = Group(NUM_CONFIRMED + 1, own, is_fresh=True)
    others = [Group(1, own)] * num_splits
    second = [*tried, *walk.missing(steps)]
    return [*_by_batch(first, base), *_by_batch(second, base), *others, confirmed]


def _by_batch(variants: Sequence[Member], base: Config) -> list[Group]:
    sizes = [variant.config(base)["batch_size"] for variant in variants]
    return [Group(sizes.count(size), size) for size in dict.fromkeys(sizes)]


def seconds(
    groups: Sequence[Group], width: int, epoch: Callable[[int], Epoch], per_fresh: float = 1.0
) -> float:
    """Device seconds of an epoch of all groups, each with one seed.

    Args:
      groups: of a comparison.
      width: places of a cohort.
      epoch: batch size -> what an epoch takes.
      per_fresh: fresh seeds for each seed of the comparison.
    """
    total = 0.0
    for group in groups:
        cohorts = -(-group.number // width)
        times = per_fresh if group.is_fresh else 1.0
        total += times * cohorts * epoch(group.batch_size).whole(width)
    return total


def best_width(groups: Sequence[Group], largest: int, epoch: Callable[[int], Epoch]) -> int:
    """Places of a cohort, at most `largest`, with which a comparison takes the least time."""
    return cheapest_width(largest, lambda width: seconds(groups, width, epoch))
