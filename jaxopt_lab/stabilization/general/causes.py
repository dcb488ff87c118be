"""Why a curve fluctuates, from the ladder of rates, the shape of curves and what cures do.

Conditions and confidences are those of `stabilization.diagnose`, as far as a problem has the
evidence: a condition whose number is not known (NaN) is left out. Without a tail of gradient norms,
clipping must help more than a lower rate to be the answer; without a curve of training, a rise is
not called overfitting. Nothing is called calm while a lower rate, one that decays, or clipping ends
better, and where no condition holds no cause is named.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxopt_lab.core.results import Result
from jaxopt_lab.stabilization import diagnose, of_rows
from jaxopt_lab.stabilization.compare import Remedy, mean, overfits, that_learn
from jaxopt_lab.stabilization.decay import explains_less, never_decays
from jaxopt_lab.stabilization.edge import batch_rate, does_not_fail, edge_calms, is_near
from jaxopt_lab.stabilization.edge import conditions as of_edge
from jaxopt_lab.stabilization.fluctuation import MIN_POINTS, measure
from jaxopt_lab.stabilization.gain import (
    batch_explains_less,
    batch_rise,
    cost_of_shaking,
    described,
    end_gain,
    is_flat,
    is_tiny,
    lower_rate_gains,
    of_flat,
    or_nothing,
    shaking_first,
)
from jaxopt_lab.stabilization.general.knobs import Knobs
from jaxopt_lab.stabilization.rows import SOUND, Faults
from jaxopt_lab.stabilization.signs import MOST, middle, still_learn, surely_calmer
from jaxopt_lab.stabilization.summary import Summary
from jaxopt_lab.stabilization.thresholds import (
    GOAL_RATIO,
    HARMLESS,
    HEALTHY,
    STILL_FALLS,
    THRESHOLDS,
    UNTOLD,
    margin,
)
from jaxopt_lab.stabilization.weighing import Cause, Conditions, decided, weigh

#: Families of cures that act on a cause.
CURES_OF = diagnose.CURES_OF
#: Clipping or warm-up must help so much more than a lower rate does.
_MORE_THAN_RATE = 1.1


class Evidence(NamedTuple):
    """The numbers that verdicts rest on, as in `diagnose.Evidence`; NaN where nobody knows.

    Attributes:
      fluctuation: of the base.
      num_spikes: of the base, mean.
      rate_calms: base fluctuation over that at the calmest lower rate that loses nothing.
      rate_gain: base level over the best at a lower rate.
      rate_edge: level at three times the rate over the base's.
      divergence_factor: the least factor on the ladder at which training fails; inf if none.
      clip_calms: base fluctuation over that with the calmest clipping that loses nothing and is
        calmer for certain, over seeds.
      clip_gain: base level over the best with clipping.
      batch_calms: base fluctuation over that with four times the batch, if that is calmer for
        certain, over seeds, and not because it has hardly learned; else 1.
      noise_over_batch: gradient noise scale over the batch size.
      b2_calms: base fluctuation over that at the calmest slower second moment that loses nothing.
      b2_memory: steps that the second moment remembers, 1 / (1 - b2).
      warmup_calms: base fluctuation over that with warm-up.
      warmup_gain: base level over that with warm-up.
      overfit_rise: end of the curve's trend over that trend's lowest point.
      train_fall: training loss at the middle over that at the end, from its trend.
      b2_gain: base level over the best with a slower second moment.
      decay_calms: base fluctuation over that with a rate that decays, if that loses nothing.
      decay_gain: base level over that.
      calm_limit: fluctuation up to which the curve is calm: see `gain`.
      gain_limit: fluctuation up to which it is small beside what training gains: see `gain`.
      undone: base fluctuation over that with the cure that does its job best, 1 where none does;
        NaN where none was tried.
      shaking_costs: base level over the best of what only shakes less, if that is certainly better.
      rate_end: where the base overfits, its final level over the lowest at a lower rate that is
        three times calmer and loses nothing; else 1.
      dropout_calms: base fluctuation over that at the calmest regularisation that loses nothing.
      rows_tell: half of the 95 % interval, log scale, that the choice of validation rows alone
        leaves around the base's last loss.
      edge_calms: base fluctuation over that at the calmest lower rate that ends no higher: see
        `edge`.
      batch_rate: level of a larger batch with the rate that goes with it over the base's.
      batch_rows: rows of a batch.
      batch_rise: end over lowest point of the larger batch that rises least: see `gain`.
      over_usual: learning rate over the highest of practice: see `edge`.
      over_constant: base level over that of learning nothing.
      train_fluctuation: of the training loss.
      tail_share: see `diagnose.Evidence`, as all that follow.
    """

    fluctuation: float
    num_spikes: float
    rate_calms: float
    rate_gain: float
    rate_edge: float
    divergence_factor: float
    clip_calms: float
    clip_gain: float
    batch_calms: float
    noise_over_batch: float
    b2_calms: float
    b2_memory: float
    warmup_calms: float
    warmup_gain: float
    overfit_rise: float
    train_fall: float
    b2_gain: float = math.nan
    decay_calms: float = math.nan
    decay_gain: float = math.nan
    calm_limit: float = HEALTHY
    gain_limit: float = HEALTHY
    undone: float = math.nan
    shaking_costs: float = 1.0
    rate_end: float = 1.0
    dropout_calms: float = 1.0
    rows_tell: float = math.nan
    edge_calms: float = 1.0
    batch_rate: float = math.nan
    batch_rows: float = math.nan
    batch_rise: float = math.nan
    over_usual: float = math.nan
    over_constant: float = math.nan
    train_fluctuation: float = math.nan
    tail_share: float = math.nan
    input_scale: float = 1.0
    target_scale: float = math.nan
    outliers_calm: float = math.nan
    outliers_gain: float = 1.0
    outliers_surely: float = 1.0
    log_calms: float = math.nan
    log_gain: float = 1.0
    log_tells: float = 1.0
    scale_helps: float = math.nan
    scale_gain: float = 1.0
    unit_helps: float = math.nan
    unit_gain: float = 1.0
    valid_calms: float = math.nan


def gather(
    base: Summary,
    results: list[Result],
    remedies: Mapping[str, Remedy],
    failed: list[float],
    knobs: Knobs,
    limits: tuple[float, float] = (HEALTHY, HEALTHY),
    undone: float = math.nan,
    idle: float | None = None,
    faults: Faults = SOUND,
    on_logs: Sequence[Result] = (),
) -> Evidence:
    """Collect the evidence.

    Args:
      base: the base's trainings.
      results: the same, with what was probed.
      remedies: every other member compared with the base, by name.
      failed: factors of the ladder at which training fails.
      knobs: of the base.
      limits: `calm_limit` and `gain_limit` of the evidence.
      undone: see `Evidence`.
      idle: level of learning nothing; None where nobody knows.
      faults: what was seen of the rows.
      on_logs: the base's trainings on a log scale of the target, with what was probed.
    """

    learning = that_learn(remedies, base, idle)

    def of(*families: str) -> list[Remedy]:
        return [r for r in learning.values() if r.family in families]

    def calms(mine: list[Remedy]) -> float:
        return _over(min((r.fluctuation.value for r in mine), default=math.nan))

    def gain(mine: list[Remedy]) -> float:
        return _over(min((r.loss.value for r in mine), default=math.nan))

    def harmlessly(mine: list[Remedy]) -> float:
        """Where all of them lose something, none calms."""
        found = calms([r for r in mine if r.loss.value <= HARMLESS])
        return max(_known(found), 1.0) if mine else math.nan

    batch_size, b2 = knobs.value("batch_size"), knobs.value("b2")
    lower = [r for r in of("learning rate") if r.name.startswith("learning rate ÷")]
    edge, batch = remedies.get("learning rate ×3"), learning.get("batch ×4")
    noise = [float(r.probed["noise_scale"]) for r in results if "noise_scale" in r.probed]
    known = bool(noise) and batch_size is not None
    errors, log_errors = (
        [float(r.probed["loss_error"]) for r in mine if "loss_error" in r.probed]
        for mine in (results, on_logs)
    )
    surer = middle(errors) / max(middle(log_errors), 1e-9) if errors and log_errors else 1.0
    return Evidence(
        fluctuation=mean(base.fluctuation),
        num_spikes=float(np.mean(base.num_spikes)),
        rate_calms=harmlessly(lower),
        rate_gain=gain(lower),
        rate_edge=min(edge.loss.value, MOST) if edge else math.nan,
        divergence_factor=min(failed, default=math.inf if edge else math.nan),
        clip_calms=_known(harmlessly(surely_calmer(of("clip")))) if of("clip") else math.nan,
        clip_gain=gain(of("clip")),
        batch_calms=_known(calms(still_learn(surely_calmer([batch])))) if batch else math.nan,
        noise_over_batch=middle(noise) / batch_size if known and batch_size else math.nan,
        b2_calms=harmlessly(of("b2")),
        b2_memory=math.nan if b2 is None or not 0 <= b2 < 1 else 1.0 / (1.0 - b2),
        warmup_calms=calms(of("warm-up")),
        warmup_gain=gain(of("warm-up")),
        overfit_rise=base.end_over_lowest,
        train_fall=base.train_fall,
        b2_gain=gain(of("b2")),
        decay_calms=harmlessly(of("schedule")),
        decay_gain=gain(of("schedule")),
        calm_limit=limits[0],
        gain_limit=limits[1],
        undone=undone,
        shaking_costs=cost_of_shaking(
            remedies.values(), knobs.base, knobs.names.get("learning_rate", "")
        ),
        rate_end=end_gain(lower) if overfits(base) else 1.0,
        dropout_calms=_known(harmlessly(of("regularisation"))),
        rows_tell=1.96 * middle(errors) if errors else math.nan,
        edge_calms=edge_calms(lower),
        batch_rate=batch_rate(of("batch"), knobs.names.get("learning_rate", "")),
        batch_rows=math.nan if batch_size is None else batch_size,
        batch_rise=batch_rise(of("batch")),
        over_constant=float(np.mean(base.best)) / idle if idle else math.nan,
        train_fluctuation=_of_training(results),
        tail_share=faults.tail_share,
        input_scale=faults.input_scale,
        target_scale=faults.target_scale,
        log_tells=surer,
        **of_rows.measured(remedies.values()),
    )


def verdict(found: Evidence) -> list[Cause]:
    """The causes that the evidence speaks for, most certain first; at least one."""
    t = THRESHOLDS
    held_back = {
        "rate_gain": margin(_known(found.rate_gain), t["rate_gain"]),
        "clip_gain": margin(_known(found.clip_gain), t["clip_helps"]),
    }
    rows_are_right = of_rows.are_right(found) and not _too_few_rows(found)
    if is_flat(found) and max(held_back.values()) < 0 and rows_are_right:
        return of_flat(found, weighed(found))
    causes = shaking_first(decided(weighed(found), described(found)), found)
    return or_nothing(causes, found)


def weighed(found: Evidence) -> list[Cause]:
    """Every cause with its confidence, most certain first."""
    t = THRESHOLDS
    # Without clipping or warm-up training may also be stuck: calm, but at a bad level.
    clip = max(_known(found.clip_calms), _known(found.clip_gain))
    warm = max(_known(found.warmup_calms), _known(found.warmup_gain))
    rate = max(_known(found.rate_calms), _known(found.rate_gain))
    rate_gain = max(_known(found.rate_gain), 1.0)
    gains = lower_rate_gains(found)
    near = is_near(found) and gains < t["rate_gain"]
    lower: Conditions = {
        # A rate at which nothing is learned need not shake.
        "rate_helps": (max(found.rate_calms, found.rate_gain), t["rate_calms"]),
        "rate_gain": (gains, t["rate_gain"]),
    }
    conditions: dict[str, Conditions] = {
        "learning_rate_too_high": {
            **(of_edge(found) if near else lower),
            "rate_is_not_clip": (rate * _MORE_THAN_RATE / clip, 1.0),
        },
        "exploding_gradients": {
            "clip_helps": (_if_known(found.clip_gain, clip), t["clip_helps"]),
            "clip_over_rate": (clip / rate, _MORE_THAN_RATE),
            # Updates that are too large on single rows are so because of the rows.
            "rows_explain_less": (clip / of_rows.explain(found), _MORE_THAN_RATE),
        },
        "small_batch_noise": {
            "batch_calms": (found.batch_calms, t["batch_calms"]),
            "noise_over_batch": (found.noise_over_batch, t["noise_over_batch"]),
            # A batch that shakes the weights makes the floor, too: it does not explain a tiny one.
            "above_floor": (math.nan if is_tiny(found) else _above_floor(found), t["above_floor"]),
            "clip_frees_nothing": (t["clip_helps"] / _known(found.clip_gain), 1.0),
            "rate_is_right": (t["rate_gain"] / rate_gain, 1.0),
            "rate_does_not_fail": (does_not_fail(found) if near else math.nan, 1.0),
        },
        "second_moment_too_fast": {
            "b2_calms": (found.b2_calms, t["b2_calms"]),
            "memory": (100.0 / found.b2_memory, 1.0),
            "decay_explains_less": (explains_less(found, _above_floor(found)), 1.0),
        },
        "rate_never_decays": never_decays(found, _above_floor(found)),
        "warm_up_missing": {
            "warmup_helps": (_if_known(found.warmup_gain, warm), t["rate_calms"]),
            "warmup_over_rate": (warm / rate, _MORE_THAN_RATE),
        },
        "overfitting": {
            "overfit_rise": (found.overfit_rise, t["overfit_rise"]),
            "train_fall": (_if_known(found.train_fall, found.train_fall, 0.0), STILL_FALLS),
            "clip_frees_nothing": (t["clip_helps"] / _known(found.clip_gain), 1.0),
        },
    }
    return weigh({**conditions, **_of_rows(found)})


def _of_rows(found: Evidence) -> dict[str, Conditions]:
    """Causes that lie in the rows, of problems whose rows are known."""
    t = THRESHOLDS
    return {
        "evaluation_noise": {
            "rows_explain": (_rows_explain(found), 1.0),
            "train_calm": (found.fluctuation / found.train_fluctuation, t["train_calm"]),
            "rate_is_right": (t["rate_gain"] / _known(found.rate_gain), 1.0),
            "batch_explains_less": (batch_explains_less(found), 1.0),
            "target_explains_less": (t["log_tells"] / of_rows.made_up_by_few(found), 1.0),
        },
        **of_rows.conditions(found),
    }


def floor_share(found: Evidence) -> float:
    """Share of the fluctuation that the choice of validation rows makes, by what more of them take
    away: variances add. NaN where more were not tried.
    """
    calms = max(found.valid_calms, 1.0) if not math.isnan(found.valid_calms) else math.nan
    return math.sqrt(1.0 - 1.0 / calms**2)


def _above_floor(found: Evidence) -> float:
    """Fluctuation over what the choice of validation rows alone makes; NaN where nobody knows."""
    share = floor_share(found)
    return 1.0 / max(share, 1e-3) if not math.isnan(share) else math.nan


def _rows_explain(found: Evidence) -> float:
    """How far more validation rows are beyond what counts; of a loss that these cannot tell by far,
    less must be seen.
    """
    untold = found.rows_tell >= 2 * UNTOLD
    return found.valid_calms / (THRESHOLDS["rows_calm"] if untold else GOAL_RATIO)


def _too_few_rows(found: Evidence) -> bool:
    """Whether a calm loss is one of too few validation rows."""
    return found.rows_tell >= 2 * UNTOLD and found.valid_calms >= THRESHOLDS["rows_calm"]


def _of_training(results: Sequence[Result]) -> float:
    """Fluctuation of the training loss; NaN where there is none above 0."""
    curves = [np.ravel(r.curves["train_loss"]) for r in results if "train_loss" in r.curves]
    known = [c for c in curves if len(c) >= MIN_POINTS and np.isfinite(c).all() and (c > 0).all()]
    if not known or len(known) < len(results):
        return math.nan
    return max(mean(np.asarray([measure(curve).spread for curve in known])), 1e-12)


def _over(ratio: float) -> float:
    return math.nan if math.isnan(ratio) else 1.0 / max(ratio, 1.0 / MOST)


def _known(value: float) -> float:
    """1, which says nothing, where a number is not known."""
    return 1.0 if math.isnan(value) else max(value, 1.0 / MOST)


def _if_known(value: float, then: float, otherwise: float = math.nan) -> float:
    return otherwise if math.isnan(value) else then
