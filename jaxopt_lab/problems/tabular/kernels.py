"""A kernel regression as plain arrays: what it predicts, in NumPy.

It says of a row what training rows near it had, by all encoded columns together. So its arrays hold
the training rows as they were encoded.
"""

from dataclasses import dataclass

import numpy as np

from jaxopt_lab.problems.tabular.trees import LARGEST

_RANKS = {"centres": 2, "coefficients": 1, "width": 1, "bias": 1}
#: Rows times centres that are gone through together.
_AT_ONCE = 2**20


@dataclass(frozen=True, eq=False)
class Kernel:
    """A weighted sum of Matern kernels of smoothness 3/2.

    Attributes:
      centres: [n, F] float64, encoded training rows.
      coefficients: [n] float64.
      width: [1] float64 above 0, the distance over which the kernel falls.
      bias: [1] float64, what is predicted far from all rows.

    Raises:
      ValueError: if they are not that.
    """

    centres: np.ndarray
    coefficients: np.ndarray
    width: np.ndarray
    bias: np.ndarray

    def __post_init__(self) -> None:
        for name, rank in _RANKS.items():
            array = getattr(self, name)
            if array.dtype != np.float64 or array.ndim != rank:
                raise ValueError(f"a kernel's {name} is {array.dtype} of rank {array.ndim}")
            if not (np.abs(array) <= LARGEST).all():
                raise ValueError(f"a kernel's {name} must be finite")
        if len(self.centres) != len(self.coefficients):
            raise ValueError("a kernel's coefficients do not fit its rows")
        if len(self.width) != 1 or len(self.bias) != 1 or not self.width[0] > 0:
            raise ValueError("a kernel's width must be one number above 0, and its bias one")

    @property
    def num_outputs(self) -> int:
        """Numbers that are predicted for a row."""
        return 1

    @property
    def num_features(self) -> int:
        """Encoded columns."""
        return self.centres.shape[1]

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Outputs float64 [n, 1] of encoded rows [n, F]."""
        inputs = inputs.astype(np.float64)
        step = max(_AT_ONCE // max(len(self.centres), 1), 1)
        parts = [
            # Not a product of matrices, whose rounding depends on how many rows come together.
            np.einsum(
                "nm,m->n",
                matern(distances(inputs[i : i + step], self.centres) / self.width[0]),
                self.coefficients,
            )
            for i in range(0, len(inputs), step)
        ]
        return np.concatenate([*parts, np.zeros(0)])[:, None] + self.bias

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name; `Kernel(**arrays)` is the same again."""
        return {name: getattr(self, name) for name in _RANKS}


def matern(distance: np.ndarray) -> np.ndarray:
    """The Matern kernel of smoothness 3/2, of distances in widths.

    Source: Rasmussen & Williams 2006, "Gaussian processes for machine learning", equation 4.17.
    """
    scaled = np.sqrt(3.0) * distance
    return (1.0 + scaled) * np.exp(-scaled)


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Euclidean distances [n, m] of rows float64 [n, F] and [m, F]."""
    product = np.einsum("nf,mf->nm", first, second)
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)
    return np.sqrt(np.maximum(squares - 2.0 * product, 0.0))
