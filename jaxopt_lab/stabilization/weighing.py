"""Which causes the evidence speaks for, which it does not, and by which number.

A cause has conditions: a number of evidence and the threshold that it must reach. The margin of a
condition is log(number / threshold), times `SLOPES` where small differences matter; that of a cause
is its weakest condition's, and its confidence is 1 / (1 + exp(-2 margin)).
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxopt_lab.stabilization.thresholds import SLOPES, confidence, margin

#: Name of a number -> the number, and the threshold that it must reach.
Conditions = Mapping[str, tuple[float, float]]


class Cause(NamedTuple):
    """A verdict, or what was rejected.

    Attributes:
      name: of the cause.
      confidence: in [0, 1]; below 0.5 a condition does not hold.
      evidence: the numbers that it rests on.
      thresholds: what each of them must reach; of numbers that only describe there is none.
      rows: indices of the rows that it lies in, where it lies in single ones.
    """

    name: str
    confidence: float
    evidence: dict[str, float]
    thresholds: Mapping[str, float] = {}
    rows: tuple[int, ...] = ()

    @property
    def failed(self) -> dict[str, tuple[float, float]]:
        """The conditions that do not hold."""
        found = {k: (self.evidence[k], least) for k, least in self.thresholds.items()}
        return {k: numbers for k, numbers in found.items() if numbers[0] < numbers[1]}

    @property
    def why_not(self) -> str:
        """What speaks against it."""
        if not self.failed:
            return "a verdict comes before it"
        return "; ".join(_short_of(name, *both) for name, both in self.failed.items())

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        found = {
            "name": self.name,
            "confidence": self.confidence,
            "evidence": self.evidence,
            "thresholds": dict(self.thresholds),
        }
        return {**found, "rows": list(self.rows)} if self.rows else found


def _short_of(name: str, value: float, least: float) -> str:
    """With as many digits as tell the two numbers apart."""
    digits = next((n for n in range(3, 9) if f"{value:.{n}g}" != f"{least:.{n}g}"), 9)
    return f"{name} {value:.{digits}g}, at least {least:.{digits}g} needed"


def weigh(conditions: Mapping[str, Conditions]) -> list[Cause]:
    """Each cause with its confidence, most certain first; of equal ones the first given.

    Args:
      conditions: of each cause. A number that is not known (NaN) is left out; without its first
        number, which is what it is about, a cause is left out.
    """
    found = []
    for name, mine in conditions.items():
        known = {k: numbers for k, numbers in mine.items() if not math.isnan(numbers[0])}
        if next(iter(mine)) not in known:
            continue
        least = min(SLOPES.get(k, 1.0) * margin(*numbers) for k, numbers in known.items())
        evidence = {key: value for key, (value, _) in known.items()}
        thresholds = {key: threshold for key, (_, threshold) in known.items()}
        found.append(Cause(name, confidence(least), evidence, thresholds))
    return sorted(found, key=lambda cause: -cause.confidence)


def decided(causes: list[Cause], described: dict[str, float]) -> list[Cause]:
    """The causes that hold; where none does, that none was found.

    Args:
      causes: weighed.
      described: numbers that go with "no single cause".
    """
    certain = [cause for cause in causes if cause.confidence >= 0.5]
    if certain:
        return certain
    doubt = 1.0 - max((cause.confidence for cause in causes), default=0.0)
    return [Cause("no_single_cause", round(doubt, 3), described)]
