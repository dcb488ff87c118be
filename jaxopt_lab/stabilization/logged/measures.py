"""What the curves of one logged training come to, by the fluctuation number and its relatives."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxopt_lab.stabilization import fluctuation
from jaxopt_lab.stabilization.logged.runs import LoggedRun, Series
from jaxopt_lab.stabilization.scale import scale_of

#: Values that a curve must have to be judged: its late half can then be measured.
FEWEST = 2 * fluctuation.MIN_POINTS
#: Longer curves are averaged in blocks: a trend compares every point with every other.
MOST = 500
#: Spikes are looked for in this share of a curve, its end; the descent before it is steep.
_SETTLED = 0.75
#: A gradient norm is high at so many times its median.
HIGH_NORM = 3.0
_UNKNOWN = math.nan


class Spike(NamedTuple):
    """A rise far above the trend.

    Attributes:
      at: epoch or step.
      factor: of the loss over the trend.
      preceded: whether the gradient norm was high since the value before the last; None where no
        norms were logged.
    """

    at: float
    factor: float
    preceded: bool | None


class Measures(NamedTuple):
    """The numbers of one run; NaN where the log does not tell.

    Attributes:
      num_values: of the curve that is judged.
      not_finite_at: position of the first loss that is not finite; NaN if all are.
      fluctuation: spread of the late curve around its trend, log scale.
      spikes: of the settled curve.
      spikes_by_chance: share of all intervals of two values in which the gradient norm is high.
      relative: whether the curve is above 0, so that its fluctuation is relative to its trend.
      lowest: lowest point of the trend; NaN where the curve is not above 0.
      lowest_at: where it is.
      end_over_lowest: end of the trend over its lowest point.
      still_gains: the trend before its last quarter over its end.
      learned: the first values over the lowest point.
      train_fluctuation: of the training loss, averaged over the same intervals.
      train_fall: training loss at the middle over that at the end, from its trend.
      train_rises: end of the training loss's trend over its lowest point.
      moves_together: correlation of training and validation around their trends.
      norm_tail: 99.9 % quantile of late gradient norms over their median.
      rate: the learning rate at the end.
      rate_fall: the highest learning rate over that at the end.
    """

    num_values: int
    not_finite_at: float = _UNKNOWN
    fluctuation: float = _UNKNOWN
    spikes: tuple[Spike, ...] = ()
    spikes_by_chance: float = _UNKNOWN
    relative: bool = True
    lowest: float = _UNKNOWN
    lowest_at: float = _UNKNOWN
    end_over_lowest: float = _UNKNOWN
    still_gains: float = _UNKNOWN
    learned: float = _UNKNOWN
    train_fluctuation: float = _UNKNOWN
    train_fall: float = _UNKNOWN
    train_rises: float = _UNKNOWN
    moves_together: float = _UNKNOWN
    norm_tail: float = _UNKNOWN
    rate: float = _UNKNOWN
    rate_fall: float = _UNKNOWN

    @property
    def too_short(self) -> bool:
        """Whether the curve has too few values to be judged."""
        return math.isnan(self.fluctuation) and math.isnan(self.not_finite_at)

    @property
    def share_preceded(self) -> float:
        """Share of the spikes that a high gradient norm preceded; NaN without spikes or norms."""
        known = [spike.preceded for spike in self.spikes if spike.preceded is not None]
        return float(np.mean(known)) if known else _UNKNOWN


def measure_run(run: LoggedRun) -> Measures:
    """Measure one run.

    A curve that is not above 0 throughout is measured in units of what training gained: see
    `stabilization.scale`.
    """
    curve = run.series[run.main]
    number = len(curve.values)
    bad = [s.at[~np.isfinite(s.values)] for r, s in run.series.items() if r.endswith("loss")]
    lost = np.concatenate(bad)
    # A single value that was lost in the middle of a curve is no divergence of what follows.
    if lost.size and not np.isfinite(_end(run)).all():
        return Measures(number, float(lost.min()))
    curve = _finite(curve)
    if len(curve.values) < FEWEST:
        return Measures(number)
    at, costs, smooth = _smoothed(curve)
    # Where it extrapolates over a steep start, a robust trend is far below the curve.
    early = len(smooth) // 2
    smooth[:early] = np.maximum(smooth, np.log(_medians(costs)))[:early]
    relative = bool((curve.values > 0).all())
    lowest = int(np.argmin(smooth))
    late = fluctuation.measure(costs)
    found = Measures(
        num_values=number,
        fluctuation=late.spread,
        spikes=_spikes(at, costs, run.series.get("grad_norm")),
        relative=relative,
        lowest=float(np.exp(smooth[lowest])) if relative else _UNKNOWN,
        lowest_at=float(at[lowest]),
        end_over_lowest=float(np.exp(smooth[-1] - smooth[lowest])),
        still_gains=float(np.exp(smooth[-1 - len(at) // 4] - smooth[-1])),
        learned=float(np.mean(costs[:2]) / np.exp(smooth[lowest])),
    )
    if run.main == "train_loss":
        found = found._replace(train_rises=found.end_over_lowest)
    found = _with_training(found, run, at, costs)
    return _with_clocks(found, run, at)


def _end(run: LoggedRun) -> Float[np.ndarray, " k"]:
    """The last value of each loss."""
    return np.asarray([s.values[-1] for r, s in run.series.items() if r.endswith("loss")])


def _finite(series: Series) -> Series:
    keep = np.isfinite(series.values)
    return Series(series.at[keep], series.values[keep])


def blocks(series: Series, most: int = MOST) -> Series:
    """Averages over blocks of equal numbers of values, where there are more than `most`."""
    size = math.ceil(len(series.values) / most)
    if size <= 1:
        return series
    edges = np.arange(0, len(series.values), size)
    counts = np.diff([*edges, len(series.values)])
    ends = np.minimum(edges + size, len(series.values)) - 1
    return Series(series.at[ends], np.add.reduceat(series.values, edges) / counts)


def _smoothed(
    series: Series,
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """Positions, costs above 0, and the trend of their logarithm."""
    thin = blocks(_finite(series))
    scale = scale_of(thin.values[None], [thin.values[None]], 1)
    costs = scale.costs(thin.values[None])[0]
    return thin.at, costs, fluctuation.trend(np.log(costs))


def _spikes(
    at: Float[np.ndarray, " t"], costs: Float[np.ndarray, " t"], norms: Series | None
) -> tuple[Spike, ...]:
    first = len(costs) - max(round(_SETTLED * len(costs)), fluctuation.MIN_POINTS)
    usual = _medians(costs)
    found = []
    for i, factor in fluctuation.spikes(costs[first:]):
        where = i + first
        if costs[where] < fluctuation.SPIKE_FACTOR * usual[where]:
            continue  # a steep descent is no spike
        begin = at[where - 2] if where >= 2 else -math.inf
        high = None if norms is None else _is_high(norms, begin, at[where])
        found.append(Spike(float(at[where]), factor, high))
    return tuple(found)


def _medians(costs: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """Of a tenth of the curve on either side of each point, fewer at the ends."""
    reach = max(len(costs) // 10, 3)
    sides = [min(reach, i, len(costs) - 1 - i) for i in range(len(costs))]
    return np.asarray([np.median(costs[i - s : i + s + 1]) for i, s in enumerate(sides)])


def _is_high(norms: Series, begin: float, end: float) -> bool:
    """Whether a gradient norm in (begin, end] is far above the usual one, or not finite."""
    mine = norms.values[(norms.at > begin) & (norms.at <= end)]
    usual = np.median(norms.values[np.isfinite(norms.values)])
    return bool((~np.isfinite(mine) | (mine > HIGH_NORM * usual)).any())


def _with_training(
    found: Measures, run: LoggedRun, at: Float[np.ndarray, " t"], costs: Float[np.ndarray, " t"]
) -> Measures:
    """With what the training loss says beside a validation loss."""
    train = run.series.get("train_loss")
    if run.main != "loss" or train is None:
        return found
    train = _finite(train)
    # Each value of the curve has the mean of the training losses since the one before.
    which = np.searchsorted(at, train.at)
    inside = which < len(at)
    counts = np.bincount(which[inside], minlength=len(at))
    if counts.all():
        train = Series(at, np.bincount(which[inside], train.values[inside], len(at)) / counts)
    if len(train.values) < FEWEST:
        return found
    _, mine, smooth = _smoothed(train)
    late = fluctuation.measure(mine)
    together = _UNKNOWN
    if len(mine) == len(costs):
        first, second = _around_trend(mine), _around_trend(costs)
        if min(np.std(first), np.std(second)) > 1e-9:
            together = float(np.corrcoef(first, second)[0, 1])
    return found._replace(
        train_fluctuation=late.spread,
        train_fall=float(np.exp(-late.drift)),
        train_rises=float(np.exp(smooth[-1] - np.min(smooth))),
        moves_together=together,
    )


def _around_trend(costs: Float[np.ndarray, " t"]) -> Float[np.ndarray, " u"]:
    logs = np.log(fluctuation.late(costs))
    return logs - fluctuation.trend(logs)


def _with_clocks(found: Measures, run: LoggedRun, at: Float[np.ndarray, " t"]) -> Measures:
    """With gradient norms and learning rates, which have clocks of their own."""
    norms, rates = run.series.get("grad_norm"), run.series.get("lr")
    if norms is not None and np.isfinite(norms.values).any():
        begins = np.concatenate([[-math.inf, -math.inf], at[:-2]])
        chance = [_is_high(norms, b, e) for b, e in zip(begins, at, strict=True)]
        late = fluctuation.late(norms.values[np.isfinite(norms.values)])
        median = max(float(np.median(late)), 1e-30)
        found = found._replace(
            spikes_by_chance=float(np.mean(chance)),
            norm_tail=float(np.quantile(late, 0.999)) / median,
        )
    if rates is not None:
        known = rates.values[np.isfinite(rates.values)]
        some = known[known > 0]
        if len(some):
            # Schedules that end at zero have their last rate before.
            fall = known.max() / known[-1] if known[-1] > 0 else math.inf
            found = found._replace(rate=float(some[-1]), rate_fall=float(fall))
    return found
