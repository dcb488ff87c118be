"""What can be seen of one trial while it trains: gradients, updates, resampled validation rows.

Everything is a sum over steps or rows, so that the engine needs no more than addition.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, UInt32

from jaxopt_lab.core.types import Hparams, Params

#: Resamples of the validation rows: one per bit of a row's coins.
NUM_RESAMPLES = 32
#: Gradient norms are counted in bins of equal width in their logarithm; the outer two are open.
BINS_PER_DECADE, LOW_DECADE, HIGH_DECADE = 8, -6, 6
NUM_BINS = BINS_PER_DECADE * (HIGH_DECADE - LOW_DECADE)


def of_update(
    gradient: Params, updates: Params, params: Params, hparams: Hparams
) -> dict[str, Array]:
    """Observe one update of the weights.

    Args:
      gradient: of the minibatch's mean loss, before penalties and clipping.
      updates: what is added to the weights.
      params: weights before the update.
      hparams: with `clip_norm` and `clip_value`.

    Returns:
      `num_updates` (1), `gradient_norm`, `update_ratio` (norm of the update over that of the
      weights), `clipped` (1 if either clip acts), and `norm_counts` [NUM_BINS], 1 in the bin of
      the gradient norm; a norm that is not finite counts in the highest.
    """
    norm, size = optax.tree.norm(gradient), optax.tree.norm(params)
    largest = jnp.stack([jnp.max(jnp.abs(g)) for g in jax.tree.leaves(gradient)]).max()
    clipped = (norm > hparams["clip_norm"]) | (largest > hparams["clip_value"])
    decades = jnp.log10(jnp.maximum(norm, 10.0**LOW_DECADE)) - LOW_DECADE
    decades = jnp.where(jnp.isfinite(norm), decades, jnp.inf)
    index = jnp.clip(decades * BINS_PER_DECADE, 0, NUM_BINS - 1).astype(jnp.int32)
    return {
        "num_updates": jnp.ones(()),
        "gradient_norm": norm,
        "update_ratio": optax.tree.norm(updates) / jnp.maximum(size, 1e-12),
        "clipped": clipped.astype(jnp.float32),
        "norm_counts": (jnp.arange(NUM_BINS) == index).astype(jnp.float32),
    }


def zeros() -> dict[str, Array]:
    """What a step without an update adds."""
    names = ("num_updates", "gradient_norm", "update_ratio", "clipped")
    return {**{name: jnp.zeros(()) for name in names}, "norm_counts": jnp.zeros(NUM_BINS)}


def resampled(losses: Float[Array, " b"], coins: UInt32[Array, " b"]) -> Float[Array, " r"]:
    """Sum the rows' losses once per resample, each row standing in it twice or not at all.

    The weights 0 and 2 have mean 1 and variance 1, as the counts of a bootstrap have (to 1 / b),
    so the spread over resamples estimates the same standard error.
    """
    bits = (coins[:, None] >> jnp.arange(NUM_RESAMPLES, dtype=jnp.uint32)) & 1
    return 2.0 * losses @ bits.astype(jnp.float32)


def norm_edges() -> np.ndarray:
    """Edges of the bins of gradient norms, [NUM_BINS + 1]."""
    return np.logspace(LOW_DECADE, HIGH_DECADE, NUM_BINS + 1)


def norm_quantile(counts: Float[np.ndarray, " bins"], share: float) -> float:
    """The gradient norm below which a share of the updates lies, to one bin.

    Examples:
      >>> counts = np.zeros(NUM_BINS)
      >>> counts[48] = 10.0  # norms from 1 to 10 ** (1 / 8)
      >>> round(norm_quantile(counts, 0.5), 3)
      1.155
    """
    total = np.cumsum(counts)
    if not total[-1]:
        return 0.0
    index = int(np.searchsorted(total, share * total[-1]))
    below = total[index - 1] if index else 0.0
    inside = (share * total[-1] - below) / max(counts[index], 1e-12)
    return float(10 ** (LOW_DECADE + (index + inside) / BINS_PER_DECADE))
