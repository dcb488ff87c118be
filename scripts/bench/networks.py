"""The networks of a case as Flax modules: of Flax's own layers, and those that ship."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from bench.cases import Case
from jaxopt_lab import models


class Mlp(nn.Module):
    """He-normal kernels, one activation, dropout after each hidden layer."""

    num_layers: int
    hidden_size: int
    dropout: float
    activation: str = "relu"

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        x = inputs
        for _ in range(self.num_layers):
            x = nn.Dense(self.hidden_size, kernel_init=nn.initializers.he_normal())(x)
            x = getattr(nn, self.activation)(x)
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


def optimizer(
    case: Case, learning_rate: Any, weight_decay: Any, total_steps: Any
) -> optax.GradientTransformation:
    """AdamW; with `chain`, clipped by the norm and along a cosine."""
    if not case.chain:
        return optax.adamw(learning_rate, weight_decay=weight_decay)

    def rate(step: jax.Array) -> jax.Array:
        return learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * step / total_steps))

    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=weight_decay))


def plain(case: Case) -> nn.Module:
    """As anyone writes it."""
    if case.model == "gru":
        return Gru(case.hidden_size)
    if case.model == "cnn":
        return Cnn(case.hidden_size)
    return Mlp(case.num_layers, case.hidden_size, case.dropout, case.activation)


def shipped(case: Case) -> nn.Module:
    """The same network out of `jaxopt_lab.models`."""
    if case.model == "gru":
        return models.RNN(None, "gru", case.num_layers, case.hidden_size)
    if case.model == "cnn":
        features = (case.hidden_size, 2 * case.hidden_size)
        return models.CNN(None, features, hidden_size=64, batch_norm=False)
    shape = case.num_layers, case.hidden_size, case.activation
    return models.MLP(None, *shape, dropout=case.dropout)
