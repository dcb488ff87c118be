"""Hyperband: brackets of successive halving that compare at the first chance, later, or never."""

from typing import Any

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.scalars import whole
from jaxopt_lab.schedulers.base import Bracket, Scheduler, promote_best
from jaxopt_lab.schedulers.successive_halving import halved, most_halvings


@checked_call()
def hyperband(reduction: Any = 3, min_epochs: Any = 1) -> Scheduler:
    """Hedge against early comparisons that mislead, by brackets that begin at different ages.

    Bracket s = s_max, ..., 0 halves its ceil((s_max + 1) / (s + 1) * eta^s) trials s times, so that
    all brackets cost about the same; the last trains each of its trials to the end. More trials
    than those of all brackets together make further ones; fewer, or what is left over, are divided
    among them in the same proportion.

    Args:
      reduction: eta; at least 2.
      min_epochs: the least age at which trials are compared.

    Returns:
      The scheduler.

    Raises:
      UserError: for a setting that is no whole number, or below its least value.

    Source: Li et al. 2018, arXiv:1603.06560, algorithm 1. There the brackets run one after the
      other; here all train at the same time, which changes no decision.

    Examples:
      >>> [tuple(bracket[0][:2]) for bracket in hyperband().brackets(143, 81, 1)]
      [(81, 1), (34, 3), (15, 9), (8, 27), (5, 81)]
    """
    eta, least = whole("reduction", reduction, 2), whole("min_epochs", min_epochs, 1)
    return Scheduler(f"hyperband by {eta} from {least}", layout(eta, least), promote_best)


def layout(eta: int, least: int) -> Any:
    """The brackets of Hyperband, as `Scheduler.brackets`."""

    def brackets(num_trials: int, num_epochs: int, num_folds: int) -> tuple[Bracket, ...]:
        del num_folds
        most = most_halvings(num_epochs, eta, least)
        kinds = range(most, -1, -1)
        sizes = [-(-(most + 1) * eta**s // (s + 1)) for s in kinds]
        rounds, rest = divmod(num_trials, sum(sizes))
        plan = [*(sizes * rounds), *_divided(rest, sizes)]
        times = [*(list(kinds) * rounds), *kinds]
        return tuple(
            halved(size, num_epochs, eta, s) for size, s in zip(plan, times, strict=True) if size
        )

    return brackets


def _divided(number: int, weights: list[int]) -> list[int]:
    """Whole numbers of a sum, in proportion to weights; ties go to the first."""
    total = sum(weights)
    found = [number * weight // total for weight in weights]
    lost = [number * weight % total for weight in weights]
    for i in sorted(range(len(weights)), key=lambda i: -lost[i])[: number - sum(found)]:
        found[i] += 1
    return found
