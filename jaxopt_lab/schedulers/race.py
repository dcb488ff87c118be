"""A race: all trials on the first split, and only the better part on the others."""

from typing import Any

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.scalars import whole
from jaxopt_lab.schedulers.base import Bracket, Rung, Scheduler, promote_best


@checked_call()
def race(reduction: Any = 2, num_folds: Any = 1) -> Scheduler:
    """Train all on few folds (splits, seeds), and the best 1 / `reduction` on the others.

    A trial that loses is told by its score on the folds it was trained on. With no more folds than
    those, nothing is stopped.

    Args:
      reduction: one of so many goes on, rounded up; at least 2.
      num_folds: on which all train.

    Returns:
      The scheduler.

    Raises:
      UserError: for a setting that is no whole number, or below its least value.

    Source: racing on parts of a cross-validation goes back to Maron & Moore 1993, Hoeffding races
      (theirs drops a candidate by a bound on its error; this one by its rank).

    Examples:
      >>> [tuple(rung) for rung in race().brackets(5, 10, 3)[0]]
      [(5, 10, 1), (3, 10, None)]
    """
    part, first = whole("reduction", reduction, 2), whole("num_folds", num_folds, 1)

    def brackets(num_trials: int, num_epochs: int, num_folds: int) -> tuple[Bracket, ...]:
        last = Rung(-(-num_trials // part), num_epochs)
        if num_folds <= first or last.num_trials == num_trials:
            return ((Rung(num_trials, num_epochs),),)
        return ((Rung(num_trials, num_epochs, first), last),)

    return Scheduler(f"race by {part} after {first}", brackets, promote_best, gathers=False)
