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
from jaxopt_lab.stabilization.intervals import Ratio
from jaxopt_lab.stabilization.thresholds import (
    GOAL_RATIO,
    HARMLESS,
    HEALTHY,
    LEAST_SHARE,
    RISES,
    STOPPED,
    THRESHOLDS,
    USUAL_BATCH,
    confidence,
    margin,
)
from jaxopt_lab.stabilization.weighing import Cause, weigh

#: Families that take shaking away and nothing else: the network, its rows and its loss stay.
_SHAKE_LESS = ("schedule", "average")
#: Causes that explain why a curve shakes by more than the choice of validation rows.
_OF_SHAKING = (
    "learning_rate_too_high",
    "small_batch_noise",
    "second_moment_too_fast",
    "rate_never_decays",
)
#: Causes that may keep a network from learning anything.
_KEEP_FROM_LEARNING = (
    "learning_rate_too_high",
    "exploding_gradients",
    "warm_up_missing",
    "outliers",
    "heavy_tailed_target",
    "bad_scale",
)


def calm_limit(best: float, idle: float | None) -> float:
    """The fluctuation up to which a curve is calm: `HEALTHY` of the smaller of the loss and what
    training gains; of a gain below `LEAST_SHARE` of the loss, as of that, since a difference of
    two losses that are nearly the same is itself mostly noise.

    Args:
      best: the lowest loss that any variant reaches, above 0.
      idle: loss of learning nothing; None where nobody knows.
    """
    return min(gain_limit(best, idle), HEALTHY)


def gain_limit(best: float, idle: float | None) -> float:
    """`HEALTHY` of what training gains, as a share of the loss; of a loss that is small beside that
    more than `HEALTHY`. See `calm_limit`.
    """
    if idle is None or not math.isfinite(idle) or best <= 0:
        return HEALTHY
    return HEALTHY * max((idle - best) / best, LEAST_SHARE)


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


def batch_rise(batches: Iterable[Remedy]) -> float:
    """End over lowest point of the larger batch that rises least, of those that are calmer for
    certain and lose nothing, or so little that seeds and rows cannot tell it; NaN where there is
    none.
    """

    def harmless(loss: Ratio) -> bool:
        return loss.value <= (STOPPED if loss.low < 1.0 else HARMLESS)

    mine = [r for r in batches if r.fluctuation.high < 1.0 and harmless(r.loss)]
    return min((r.rise for r in mine), default=math.nan)


def shaking_first(causes: list[Cause], found: "Rising") -> list[Cause]:
    """A rise explains no shaking: overfitting goes behind what does, unless regularisation, which
    undoes the rise, takes the shaking away as well; and behind a batch that is smaller than usual,
    if a larger one undoes the rise.

    Args:
      causes: that hold, most certain first.
      found: evidence.
    """
    if causes[0].name != "overfitting":
        return causes
    first = set(_OF_SHAKING) if shakes_by_itself(found) else set()
    if found.batch_rows < USUAL_BATCH and found.batch_rise < RISES:
        first.add("small_batch_noise")
    explain = [cause for cause in causes if cause.name in first]
    return [*explain, *(cause for cause in causes if cause not in explain)]


class Batches(Protocol):
    """What a batch is, and what larger ones do, and more validation rows, where they are few."""

    @property
    def batch_rows(self) -> float: ...
    @property
    def batch_rise(self) -> float: ...
    @property
    def batch_calms(self) -> float: ...
    @property
    def valid_calms(self) -> float: ...


class Shaking(Batches, Protocol):
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
    @property
    def over_constant(self) -> float: ...
    @property
    def gain_limit(self) -> float: ...
    @property
    def undone(self) -> float: ...


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


def is_tiny(found: "Batches") -> bool:
    """Whether a batch has less than half of the usual rows, and a larger one is calmer for certain
    at no loss, and does not rise.
    """
    calms = found.batch_calms >= THRESHOLDS["batch_calms"] and found.batch_rise < RISES
    return found.batch_rows < USUAL_BATCH and calms


def batch_explains_less(found: "Batches") -> float:
    """Below 1 where a tiny batch explains what moves though validation rows are not few: the noise
    of these is as large as the batch makes it. NaN where a batch says nothing of them.
    """
    few_rows = not math.isnan(found.valid_calms)
    return found.batch_rows / USUAL_BATCH if is_tiny(found) and not few_rows else math.nan


def is_doubtful(found: Shaking) -> bool:
    """Whether a calm curve may be so though its batch is at fault: of less than half of the usual
    rows, and with a fluctuation that counts if it can be divided by `GOAL_RATIO`.
    """
    return found.batch_rows < USUAL_BATCH and found.fluctuation * GOAL_RATIO > found.calm_limit


def no_problem(found: Shaking, limit: float | None = None) -> Cause:
    """Of a curve with which nothing is wrong, the verdict.

    Args:
      found: evidence.
      limit: up to which it may fluctuate; `calm_limit` by default.
    """
    most = math.log(THRESHOLDS["overfit_rise"])
    flat = 1.0 - math.log(max(found.overfit_rise, 1.0)) / most
    distance = min(margin(limit or found.calm_limit, found.fluctuation), flat)
    return Cause("no_problem", confidence(distance), described(found))


def or_pace(causes: list[Cause], found: Shaking) -> list[Cause]:
    """Where no cause was found, that nothing is wrong, if no cure does its job and the fluctuation
    is small beside what training gains: a loss near 0 moves by much of itself while it still falls,
    and what would calm it would slow it.

    Args:
      causes: after every cure was tried.
      found: evidence.
    """
    small = found.calm_limit < found.fluctuation <= found.gain_limit and found.num_spikes < 1
    rises = found.overfit_rise >= THRESHOLDS["overfit_rise"]
    if causes[0].name == "no_single_cause" and small and not rises and found.undone <= 1.0:
        return [no_problem(found, found.gain_limit)]
    return causes


def of_flat(found: Shaking, causes: Iterable[Cause]) -> list[Cause]:
    """Of a curve that `is_flat`, the verdict: nothing is wrong, unless it is flat because nothing
    is learned (of what could be wrong, only what keeps a network from learning says why then), or
    its batch is small and a larger one calms it at no loss.

    Args:
      found: evidence.
      causes: every one, weighed.
    """
    held = [cause for cause in causes if cause.confidence >= 0.5]
    nothing = learns_nothing(found)
    if nothing is not None:
        return [cause for cause in held if cause.name in _KEEP_FROM_LEARNING] or [nothing]
    doubted = is_doubtful(found) and is_tiny(found)
    batch = [cause for cause in held if cause.name == "small_batch_noise" and doubted]
    return batch or [no_problem(found)]


def or_nothing(causes: list[Cause], found: Shaking) -> list[Cause]:
    """Where no single cause holds, that nothing is learned, if that is so."""
    nothing = learns_nothing(found) if causes[0].name == "no_single_cause" else None
    return causes if nothing is None else [nothing]


def learns_nothing(found: Shaking) -> Cause | None:
    """That the best loss is no more than 2 % below a constant prediction's; None where it is, or
    nobody knows.
    """
    least = THRESHOLDS["over_constant"]
    for cause in weigh({"learns_nothing": {"over_constant": (found.over_constant, least)}}):
        if cause.confidence >= 0.5:
            return cause._replace(evidence={**cause.evidence, **described(found)})
    return None


def described(found: Shaking) -> dict[str, float]:
    """The numbers that go with a verdict that names no cause."""
    return {"fluctuation": found.fluctuation, "overfit_rise": found.overfit_rise}
