"""Successive halving: train all a little, go on with the best part, and again."""

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.schedulers.base import Rung, Scheduler, promote_best


def successive_halving(reduction: int = 3, min_epochs: int = 1, num_brackets: int = 1) -> Scheduler:
    """Promote the best 1 / `reduction` of each rung, and train them `reduction` times as long.

    Args:
      reduction: eta; at least 2.
      min_epochs: the least age at which trials are compared.
      num_brackets: how many brackets of equal size the trials are divided into. They run at the
        same time, so that the few survivors of one do not leave devices idle.

    Returns:
      The scheduler.

    Raises:
      UserError: for a setting below its least value.

    Source: Jamieson & Talwalkar 2016, arXiv:1502.07943; the rungs are those of one bracket in
      Li et al. 2018, arXiv:1603.06560.

    Examples:
      >>> successive_halving().rungs(27, 27)
      (Rung(num_trials=27, num_epochs=1), Rung(num_trials=9, num_epochs=3), \
Rung(num_trials=3, num_epochs=9), Rung(num_trials=1, num_epochs=27))
    """
    for name, value, least in (
        ("reduction", reduction, 2),
        ("min_epochs", min_epochs, 1),
        ("num_brackets", num_brackets, 1),
    ):
        if value < least:
            raise UserError(f"{name} must be at least {least}, got {value}")

    def rungs(num_trials: int, num_epochs: int) -> tuple[Rung, ...]:
        last = 0
        while (
            num_epochs // reduction ** (last + 1) >= min_epochs
            and num_trials // reduction ** (last + 1) >= 1
        ):
            last += 1
        return tuple(
            Rung(num_trials // reduction**k, num_epochs // reduction ** (last - k))
            for k in range(last + 1)
        )

    name = f"successive halving by {reduction} from {min_epochs}, {num_brackets} at once"
    return Scheduler(name, num_brackets, rungs, promote_best)
