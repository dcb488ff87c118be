"""The regression target: units of the table <-> the standardised scale a network learns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxopt_lab.datasets.columns import FloatArray
from jaxopt_lab.datasets.spread import magnitude, mean_and_deviation

_MARGIN = 0.5
#: Logarithms of predictions are at most this.
LARGEST_LOG = 700.0
#: Quartiles of a normal distribution are so many standard deviations apart.
_QUARTILES = 1.349
#: A robust scale that some target exceeds so many times is of no use in float32.
_FARTHEST = 1e6


@dataclass(frozen=True)
class TargetTransform:
    """Optional natural logarithm, then zero mean and unit standard deviation, or median and
    quartiles in their place.

    Args:
      log: take the natural logarithm first.
      mean: of the training target, in (logarithmic) units; of a robust fit its median.
      scale: its standard deviation there: an rmse in those units is sqrt(mse) * scale. Of a robust
        fit the distance of its quartiles over 1.349, which is the same for a normal target.
      low: smallest standardised training value.
      high: largest standardised training value.

    Raises:
      ValueError: if a number is not finite, the scale not positive, or the range empty.
    """

    log: bool
    mean: float
    scale: float
    low: float
    high: float

    def __post_init__(self) -> None:
        for name in ("mean", "scale", "low", "high"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")
        if self.scale <= 0.0:
            raise ValueError(f"scale must be positive, got {self.scale}")
        if self.low > self.high:
            raise ValueError(f"low must be at most high, got {self.low} and {self.high}")

    @classmethod
    def fit(cls, target: ArrayLike, log: bool = False, robust: bool = False) -> TargetTransform:
        """Learn from training rows.

        Args:
          target: float [n], in the target's units, positive if `log`.
          log: take the natural logarithm first.
          robust: median and quartiles, so that a few wild targets do not make all others small;
            mean and deviation where the quartiles are equal, or next to nothing against the range.

        Returns:
          The transform; scale 1 where the rows are constant.

        Raises:
          ValueError: if there are no rows, a value is not finite, or `log` meets a value
            that is not positive.
        """
        values = np.asarray(target, dtype=np.float64)
        if values.size == 0 or not np.isfinite(values).all():
            raise ValueError("target must have rows and be finite")
        if log and values.min() <= 0.0:
            raise ValueError(f"a log target must be positive, got {values.min()}")
        values = np.log(values) if log else values
        mean, scale = _median_and_quartiles(values) if robust else mean_and_deviation(values)
        scale = scale or 1.0
        z = (values - mean) / scale
        return cls(bool(log), mean, scale, float(z.min()), float(z.max()))

    def forward(self, target: ArrayLike) -> NDArray[np.float32]:
        """Standardise; float [n] in the target's units -> float32 [n]."""
        values = np.asarray(target, dtype=np.float64)
        values = np.log(values) if self.log else values
        return np.asarray((values - self.mean) / self.scale, dtype=np.float32)

    def inverse(self, z: ArrayLike) -> FloatArray:
        """Go back to the target's units.

        Args:
          z: standardised predictions [...]; clipped to the training range widened by half
            of itself on both sides, so that a wild one cannot overflow.

        Returns:
          Float64 [...] in the target's units; NaN stays NaN.
        """
        clipped = np.clip(np.asarray(z, dtype=np.float64), *self.bounds)
        values = clipped * self.scale + self.mean
        return np.exp(np.minimum(values, LARGEST_LOG)) if self.log else values

    def of_outputs(self, outputs: NDArray[Any]) -> FloatArray:
        """Outputs of a network [n, 1] -> float64 [n] in the target's units."""
        return self.inverse(outputs[:, 0].astype(np.float64))

    def to_learnt(self, values: FloatArray) -> FloatArray:
        """From the target's units to its logarithm where that is learnt."""
        return np.log(values) if self.log else values

    def from_learnt(self, values: FloatArray) -> FloatArray:
        """The way back."""
        return np.exp(values) if self.log else values

    @property
    def bounds(self) -> tuple[float, float]:
        """What standardised predictions are clipped to."""
        margin = _MARGIN * (self.high - self.low)
        return self.low - margin, self.high + margin

    def to_dict(self) -> dict[str, Any]:
        """Give the transform as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TargetTransform:
        """Rebuild a transform from `to_dict`."""
        try:
            return cls(**data)
        except TypeError as error:
            raise ValueError(f"not a stored target transform: {error}") from None


def _median_and_quartiles(values: FloatArray) -> tuple[float, float]:
    """The median, and a scale by the quartiles; mean and deviation where that is of no use."""
    unit = magnitude(values)
    low, middle, high = (float(q) for q in np.quantile(values / unit, [0.25, 0.5, 0.75]))
    scale = (high - low) / _QUARTILES
    if not scale * _FARTHEST > float(np.abs(values / unit - middle).max()):
        return mean_and_deviation(values)
    return middle * unit, scale * unit
