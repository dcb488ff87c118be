"""What a scheduler is: it says when trials are compared, and who goes on."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float


class Rung(NamedTuple):
    """One comparison of a bracket.

    Attributes:
      num_trials: how many trials train up to it.
      num_epochs: the age in epochs at which they are compared.
    """

    num_trials: int
    num_epochs: int


class Scheduler(NamedTuple):
    """Pure functions that decide who goes on; they know neither stores nor programs.

    Attributes:
      name: what a study stores: the kind and its settings.
      num_brackets: brackets that trials are divided into; each promotes its own.
      rungs: (number of trials, epochs of a full budget) -> the rungs of one bracket, both the
        epochs strictly rising and the trials falling; the last rung ends with the full budget.
      promote: (losses [P], how many) -> [P], True where promoted; never a loss that is not finite.
    """

    name: str
    num_brackets: int
    rungs: Callable[[int, int], tuple[Rung, ...]]
    promote: Callable[[Float[np.ndarray, " p"], int], Bool[np.ndarray, " p"]]


def bracket_slices(scheduler: Scheduler, num_trials: int) -> list[slice]:
    """Which trials, in order, each bracket holds: as equal parts as can be, none empty."""
    num = min(scheduler.num_brackets, num_trials)
    return [slice(num_trials * i // num, num_trials * (i + 1) // num) for i in range(num)]


def promote_best(losses: Float[np.ndarray, " p"], num_promoted: int) -> Bool[np.ndarray, " p"]:
    """Promote the trials with the lowest losses.

    Losses that are not finite are never promoted; ties go to the lower index.

    Args:
      losses: [P] validation losses, lower is better.
      num_promoted: how many go on, 1 <= num_promoted <= P.

    Returns:
      [P] True where promoted; fewer than `num_promoted` if fewer losses are finite.

    Raises:
      ValueError: if `num_promoted` is outside [1, P].
    """
    if not 1 <= num_promoted <= len(losses):
        raise ValueError(f"num_promoted must be in [1, {len(losses)}], got {num_promoted}")
    order = np.argsort(np.where(np.isfinite(losses), losses, np.inf), kind="stable")
    chosen = np.zeros(len(losses), bool)
    chosen[order[:num_promoted]] = True
    return chosen & np.isfinite(losses)
