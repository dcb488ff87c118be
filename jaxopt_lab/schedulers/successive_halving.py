"""Successive halving: train all a little, go on with the best part, and again."""

from typing import Any

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.scalars import whole
from jaxopt_lab.schedulers.base import Bracket, Rung, Scheduler, promote_best

#: A training is this many times as long as the least age at which trials are compared by default.
LEAST_SHARE = 9


@checked_call()
def successive_halving(
    reduction: Any = 3, min_epochs: Any = None, num_brackets: Any = 1
) -> Scheduler:
    """Promote the best 1 / `reduction` of each rung, and train them `reduction` times as long.

    Args:
      reduction: eta; at least 2.
      min_epochs: the least age at which trials are compared; a ninth of the budget, at least one
        epoch, by default. Earlier comparisons cost less and mislead more.
      num_brackets: how many brackets of equal size the trials are divided into. They run at the
        same time, so that the few survivors of one do not leave devices idle.

    Returns:
      The scheduler.

    Raises:
      UserError: for a setting that is no whole number, or below its least value.

    Source: Jamieson & Talwalkar 2016, arXiv:1502.07943; the rungs are those of one bracket in
      Li et al. 2018, arXiv:1603.06560.

    Examples:
      >>> [tuple(rung[:2]) for rung in successive_halving().brackets(27, 81, 1)[0]]
      [(27, 9), (9, 27), (3, 81)]
      >>> [tuple(rung[:2]) for rung in successive_halving(min_epochs=1).brackets(27, 27, 1)[0]]
      [(27, 1), (9, 3), (3, 9), (1, 27)]
    """
    eta = whole("reduction", reduction, 2)
    least = None if min_epochs is None else whole("min_epochs", min_epochs, 1)
    wanted = whole("num_brackets", num_brackets, 1)

    def brackets(num_trials: int, num_epochs: int, num_folds: int) -> tuple[Bracket, ...]:
        del num_folds
        num = min(wanted, num_trials)
        sizes = [num_trials * (i + 1) // num - num_trials * i // num for i in range(num)]
        most = most_halvings(num_epochs, eta, least or max(1, num_epochs // LEAST_SHARE))
        return tuple(halved(size, num_epochs, eta, most) for size in sizes)

    name = f"successive halving by {eta} from {least or 'a ninth'}, {wanted} at once"
    return Scheduler(name, brackets, promote_best)


def most_halvings(num_epochs: int, reduction: int, min_epochs: int) -> int:
    """How often a training can be cut to 1 / `reduction` and keep `min_epochs`."""
    times = 0
    while num_epochs // reduction ** (times + 1) >= min_epochs:
        times += 1
    return times


def halved(num_trials: int, num_epochs: int, reduction: int, most: int) -> Bracket:
    """The rungs of a bracket that is reduced `most` times, less often if it has few trials."""
    last = most
    while num_trials // reduction**last < 1:
        last -= 1
    return tuple(
        Rung(num_trials // reduction**k, num_epochs // reduction ** (last - k))
        for k in range(last + 1)
    )
