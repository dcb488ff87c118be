"""Causes that lie in the rows, of any problem whose rows are known: by what trainings without the
fault do.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from jaxopt_lab.stabilization.compare import Remedy
from jaxopt_lab.stabilization.members import (
    ON_MENDED_ROWS,
    OUTLIERS,
    SCALE,
    TARGET,
    TARGET_SCALE,
    VALIDATION,
)
from jaxopt_lab.stabilization.thresholds import SLOPES, THRESHOLDS, margin
from jaxopt_lab.stabilization.weighing import Conditions

#: Those whose losses are of other rows or in other units: compared as shares of a constant's.
OTHER_LOSSES = (OUTLIERS, TARGET, TARGET_SCALE)
_MOST = 1e6


class Mended(NamedTuple):
    """What variants on mended rows do; NaN where none was tried, except for gains, which are 1.

    Attributes:
      outliers_calm: base fluctuation over that without the rows far from all others.
      outliers_gain: base best loss over that; where validation rows are among them, both as shares
        of a constant prediction's loss (1 where nobody knows that).
      outliers_surely: the least that this is, for certain over seeds and validation rows, where the
        same rows validate; else 1.
      log_calms: base fluctuation over that on a log scale of the target.
      log_gain: base best loss over that, both as shares of a constant prediction's loss.
      scale_helps: base fluctuation, or best loss, over that on standardised inputs.
      scale_gain: of the two, best losses alone.
      unit_helps: base fluctuation, or best loss as a share of a constant prediction's, over that on
        standardised targets.
      unit_gain: of the two, best losses alone.
      valid_calms: base fluctuation over that on more validation rows.
    """

    outliers_calm: float
    outliers_gain: float
    outliers_surely: float
    log_calms: float
    log_gain: float
    scale_helps: float
    scale_gain: float
    unit_helps: float
    unit_gain: float
    valid_calms: float


def measured(remedies: Iterable[Remedy]) -> Mapping[str, float]:
    """What variants on mended rows do, by the names of `Mended`.

    Args:
      remedies: every variant compared with the base.
    """
    mine: dict[str, list[Remedy]] = {family: [] for family in ON_MENDED_ROWS}
    for remedy in remedies:
        if remedy.family in mine:
            mine[remedy.family].append(remedy)

    def calms(family: str) -> float:
        found = [r.fluctuation.value for r in mine[family]]
        return 1.0 / max(min(found), 1.0 / _MOST) if found else math.nan

    def gain(family: str) -> float:
        found = [r.loss.value for r in mine[family]]
        return 1.0 / max(min(found, default=1.0), 1.0 / _MOST)

    def helps(family: str) -> float:
        return max(calms(family), gain(family)) if mine[family] else math.nan

    surely = [r.loss.high for r in mine[OUTLIERS] if not r.shares]
    return Mended(
        outliers_calm=calms(OUTLIERS),
        outliers_gain=gain(OUTLIERS),
        outliers_surely=1.0 / max(min(surely, default=1.0), 1.0 / _MOST),
        log_calms=calms(TARGET),
        log_gain=gain(TARGET),
        scale_helps=helps(SCALE),
        scale_gain=gain(SCALE),
        unit_helps=helps(TARGET_SCALE),
        unit_gain=gain(TARGET_SCALE),
        valid_calms=calms(VALIDATION),
    )._asdict()


class OfRows(Protocol):
    """The numbers that it rests on: those of `Mended`, and what was seen of the rows."""

    @property
    def outliers_calm(self) -> float: ...
    @property
    def outliers_gain(self) -> float: ...
    @property
    def outliers_surely(self) -> float: ...
    @property
    def log_calms(self) -> float: ...
    @property
    def log_gain(self) -> float: ...
    @property
    def log_tells(self) -> float: ...
    @property
    def tail_share(self) -> float: ...
    @property
    def scale_helps(self) -> float: ...
    @property
    def scale_gain(self) -> float: ...
    @property
    def input_scale(self) -> float: ...
    @property
    def unit_helps(self) -> float: ...
    @property
    def unit_gain(self) -> float: ...
    @property
    def target_scale(self) -> float: ...


def conditions(found: OfRows) -> dict[str, Conditions]:
    """Of each cause."""
    t = THRESHOLDS
    scales: tuple[Conditions, Conditions] = (
        {
            "scale_helps": (found.scale_helps, t["rows_calm"]),
            "input_scale": (found.input_scale, t["input_scale"]),
        },
        {
            "unit_helps": (found.unit_helps, t["rows_calm"]),
            "target_scale": (found.target_scale, t["input_scale"]),
        },
    )
    return {
        "outliers": {"outliers_help": (_outliers_help(found), 1.0)},
        "heavy_tailed_target": {
            "log_helps": (_log_helps(found), 1.0),
            "tail_share": (found.tail_share, t["tail_share"]),
        },
        "bad_scale": max(scales, key=_least),
    }


def are_right(found: OfRows) -> bool:
    """Whether the rows do not keep a calm network from learning."""
    t = THRESHOLDS
    scaled = max(found.scale_gain, found.unit_gain) < t["rows_calm"]
    return scaled and _outliers_gain(found) < 1.0 and log_tells(found) < 1.0


def explain(found: OfRows) -> float:
    """By how much a curve is calmer, or a loss lower, without outliers or a heavy tail, where that
    counts; NaN where it does not.
    """
    t = THRESHOLDS
    calms = (found.outliers_calm, found.log_calms)
    most = max((x for x in calms if x >= t["rows_calm"]), default=math.nan)
    if _outliers_gain(found) >= 1.0:
        most = max(found.outliers_gain, most)
    return most


def log_tells(found: OfRows) -> float:
    """How far beyond what counts a log scale makes the loss one of all rows instead of a few, and
    one that falls further below a constant prediction's.
    """
    t = THRESHOLDS
    return min(found.log_tells / t["log_tells"], found.log_gain / t["rows_gain"])


def made_up_by_few(found: OfRows) -> float:
    """How much better the validation rows tell a loss on a log scale, where a few targets make the
    loss up: no number of rows is enough for that; NaN where they do not.
    """
    heavy = found.tail_share >= THRESHOLDS["tail_share"] and log_tells(found) >= 1.0
    return found.log_tells if heavy else math.nan


def _log_helps(found: OfRows) -> float:
    """How far a log scale of the target is beyond what counts; NaN where not tried."""
    calms = found.log_calms / THRESHOLDS["rows_calm"]
    return calms if math.isnan(calms) else max(calms, log_tells(found))


def _outliers_gain(found: OfRows) -> float:
    """How far the loss without outliers is beyond what counts, for certain or by so much that it
    counts without that.
    """
    t = THRESHOLDS
    return max(found.outliers_gain / t["rows_gain"], found.outliers_surely / t["rows_surely"])


def _outliers_help(found: OfRows) -> float:
    """How far the curve, or the loss, without outliers is beyond what counts; NaN without any."""
    calms = found.outliers_calm / THRESHOLDS["rows_calm"]
    return calms if math.isnan(calms) else max(calms, _outliers_gain(found))


def _least(mine: Conditions) -> float:
    """Margin of the weakest condition; the lowest of all where one is not known."""
    if any(math.isnan(value) for value, _ in mine.values()):
        return -math.inf
    return min(SLOPES.get(name, 1.0) * margin(*numbers) for name, numbers in mine.items())
