"""What a JAX user writes without a population engine: a jitted scan, or a vmap of it."""

import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench.cases import Case
from bench.networks import optimizer as optimizer_of
from bench.networks import plain

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


def apply(
    params: Params,
    x: jax.Array,
    rate: Any = None,
    key: jax.Array | None = None,
    activation: str = "relu",
) -> Any:
    """The network; with a key, dropout at a traced rate after each hidden layer."""
    keys = [None] * len(params) if key is None else jax.random.split(key, len(params) - 1)
    for (kernel, bias), layer_key in zip(params[:-1], keys, strict=False):
        x = getattr(jax.nn, activation)(x @ kernel + bias)
        if layer_key is not None:
            keep = jax.random.bernoulli(layer_key, 1 - rate, x.shape)
            x = jnp.where(keep, x / (1 - rate), 0.0)
    kernel, bias = params[-1]
    return (x @ kernel + bias)[:, 0]


class Network(NamedTuple):
    """A network of a case: key -> weights; (weights, inputs, dropout, key) -> outputs [b]."""

    init: Any
    apply: Any


def network_of(case: Case) -> Network:
    """The MLP by hand; of another model, Flax's own layers."""
    if case.model in ("mlp", "function"):
        sizes = [case.num_features, *[case.hidden_size] * case.num_layers, 1]
        return Network(lambda key: init(key, sizes), partial(apply, activation=case.activation))
    module, inputs = plain(case), case.data()[0]
    return Network(
        lambda key: module.init(key, inputs[:1]), lambda params, x, *_: module.apply(params, x)
    )


def make_train(case: Case) -> Any:
    """(key, hparams, inputs, targets) -> (weights, loss per epoch): all epochs of one network."""
    network = network_of(case)
    num_steps = case.num_rows // case.batch_size

    def train(key: jax.Array, hparams: Hparams, inputs: jax.Array, targets: jax.Array) -> Any:
        rates = hparams.learning_rate, hparams.weight_decay
        optimizer = optimizer_of(case, *rates, num_steps * case.num_epochs)

        def step(carry: Any, batch: Any) -> Any:
            params, state = carry
            x, y, noise_key = batch
            if not case.dropout:
                noise_key = None

            def loss_of(p: Params) -> Any:
                return jnp.mean((network.apply(p, x, hparams.dropout, noise_key) - y) ** 2)

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
        params = network.init(init_key)
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
        return float(jnp.mean((network_of(self.case).apply(params, inputs) - targets) ** 2))


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


def train_as_one_function(case: Case) -> Any:
    """(key, hparams) -> scores: a whole training, its data inside; hparams is any mapping."""
    train, arrays = make_train(case), case.data()

    def whole(key: jax.Array, hparams: Any) -> dict[str, jax.Array]:
        values = Hparams(hparams["learning_rate"], hparams["weight_decay"], case.dropout)
        _, losses = train(key, values, *map(jnp.asarray, arrays))
        return {"loss": losses[-1], "curve": losses}

    return whole


class BestVmap:
    """A whole training as one function under a `vmap` written by hand, as wide as is fastest.

    Widths are tried in powers of two; all processes try at the same time, as they run.
    """

    def __init__(self, case: Case) -> None:
        self.case, total = case, case.num_trials * case.num_seeds
        self.hparams = {
            "learning_rate": np.repeat(case.learning_rates, case.num_seeds),
            "weight_decay": np.repeat(case.weight_decays, case.num_seeds),
        }
        self.keys = jax.random.split(jax.random.key(0), total)
        batched, self.compile_seconds = jax.vmap(train_as_one_function(case)), 0.0
        found, width = {}, 1
        while width <= total:
            started = time.perf_counter()
            members = np.arange(width)
            program = jax.jit(batched).lower(*self._of(members)).compile()
            self.compile_seconds += time.perf_counter() - started
            found[width] = self._seconds(program, width), program
            # Far beyond the best width it only becomes slower.
            if found[width][0] > 1.5 * min(seconds for seconds, _ in found.values()):
                break
            width *= 2
        self.width = min(found, key=lambda width: found[width][0])
        self.program = found[self.width][1]
        self.quantum = max(1, self.width // case.num_seeds)

    def _seconds(self, program: Any, width: int) -> float:
        """Per training; of at least eight, so that narrow widths are timed as well as wide ones."""
        calls = max(1, 8 // width)
        started = time.perf_counter()
        for _ in range(calls):
            jax.block_until_ready(program(*self._of(np.arange(width))))
        return (time.perf_counter() - started) / (calls * width)

    def _of(self, members: np.ndarray) -> tuple[jax.Array, dict[str, np.ndarray]]:
        return self.keys[members], {name: v[members] for name, v in self.hparams.items()}

    def run(self, trials: range) -> None:
        """Train all seeds of trials, `width` at a time; the last ones are filled up."""
        members = np.arange(trials.start * self.case.num_seeds, trials.stop * self.case.num_seeds)
        chunks = []
        for first in range(0, len(members), self.width):
            chunk = members[first : first + self.width]
            chunk = np.pad(chunk, (0, self.width - len(chunk)), mode="edge")
            chunks.append(self.program(*self._of(chunk)))
        self.results = jax.device_get(chunks)

    def score(self) -> float:
        """The last loss of the first member."""
        return float(self.results[0]["loss"][0])
