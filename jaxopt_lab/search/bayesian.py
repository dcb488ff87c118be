"""Bayesian optimisation with a Gaussian process, made for batches."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxopt_lab.core.types import Config, PRNGKey
from jaxopt_lab.search.acquisition import (
    Candidates,
    appraise,
    choose_by_thompson,
    choose_jointly,
)
from jaxopt_lab.search.base import History, Sampler, check_request, generator
from jaxopt_lab.search.candidates import STEP_SIZES, around, mutate
from jaxopt_lab.search.encoding import active_mask, features, fill_up, first_new, row_keys, snap
from jaxopt_lab.search.models import Models, fit_models, float64_on_cpu
from jaxopt_lab.search.quasi_random import quasi_random, sequence
from jaxopt_lab.spaces.space import SearchSpace

NUM_GLOBAL = 1024
NUM_LOCAL = 1024
NUM_ROUNDS = 6
NUM_CHILDREN = 256
NUM_POOL = 1024
#: Gradient steps x choices x observations^2 that one call may spend on improving its choices.
MAX_WORK = 1e8


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


class Improvement(NamedTuple):
    """What is still to be gained, in the scale in which the process sees the values.

    Attributes:
      improvement: greatest expected improvement over the space.
      noise: known standard error of the best value; 0 if unknown.
    """

    improvement: float
    noise: float


def best_improvement(space: SearchSpace, history: History) -> Improvement:
    """The greatest expected improvement over a space; needs two observed values."""
    key = jax.random.key(len(history), impl="threefry2x32")
    rng = generator(key, 4)
    points = snap(space, history.points)
    with float64_on_cpu():
        models = fit_models(space, points, history, rng)
        good = points[np.argsort(history.values, kind="stable")[: min(16, len(points))]]
        pool = search_pool(key, space, good, set(), models, rng)
        data = models.values.data
        best = int(np.argmin(np.where(data.mask, data.y, np.inf)))
        noise = math.sqrt(float(data.noise[best]))
    return Improvement(math.exp(float(pool.worth.max())), noise)


def make_candidates(space: SearchSpace, points: Float[np.ndarray, "m d"], size: int) -> Candidates:
    """Candidates of points, padded."""
    seen = features(space, points)
    real = np.array([not np.isfinite(d.cardinality) for d in space.parameters.values()])
    movable = (active_mask(space, points) & real)[:, seen.owner]
    padding = ((0, size - len(points)), (0, 0))
    return Candidates(
        jnp.asarray(np.pad(seen.columns, padding)),
        jnp.asarray(np.pad(movable, padding)),
        jnp.asarray(np.arange(size) < len(points)),
    )


def steps_within(work: float, num: int, size: int) -> int:
    """The largest of a few numbers of gradient steps that `num` choices can afford."""
    return max(n for n in (0, 4, 8, 16, 32) if n == 0 or n * num * size**2 <= work)


def moved_to(
    space: SearchSpace,
    points: Float[np.ndarray, "k d"],
    columns: Float[np.ndarray, "k e"],
    known: set[bytes],
) -> Float[np.ndarray, "k d"]:
    """Points with the real coordinates of their moved features, where that is not known yet."""
    owner = features(space, points).owner
    moved = points.copy()
    for j, dist in enumerate(space.parameters.values()):
        if not np.isfinite(dist.cardinality):
            moved[:, j] = columns[:, np.flatnonzero(owner == j)[0]]
    moved = snap(space, moved)
    seen = known | set(row_keys(points))
    for i, key in enumerate(row_keys(moved)):
        if key in seen:
            moved[i] = points[i]
        seen.add(key)
    return moved


def choose(
    key: PRNGKey,
    space: SearchSpace,
    pool: Pool,
    known: set[bytes],
    models: Models,
    n: int,
    strategy: str,
    rng: np.random.Generator,
) -> Float[np.ndarray, "k d"]:
    """Choose up to n points of the pool jointly, and improve their real coordinates."""
    if len(pool.points) <= n:
        return pool.points
    order = np.argsort(-pool.worth, kind="stable")
    half = NUM_POOL // 2
    others = rng.permutation(order[half:])[: NUM_POOL - half]
    points = pool.points[np.concatenate([order[:half], others])]
    candidates = make_candidates(space, points, NUM_POOL)
    num = 1 << (n - 1).bit_length()
    if strategy == "thompson":
        key = jax.random.fold_in(key, 2)
        chosen = np.asarray(choose_by_thompson(key, *models[:2], candidates, num=num))
        return points[chosen[chosen < len(points)][:n]]
    is_real = bool(candidates.movable.any())
    steps = steps_within(MAX_WORK, num, len(models.values.data.y)) if is_real else 0
    best = jnp.asarray(models.best)
    indices, moved = choose_jointly(*models[:2], candidates, best, num=num, num_steps=steps)
    chosen = np.asarray(indices)
    real = np.asarray(chosen < len(points))
    chosen, columns = chosen[real][:n], np.asarray(moved)[real][:n]
    return moved_to(space, points[chosen], columns, known)


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
            rows = choose(step_key, space, pool, known, models, n, strategy, rng)
        known |= set(row_keys(rows))
        rows = fill_up(space, rows, good, known, n, rng)
        return space.from_unit(rows)

    return Sampler("bayesian", propose)
