"""Kernel ridge regression, with width and penalty by the error of leaving one row out."""

import numpy as np

from jaxopt_lab.problems.tabular.kernels import Kernel, distances, matern

#: More training rows would take too long, and too much memory.
MAX_ROWS = 3000
#: Widths that are tried, in median distances between rows.
WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
#: Penalties that are tried; a kernel's diagonal is 1.
PENALTIES = np.logspace(-4, 1, 21)
#: Width and penalty are decided on a part of longer tables.
_MOST_TRIED = 600


def fit_kernel(
    inputs: np.ndarray, target: np.ndarray, weights: np.ndarray | None, seed: int
) -> Kernel:
    """Fit by squared errors.

    The error of leaving a row out follows from one decomposition for every penalty at once.

    Args:
      inputs: encoded rows float64 [n, F].
      target: [n], standardised.
      weights: [n] of rows, or None.
      seed: of the rows that width and penalty are decided on where there are many.

    Raises:
      ValueError: for more than `MAX_ROWS` rows, or rows that are all equal.

    Source: Rasmussen & Williams 2006, "Gaussian processes for machine learning", section 5.4.2
    (errors of leaving one row out).
    """
    if len(inputs) > MAX_ROWS:
        raise ValueError(f"it takes at most {MAX_ROWS} rows, not {len(inputs)}")
    counts = np.ones(len(inputs)) if weights is None else weights / weights.mean()
    bias = np.average(target, weights=counts)
    roots, rest = np.sqrt(counts), target - bias
    some = np.random.default_rng(seed).permutation(len(inputs))[:_MOST_TRIED]
    apart = distances(inputs[some], inputs[some])
    unit = float(np.median(apart[np.triu_indices(len(some), 1)])) if len(some) > 1 else 0.0
    if not unit > 0:
        raise ValueError("its training rows are all alike")
    tried = [
        (*_left_out(matern(apart / (unit * width)), rest[some], roots[some]), unit * width)
        for width in WIDTHS
    ]
    _, penalty, width = min(tried)
    kernel = matern(distances(inputs, inputs) / width) * np.outer(roots, roots)
    kernel[np.diag_indices_from(kernel)] += penalty
    found = roots * np.linalg.solve(kernel, roots * rest)
    return Kernel(inputs, found, np.array([width]), np.array([bias]))


def _left_out(kernel: np.ndarray, target: np.ndarray, roots: np.ndarray) -> tuple[float, float]:
    """The least mean squared error of rows by the others, and the penalty that has it."""
    values, vectors = np.linalg.eigh(kernel * np.outer(roots, roots))
    shares, projected = vectors**2, vectors.T @ (roots * target)
    best = (np.inf, float(PENALTIES[-1]))
    for penalty in PENALTIES:
        inverse = 1.0 / (np.maximum(values, 0.0) + penalty)
        errors = (vectors @ (inverse * projected)) / (shares @ inverse)
        best = min(best, (float(np.mean(errors**2)), float(penalty)))
    return best
