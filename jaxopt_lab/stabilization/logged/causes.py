"""What is wrong with a run, as far as its curves tell, and why not something else.

A finding has checks: a measured number beside the threshold that it must reach. Its confidence is
that of `stabilization.thresholds`, from the check that is met least. What curves show (a loss that
is not finite, an end above the lowest point) is `seen`; a cause that only another training could
prove is `suspected`, and its confidence stays at `MOST_SUSPECTED` or below.
"""

import math
from typing import NamedTuple

from jaxopt_lab.stabilization.logged.measures import FEWEST, Measures
from jaxopt_lab.stabilization.thresholds import (
    HARMLESS,
    HEALTHY,
    RISES,
    SLOPES,
    STILL_FALLS,
    THRESHOLDS,
    confidence,
    margin,
)

#: Nothing was tried, so no cause is more certain than this.
MOST_SUSPECTED = 0.7
#: A loss that ends so many times above its lowest point, in training too, diverges.
DIVERGES = 3.0
#: A learning rate that ends within 1 % of its highest never decays.
CONSTANT_RATE = 1.01
#: A curve that gains so much in its last quarter, and twice its fluctuation, is not trained to its
#: end.
STILL_GAINS = THRESHOLDS["rate_gain"]
#: So many spikes must have been preceded by high gradient norms, and more than by chance.
PRECEDED, OVER_CHANCE = 0.5, 2.0
#: Numbers that are met or not, whatever the distance.
_FACTS = ("not_finite_at", "values", "spikes", "rate_fall")
#: Noise of few validation rows does not move the training loss.
APART = 0.5


class Check(NamedTuple):
    """One number beside its threshold.

    Attributes:
      name: of the number.
      value: as measured; NaN where the log does not tell.
      threshold: to be reached.
      at_least: whether the value must be that or more, else that or less.
      what: in words.
    """

    name: str
    value: float
    threshold: float
    at_least: bool
    what: str

    @property
    def known(self) -> bool:
        """Whether there is a number."""
        return not math.isnan(self.value)

    @property
    def holds(self) -> bool:
        """Whether the threshold is reached."""
        above = self.value >= self.threshold
        return self.known and (above if self.at_least else self.value <= self.threshold)

    @property
    def margin(self) -> float:
        """How far it is beyond the threshold, log scale; negative where it is not reached."""
        if not self.known:
            return -math.inf
        if self.name in _FACTS:
            return math.inf if self.holds else -math.inf
        found = SLOPES.get(self.name, 1.0) * margin(self.value, self.threshold)
        return found if self.at_least else -found


class Finding(NamedTuple):
    """A cause and what speaks for it, or against it.

    Attributes:
      name: of the cause.
      confidence: in [0, 1].
      seen: whether curves show it; else it is suspected.
      checks: all of them.
    """

    name: str
    confidence: float
    seen: bool
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Whether every check does."""
        return all(check.holds for check in self.checks)


def findings(found: Measures, constant: float | None) -> tuple[list[Finding], list[Finding]]:
    """What holds, the first of them the verdict, and what was rejected.

    Args:
      found: of one run.
      constant: loss of the best constant prediction on the same rows, if it is known.
    """
    if not math.isnan(found.not_finite_at):
        check = Check("not_finite_at", found.not_finite_at, 0.0, True, "position of the first")
        return [Finding("diverged", 1.0, True, (check,))], []
    if found.too_short:
        check = Check("values", found.num_values, FEWEST - 1, False, "values of the curve")
        return [Finding("too_short", 1.0, True, (check,))], []
    everything = [_finding(name, checks) for name, checks in _checks(found, constant).items()]
    holds = [f for f in everything if f.holds]
    rejected = [f for f in everything if not f.holds]
    for wins in ("diverged", "stuck"):
        if any(f.name == wins for f in holds):
            rejected = [f for f in everything if f.name != wins]
            return [f for f in holds if f.name == wins], rejected
    holds.sort(key=lambda f: (not f.seen, -f.confidence))
    if holds:
        return holds, rejected
    doubted = [check for check in (_shakes(found), _rises(found)) if check.holds]
    if found.spikes and not doubted:
        doubted = [_spikes(found)]
    if doubted:
        doubt = 1.0 - max(f.confidence for f in rejected)
        return [Finding("no_single_cause", round(doubt, 3), True, tuple(doubted))], rejected
    return [_calm(found)], rejected


def _finding(name: str, checks: tuple[Check, ...]) -> Finding:
    least = confidence(min(check.margin for check in checks))
    seen = name in _SEEN
    return Finding(name, least if seen else min(least, MOST_SUSPECTED), seen, checks)


_SEEN = {"diverged", "stuck", "never_fell", "overfitting", "not_trained_enough"}


def _checks(found: Measures, constant: float | None) -> dict[str, tuple[Check, ...]]:
    rises, spikes = _rises(found), _spikes(found)
    falls = Check(
        "train_fall", found.train_fall, STILL_FALLS, True, "fall of the training loss, second half"
    )
    over = math.nan if constant is None or math.isnan(found.lowest) else constant / found.lowest
    flat = max(STILL_GAINS, 1.0 + 2.0 * found.fluctuation)
    train_calm = math.nan
    if found.train_fluctuation > 0:
        train_calm = found.fluctuation / found.train_fluctuation
    chance = math.nan
    if found.spikes and not math.isnan(found.share_preceded):
        chance = found.share_preceded / max(found.spikes_by_chance, 1e-3)
    return {
        "diverged": (
            rises._replace(threshold=DIVERGES),
            Check("train_rises", found.train_rises, DIVERGES, True, "likewise in training"),
        ),
        "stuck": (
            Check("constant_over_lowest", over, HARMLESS, False, "a constant's loss over lowest"),
        ),
        "never_fell": (
            # Where a constant is known, `stuck` knows better.
            Check(
                "learned",
                found.learned if constant is None else math.nan,
                HARMLESS,
                False,
                "first values over the lowest point",
            ),
            rises._replace(at_least=False),
        ),
        "overfitting": (rises, falls),
        "exploding_gradients": (
            spikes,
            Check(
                "preceded", found.share_preceded, PRECEDED, True, "share of them after high norms"
            ),
            Check("over_chance", chance, OVER_CHANCE, True, "that share over the one by chance"),
        ),
        "rate_never_decays": (
            _shakes(found),
            Check("rate_fall", found.rate_fall, CONSTANT_RATE, False, "highest rate over the last"),
        ),
        "not_trained_enough": (
            Check("still_gains", found.still_gains, flat, True, "fall of the trend, last quarter"),
            Check("overfit_rise", found.end_over_lowest, HARMLESS, False, "end over lowest point"),
        ),
        "few_validation_rows": (
            _shakes(found),
            Check(
                "train_calm",
                train_calm,
                THRESHOLDS["train_calm"],
                True,
                "fluctuation over that of the training loss",
            ),
            Check("moves_together", found.moves_together, APART, False, "correlation of the two"),
            # Only another set of rows could tell: this check is never known.
            Check("floor_share", math.nan, THRESHOLDS["floor_share"], True, "noise of the rows"),
        ),
    }


def _rises(found: Measures) -> Check:
    # The end of one run's trend is not more certain than its values are.
    high = max(RISES, 1.0 + found.fluctuation)
    what = "end of the trend over its lowest point"
    return Check("overfit_rise", found.end_over_lowest, high, True, what)


def _spikes(found: Measures) -> Check:
    return Check("spikes", float(len(found.spikes)), 1.0, True, "spikes above the trend")


def _shakes(found: Measures) -> Check:
    return Check("fluctuation", found.fluctuation, HEALTHY, True, "spread around the trend")


def _calm(found: Measures) -> Finding:
    checks = (
        Check("fluctuation", found.fluctuation, HEALTHY, False, "spread around the trend"),
        Check("overfit_rise", found.end_over_lowest, RISES, False, "end over lowest point"),
    )
    flat = 1.0 - math.log(max(found.end_over_lowest, 1.0)) / math.log(RISES)
    least = min(checks[0].margin, flat)
    return Finding("no_problem", confidence(least), True, checks)
