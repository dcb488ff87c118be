"""What can still be gained: how much shaking is calm, and whether the shaking costs something.

A spread on a log scale is relative to the loss itself. Where a loss cannot fall far below the
constant prediction's, little of it is there to be gained, and a jitter that is small beside the
loss is large beside that. And where a variant that does nothing but shake less ends better, the
shaking cost the difference, however small it looks.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from jaxopt_lab.stabilization.compare import Remedy
from jaxopt_lab.stabilization.thresholds import (
    GOAL_RATIO,
    HARMLESS,
    HEALTHY,
    LEAST_SHARE,
    THRESHOLDS,
    confidence,
    margin,
)
from jaxopt_lab.stabilization.weighing import Cause

#: Families that take shaking away and nothing else: the network, its rows and its loss stay.
_SHAKE_LESS = ("schedule", "average")
#: Causes that explain why a curve shakes by more than the choice of validation rows.
_OF_SHAKING = (
    "learning_rate_too_high",
    "small_batch_noise",
    "second_moment_too_fast",
    "rate_never_decays",
)


def calm_limit(best: float, idle: float | None) -> float:
    """The fluctuation up to which a curve is calm: `HEALTHY` of the smaller of the loss and what
    training gains; of a gain below `LEAST_SHARE` of the loss, as of that, since a difference of
    two losses that are nearly the same is itself mostly noise.

    Args:
      best: the lowest loss that any variant reaches, above 0.
      idle: loss of learning nothing; None where nobody knows.
    """
    if idle is None or not math.isfinite(idle) or best <= 0:
        return HEALTHY
    return HEALTHY * min(max((idle - best) / best, LEAST_SHARE), 1.0)


def cost_of_shaking(
    remedies: Iterable[Remedy], base: Mapping[str, Any], rate: str = "learning_rate"
) -> float:
    """Best loss of the base over that of the best variant that only shakes less (a lower rate, one
    that decays, averaged weights), if that would be accepted and is better for certain.

    Args:
      remedies: compared with the base.
      base: its configuration.
      rate: hyperparameter that is the learning rate.

    Returns:
      1 where there is none.
    """

    def only_shakes_less(remedy: Remedy) -> bool:
        lower = remedy.family == "learning rate" and 0 < remedy.settings[rate] < base[rate]
        return lower or remedy.family in _SHAKE_LESS

    gains = [
        1.0 / remedy.loss.value
        for remedy in remedies
        if only_shakes_less(remedy)
        and remedy.accepted
        and remedy.loss.high < 1.0
        and remedy.loss.value * HARMLESS < 1.0
    ]
    return max(gains, default=1.0)


def end_gain(lower: Iterable[Remedy]) -> float:
    """Final loss of a base that overfits over the lowest of lower rates that are `GOAL_RATIO` times
    calmer and whose best loss is no worse; at least 1.
    """
    calmer = [r for r in lower if r.fluctuation.value <= 1.0 / GOAL_RATIO]
    ends = [r.final.value for r in calmer if r.loss.value <= HARMLESS]
    return max(1.0 / max(min(ends, default=1.0), 1e-9), 1.0)


def shaking_first(causes: list[Cause], found: "Rising") -> list[Cause]:
    """A rise explains no shaking: overfitting goes behind what does, unless regularisation, which
    undoes the rise, takes the shaking away as well.

    Args:
      causes: that hold, most certain first.
      found: evidence.
    """
    if not shakes_by_itself(found) or causes[0].name != "overfitting":
        return causes
    explain = [cause for cause in causes if cause.name in _OF_SHAKING]
    return [*explain, *(cause for cause in causes if cause not in explain)]


class Shaking(Protocol):
    """What calm is told from: see `diagnose.Evidence`."""

    @property
    def fluctuation(self) -> float: ...
    @property
    def num_spikes(self) -> float: ...
    @property
    def overfit_rise(self) -> float: ...
    @property
    def calm_limit(self) -> float: ...
    @property
    def shaking_costs(self) -> float: ...


class Rising(Shaking, Protocol):
    """With what regularisation and lower rates do."""

    @property
    def dropout_calms(self) -> float: ...
    @property
    def rate_gain(self) -> float: ...
    @property
    def rate_end(self) -> float: ...


def is_calm(found: Shaking) -> bool:
    """Whether a curve stays near its trend."""
    return found.fluctuation <= found.calm_limit and found.num_spikes < 1


def shakes_by_itself(found: Rising) -> bool:
    """Whether a curve shakes, and not because it overfits: regularisation does not calm it."""
    return not is_calm(found) and found.dropout_calms < GOAL_RATIO


def lower_rate_gains(found: Rising) -> float:
    """What a lower rate gains. What overfits has its best early, whatever its rate is: of a curve
    that shakes by itself the end tells as well. NaN where nobody knows.
    """
    known = not math.isnan(found.rate_gain) and shakes_by_itself(found)
    return max(found.rate_gain, found.rate_end) if known else found.rate_gain


def is_flat(found: Shaking) -> bool:
    """Whether a curve stays near its trend, that does not rise, and its shaking costs nothing."""
    rises = found.overfit_rise >= THRESHOLDS["overfit_rise"]
    return is_calm(found) and not rises and found.shaking_costs < THRESHOLDS["decay_gain"]


def no_problem(found: Shaking) -> Cause:
    """Of a curve that `is_flat`, the verdict."""
    most = math.log(THRESHOLDS["overfit_rise"])
    flat = 1.0 - math.log(max(found.overfit_rise, 1.0)) / most
    distance = min(margin(found.calm_limit, found.fluctuation), flat)
    return Cause("no_problem", confidence(distance), described(found))


def described(found: Shaking) -> dict[str, float]:
    """The numbers that go with a verdict that names no cause."""
    return {"fluctuation": found.fluctuation, "overfit_rise": found.overfit_rise}
