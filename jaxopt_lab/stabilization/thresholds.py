"""What the numbers of curves and cures are held against, and how far a number is beyond it.

Those of causes were set on the setting half of the cases of `scripts/bench_stabilize.py`; the other
half reports.
"""

import math

#: A cure calms if it takes the fluctuation to this share or less, certainly below 1.
CALMER = 0.8
#: Best validation loss may rise by this factor; beyond `STOPPED` a calm curve has stopped learning.
HARMLESS, STOPPED = 1.02, 1.05
#: A cure that takes the best loss to this share frees a network that was stuck.
FREES = 0.75
#: Within this factor of the best cure's loss, the smaller change is better.
NEAR_BEST = 1.05
#: A fix does its job if it divides the fluctuation by this, or makes it calm.
GOAL_RATIO = 3.0
#: A validation loss that stays within 4 % of its trend is calm, if that much can be gained; where
#: less can, within 4 % of that, or of this share of the loss: see `gain`.
HEALTHY, LEAST_SHARE = 0.04, 0.3
#: A validation loss that ends this many times above the lowest point of its trend overfits.
RISES = 1.12
#: And its training loss falls at least by this factor in the second half.
STILL_FALLS = 1.02
#: Against that, a cure must lower the end of the curve to this share or less.
LOWER = 0.9
#: Practice takes 32 to 128 rows to a batch. A larger one makes fewer updates in as many epochs and
#: overfits less, whatever it was: only a batch below half of those is to blame for a rise.
USUAL_BATCH = 16
#: Half of a 95 % interval, log scale, that validation rows leave in a loss: beyond it, it is said.
UNTOLD = 0.25
#: Thresholds of evidence; what each number is stands in `diagnose.Evidence`.
THRESHOLDS = {
    "rate_calms": 1.3,
    "rate_gain": 1.05,
    "rate_edge": 1.3,
    "edge_calms": GOAL_RATIO,
    "batch_rate": 1.05,
    "over_constant": 1.0 / HARMLESS,
    "clipped_tail": 15.0,
    "clip_helps": 1.3,
    "tail_stays": 0.5,
    "batch_calms": 1.5,
    "noise_over_batch": 4.0,
    "b2_calms": 1.3,
    "overfit_rise": RISES,
    "floor_share": 0.8,
    "above_floor": 1.2,
    "train_calm": 1.5,
    "decay_calms": 5.0,
    "decay_gain": 1.02,
    "noise_of_small": 16.0,
    "warmup_gain": 1.3,
    "more": 1.1,
    "rows_calm": 1.5,
    "rows_gain": 1.3,
    "rows_surely": 1.05,
    "tail_share": 0.01,
    "log_tells": 2.0,
    "input_scale": 10.0,
    "other_undone": 1.3,
    "both_gain": 1.05,
}
#: Where small differences matter, margins count so many times.
SLOPES = {
    "rate_gain": 5.0,
    "rate_is_right": 10.0,
    "over_constant": 10.0,
    "decay_gain": 5.0,
    "both_gain": 5.0,
    "b2_calms": 1.5,
    "overfit_rise": 3.0,
    "does_not_rise": 3.0,
    "train_fall": 10.0,
}


def margin(value: float, threshold: float) -> float:
    """How far evidence is above its threshold, log scale."""
    return math.log(max(value, 1e-9) / threshold)


def confidence(least: float) -> float:
    """Of a cause whose weakest condition has this margin."""
    return round(1.0 / (1.0 + math.exp(-min(max(2.0 * least, -30.0), 30.0))), 3)
