"""Losses of a number, and with that which number of its distribution a model predicts.

A loss is of errors on the scale that is learnt, which is standardised; a score is of the same
errors in the target's units, or in those of its logarithm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from jaxopt_lab.core.errors import UserError, did_you_mean

LOSSES = ("squared", "absolute", "huber", "quantile")
#: Errors up to so many scales of the target count squared in Huber's loss, greater ones linearly.
HUBER_DELTA = 0.5
_METRICS = {"squared": "rmse", "absolute": "mae", "huber": "huber", "quantile": "pinball"}
#: Halvings of the range in which Huber's constant lies.
_HALVINGS = 60


@dataclass(frozen=True)
class TargetLoss:
    """What a regression minimises.

    Attributes:
      name: of `LOSSES`. What it predicts: "squared" the mean, "absolute" the median, "huber" a mean
        that outliers pull little, "quantile" a quantile. A mean of logarithms where those are
        learnt; medians and quantiles stay what they are.
      quantile: of "quantile": the share of targets that are to lie below the prediction.

    Raises:
      UserError: for an unknown name, or a quantile that is missing, of another loss, or not between
        0 and 1.

    Sources: Huber 1964, "Robust estimation of a location parameter", doi:10.1214/aoms/1177703732;
    Koenker & Bassett 1978, "Regression quantiles", doi:10.2307/1913643.
    """

    name: Any = "squared"
    quantile: Any = None

    def __post_init__(self) -> None:
        if self.name not in LOSSES:
            hint = did_you_mean(self.name, LOSSES) if isinstance(self.name, str) else ""
            raise UserError(f"unknown loss {self.name!r}.{hint} Known: {', '.join(LOSSES)}")
        if self.name != "quantile":
            if self.quantile is not None:
                raise UserError(
                    f"quantile = {self.quantile!r} is for the loss quantile, not for {self.name}"
                )
            return
        if self.quantile is None:
            raise UserError("the loss quantile needs its quantile, between 0 and 1: 0.9, say")
        level = self.quantile
        if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
            raise UserError(f"the quantile must be a number between 0 and 1, got {level!r}")

    @property
    def is_robust(self) -> bool:
        """Whether a few wild targets hardly move it: all but the squared error."""
        return bool(self.name != "squared")

    @property
    def predicts(self) -> str:
        """What its predictions are, in words; "" for those that nobody asks about."""
        words = {
            "squared": "",
            "absolute": "the median",
            "huber": "between median and mean",
            "quantile": f"the quantile {self.quantile}",
        }
        return words[self.name]

    def metric(self, log: bool) -> str:
        """The name of its score; of logarithms if `log`."""
        return f"log_{_METRICS[self.name]}" if log else _METRICS[self.name]

    @property
    def shared_metric(self) -> str:
        """The name of the score that several targets have together, see `shared`."""
        return f"scaled_{_METRICS[self.name]}"

    def shared(self, scores: ArrayLike, scales: ArrayLike) -> float:
        """What several targets come to together, a number without unit.

        Args:
          scores: [T] of each target, in the units that are learnt.
          scales: [T] of the standardisation of each, in the same units.

        Returns:
          Of the squared error the root of the mean of the squares, of others the mean, of scores
          over scales: the score of all targets' standardised errors.
        """
        ratios = np.asarray(scores, np.float64) / np.asarray(scales, np.float64)
        return float(np.sqrt(np.mean(ratios**2)) if self.name == "squared" else ratios.mean())

    def describe(self) -> dict[str, Any]:
        """Keywords that make it again; none for the squared error, which earlier versions had."""
        if self.name == "squared":
            return {}
        level = {} if self.quantile is None else {"quantile": float(self.quantile)}
        return {"loss": self.name, **level}

    @classmethod
    def described(cls, content: Mapping[str, Any]) -> TargetLoss:
        """The loss that a mapping with what `describe` gave, or nothing of it, stands for."""
        return cls(content.get("loss", "squared"), content.get("quantile"))

    def of(self, errors: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """The loss of each error, target less prediction, on the scale that is learnt."""
        size = np.abs(errors)
        if self.name == "squared":
            return np.asarray(errors**2)
        if self.name == "absolute":
            return np.asarray(size)
        if self.name == "quantile":
            return np.asarray(np.maximum(self.quantile * errors, (self.quantile - 1.0) * errors))
        near = np.minimum(size, HUBER_DELTA)
        return np.asarray(near * (size - 0.5 * near))

    def score(self, loss: float, scale: float) -> float:
        """A mean loss as the score that models are compared by, in the target's units.

        Args:
          loss: mean of `of` over standardised errors.
          scale: of the standardisation.

        Returns:
          Root mean squared, mean absolute or mean pinball error; of Huber's loss its mean over
          `HUBER_DELTA`, which is the absolute error where that is great.
        """
        if self.name == "squared":
            return float(np.sqrt(loss) * scale)
        return float(loss / (HUBER_DELTA if self.name == "huber" else 1.0) * scale)

    def error(
        self,
        truth: Float[np.ndarray, " n"],
        predicted: Float[np.ndarray, " n"],
        scale: float,
        weights: Float[np.ndarray, " n"] | None = None,
    ) -> float:
        """The score of predictions, in the units that both are in."""
        with np.errstate(over="ignore", invalid="ignore"):
            losses = self.of((truth - predicted) / scale)
            return self.score(float(np.average(losses, weights=weights)), scale)

    def constant(
        self, target: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"] | None = None
    ) -> float:
        """The constant prediction with the least mean loss, on the scale that is learnt."""
        counts = np.ones(len(target)) if weights is None else np.asarray(weights, np.float64)
        if self.name == "squared":
            return float(np.average(target, weights=counts))
        if self.name == "huber":
            low, high = float(np.min(target)), float(np.max(target))
            for _ in range(_HALVINGS):  # the slope falls as the constant rises
                middle = 0.5 * (low + high)
                slopes = np.clip(target - middle, -HUBER_DELTA, HUBER_DELTA)
                low, high = (middle, high) if slopes @ counts > 0 else (low, middle)
            return 0.5 * (low + high)
        order = np.argsort(target, kind="stable")
        shares = np.cumsum(counts[order]) / counts.sum()
        level = 0.5 if self.quantile is None else self.quantile
        return float(target[order[min(int(np.searchsorted(shares, level)), len(order) - 1)]])


#: What a target is learnt by unless another loss is asked for.
SQUARED = TargetLoss()
