"""What a JAX user writes without a population engine: a jitted scan, or a vmap of it."""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench.cases import Case

Params = list[tuple[jax.Array, jax.Array]]


class Hparams(NamedTuple):
    """What differs between trials; traced, so that one compilation serves all."""

    learning_rate: Any
    weight_decay: Any
    dropout: Any


def init(key: jax.Array, sizes: list[int]) -> Params:
    """He-normal kernels, zero biases."""
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        (jax.random.normal(k, (m, n)) * jnp.sqrt(2.0 / m), jnp.zeros(n))
        for k, m, n in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def apply(params: Params, x: jax.Array, rate: Any = None, key: jax.Array | None = None) -> Any:
    """The network; with a key, dropout at a traced rate after each hidden layer."""
    keys = [None] * len(params) if key is None else jax.random.split(key, len(params) - 1)
    for (kernel, bias), layer_key in zip(params[:-1], keys, strict=False):
        x = jax.nn.relu(x @ kernel + bias)
        if layer_key is not None:
            keep = jax.random.bernoulli(layer_key, 1 - rate, x.shape)
            x = jnp.where(keep, x / (1 - rate), 0.0)
    kernel, bias = params[-1]
    return (x @ kernel + bias)[:, 0]


def make_train(case: Case) -> Any:
    """(key, hparams, inputs, targets) -> (weights, loss per epoch): all epochs of one network."""
    sizes = [case.num_features, *[case.hidden_size] * case.num_layers, 1]
    num_steps = case.num_rows // case.batch_size

    def train(key: jax.Array, hparams: Hparams, inputs: jax.Array, targets: jax.Array) -> Any:
        optimizer = optax.adamw(hparams.learning_rate, weight_decay=hparams.weight_decay)

        def step(carry: Any, batch: Any) -> Any:
            params, state = carry
            x, y, noise_key = batch
            if not case.dropout:
                noise_key = None

            def loss_of(p: Params) -> Any:
                return jnp.mean((apply(p, x, hparams.dropout, noise_key) - y) ** 2)

            loss, gradient = jax.value_and_grad(loss_of)(params)
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), loss

        def epoch(carry: Any, epoch_key: jax.Array) -> Any:
            order_key, noise_key = jax.random.split(epoch_key)
            order = jax.random.permutation(order_key, case.num_rows)
            order = order[: num_steps * case.batch_size].reshape(num_steps, case.batch_size)
            keys = jax.random.split(noise_key, num_steps)
            carry, losses = jax.lax.scan(step, carry, (inputs[order], targets[order], keys))
            return carry, losses.mean()

        init_key, epochs_key = jax.random.split(key)
        params = init(init_key, sizes)
        keys = jax.random.split(epochs_key, case.num_epochs)
        (params, _), losses = jax.lax.scan(epoch, (params, optimizer.init(params)), keys)
        return params, losses

    return train


class _Jitted:
    """A compiled training function with its data on the device."""

    def __init__(self, case: Case, batched: bool) -> None:
        self.case = case
        self.arrays = jax.device_put(case.data())
        self.hparams = Hparams(
            case.learning_rates,
            case.weight_decays,
            np.full(case.num_trials, case.dropout, np.float32),
        )
        self.keys = jax.random.split(jax.random.key(0), case.num_trials)
        train = make_train(case)
        key, hparams = self.trial(0)
        if batched:
            train = jax.vmap(train, in_axes=(0, 0, None, None))
            key, hparams = self.keys, self.hparams
        started = time.perf_counter()
        self.train = jax.jit(train).lower(key, hparams, *self.arrays).compile()
        self.compile_seconds = time.perf_counter() - started

    def trial(self, i: int) -> tuple[jax.Array, Hparams]:
        """Key and hyperparameters of one trial."""
        return self.keys[i], Hparams(*(values[i] for values in self.hparams))

    def mean_squared_error(self, params: Params) -> float:
        """Over the training rows."""
        inputs, targets = self.arrays
        return float(jnp.mean((apply(params, inputs) - targets) ** 2))


class Scan(_Jitted):
    """One compiled call per configuration."""

    quantum = 1

    def __init__(self, case: Case) -> None:
        super().__init__(case, batched=False)

    def run(self, trials: range) -> None:
        """Train trials one after the other; fetch each one's weights and curve."""
        calls = [self.train(*self.trial(i), *self.arrays) for i in trials]
        self.results = jax.device_get(calls)

    def score(self) -> float:
        """Mean squared error of the first trial."""
        return self.mean_squared_error(self.results[0][0])


class Vmap(_Jitted):
    """All trials in one compiled call, each with its own key and so its own permutations."""

    def __init__(self, case: Case) -> None:
        super().__init__(case, batched=True)
        self.quantum = case.num_trials

    def run(self, trials: range) -> None:
        """Train the whole population; fetch weights and curves."""
        self.results = jax.device_get(self.train(self.keys, self.hparams, *self.arrays))

    def score(self) -> float:
        """Mean squared error of the first trial."""
        return self.mean_squared_error(jax.tree.map(lambda x: x[0], self.results[0]))
