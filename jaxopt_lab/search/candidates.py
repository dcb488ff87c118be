"""Candidates for the acquisition function: spread over the space, and around good points."""

import numpy as np
from jaxtyping import Float, Int

from jaxopt_lab.search.encoding import is_categorical, snap
from jaxopt_lab.spaces.space import SearchSpace

#: Standard deviations, in the unit cube, of the steps along ordered dimensions.
STEP_SIZES = (0.3, 0.1, 0.03, 0.01, 0.003)


def mutate(
    space: SearchSpace,
    parents: Float[np.ndarray, "m d"],
    step_sizes: Float[np.ndarray, " m"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "m d"]:
    """Change some coordinates of each parent; the children are snapped.

    About one to three dimensions change, and always one. An ordered one moves by a normal step,
    by a whole level at least if it is discrete; a categorical one is drawn anew.
    """
    num, dims = parents.shape
    if dims == 0:
        return parents.copy()
    rates = rng.choice([1.0, 2.0, 4.0, float(dims)], (num, 1)) / dims
    change = rng.random((num, dims)) < rates
    change[np.arange(num), rng.integers(0, dims, num)] = True
    steps = rng.standard_normal((num, dims)) * step_sizes[:, None]
    fresh = rng.random((num, dims))
    children = parents.copy()
    for j, dist in enumerate(space.parameters.values()):
        step = steps[:, j]
        if np.isfinite(dist.cardinality):
            level = 1.0 / dist.cardinality
            step = np.sign(step) * np.maximum(np.abs(step), level)
        moved = children[:, j] + step
        if not np.isfinite(dist.cardinality):
            # A step over an end is reflected: clipped, a good part of all steps ended there.
            moved = 1.0 - np.abs(1.0 - np.abs(moved))
        moved = np.clip(moved, 0.0, 1.0)
        new = fresh[:, j] if is_categorical(dist) or dist.cardinality == 2 else moved
        children[:, j] = np.where(change[:, j], new, children[:, j])
    return snap(space, children)


def around(
    space: SearchSpace,
    good: Float[np.ndarray, "g d"],
    num: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "m d"]:
    """`num` children of good points (best first); better parents have more, at all step sizes."""
    weights = 1.0 / np.arange(1, len(good) + 1)
    which: Int[np.ndarray, " m"] = rng.choice(len(good), num, p=weights / weights.sum())
    return mutate(space, good[which], rng.choice(STEP_SIZES, num), rng)
