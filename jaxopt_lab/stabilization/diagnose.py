"""Why a validation loss fluctuates: evidence from probes, and the causes it speaks for.

How numbers and thresholds become confidences is `weighing`'s.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxopt_lab.core.results import Result
from jaxopt_lab.core.types import Config
from jaxopt_lab.stabilization import of_rows
from jaxopt_lab.stabilization.compare import (
    Remedy,
    mean,
    overfits,
    row_uncertainty,
    that_learn,
    times_surer,
)
from jaxopt_lab.stabilization.decay import explains_less, never_decays
from jaxopt_lab.stabilization.edge import (
    batch_rate,
    does_not_fail,
    edge_calms,
    is_near,
    over_usual,
)
from jaxopt_lab.stabilization.edge import conditions as of_edge
from jaxopt_lab.stabilization.fluctuation import measure
from jaxopt_lab.stabilization.gain import (
    batch_explains_less,
    batch_rise,
    cost_of_shaking,
    described,
    end_gain,
    is_calm,
    is_flat,
    is_tiny,
    lower_rate_gains,
    of_flat,
    or_nothing,
    shaking_first,
)
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
)
from jaxopt_lab.stabilization.weighing import Cause, Conditions, decided, weigh

#: Families of cures that act on a cause.
CURES_OF: dict[str, tuple[str, ...]] = {
    "learning_rate_too_high": ("learning rate",),
    "exploding_gradients": ("clip", "adaptive clip"),
    "small_batch_noise": ("batch", "average"),
    "second_moment_too_fast": ("b2",),
    "overfitting": ("regularisation",),
    "evaluation_noise": ("validation", "average"),
    "rate_never_decays": ("schedule", "average"),
    "warm_up_missing": ("warm-up",),
    "outliers": ("outliers", "clip"),
    "heavy_tailed_target": ("target", "clip"),
    "bad_scale": ("scale", "target scale"),
    "learns_nothing": ("learning rate", "scale", "target scale"),
    "no_problem": (),
    "no_single_cause": (),
}
#: A calm network whose gradients have such a tail may be stuck: clipping is tried all the same.
STUCK_TAIL = 10.0
#: One of rate and clipping may gain so much more than the other before that is not to blame.
_TIE = 1.5


class Evidence(NamedTuple):
    """The numbers that verdicts rest on; geometric means over seeds.

    Attributes:
      fluctuation: of the base.
      noise_floor: of the base.
      num_spikes: of the base, mean.
      train_fluctuation: of the training loss by whole epochs.
      rate_calms: base fluctuation over that at the calmest lower rate whose best loss is no worse.
      rate_gain: base best loss over the best at a lower rate.
      rate_edge: best loss at three times the rate over the base's.
      divergence_factor: the least factor on the ladder at which training fails; inf if none.
      sharpness_ratio: sharpness over the stability threshold.
      norm_tail: 99.9 % quantile of late gradient norms over their median.
      tail_stays: tail of the gradient norms at the lower rate whose best loss is the best, over the
        base's; NaN without one.
      clip_calms: base fluctuation over that with the calmest clipping that loses nothing and is
        calmer for certain, over seeds.
      clip_gain: base best loss over the best with clipping.
      batch_calms: base fluctuation over that with four times the batch, if that is calmer for
        certain, over seeds, and not because it has hardly learned; else 1.
      batch_gain: base best loss over the best with a larger batch at the same rate.
      noise_over_batch: gradient noise scale over the batch size.
      b2_calms: base fluctuation over that at the calmest slower second moment whose best loss is no
        worse.
      b2_gain: base best loss over the best with a slower second moment.
      b2_memory: steps that the second moment remembers, 1 / (1 - b2).
      overfit_rise: end of the validation curve's trend over that trend's lowest point.
      train_fall: training loss at the middle over that at the end, from its trend.
      decay_calms: base fluctuation over that at the calmest schedule that decays, or of averaged
        weights, which take the noise of a constant rate away as a decay does, among those that lose
        nothing; NaN where the base's own rate decays or its weights are averaged.
      decay_gain: base best loss over the best of those.
      warmup_gain: base best loss over that with warm-up; NaN where the base warms up.
      outliers_calm: base fluctuation over that without the rows far from all others; NaN where
        there are none.
      outliers_gain: base best loss over that; where validation rows are among them, both as shares
        of a constant prediction's loss (1 where nobody knows that).
      outliers_surely: the least that this is, for certain over seeds and validation rows, where the
        same rows validate; else 1.
      tail_share: share of the targets that lie far from their middle; NaN of classes.
      log_calms: base fluctuation over that on a log scale of the target; NaN where not tried.
      log_gain: base best loss over that, both as shares of a constant prediction's loss.
      log_tells: standard error that the choice of validation rows leaves in the base's best loss
        over that on a log scale: by how much a few rows make up the loss.
      input_scale: root mean square of the largest input column, or one over it if that is greater.
      scale_helps: base fluctuation, or best loss, over that on standardised inputs; NaN where not
        tried.
      scale_gain: of the two, best losses alone.
      target_scale: root mean square of the targets; NaN of classes.
      unit_helps: base fluctuation, or best loss as a share of a constant prediction's, over that on
        standardised targets; NaN where not tried.
      unit_gain: of the two, best losses alone.
      calm_limit: fluctuation up to which the curve is calm: see `gain`.
      gain_limit: fluctuation up to which it is small beside what training gains: see `gain`.
      undone: base fluctuation over that with the cure that does its job best, 1 where none does;
        NaN where none was tried.
      shaking_costs: base best loss over the best of what only shakes less, if that is certainly
        better: see `gain`.
      floor_error: standard error of the noise floor over it, which is as that of a standard
        deviation of so many validation rows.
      valid_calms: base fluctuation over that on more validation rows; NaN where not tried.
      rows_tell: half of the 95 % interval, log scale, that the choice of validation rows alone
        leaves around the base's best loss.
      rate_end: where the base overfits, its final loss over the lowest at a lower rate that is
        three times calmer and whose best loss is no worse; else 1.
      dropout_calms: base fluctuation over that at the calmest dropout or L2 whose best loss is no
        worse.
      edge_calms: base fluctuation over that at the calmest lower rate that ends no higher: see
        `edge`.
      batch_rate: best loss of a larger batch with the rate that goes with it over the base's.
      batch_rows: rows of a batch; NaN where nobody knows.
      batch_rise: end over lowest point of the larger batch that rises least: see `gain`.
      over_usual: learning rate over the highest of practice: see `edge`.
      over_constant: base best loss over a constant prediction's; NaN where nobody knows that.
    """

    fluctuation: float
    noise_floor: float
    num_spikes: float
    train_fluctuation: float
    rate_calms: float
    rate_gain: float
    rate_edge: float
    divergence_factor: float
    sharpness_ratio: float
    norm_tail: float
    clip_calms: float
    clip_gain: float
    batch_calms: float
    noise_over_batch: float
    b2_calms: float
    b2_memory: float
    overfit_rise: float
    train_fall: float
    tail_stays: float = math.nan
    batch_gain: float = 1.0
    b2_gain: float = 1.0
    decay_calms: float = math.nan
    decay_gain: float = math.nan
    warmup_gain: float = math.nan
    outliers_calm: float = math.nan
    outliers_gain: float = 1.0
    outliers_surely: float = 1.0
    tail_share: float = math.nan
    log_calms: float = math.nan
    input_scale: float = 1.0
    scale_helps: float = math.nan
    scale_gain: float = 1.0
    calm_limit: float = HEALTHY
    gain_limit: float = HEALTHY
    undone: float = math.nan
    shaking_costs: float = 1.0
    floor_error: float = 0.0
    valid_calms: float = math.nan
    log_gain: float = 1.0
    log_tells: float = 1.0
    rows_tell: float = 0.0
    rate_end: float = 1.0
    dropout_calms: float = 1.0
    edge_calms: float = 1.0
    batch_rate: float = math.nan
    batch_rows: float = math.nan
    batch_rise: float = math.nan
    over_usual: float = math.nan
    over_constant: float = math.nan
    target_scale: float = math.nan
    unit_helps: float = math.nan
    unit_gain: float = 1.0


def gather(
    base: Summary,
    results: list[Result],
    remedies: Mapping[str, Remedy],
    failed: list[float],
    evaluations: int,
    faults: Faults = SOUND,
    limits: tuple[float, float] = (HEALTHY, HEALTHY),
    undone: float = math.nan,
    num_valid: int | None = None,
    on_logs: Summary | None = None,
    constant: float | None = None,
) -> Evidence:
    """Collect the evidence.

    Args:
      base: the base's trainings.
      results: the same, with what the probe measured.
      remedies: every other member compared with the base, by name.
      failed: factors of the ladder at which training fails.
      evaluations: per epoch.
      faults: what was seen of the rows.
      limits: `calm_limit` and `gain_limit` of the evidence.
      undone: see `Evidence`.
      num_valid: validation rows; None: as many as leave no doubt about their noise.
      on_logs: the base's trainings on a log scale of the target, if there are any.
      constant: loss of a constant prediction; None where nobody knows.
    """

    learning = that_learn(remedies, base, constant)

    def of(*families: str) -> list[Remedy]:
        return [r for r in learning.values() if r.family in families]

    def calms(*families: str) -> float:
        mine = [r.fluctuation.value for r in of(*families)]
        return 1.0 / max(min(mine), 1.0 / MOST) if mine else 1.0

    def calmest(mine: list[Remedy]) -> float:
        return 1.0 / max(min((r.fluctuation.value for r in mine), default=1.0), 1.0 / MOST)

    def harmlessly(mine: list[Remedy]) -> float:
        return calmest([r for r in mine if r.loss.value <= HARMLESS])

    def if_tried(family: str, value: float) -> float:
        return value if of(family) else math.nan

    def gain(mine: list[Remedy]) -> float:
        return 1.0 / max(min((r.loss.value for r in mine), default=1.0), 1.0 / MOST)

    def ratio(name: str, kind: str) -> float:
        return float(getattr(remedies[name], kind).value) if name in remedies else 1.0

    config = results[0].job.config
    by_epoch = [r.curves["train_loss"].reshape(-1, evaluations).mean(axis=1) for r in results]
    probed = [r.probed for r in results]
    lower = [
        r for r in of("learning rate") if 0 < r.settings["learning_rate"] < config["learning_rate"]
    ]
    adaptive = config["optimizer"] in ("adam", "adamw", "rmsprop", "lion")
    decays = [] if settles(config) else of("schedule", "average")
    return Evidence(
        fluctuation=mean(base.fluctuation),
        noise_floor=mean(base.noise_floor),
        num_spikes=float(np.mean(base.num_spikes)),
        train_fluctuation=mean(np.asarray([_spread(c) for c in by_epoch])),
        rate_calms=harmlessly(lower),
        rate_gain=gain(lower),
        rate_edge=min(ratio("learning rate ×3", "loss"), MOST),
        divergence_factor=min(failed, default=math.inf),
        sharpness_ratio=middle([float(p["sharpness"] / p["threshold"]) for p in probed]),
        norm_tail=mean(base.norm_tail),
        tail_stays=_tail_stays(lower, mean(base.norm_tail)),
        clip_calms=harmlessly(surely_calmer(of("clip"))),
        clip_gain=gain(of("clip")),
        batch_calms=calmest(
            still_learn(surely_calmer([r for r in of("batch") if r.name == "batch ×4"]))
        ),
        batch_gain=gain([r for r in of("batch") if "learning_rate" not in r.settings]),
        noise_over_batch=middle([float(p["noise_scale"]) for p in probed]) / config["batch_size"],
        b2_calms=harmlessly(of("b2")),
        b2_gain=gain(of("b2")),
        b2_memory=1.0 / (1.0 - config["b2"]) if adaptive else MOST,
        overfit_rise=base.end_over_lowest,
        train_fall=base.train_fall,
        decay_calms=harmlessly(decays) if decays else math.nan,
        decay_gain=gain(decays) if decays else math.nan,
        warmup_gain=if_tried("warm-up", gain(of("warm-up"))),
        tail_share=faults.tail_share,
        input_scale=faults.input_scale,
        target_scale=faults.target_scale,
        calm_limit=limits[0],
        gain_limit=limits[1],
        undone=undone,
        shaking_costs=cost_of_shaking(remedies.values(), config),
        floor_error=0.0 if num_valid is None else 1.0 / math.sqrt(2.0 * max(num_valid - 1, 1)),
        log_tells=1.0 if on_logs is None else times_surer(on_logs, base),
        rows_tell=row_uncertainty(base),
        rate_end=end_gain(lower) if overfits(base) else 1.0,
        dropout_calms=harmlessly(of("regularisation")),
        edge_calms=edge_calms(lower),
        batch_rate=batch_rate(of("batch"), "learning_rate"),
        batch_rows=float(config["batch_size"]),
        batch_rise=batch_rise(of("batch")),
        over_usual=over_usual(config["learning_rate"], config["optimizer"]),
        over_constant=float(np.mean(base.best)) / constant if constant else math.nan,
        **of_rows.measured(remedies.values()),
    )


def settles(config: Config) -> bool:
    """Whether a training's rate decays or its weights are averaged, which with decay 0 they are
    not: see `Population.signature`.
    """
    averages = config["ema"] and config["ema_decay"] > 0
    return bool(config["schedule"] != "constant" or averages)


def verdict(found: Evidence) -> list[Cause]:
    """The causes that the evidence speaks for, most certain first; at least one.

    A calm curve that does not overfit is `no_problem`, unless it learns nothing; or clipping frees
    the network: then it is calm because it is stuck; or a lower rate makes it calmer and better
    still; or the shaking that is left costs something; or the rows keep it from learning, or from
    being judged. Of a curve that shakes and rises, what explains the shaking comes first. Where no
    cause reaches its thresholds, none is named.
    """
    t = THRESHOLDS
    is_free = found.clip_gain < t["clip_helps"]
    rate_is_right = found.rate_calms < t["rate_calms"] or found.rate_gain < t["rate_gain"]
    rows_are_right = of_rows.are_right(found) and not _too_few_rows(found)
    if is_flat(found) and is_free and rate_is_right and rows_are_right:
        return of_flat(found, weighed(found))
    causes = shaking_first(decided(weighed(found), described(found)), found)
    return or_nothing(causes, found)


def weighed(found: Evidence) -> list[Cause]:
    """Every cause with its confidence, most certain first."""
    return weigh({**_of_training(found), **_of_schedules(found), **_of_rows(found)})


def _of_training(found: Evidence) -> dict[str, Conditions]:
    """Causes that hyperparameters undo."""
    t = THRESHOLDS
    # Without clipping a network may also be stuck: calm, but at a high level. What is calm is not
    # helped by being calmer.
    clip_helps = max(1.0 if is_calm(found) else found.clip_calms, found.clip_gain)
    # With few rows to a step, noise is rate over batch: a larger batch does what a lower rate does.
    # The rate is to blame for what it gains beyond that, and for all of it where a larger batch
    # does not calm: what frees a network that is stuck says nothing of noise.
    beyond_batch = found.rate_gain / max(found.batch_gain, 1.0)
    rate_gain = lower_rate_gains(found)
    batch_does_not = t["batch_calms"] / found.batch_calms
    noisy = found.noise_over_batch / t["noise_over_batch"]
    # Nor is it noise where a larger batch does not bear the rate that goes with it.
    larger = 0.0 if math.isnan(found.batch_rate) else found.batch_rate / t["batch_rate"]
    not_batch = 1.0 / max(noisy, 1e-9), beyond_batch / t["rate_gain"], batch_does_not, larger
    helps_as_much = found.rate_gain * _TIE >= found.clip_gain
    alike = helps_as_much and found.clip_gain >= t["clip_helps"]
    better = rate_gain >= t["rate_gain"]
    near = is_near(found) and not better
    lower: Conditions = (
        of_edge(found)
        if near
        else {
            "rate_calms": (found.rate_calms, t["rate_calms"]),
            "rate_gain": (rate_gain, t["rate_gain"]),
        }
    )
    return {
        "learning_rate_too_high": {
            **lower,
            "rate_is_not_clip": (rate_gain * _TIE / max(found.clip_gain, 1.0), 1.0),
            "rate_is_not_batch": (max(not_batch), 1.0),
        },
        "exploding_gradients": {
            # The more clipping helps, the less of a tail must be seen late in training.
            "clipped_tail": (found.norm_tail * clip_helps, t["clipped_tail"]),
            "clip_helps": (clip_helps, t["clip_helps"]),
            "clip_is_not_rate": (found.clip_gain * _TIE / max(found.rate_gain, 1.0), 1.0),
            # Of two that free alike, the one that calms as well says what is wrong.
            "calms_as_rate": (
                found.clip_calms * _TIE / found.rate_calms if alike else math.nan,
                1.0,
            ),
            # At a rate that is too high gradients explode because of the rate, not at a lower one.
            "tail_stays": (found.tail_stays if helps_as_much else math.nan, t["tail_stays"]),
            # Gradients that explode on single rows do so because of the rows.
            "rows_explain_less": (clip_helps / of_rows.explain(found), _TIE),
        },
        "small_batch_noise": {
            "batch_calms": (found.batch_calms, t["batch_calms"]),
            "noise_over_batch": (found.noise_over_batch, t["noise_over_batch"]),
            # A batch that shakes the weights makes the floor, too: it does not explain a tiny one.
            "above_floor": (math.nan if is_tiny(found) else _above_floor(found), t["above_floor"]),
            # Noise shakes a network; it does not keep it from learning.
            "clip_frees_nothing": (t["clip_helps"] / found.clip_gain, 1.0),
            "rate_is_right": (t["rate_gain"] / beyond_batch, 1.0),
            "rate_does_not_fail": (does_not_fail(found) if near else math.nan, 1.0),
        },
        "second_moment_too_fast": {
            "b2_calms": (found.b2_calms, t["b2_calms"]),
            "memory": (100.0 / found.b2_memory, 1.0),
            "decay_explains_less": (explains_less(found, _above_floor(found)), 1.0),
        },
        "overfitting": {
            "overfit_rise": (found.overfit_rise, t["overfit_rise"]),
            "train_fall": (found.train_fall, STILL_FALLS),
            "clip_frees_nothing": (t["clip_helps"] / found.clip_gain, 1.0),
        },
    }


def _of_schedules(found: Evidence) -> dict[str, Conditions]:
    """Causes that a rate which moves undoes."""
    t = THRESHOLDS
    return {
        "rate_never_decays": never_decays(found, _above_floor(found)),
        "warm_up_missing": {
            "warmup_gain": (found.warmup_gain, t["warmup_gain"]),
            "warmup_over_rate": (found.warmup_gain / max(found.rate_gain, 1.0), t["more"]),
            "warmup_over_clip": (found.warmup_gain / max(found.clip_gain, 1.0), t["more"]),
        },
    }


def _of_rows(found: Evidence) -> dict[str, Conditions]:
    """Causes that lie in the rows."""
    t = THRESHOLDS
    calm_train = found.noise_floor / max(found.train_fluctuation, 1e-12)
    return {
        "evaluation_noise": {
            "rows_explain": (_rows_explain(found), 1.0),
            "train_calm": (calm_train, t["train_calm"]),
            "rate_is_right": (t["rate_gain"] / found.rate_gain, 1.0),
            "batch_explains_less": (batch_explains_less(found), 1.0),
            "target_explains_less": (t["log_tells"] / of_rows.made_up_by_few(found), 1.0),
        },
        **of_rows.conditions(found),
    }


def _above_floor(found: Evidence) -> float:
    """Fluctuation over what the choice of validation rows alone makes."""
    share = found.noise_floor / max(found.fluctuation, 1e-12)
    return 1.0 / max(share, 1e-9)


def _rows_explain(found: Evidence) -> float:
    """How far the noise of the validation rows is beyond what counts: its share of the fluctuation,
    one standard error above what so few rows give, or how much calmer more of them are.
    """
    share = found.noise_floor / max(found.fluctuation, 1e-12) * (1.0 + found.floor_error)
    explained = share / THRESHOLDS["floor_share"]
    tried = found.valid_calms / GOAL_RATIO
    return explained if math.isnan(tried) else max(explained, tried)


def _too_few_rows(found: Evidence) -> bool:
    """Whether a calm loss is one of too few validation rows: they cannot tell it by far, their
    choice explains what moves, and more of them are calmer.
    """
    t = THRESHOLDS
    explained = found.noise_floor * (1.0 + found.floor_error) / max(found.fluctuation, 1e-12)
    explains = explained >= t["floor_share"] and found.valid_calms >= t["rows_calm"]
    return explains and found.rows_tell >= 2 * UNTOLD


def _tail_stays(lower: list[Remedy], tail: float) -> float:
    """See `Evidence`."""
    if not lower:
        return math.nan
    return min(lower, key=lambda r: r.loss.value).tail / max(tail, 1e-12)


def _spread(losses: np.ndarray) -> float:
    return measure(np.maximum(losses, 1e-12)).spread if len(losses) >= 8 else 0.0
