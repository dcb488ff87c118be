"""Recurrent networks over sequences of different lengths: vanilla, GRU, LSTM."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxopt_lab.core.types import PRNGKey
from jaxopt_lab.models.dropout import Dropout, dropout_rate

Carry = tuple[Array, ...]
#: Cell -> how many products each step has, side by side in one: its gates and its candidate.
GATES = {"vanilla": 1, "gru": 3, "lstm": 4}


class RNN(nn.Module):
    """Stacked recurrent layers, dropout after each, a linear head on the state at the end.

    The last input channel says which steps are real: 1 for those of the sequence and 0 for
    padding (`datasets.pad` makes it). A step of padding leaves the state as it is, so neither what
    stands in the padding nor how much there is of it changes anything.

    Inputs of all steps are multiplied at once, and the gates of a step in one product.

    Attributes:
      num_outputs: size of the head; None: one number per sequence, shape [b].
      cell: key of `GATES`.
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
        if self.cell not in GATES:
            raise ValueError(f"unknown cell {self.cell!r}, choose from {', '.join(GATES)}")
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
        size, gates = self.hidden_size, GATES[self.cell]
        name = f"layer_{number}"
        drive = nn.Dense(gates * size, bias_init=_bias(self.cell), name=f"{name}_input")(inputs)
        kernel = self.param(f"{name}_kernel", _orthogonal_blocks, (size, gates * size))

        def step(carry: Carry, at: tuple[Array, Array]) -> tuple[Carry, Array]:
            drive, real = at
            new = STEPS[self.cell](carry, drive, carry[0] @ kernel)
            carry = tuple(
                jnp.where(real[:, None], n, old) for n, old in zip(new, carry, strict=True)
            )
            return carry, carry[0]

        zeros = jnp.zeros((len(inputs), size), inputs.dtype)
        start: Carry = (zeros, zeros) if self.cell == "lstm" else (zeros,)
        steps_first = (drive.swapaxes(0, 1), real.T)
        return jax.lax.scan(step, start, steps_first)[1].swapaxes(0, 1)


def _vanilla(carry: Carry, drive: Array, recurrent: Array) -> Carry:
    return (jnp.tanh(drive + recurrent),)


def _gru(carry: Carry, drive: Array, recurrent: Array) -> Carry:
    (state,) = carry
    size = state.shape[-1]
    reset, update = jnp.split(
        jax.nn.sigmoid(drive[..., : 2 * size] + recurrent[..., : 2 * size]), 2, axis=-1
    )
    candidate = jnp.tanh(drive[..., 2 * size :] + reset * recurrent[..., 2 * size :])
    return ((1.0 - update) * candidate + update * state,)


def _lstm(carry: Carry, drive: Array, recurrent: Array) -> Carry:
    _, memory = carry
    kept, written, shown, candidate = jnp.split(drive + recurrent, 4, axis=-1)
    memory = jax.nn.sigmoid(kept) * memory + jax.nn.sigmoid(written) * jnp.tanh(candidate)
    return jax.nn.sigmoid(shown) * jnp.tanh(memory), memory


#: Cell -> (states, input part, recurrent part) -> states; the first state is the output.
STEPS: dict[str, Callable[[Carry, Array, Array], Carry]] = {
    "vanilla": _vanilla,
    "gru": _gru,
    "lstm": _lstm,
}


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
