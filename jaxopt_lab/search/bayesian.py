"""Bayesian optimisation with a Gaussian process, made for batches."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxopt_lab.search.acquisition import appraise, choose_by_thompson, choose_jointly
from jaxopt_lab.search.base import History, Sampler, check_request, generator
from jaxopt_lab.search.candidates import STEP_SIZES, around, mutate
from jaxopt_lab.search.encoding import features, fill_up, first_new, row_keys, snap
from jaxopt_lab.search.feasibility import labels, log_probability
from jaxopt_lab.search.gaussian_process import (
    Data,
    Posterior,
    condition,
    fit,
    incumbent,
    initial_hyperparameters,
    predict,
)
from jaxopt_lab.search.outputs import standardise
from jaxopt_lab.search.quasi_random import quasi_random, sequence
from jaxopt_lab.space import SearchSpace
from jaxopt_lab.types import Config, PRNGKey

#: Observations the process is conditioned on: the best half and the latest half beyond that.
MAX_OBSERVATIONS = 2048
#: Observations the hyperparameters are fitted to: the best half and a random half beyond that.
MAX_FITTED = 256
MIN_PADDED = 64
NUM_STARTS = 3
#: Up to so many observations all restarts climb all steps; beyond, the best one fewer.
FULL_EFFORT = 128
FULL_STEPS, FEWER_STEPS = 60, 40
NUM_GLOBAL = 1024
NUM_LOCAL = 1024
NUM_ROUNDS = 6
NUM_CHILDREN = 256
NUM_POOL = 1024


class Models(NamedTuple):
    """The process of the values, that of feasibility if anything was infeasible, the incumbent."""

    values: Posterior
    feasibility: Posterior | None
    best: float


@contextmanager
def float64_on_cpu() -> Iterator[None]:
    """Run what follows in float64 on a CPU device, whatever JAX's defaults are.

    Matrix factorisations run on one thread: their threads wait by spinning, which on a machine
    with other work has been seen to cost an order of magnitude.
    """
    from threadpoolctl import threadpool_limits

    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(limits=1, user_api="blas"))
        stack.enter_context(jax.enable_x64(True))
        with suppress(RuntimeError):  # JAX was started without a CPU backend: use what there is
            stack.enter_context(jax.default_device(jax.local_devices(backend="cpu")[0]))
        yield


def padded_data(
    space: SearchSpace,
    points: Float[np.ndarray, "n d"],
    values: Float[np.ndarray, " n"],
    noise: Float[np.ndarray, " n"],
) -> Data:
    """Pad observations to a power of two, so that few shapes are ever compiled."""
    num = len(values)
    size = max(MIN_PADDED, 1 << max(num - 1, 0).bit_length())
    seen = features(space, points)
    x = np.zeros((size, seen.columns.shape[1]))
    y, known, mask = np.zeros(size), np.zeros(size), np.arange(size) < num
    x[:num], y[:num], known[:num] = seen.columns, values, noise
    return Data(*(jnp.asarray(a) for a in (x, y, known, mask, seen.owner, seen.categorical)))


def chosen_rows(
    values: Float[np.ndarray, " n"], limit: int, rng: np.random.Generator | None
) -> np.ndarray:
    """The rows a large history is cut to: the best half, and the latest (or a random) half."""
    num = len(values)
    if num <= limit:
        return np.arange(num)
    order = np.argsort(values, kind="stable")
    best, rest = order[: limit // 2], np.sort(order[limit // 2 :])
    others = (
        rest[-(limit - len(best)) :] if rng is None else rng.choice(rest, limit - len(best), False)
    )
    return np.sort(np.concatenate([best, others]))


def fit_process(
    space: SearchSpace,
    points: Float[np.ndarray, "n d"],
    values: Float[np.ndarray, " n"],
    noise: Float[np.ndarray, " n"],
    rng: np.random.Generator,
) -> Posterior:
    """Fit hyperparameters to a part of the data, and condition on all of it."""
    rows = chosen_rows(values, MAX_FITTED, rng)
    starts = initial_hyperparameters(space.num_dims, NUM_STARTS)
    effort = (FULL_STEPS, None) if len(rows) <= FULL_EFFORT else (FEWER_STEPS, 1)
    data = padded_data(space, points[rows], values[rows], noise[rows])
    hyper, _ = fit(starts, data, *effort)
    return condition(hyper, padded_data(space, points, values, noise))


def fit_models(
    space: SearchSpace, points: Float[np.ndarray, "n d"], history: History, rng: np.random.Generator
) -> Models:
    """Fit everything that the acquisition function needs; pending points are fantasised."""
    observed = np.flatnonzero(history.observed)
    y, variances = standardise(history.values[observed], history.noise[observed])
    rows = chosen_rows(y, MAX_OBSERVATIONS, None)
    x, y, variances = points[observed][rows], y[rows], variances[rows]
    process = fit_process(space, x, y, variances, rng)
    best = float(incumbent(process))
    if history.pending.any():
        waiting = points[history.pending][-(MAX_OBSERVATIONS // 4) :]
        guess, _ = predict(process, jnp.asarray(features(space, waiting).columns))
        x, y = np.concatenate([x, waiting]), np.concatenate([y, np.asarray(guess)])
        variances = np.concatenate([variances, np.zeros(len(waiting))])
        process = condition(process.hyper, padded_data(space, x, y, variances))
    feasibility = None
    if history.infeasible.any():
        known = np.flatnonzero(~history.pending)[-MAX_OBSERVATIONS:]
        signs = labels(history.infeasible[known])
        feasibility = fit_process(space, points[known], signs, np.zeros(len(known)), rng)
    return Models(process, feasibility, best)


class Pool(NamedTuple):
    """Distinct new candidates, and what each alone is worth."""

    points: Float[np.ndarray, "m d"]
    worth: Float[np.ndarray, " m"]


def padded_appraisal(
    space: SearchSpace, models: Models, points: Float[np.ndarray, "m d"], size: int
) -> Float[np.ndarray, " m"]:
    """`appraise` at a fixed size, so that a varying number of points does not recompile."""
    columns = features(space, points).columns
    padded = np.zeros((size, columns.shape[1]))
    padded[: len(points)] = columns
    best = jnp.asarray(models.best)
    worth = appraise(models.values, models.feasibility, jnp.asarray(padded), best)
    return np.asarray(worth)[: len(points)]


def search_pool(
    key: PRNGKey,
    space: SearchSpace,
    good: Float[np.ndarray, "g d"],
    known: set[bytes],
    models: Models,
    rng: np.random.Generator,
) -> Pool:
    """Candidates over the space and around good points, and the best of them improved locally."""
    spread = sequence(jax.random.fold_in(key, 1), NUM_GLOBAL, space.num_dims, "sobol")
    first = np.concatenate([spread, around(space, good, NUM_LOCAL, rng)])
    seen = set(known)
    points = first_new(space, first, seen, len(first))
    worth = padded_appraisal(space, models, points, NUM_GLOBAL + NUM_LOCAL)
    for round_number in range(NUM_ROUNDS):
        if not len(points):
            break
        order = np.argsort(-worth, kind="stable")[: NUM_CHILDREN // 8]
        parents = points[np.resize(order, NUM_CHILDREN)]
        steps = rng.choice(STEP_SIZES, NUM_CHILDREN) * 0.5**round_number
        children = first_new(space, mutate(space, parents, steps, rng), seen, NUM_CHILDREN)
        if len(children):
            points = np.concatenate([points, children])
            more = padded_appraisal(space, models, children, NUM_CHILDREN)
            worth = np.concatenate([worth, more])
    return Pool(points, worth)


def choose(
    key: PRNGKey,
    space: SearchSpace,
    pool: Pool,
    models: Models,
    n: int,
    strategy: str,
    rng: np.random.Generator,
) -> Float[np.ndarray, "k d"]:
    """Choose up to n points of the pool: the best one alone, or several jointly."""
    if len(pool.points) <= n:
        return pool.points
    if n == 1:
        return pool.points[[int(np.argmax(pool.worth))]]
    order = np.argsort(-pool.worth, kind="stable")
    half = NUM_POOL // 2
    others = rng.permutation(order[half:])[: NUM_POOL - half]
    rows = np.concatenate([order[:half], others])
    columns = features(space, pool.points[rows]).columns
    padded = np.zeros((NUM_POOL, columns.shape[1]))
    padded[: len(rows)] = columns
    allowed: Bool[np.ndarray, " m"] = np.arange(NUM_POOL) < len(rows)
    log_feasible = jnp.asarray(np.zeros(NUM_POOL))
    if models.feasibility is not None:
        log_feasible = log_probability(models.feasibility, jnp.asarray(padded))
    num = 1 << (n - 1).bit_length()
    shared = (models.values, jnp.asarray(padded), log_feasible, jnp.asarray(allowed))
    if strategy == "thompson":
        chosen = choose_by_thompson(jax.random.fold_in(key, 2), *shared, num=num)
    else:
        chosen = choose_jointly(*shared, jnp.asarray(models.best), num=num)
    chosen = np.asarray(chosen)
    return pool.points[rows[chosen[allowed[chosen]][:n]]]


def bayesian(num_initial: int | None = None, thompson_from: int = 64) -> Sampler:
    """Bayesian optimisation.

    Args:
      num_initial: quasi-random points before the model takes over; None for a rule by dimension.
      thompson_from: batch size from which Thompson sampling replaces expected improvement.
    """

    start = quasi_random("sobol")

    def propose(key: PRNGKey, space: SearchSpace, history: History, n: int) -> list[Config]:
        check_request(space, history, n)
        wanted = min(2 * space.num_dims, 10) if num_initial is None else num_initial
        if space.num_dims == 0 or history.observed.sum() < max(wanted, 2):
            return start.propose(key, space, history, n)
        points = snap(space, history.points)
        step_key = jax.random.fold_in(key, len(history))
        rng = generator(step_key, 3)
        known = set(row_keys(points))
        with float64_on_cpu():
            models = fit_models(space, points, history, rng)
            ranked = np.argsort(history.values, kind="stable")  # NaN last
            good = points[ranked[: min(16, int(history.observed.sum()))]]
            pool = search_pool(step_key, space, good, known, models, rng)
            strategy = "thompson" if n >= thompson_from else "improvement"
            rows = choose(step_key, space, pool, models, n, strategy, rng)
        known |= set(row_keys(rows))
        rows = fill_up(space, rows, good, known, n, rng)
        return space.from_unit(rows)

    return Sampler("bayesian", propose)
