"""What a scheduler is: it says when trials are compared, and who goes on."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.search.base import Sampler


class Rung(NamedTuple):
    """One comparison of a bracket.

    Attributes:
      num_trials: how many trials train up to it, at most.
      num_epochs: the age in epochs at which they are compared.
      num_folds: on how many folds (splits, seeds) they train up to it; None for all.
    """

    num_trials: int
    num_epochs: int
    num_folds: int | None = None


#: Trials that compete with each other: their rungs, the first one theirs from the start.
Bracket = tuple[Rung, ...]


class Standing(NamedTuple):
    """What is known of the trials that are compared at a rung; lower is better throughout.

    Attributes:
      losses: [p] mean over folds of what counts so far: the last or the best epoch's objective, as
        the problem has it; NaN where a trial diverged.
      curves: [p, epochs] mean over folds of the objective after each epoch; NaN where a trial
        diverged. No epochs unless the scheduler sees curves.
      others: [q, epochs] the curves of trials of earlier brackets that came to this age.
      budget: epochs of a whole training.
    """

    losses: Float[np.ndarray, " p"]
    curves: Float[np.ndarray, "p epochs"]
    others: Float[np.ndarray, "q epochs"]
    budget: int


def same(sampler: Sampler) -> Sampler:
    """The sampler as it is."""
    return sampler


class Scheduler(NamedTuple):
    """Pure functions that decide who goes on; they know neither stores nor programs.

    Attributes:
      name: what a study stores: the kind and its settings.
      brackets: (number of trials, epochs of a full budget, folds) -> brackets, whose first rungs
        hold all the trials together, in order. From rung to rung no trial is added and either the
        epochs or the folds rise; the last rung ends with the full budget on all folds.
      promote: (what is known, how many at most) -> [p], True where promoted; never a trial whose
        loss is not finite.
      sees_curves: whether `promote` reads curves.
      gathers: whether brackets wait for all trials of a phase; else each round of proposals makes
        its own.
      in_turn: whether brackets begin one after the other: the proposals of each are made when it
        begins, by a sampler that sees what all trials came to at every age.
      sampler: sampler of a study -> the one that proposes.
    """

    name: str
    brackets: Callable[[int, int, int], tuple[Bracket, ...]]
    promote: Callable[[Standing, int], Bool[np.ndarray, " p"]]
    sees_curves: bool = False
    gathers: bool = True
    in_turn: bool = False
    sampler: Callable[[Sampler], Sampler] = same


def promote_best(standing: Standing, num_promoted: int) -> Bool[np.ndarray, " p"]:
    """Promote the trials with the lowest losses.

    Losses that are not finite are never promoted; ties go to the lower index.

    Args:
      standing: of P trials.
      num_promoted: how many go on, 1 <= num_promoted <= P.

    Returns:
      [P] True where promoted; fewer than `num_promoted` if fewer losses are finite.

    Raises:
      ValueError: if `num_promoted` is outside [1, P].
    """
    losses = standing.losses
    check_number(losses, num_promoted)
    order = np.argsort(np.where(np.isfinite(losses), losses, np.inf), kind="stable")
    chosen = np.zeros(len(losses), bool)
    chosen[order[:num_promoted]] = True
    return chosen & np.isfinite(losses)


def check_number(losses: Float[np.ndarray, " p"], num_promoted: int) -> None:
    """Raise ValueError for a number of trials that cannot be promoted."""
    if not 1 <= num_promoted <= len(losses):
        raise ValueError(f"num_promoted must be in [1, {len(losses)}], got {num_promoted}")


def share(name: str, value: Any) -> float:
    """A share that a scheduler is set with: a number from 0 to 1.

    Raises:
      UserError: naming it.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"{name} must be a number from 0 to 1, got {value!r}")
    return float(value)
