"""Balance a pole by PPO: 16 configurations x 2 seeds in one population, the return maximised.

Environment, policy and updates are pure functions of one trial, so all trainings run side by side
in one compiled program, each with its own learning rate, clipping and discounts.

    python experiments/cartpole_ppo.py [--trials N] [--units U] [--out DIR]

The last line printed is JSON: `best_return` is the mean over seeds of the best configuration. On
two slow cores with other work beside it: 500 of 500 steps, in 44 s.

Source: environment of Barto, Sutton & Anderson 1983, with the limits of Gym's CartPole-v1 (500
steps); PPO of Schulman et al. 2017 (arXiv:1707.06347), advantages of Schulman et al. 2016
(arXiv:1506.02438).
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import jaxopt_lab as lab

# 1. The environment. ----------------------------------------------------------------------------

GRAVITY, CART_MASS, POLE_MASS, HALF_LENGTH = 9.8, 1.0, 0.1, 0.5
FORCE, SECONDS = 10.0, 0.02
MAX_POSITION, MAX_ANGLE, MAX_STEPS = 2.4, 12 * jnp.pi / 180, 500


class Cart(NamedTuple):
    """Position, velocity, angle and angular velocity [4], and how many steps they took."""

    body: jax.Array
    steps: jax.Array


class Seen(NamedTuple):
    """What one step shows: the next observation, and whether it fell or ran out of time."""

    observation: jax.Array
    fell: jax.Array
    timed_out: jax.Array


def reset(key: jax.Array) -> Cart:
    """Almost upright, almost at rest."""
    return Cart(jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05), jnp.int32(0))


def move(cart: Cart, action: jax.Array) -> tuple[Cart, Seen]:
    """Push left (0) or right (1) for one step; every step is worth a reward of 1."""
    _, velocity, angle, spin = cart.body
    force = jnp.where(action == 1, FORCE, -FORCE)
    sin, cos, mass = jnp.sin(angle), jnp.cos(angle), CART_MASS + POLE_MASS
    push = (force + POLE_MASS * HALF_LENGTH * spin**2 * sin) / mass
    turn = GRAVITY * sin - cos * push
    turn = turn / (HALF_LENGTH * (4 / 3 - POLE_MASS * cos**2 / mass))
    speed_up = push - POLE_MASS * HALF_LENGTH * turn * cos / mass
    rates = jnp.stack([velocity, speed_up, spin, turn])
    body, steps = cart.body + SECONDS * rates, cart.steps + 1
    fell = (jnp.abs(body[0]) > MAX_POSITION) | (jnp.abs(body[2]) > MAX_ANGLE)
    return Cart(body, steps), Seen(body, fell, ~fell & (steps >= MAX_STEPS))


def move_or_reset(cart: Cart, action: jax.Array, key: jax.Array) -> tuple[Cart, Seen]:
    """As `move`; where the episode ended, the next one begins."""
    cart, seen = move(cart, action)
    ended = seen.fell | seen.timed_out
    return jax.tree.map(lambda new, old: jnp.where(ended, new, old), reset(key), cart), seen


# 2. The policy. ---------------------------------------------------------------------------------


class ActorCritic(nn.Module):
    """Logits of the two actions, and the value of where the cart is."""

    @nn.compact
    def __call__(self, observations: jax.Array) -> tuple[jax.Array, jax.Array]:
        def tower(outputs: int, scale: float) -> jax.Array:
            x = observations
            for _ in range(2):
                x = jnp.tanh(nn.Dense(64, kernel_init=nn.initializers.orthogonal(2**0.5))(x))
            return nn.Dense(outputs, kernel_init=nn.initializers.orthogonal(scale))(x)

        return tower(2, 0.01), tower(1, 1.0)[..., 0]


NETWORK: Any = ActorCritic()


class Steps(NamedTuple):
    """What was seen and done in a rollout, [num_steps, num_envs, ...]."""

    observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    reward: jax.Array
    ended: jax.Array


def log_prob_of(logits: jax.Array, actions: jax.Array) -> jax.Array:
    return jnp.take_along_axis(jax.nn.log_softmax(logits), actions[..., None], axis=-1)[..., 0]


# 3. One trial: PPO as three pure functions. -----------------------------------------------------


class State(NamedTuple):
    """Everything that a training carries from unit to unit."""

    params: Any
    moments: Any
    carts: Cart
    key: jax.Array


def optimizer_of(hparams: Any) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(hparams.max_grad_norm),
        optax.adam(hparams.learning_rate, eps=1e-5),
    )


def build(
    *,
    num_envs: int = 16,
    num_steps: int = 64,
    num_updates: int = 4,
    num_epochs: int = 4,
    num_minibatches: int = 4,
) -> lab.Trainable:
    """PPO; a unit is `num_updates` rollouts of `num_steps` steps in `num_envs` environments."""
    batch_size = num_envs * num_steps

    def init(key: jax.Array, hparams: Any) -> State:
        params_key, envs_key, key = jax.random.split(key, 3)
        params = NETWORK.init(params_key, jnp.zeros((1, 4)))
        carts = jax.vmap(reset)(jax.random.split(envs_key, num_envs))
        return State(params, optimizer_of(hparams).init(params), carts, key)

    def rollout(params: Any, carts: Cart, key: jax.Array, gamma: jax.Array) -> tuple[Cart, Steps]:
        def step(carts: Cart, key: jax.Array) -> tuple[Cart, Steps]:
            act_key, key = jax.random.split(key)
            logits, value = NETWORK.apply(params, carts.body)
            action = jax.random.categorical(act_key, logits)
            new, seen = jax.vmap(move_or_reset)(carts, action, jax.random.split(key, num_envs))
            # An episode that ran out of time would have gone on: its rest is worth its value.
            rest = jnp.where(seen.timed_out, NETWORK.apply(params, seen.observation)[1], 0.0)
            reward, ended = 1.0 + gamma * rest, seen.fell | seen.timed_out
            log_prob = log_prob_of(logits, action)
            return new, Steps(carts.body, action, log_prob, value, reward, ended)

        return jax.lax.scan(step, carts, jax.random.split(key, num_steps))

    def advantages_of(steps: Steps, last_value: jax.Array, hparams: Any) -> jax.Array:
        def back(carry: tuple[jax.Array, jax.Array], step: Steps) -> Any:
            advantage, next_value = carry
            goes_on = hparams.gamma * (1.0 - step.ended)
            surprise = step.reward + goes_on * next_value - step.value
            advantage = surprise + goes_on * hparams.gae_lambda * advantage
            return (advantage, step.value), advantage

        start = jnp.zeros(num_envs), last_value
        return jax.lax.scan(back, start, steps, reverse=True)[1]

    def loss_of(params: Any, batch: tuple[Steps, jax.Array, jax.Array], hparams: Any) -> jax.Array:
        steps, advantage, target = batch
        logits, value = NETWORK.apply(params, steps.observation)
        ratio = jnp.exp(log_prob_of(logits, steps.action) - steps.log_prob)
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        clipped = jnp.clip(ratio, 1.0 - hparams.clip_eps, 1.0 + hparams.clip_eps)
        gain = jnp.minimum(ratio * advantage, clipped * advantage).mean()
        log_probs = jax.nn.log_softmax(logits)
        entropy = -(jnp.exp(log_probs) * log_probs).sum(axis=-1).mean()
        error = 0.5 * jnp.square(value - target).mean()
        return hparams.vf_coef * error - gain - hparams.ent_coef * entropy

    def update(state: State, hparams: Any, left: jax.Array) -> State:
        """One rollout, some epochs of minibatches; steps shrink with what is `left` of 1."""
        roll_key, order_key, key = jax.random.split(state.key, 3)
        carts, steps = rollout(state.params, state.carts, roll_key, hparams.gamma)
        last_value = NETWORK.apply(state.params, carts.body)[1]
        advantages = advantages_of(steps, last_value, hparams)
        rows = steps, advantages, advantages + steps.value
        rows = jax.tree.map(lambda leaf: leaf.reshape(batch_size, *leaf.shape[2:]), rows)

        def minibatch(carry: Any, chosen: jax.Array) -> Any:
            params, moments = carry
            batch = jax.tree.map(lambda leaf: leaf[chosen], rows)
            gradient = jax.grad(loss_of)(params, batch, hparams)
            updates, moments = optimizer_of(hparams).update(gradient, moments)
            updates = jax.tree.map(lambda leaf: left * leaf, updates)
            return (optax.apply_updates(params, updates), moments), None

        keys = jax.random.split(order_key, num_epochs)
        orders = jax.vmap(lambda k: jax.random.permutation(k, batch_size))(keys)
        orders = orders.reshape(num_epochs * num_minibatches, -1)
        (params, moments), _ = jax.lax.scan(minibatch, (state.params, state.moments), orders)
        return State(params, moments, carts, key)

    def step(state: State, hparams: Any, shared: lab.Shared) -> tuple[State, dict[str, Any]]:
        left = 1.0 - shared.unit / shared.budget
        return jax.lax.fori_loop(0, num_updates, lambda i, s: update(s, hparams, left), state), {}

    def evaluate(state: State, hparams: Any, shared: lab.Shared) -> dict[str, jax.Array]:
        """Mean return of 32 episodes of the policy as it acts in training; starts are shared."""
        reset_key, act_key = jax.random.split(shared.key)
        carts = jax.vmap(reset)(jax.random.split(reset_key, 32))

        def play(carry: Any, key: jax.Array) -> Any:
            carts, running, returns = carry
            logits, _ = NETWORK.apply(state.params, carts.body)
            carts, seen = jax.vmap(move)(carts, jax.random.categorical(key, logits))
            return (carts, running & ~seen.fell, returns + running), None

        start = carts, jnp.ones(32, bool), jnp.zeros(32)
        (_, _, returns), _ = jax.lax.scan(play, start, jax.random.split(act_key, MAX_STEPS))
        return {"episode_return": returns.mean()}

    return lab.Trainable(init, step, evaluate, result=lambda state: state.params)


# 4. The search. ---------------------------------------------------------------------------------

SPACE = {
    "learning_rate": lab.LogUniform(3e-4, 1e-2),
    "clip_eps": lab.Uniform(0.1, 0.4),
    "ent_coef": lab.LogUniform(1e-4, 3e-2),
    "gae_lambda": lab.Uniform(0.85, 0.99),
    "gamma": lab.Choice([0.98, 0.99, 0.995]),
    "vf_coef": lab.LogUniform(0.1, 1.0),
    "max_grad_norm": lab.LogUniform(0.3, 3.0),
}
problem = lab.from_steps(build, objective="episode_return", direction="maximize", num_seeds=2)
space = lab.SearchSpace(**SPACE)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    arguments = parse(argv)
    lab.use_all_cores()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        directory = arguments.out or scratch
        with lab.Study(problem, space, directory=directory, seed=0) as study:
            study.optimize(lab.search.random(), arguments.trials, budget=arguments.units)
            print(study.trials.sort_values("score").to_string(index=False))
            best = study.best
    result = {
        "best_return": best.score,
        "hyperparameters": best.hyperparameters,
        "seconds": round(time.monotonic() - started),
    }
    print(json.dumps(result))
    return result


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=16, help="configurations")
    parser.add_argument("--units", type=int, default=20, help="of 4096 environment steps each")
    parser.add_argument("--out", help="keep the study in this directory")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
