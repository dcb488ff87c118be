"""Dropout at a rate that can be searched: a traced number, 0 and 1 included."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_lab.core.types import Scalar

_LEVELS = 2**16


class Dropout(nn.Module):
    """Zero entries at random in training, rescale the others.

    Flax's own layer asks in Python whether the rate is 0, so it cannot take a traced one. Here one
    program serves every rate in [0, 1], met to within 1/65536. The noise is of the collection
    `rng_collection`; a rate that is the Python number 0 draws none.

    Attributes:
      broadcast_dims: axes along which entries share their noise: `(1,)` drops a channel of a
        sequence [b, t, c] at all of its steps or at none.
      rng_collection: name of the random keys.

    Source: Srivastava et al. 2014.

    Examples:
      >>> x = jnp.ones((4, 8))
      >>> rngs = {"dropout": jax.random.key(0)}
      >>> drop = jax.jit(lambda rate: Dropout().apply({}, x, rate, train=True, rngs=rngs))
      >>> bool((drop(0.0) == x).all()), bool((drop(1.0) == 0).all())
      (True, True)
    """

    broadcast_dims: Sequence[int] = ()
    rng_collection: str = "dropout"

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "..."], rate: Scalar | float, *, train: bool
    ) -> Float[Array, "..."]:
        """Apply the layer.

        Args:
          inputs: of any shape.
          rate: share of entries to drop, in [0, 1]; may be traced.
          train: whether anything is dropped.
        """
        if not train or (isinstance(rate, (int, float)) and rate == 0):
            return inputs
        shape = [1 if i in self.broadcast_dims else n for i, n in enumerate(inputs.shape)]
        noise = jax.random.bits(self.make_rng(self.rng_collection), shape, jnp.uint16)
        keep = noise.astype(jnp.float32) >= rate * _LEVELS
        kept = jnp.maximum(1.0 - jnp.asarray(rate, jnp.float32), 1.0 / _LEVELS)
        return jnp.where(keep, inputs / kept.astype(inputs.dtype), 0.0)


def dropout_rate(hparams: Mapping[str, Any] | None, default: float) -> Any:
    """`hparams["dropout"]` where the space has it, else what the module was built with."""
    return default if hparams is None else hparams.get("dropout", default)
