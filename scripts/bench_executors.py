"""Seconds per trial of both executors by cohort width, on one core: what `executors` is set by.

    taskset -c 0 python scripts/bench_executors.py [CASE ...] [--widths 1 4 16 64 256]

Prints one JSON line for each case, executor and width: processor time per trial (the least of
several calls, compilation apart), processor time to compile, and the footprint that the choice
sees. Processor time, so that whatever else the machine does disturbs little; for an accelerator
ask for `--clock wall`.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_lab.core.tracing.footprint import measure_footprint

Case = Callable[[jax.Array, jax.Array], Any]


def trained(module: nn.Module, rows: np.ndarray, batch_size: int) -> Case:
    """One epoch of Adam in minibatches; the state is made inside, so that all is one function."""
    num_steps = len(rows) // batch_size
    targets = jnp.asarray(rows.reshape(len(rows), -1).mean(1))

    def unit(key: jax.Array, learning_rate: jax.Array) -> jax.Array:
        params = module.init(key, rows[:1])
        optimizer = optax.adam(learning_rate)

        def step(carry: Any, i: jax.Array) -> Any:
            params, state = carry
            x = jax.lax.dynamic_slice_in_dim(jnp.asarray(rows), i * batch_size, batch_size)
            y = jax.lax.dynamic_slice_in_dim(targets, i * batch_size, batch_size)

            def loss_of(params: Any) -> jax.Array:
                outputs: Any = module.apply(params, x)
                return jnp.mean((outputs[..., 0] - y) ** 2)

            loss, grads = jax.value_and_grad(loss_of)(params)
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), loss

        return jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(num_steps))[1]

    return unit


class MLP(nn.Module):
    """Dense layers with ReLU."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.widths:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(1)(x)


class GRU(nn.Module):
    """32 units, the last output."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        states: Any = nn.RNN(nn.GRUCell(32))(x)
        return nn.Dense(1)(states[:, -1])


class CNN(nn.Module):
    """Two convolutions with pooling, one dense layer."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features in (8, 16):
            x = nn.avg_pool(nn.relu(nn.Conv(features, (3, 3))(x)), (2, 2), (2, 2))
        return nn.Dense(1)(nn.relu(nn.Dense(32)(x.reshape(len(x), -1))))


def tiny(key: jax.Array, learning_rate: jax.Array) -> jax.Array:
    """2 -> 8 -> 1 on 32 rows, 200 steps of gradient descent."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(32, 2)), jnp.float32)
    y = x[:, 0] * x[:, 1]
    first, second = jax.random.normal(key, (2, 8)), jnp.ones((8, 1)) / 8

    def loss(params: Any) -> jax.Array:
        return jnp.mean(((jnp.tanh(x @ params[0]) @ params[1])[:, 0] - y) ** 2)

    def step(params: Any, _: None) -> Any:
        value, grads = jax.value_and_grad(loss)(params)
        return jax.tree.map(lambda p, g: p - learning_rate * g, params, grads), value

    return jax.lax.scan(step, (first, second), None, length=200)[1]


def random_features(key: jax.Array, scale: jax.Array) -> jax.Array:
    """Ridge regression on 64 random Fourier features of 256 rows."""
    x = jnp.linspace(-1.0, 1.0, 256)[:, None]
    y = jnp.sin(8 * x[:, 0])
    w, b = jax.random.normal(key, (1, 64)) / scale, jax.random.uniform(key, (64,), maxval=6.28)
    f = jnp.cos(x @ w + b)
    coefficients = jax.scipy.linalg.solve(f.T @ f + 1e-3 * jnp.eye(64), f.T @ y, assume_a="pos")
    return jnp.mean((f @ coefficients - y) ** 2)


def cartpole(key: jax.Array, learning_rate: jax.Array) -> jax.Array:
    """16 carts, 100 steps each, and one policy gradient of a 4 -> 64 -> 2 network."""
    first, second = jax.random.normal(key, (4, 64)) / 2, jax.random.normal(key, (64, 2)) / 8

    def move(state: jax.Array, push: jax.Array) -> jax.Array:
        x, v, angle, spin = state.T
        force = jnp.where(push == 1, 10.0, -10.0)
        temp = (force + 0.05 * spin**2 * jnp.sin(angle)) / 1.1
        turn = (9.8 * jnp.sin(angle) - jnp.cos(angle) * temp) / (
            0.5 * (4 / 3 - 0.1 * jnp.cos(angle) ** 2 / 1.1)
        )
        push_back = temp - 0.05 * turn * jnp.cos(angle) / 1.1
        new = jnp.stack([x, v, angle, spin], 1) + 0.02 * jnp.stack([v, push_back, spin, turn], 1)
        fallen = (jnp.abs(new[:, 0]) > 2.4) | (jnp.abs(new[:, 2]) > 0.21)
        return jnp.where(fallen[:, None], 0.01, new)

    def rollout(params: Any) -> jax.Array:
        def step(state: jax.Array, key: jax.Array) -> Any:
            logits = jnp.tanh(state @ params[0]) @ params[1]
            push = jax.random.categorical(key, logits)
            log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), push[:, None], 1)[:, 0]
            return move(state, push), log_prob

        states = jnp.full((16, 4), 0.01)
        return jax.lax.scan(step, states, jax.random.split(key, 100))[1].mean()

    grads = jax.grad(rollout)((first, second))
    return learning_rate * optax.global_norm(grads)


def cases() -> dict[str, Case]:
    """Functions of one trial by name."""
    random = np.random.default_rng(0)

    def draw(*size: int) -> np.ndarray:
        return random.normal(size=size).astype(np.float32)

    return {
        "tiny": tiny,
        "random_features": random_features,
        "cartpole": cartpole,
        "mlp": trained(MLP((64, 64, 64)), draw(640, 8), 32),
        "wide_mlp": trained(MLP((256, 256)), draw(640, 32), 64),
        "gru": trained(GRU(), draw(128, 20, 8), 32),
        "cnn": trained(CNN(), draw(128, 16, 16, 1), 32),
    }


def seconds(
    unit: Case, executor: str, width: int, clock: Callable[[], float]
) -> tuple[float, float]:
    """Seconds per trial, and to compile."""
    keys, rates = jax.random.split(jax.random.key(0), width), jnp.full(width, 1e-3)
    if executor == "vmap":
        batched = jax.vmap(unit)
    else:

        def batched(keys: jax.Array, rates: jax.Array) -> Any:
            return jax.lax.map(lambda both: unit(*both), (keys, rates))

    started = clock()
    program = jax.jit(batched).lower(keys, rates).compile()
    compiled = clock() - started
    jax.block_until_ready(program(keys, rates))
    times: list[float] = []
    while len(times) < 3 or sum(times) < 0.15:
        started = clock()
        jax.block_until_ready(program(keys, rates))
        times.append(clock() - started)
    return min(times) / width, compiled


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = cases()
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(known)}")
    parser.add_argument("--widths", nargs="*", type=int, default=[1, 4, 16, 64, 256])
    parser.add_argument("--clock", choices=["processor", "wall"], default="processor")
    args = parser.parse_args()
    clock = time.process_time if args.clock == "processor" else time.perf_counter
    for name in args.cases or known:
        unit = known[name]
        shape = jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct((), jnp.float32)
        footprint = measure_footprint(jax.make_jaxpr(unit)(*shape))
        facts = {
            "trial_bytes": footprint.trial_bytes,
            "flops": footprint.flops,
            "num_operations": footprint.num_operations,
            "kernels_differ": footprint.kernels_differ,
        }
        for executor, width in [*(("vmap", w) for w in args.widths), ("map", 4)]:
            each, compiled = seconds(unit, executor, width, clock)
            line = {
                "case": name,
                "executor": executor,
                "width": width,
                "ms_per_trial": round(1e3 * each, 4),
                "compile_seconds": round(compiled, 2),
            }
            print(json.dumps({**line, **facts}), flush=True)


if __name__ == "__main__":
    main()
