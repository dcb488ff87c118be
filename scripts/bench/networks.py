"""The networks of a case as Flax modules: of Flax's own layers, and those that ship."""

import flax.linen as nn
import jax

from bench.cases import Case
from jaxopt_lab import models


class Mlp(nn.Module):
    """He-normal kernels, relu, dropout after each hidden layer."""

    num_layers: int
    hidden_size: int
    dropout: float

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        x = inputs
        for _ in range(self.num_layers):
            x = nn.relu(nn.Dense(self.hidden_size, kernel_init=nn.initializers.he_normal())(x))
            if self.dropout:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(1)(x)[:, 0]


class Gru(nn.Module):
    """The state after the last real step; the last input channel is the mask."""

    hidden_size: int

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        lengths = inputs[..., -1].sum(axis=1).astype("int32")
        recurrent = nn.RNN(nn.GRUCell(self.hidden_size), return_carry=True)
        state, _ = recurrent(inputs[..., :-1], seq_lengths=lengths)
        return nn.Dense(1)(state)[:, 0]


class Cnn(nn.Module):
    """Two convolutions, each pooled, and a hidden layer."""

    features: int

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        x = inputs
        for scale in (1, 2):
            x = nn.relu(nn.Conv(scale * self.features, (3, 3))(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Dense(64)(x.reshape(len(x), -1)))
        return nn.Dense(1)(x)[:, 0]


def plain(case: Case) -> nn.Module:
    """As anyone writes it."""
    if case.model == "gru":
        return Gru(case.hidden_size)
    if case.model == "cnn":
        return Cnn(case.hidden_size)
    return Mlp(case.num_layers, case.hidden_size, case.dropout)


def shipped(case: Case) -> nn.Module:
    """The same network out of `jaxopt_lab.models`."""
    if case.model == "gru":
        return models.RNN(None, "gru", case.num_layers, case.hidden_size)
    if case.model == "cnn":
        features = (case.hidden_size, 2 * case.hidden_size)
        return models.CNN(None, features, hidden_size=64, batch_norm=False)
    return models.MLP(None, case.num_layers, case.hidden_size, dropout=case.dropout)
