"""Two causes that hide each other: each undone alone shows little, both undone show it.

Where no single cause is found, variants that undo two at once are trained. Each of the two is a
cause if undoing it helps once the other is undone, and if with both undone the curve is calm and
the loss better: a lower rate with a larger batch calms whatever it is given, by learning less.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from jaxopt_lab.stabilization.compare import Remedy
from jaxopt_lab.stabilization.members import Member, combined
from jaxopt_lab.stabilization.thresholds import GOAL_RATIO, HARMLESS, THRESHOLDS
from jaxopt_lab.stabilization.weighing import Cause, Conditions, weigh

#: Cause -> variants that undo it; the first of them that is known does.
UNDOING: dict[str, tuple[str, ...]] = {
    "learning_rate_too_high": ("learning rate ÷10",),
    "small_batch_noise": ("batch ×16", "batch ×4"),
    "exploding_gradients": ("clip norm at its median", "clip norm at 1"),
    "second_moment_too_fast": ("b2 0.999",),
}


class Pair(NamedTuple):
    """Two causes and the variant that undoes both.

    Attributes:
      names: of the causes.
      alone: names of the variants that undo the one and the other.
      both: undoes both.
    """

    names: tuple[str, str]
    alone: tuple[str, str]
    both: Member


def pairs(known: Mapping[str, Member]) -> list[Pair]:
    """Every pair of causes whose undoing changes different hyperparameters.

    Args:
      known: variants by name.
    """
    undoing = {
        cause: next(known[name] for name in names if name in known)
        for cause, names in UNDOING.items()
        if any(name in known for name in names)
    }
    return [
        Pair((one, other), (first.name, second.name), combined(first, second))
        for (one, first), (other, second) in combinations(undoing.items(), 2)
        if not set(first.settings) & set(second.settings)
    ]


def found(tried: Sequence[Pair], remedies: Mapping[str, Remedy]) -> list[Cause]:
    """The two causes that hold together, most certain first; none where no pair does.

    Args:
      tried: pairs.
      remedies: variants compared with the base, by name.
    """
    best: list[Cause] = []
    for pair in tried:
        known = [remedies.get(name) for name in (*pair.alone, pair.both.name)]
        first, second, both = known
        if first is None or second is None or both is None:
            continue
        causes = weigh(
            {
                pair.names[0]: _conditions(second, both),
                pair.names[1]: _conditions(first, both),
            }
        )
        least = min(cause.confidence for cause in causes)
        if least >= 0.5 and (not best or least > min(cause.confidence for cause in best)):
            best = causes
    return best


def _conditions(other: Remedy, both: Remedy) -> Conditions:
    """Of one cause: what undoing it adds where the other is undone, and what both come to."""
    gain = other.loss.value / max(both.loss.value, 1e-9)
    calms = other.fluctuation.value / max(both.fluctuation.value, 1e-9)
    harmless = gain * HARMLESS >= 1.0
    return {
        "other_undone": (max(gain, calms if harmless else 0.0), THRESHOLDS["other_undone"]),
        "both_calm": (1.0 / max(both.fluctuation.value, 1e-9), GOAL_RATIO),
        "both_gain": (1.0 / max(both.loss.value, 1e-9), THRESHOLDS["both_gain"]),
    }
