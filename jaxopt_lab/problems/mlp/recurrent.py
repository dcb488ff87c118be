"""Recurrent networks called as the padded MLP is, for tasks that bring `make_model`."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt16

from jaxopt_lab.core.types import Hparams, IntScalar, PRNGKey
from jaxopt_lab.problems.mlp.network import drop, layer_noise
from jaxopt_lab.problems.mlp.signature import Signature

CELLS: dict[str, Any] = {
    "vanilla": nn.SimpleCell,
    "gru": nn.GRUCell,
    "lstm": nn.OptimizedLSTMCell,
}


class TaskRNN(nn.Module):
    """What `RNN` is, of Flax's own cells, with its noise as an argument.

    The last input channel says which steps are real: 1 for those of the sequence, which come
    first, and 0 for padding. What stands in the padding changes nothing.

    Attributes:
      cell: key of `CELLS`.
      num_layers: recurrent layers.
      hidden_size: units of each.
      num_outputs: size of the head.

    Source: Elman 1990; Cho et al. 2014 (arXiv:1406.1078); Hochreiter & Schmidhuber 1997. One
    dropout mask for all steps of a sequence: Gal & Ghahramani 2016 (arXiv:1512.05287).
    """

    cell: str
    num_layers: int
    hidden_size: int
    num_outputs: int

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ValueError(f"unknown cell {self.cell!r}, choose from {', '.join(CELLS)}")
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "b t c"],
        hparams: Hparams,
        noise: UInt16[Array, "layers b h"] | None = None,
        depth: IntScalar | None = None,
    ) -> Float[Array, "b o"]:
        """Apply the network.

        Args:
          inputs: sequences; the last channel is the mask of real steps.
          hparams: with `dropout` where noise is given.
          noise: uniform 16-bit integers for dropout; None in evaluation.
          depth: not used; all layers are computed.
        """
        real = inputs[..., -1]
        x: Any = jnp.where(real[..., None] > 0, inputs[..., :-1], 0.0)
        for i in range(self.num_layers):
            x = nn.RNN(CELLS[self.cell](self.hidden_size), name=f"layer_{i}")(x)
            if noise is not None:
                x = drop(x, noise[i][:, None], hparams["dropout"])
        last = jnp.maximum(real.sum(axis=1).astype(jnp.int32) - 1, 0)
        x = jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]
        return nn.Dense(self.num_outputs, name="output")(x)

    def noise(self, keys: PRNGKey, rows: int) -> UInt16[Array, "layers b h"]:
        """Draw the dropout noise of one block: see `PaddedMLP.noise`."""
        return layer_noise(keys, rows, self.num_layers, self.hidden_size)


def make_rnn(cell: str) -> Callable[[Signature, int], TaskRNN]:
    """What a task gives as `make_model`: the RNN of a signature's depth and width."""

    def make(signature: Signature, num_outputs: int) -> TaskRNN:
        return TaskRNN(cell, signature.num_layers, signature.hidden_size, num_outputs)

    return make
