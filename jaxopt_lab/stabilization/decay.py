"""When it is the decay of the rate that is missing: by what decays do, and what nothing else does.

A rate that decays calms whatever shakes. It is what is missing only where it ends better, too, and
where no lower constant rate, larger batch or slower second moment explains as much. A rise is
explained by what overfits, and speaks against it unless the curve shakes by itself.
"""

import math
from typing import Protocol

from jaxopt_lab.stabilization.edge import OfEdge, does_not_fail
from jaxopt_lab.stabilization.gain import Rising, lower_rate_gains, shakes_by_itself
from jaxopt_lab.stabilization.thresholds import THRESHOLDS
from jaxopt_lab.stabilization.weighing import Conditions


class OfDecay(Rising, OfEdge, Protocol):
    """The numbers that it rests on: see `diagnose.Evidence`; NaN where nobody knows."""

    @property
    def decay_calms(self) -> float: ...
    @property
    def decay_gain(self) -> float: ...
    @property
    def noise_over_batch(self) -> float: ...
    @property
    def batch_calms(self) -> float: ...
    @property
    def b2_calms(self) -> float: ...
    @property
    def b2_gain(self) -> float: ...
    @property
    def clip_gain(self) -> float: ...


def never_decays(found: OfDecay, above_floor: float) -> Conditions:
    """Of `rate_never_decays`.

    Args:
      found: evidence.
      above_floor: fluctuation over the noise floor of the validation rows; NaN where not known.
    """
    t = THRESHOLDS
    # Much noise is the batch's fault where a larger one calms.
    batch = (t["noise_of_small"] / found.noise_over_batch, t["batch_calms"] / found.batch_calms)
    rises = 1.0 if shakes_by_itself(found) else found.overfit_rise
    # A slower second moment may calm a little as well; of the two, what explains more is missing.
    second = (t["b2_calms"] / found.b2_calms, _beyond_b2(found))
    return {
        "decay_calms": (found.decay_calms, t["decay_calms"]),
        "decay_gain": (found.decay_gain, t["decay_gain"]),
        # A lower constant rate loses.
        "rate_is_right": (t["rate_gain"] / lower_rate_gains(found), 1.0),
        # One that nearly fails is too high, and decays do what a lower one does.
        "rate_does_not_fail": (does_not_fail(found), 1.0),
        "batch_is_right": (_most(batch), 1.0),
        "b2_is_right": (_most(second), 1.0),
        "clip_frees_nothing": (t["clip_helps"] / found.clip_gain, 1.0),
        "above_floor": (above_floor, t["above_floor"]),
        "does_not_rise": (t["overfit_rise"] / rises, 1.0),
    }


def explains_less(found: OfDecay, above_floor: float) -> float:
    """Below 1 where the decay that is missing explains more than the second moment does.

    Args:
      found: evidence.
      above_floor: see `never_decays`.

    Returns:
      NaN where it is not the decay that is missing.
    """
    conditions = never_decays(found, above_floor).values()
    missing = all(value >= least for value, least in conditions if not math.isnan(value))
    known = not math.isnan(found.decay_calms)
    return 1.0 / _beyond_b2(found) if missing and known else math.nan


def _beyond_b2(found: OfDecay) -> float:
    """1 where decays are five times calmer than slower second moments, and end 2 % better."""
    t = THRESHOLDS
    calms = found.decay_calms / max(found.b2_calms, 1.0) / t["decay_calms"]
    gains = found.decay_gain / max(found.b2_gain, 1.0) / t["decay_gain"]
    return min(calms, gains)


def _most(values: tuple[float, float]) -> float:
    """The larger of those that are known."""
    return max((value for value in values if not math.isnan(value)), default=math.nan)
