"""Recurrent networks over sequences of different lengths: vanilla, GRU, LSTM."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxopt_lab.core.types import PRNGKey
from jaxopt_lab.models.dropout import Dropout, dropout_rate
from jaxopt_lab.models.recurrences import CELLS, recurrence


class RNN(nn.Module):
    """Stacked recurrent layers, dropout after each, a linear head on the state at the end.

    The last input channel says which steps are real: 1 for those of the sequence and 0 for
    padding (`datasets.pad` makes it). A step of padding leaves the state as it is, so neither what
    stands in the padding nor how much there is of it changes anything.

    Inputs of all steps are multiplied at once; the gradient is `models.recurrences`' own, for
    reverse mode only.

    Attributes:
      num_outputs: size of the head; None: one number per sequence, shape [b].
      cell: key of `CELLS`.
      num_layers: recurrent layers.
      hidden_size: units of each.
      pooling: what the head sees: `"last"` state, or the `"mean"` over real steps.
      dropout: rate, unless `hparams` has `dropout`; one mask for all steps of a sequence.

    Source: Elman 1990; Cho et al. 2014 (arXiv:1406.1078); Hochreiter & Schmidhuber 1997, whose
    forget gate starts with a bias of 1 as in Jozefowicz et al. 2015. One mask for all steps: Gal &
    Ghahramani 2016 (arXiv:1512.05287).
    """

    num_outputs: int | None
    cell: str = "gru"
    num_layers: int = 1
    hidden_size: int = 64
    pooling: str = "last"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ValueError(f"unknown cell {self.cell!r}, choose from {', '.join(CELLS)}")
        if self.pooling not in ("last", "mean"):
            raise ValueError(f"unknown pooling {self.pooling!r}, choose from last, mean")
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "b t c"],
        *,
        train: bool = False,
        hparams: Mapping[str, Any] | None = None,
    ) -> Float[Array, "b *o"]:
        """Apply the network.

        Args:
          inputs: sequences; the last channel is the mask of real steps.
          train: whether to drop.
          hparams: `dropout`, if it is there, may be traced.
        """
        rate = dropout_rate(hparams, self.dropout)
        real = inputs[..., -1] > 0
        x = jnp.where(real[..., None], inputs[..., :-1], 0.0)
        for i in range(self.num_layers):
            x = self._layer(x, real, i)
            x = Dropout((1,), name=f"dropout_{i}")(x, rate, train=train)
        if self.pooling == "last":
            # A step of padding repeats the state before it.
            x = x[:, -1]
        else:
            total = jnp.where(real[..., None], x, 0.0).sum(axis=1)
            x = total / jnp.maximum(real.sum(axis=1), 1)[:, None]
        x = nn.Dense(self.num_outputs or 1, name="output")(x)
        return x[:, 0] if self.num_outputs is None else x

    def _layer(
        self, inputs: Float[Array, "b t c"], real: Bool[Array, "b t"], number: int
    ) -> Float[Array, "b t h"]:
        """States of one layer at all steps."""
        size, gates = self.hidden_size, CELLS[self.cell].num_gates
        name = f"layer_{number}"
        kernel, bias = _Affine(gates * size, _bias(self.cell), name=f"{name}_input")(inputs)
        recurrent = self.param(f"{name}_kernel", _orthogonal_blocks, (size, gates * size))
        weights = ([*jnp.split(x, gates, axis=-1)] for x in (kernel, bias, recurrent))
        states = recurrence(self.cell, inputs.swapaxes(0, 1), real.T, *weights)
        return states.swapaxes(0, 1)


class _Affine(nn.Module):
    """Kernel and bias, named and drawn as those of `flax.linen.Dense`."""

    features: int
    bias_init: Callable[..., Any]

    @nn.compact
    def __call__(self, inputs: Array) -> tuple[Array, Array]:
        shape = (inputs.shape[-1], self.features)
        kernel = self.param("kernel", nn.linear.default_kernel_init, shape)
        return kernel, self.param("bias", self.bias_init, shape[1:])


def _bias(cell: str) -> Callable[..., Array]:
    """Zeros; ones where an LSTM keeps its memory."""

    def init(key: PRNGKey, shape: tuple[int], dtype: Any = jnp.float32) -> Array:
        del key
        forget = jnp.arange(shape[0]) < (shape[0] // 4 if cell == "lstm" else 0)
        return forget.astype(dtype)

    return init


def _orthogonal_blocks(
    key: PRNGKey, shape: tuple[int, int], dtype: Any = jnp.float32
) -> Float[Array, "h g"]:
    """One orthogonal matrix for each gate, side by side."""
    size, columns = shape
    draw = nn.initializers.orthogonal()
    keys = jax.random.split(key, columns // size)
    return jnp.concatenate([draw(k, (size, size), dtype) for k in keys], axis=1)
