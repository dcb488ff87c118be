"""What can still be gained: how much shaking is calm, and whether the shaking costs something.

A spread on a log scale is relative to the loss itself. Where a loss cannot fall far below the
constant prediction's, little of it is there to be gained, and a jitter that is small beside the
loss is large beside that. And where a variant that does nothing but shake less ends better, the
shaking cost the difference, however small it looks.
"""

from collections.abc import Iterable

from jaxopt_lab.stabilization.compare import Remedy
from jaxopt_lab.stabilization.thresholds import HARMLESS, HEALTHY, LEAST_SHARE

#: Families that take shaking away and nothing else: the network, its rows and its loss stay.
_SHAKE_LESS = ("schedule", "average")


def calm_limit(best: float, idle: float | None) -> float:
    """The fluctuation up to which a curve is calm: `HEALTHY` of the smaller of the loss and what
    training gains; of a gain below `LEAST_SHARE` of the loss, as of that, since a difference of
    two losses that are nearly the same is itself mostly noise.

    Args:
      best: the lowest loss that any variant reaches, above 0.
      idle: loss of learning nothing; None where nobody knows.
    """
    if idle is None or best <= 0:
        return HEALTHY
    return HEALTHY * min(max((idle - best) / best, LEAST_SHARE), 1.0)


def cost_of_shaking(remedies: Iterable[Remedy], learning_rate: float) -> float:
    """Best loss of the base over that of the best variant that only shakes less (a lower rate, one
    that decays, averaged weights), if that would be accepted and is better for certain.

    Args:
      remedies: compared with the base.
      learning_rate: of the base.

    Returns:
      1 where there is none.
    """

    def only_shakes_less(remedy: Remedy) -> bool:
        lower = remedy.family == "learning rate" and (
            0 < remedy.settings["learning_rate"] < learning_rate
        )
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
