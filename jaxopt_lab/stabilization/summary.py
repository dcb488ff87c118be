"""What one variant's trainings come to, one number per seed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxopt_lab.core.results import Result
from jaxopt_lab.problems.mlp.observation import norm_quantile
from jaxopt_lab.stabilization import fluctuation

#: Share of the curve that the final loss is the mean of.
_TAIL = 0.1
_FAILED = 1e30


class Summary(NamedTuple):
    """Per seed [s] each; `best_rows` [s, r] per resample of the validation rows, too.

    Attributes:
      fluctuation: spread of the late validation curve around its trend (log scale).
      num_spikes: of the late validation curve.
      peak: its highest rise above the trend (log scale).
      drift: rise of the late validation trend (log scale).
      noise_floor: the part of the fluctuation that is owed to few validation rows.
      best: validation loss of the best checkpoint, chosen on other rows than it is scored on.
      final: geometric mean of the last tenth of the validation curve.
      rise: end of the validation curve's trend above that trend's lowest point (log scale).
      train_drift: rise of the late training trend.
      train_final: like `final`, of the training loss.
      norm_median: median gradient norm of the late updates.
      norm_tail: their 99.9 % quantile over their median.
      update_ratio: mean norm of an update over that of the weights, late.
      clipped: share of late updates that clipping changed.
      best_rows: `best` on each resample of the validation rows; r = 1 where there are none.
    """

    fluctuation: Float[np.ndarray, " s"]
    num_spikes: Float[np.ndarray, " s"]
    peak: Float[np.ndarray, " s"]
    drift: Float[np.ndarray, " s"]
    noise_floor: Float[np.ndarray, " s"]
    best: Float[np.ndarray, " s"]
    final: Float[np.ndarray, " s"]
    rise: Float[np.ndarray, " s"]
    train_drift: Float[np.ndarray, " s"]
    train_final: Float[np.ndarray, " s"]
    norm_median: Float[np.ndarray, " s"]
    norm_tail: Float[np.ndarray, " s"]
    update_ratio: Float[np.ndarray, " s"]
    clipped: Float[np.ndarray, " s"]
    best_rows: Float[np.ndarray, "s r"]

    @property
    def end_over_lowest(self) -> float:
        """End of the validation trend over its lowest point; geometric mean over seeds."""
        return float(np.exp(np.mean(self.rise)))

    @property
    def train_fall(self) -> float:
        """Late training trend at its start over its end; geometric mean over seeds."""
        return float(np.exp(-np.mean(self.train_drift)))


def summarize(results: Sequence[Result]) -> Summary:
    """Summarise one variant, seed by seed."""
    # Losses of a training that diverged are inf or NaN; `_finite` takes what comes of them.
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        rows = [_of_one(result) for result in results]
    return Summary(*(np.asarray(column) for column in zip(*rows, strict=True)))


def _of_one(result: Result) -> list[Any]:
    curves = result.curves
    loss, resampled = curves["loss"], curves["resampled_loss"]
    found = fluctuation.measure(loss)
    train = fluctuation.measure(np.maximum(curves["train_loss"], 1e-12))
    best = fluctuation.best_losses(loss, resampled).astype(np.float64)
    best = np.where(np.isfinite(best), best, _FAILED)
    updates = np.maximum(fluctuation.late(curves["num_updates"]).sum(), 1.0)
    counts = fluctuation.late(curves["norm_counts"]).sum(axis=0)
    median, high = norm_quantile(counts, 0.5), norm_quantile(counts, 0.999)
    return [
        found.spread,
        float(found.num_spikes),
        found.peak,
        found.drift,
        fluctuation.noise_floor(resampled),
        float(best.mean()),
        _final(loss),
        fluctuation.rise(loss),
        train.drift,
        _final(curves["train_loss"]),
        median,
        high / max(median, 1e-12),
        _finite(float(fluctuation.late(curves["update_ratio"]).sum() / updates)),
        _finite(float(fluctuation.late(curves["clipped"]).sum() / updates)),
        best,
    ]


def _final(losses: np.ndarray) -> float:
    tail = np.asarray(losses[-max(round(_TAIL * len(losses)), 1) :], np.float64)
    if not np.isfinite(tail).all():
        return _FAILED
    return float(np.exp(np.mean(np.log(np.maximum(tail, 1e-12)))))


def _finite(value: float) -> float:
    return value if np.isfinite(value) else _FAILED


def norm_counts(results: Sequence[Result]) -> Float[np.ndarray, " bins"]:
    """How many updates of all seeds had a gradient norm in each bin."""
    return curve(results, "norm_counts").sum(axis=(0, 1))


def curve(results: Sequence[Result], name: str) -> np.ndarray:
    """One curve per seed: [s, t] or [s, t, ...]."""
    return np.stack([result.curves[name] for result in results])
