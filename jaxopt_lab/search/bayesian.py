"""Bayesian optimisation with a Gaussian process, made for batches."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.types import Config, PRNGKey
from jaxopt_lab.search.acquisition import (
    Candidates,
    appraise,
    choose_by_thompson,
    choose_jointly,
    log_interior,
)
from jaxopt_lab.search.base import History, Sampler, check_request, generator
from jaxopt_lab.search.candidates import STEP_SIZES, around, mutate
from jaxopt_lab.search.encoding import fill_up, first_new, row_keys, snap
from jaxopt_lab.search.models import Models, fit_models, float64_on_cpu
from jaxopt_lab.search.quasi_random import quasi_random, sequence
from jaxopt_lab.search.region import Region
from jaxopt_lab.spaces.space import SearchSpace

NUM_GLOBAL = 1024
NUM_LOCAL = 1024
NUM_ROUNDS = 6
NUM_CHILDREN = 256
NUM_POOL = 1024
#: Weight of `log_interior` against log expected improvement: a coordinate goes to the end of its
#: range where that gains something, and stays inside where the model is indifferent.
CAUTION = 0.3
#: Gradient steps x choices x observations^2 that one call may spend on improving its choices.
MAX_WORK = 1e8


class Pool(NamedTuple):
    """Distinct new candidates, and what each alone is worth."""

    points: Float[np.ndarray, "m d"]
    worth: Float[np.ndarray, " m"]


def padded_appraisal(
    region: Region,
    models: Models,
    points: Float[np.ndarray, "m d"],
    size: int,
    caution: float = CAUTION,
) -> Float[np.ndarray, " m"]:
    """`appraise` at a fixed size, so that a varying number of points does not recompile; and
    `log_interior` times `caution` on top.
    """
    columns = region.features(points).columns
    padded = np.zeros((size, columns.shape[1]))
    padded[: len(points)] = columns
    best = jnp.asarray(models.best)
    worth = appraise(models.values, models.feasibility, jnp.asarray(padded), best)
    inside = log_interior(points, region.movable(points), 0.0, 1.0, np)
    return np.asarray(worth)[: len(points)] + caution * inside


def search_pool(
    key: PRNGKey,
    region: Region,
    good: Float[np.ndarray, "g d"],
    known: set[bytes],
    models: Models,
    rng: np.random.Generator,
    caution: float = CAUTION,
) -> Pool:
    """Candidates over the space and around good points, and the best of them improved locally."""
    space = region.space
    spread = sequence(jax.random.fold_in(key, 1), NUM_GLOBAL, space.num_dims, "sobol")
    first = np.concatenate([spread, around(space, good, NUM_LOCAL, rng)])
    seen = set(known)
    points = first_new(space, first, seen, len(first))
    worth = padded_appraisal(region, models, points, NUM_GLOBAL + NUM_LOCAL, caution)
    for round_number in range(NUM_ROUNDS):
        if not len(points):
            break
        order = np.argsort(-worth, kind="stable")[: NUM_CHILDREN // 8]
        parents = points[np.resize(order, NUM_CHILDREN)]
        steps = rng.choice(STEP_SIZES, NUM_CHILDREN) * 0.5**round_number
        children = first_new(space, mutate(space, parents, steps, rng), seen, NUM_CHILDREN)
        if len(children):
            points = np.concatenate([points, children])
            more = padded_appraisal(region, models, children, NUM_CHILDREN, caution)
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
    points, region = snap(space, history.points), Region(space, None)
    with float64_on_cpu():
        models = fit_models(space, points, history, rng)
        good = points[np.argsort(history.values, kind="stable")[: min(16, len(points))]]
        pool = search_pool(key, region, good, set(), models, rng, caution=0.0)
        data = models.values.data
        best = int(np.argmin(np.where(data.mask, data.y, np.inf)))
        noise = math.sqrt(float(data.noise[best]))
    return Improvement(math.exp(float(pool.worth.max())), noise)


def make_candidates(region: Region, points: Float[np.ndarray, "m d"], size: int) -> Candidates:
    """Candidates of points, padded."""
    seen = region.features(points)
    movable = region.movable(points)[:, region.axis]
    movable = (movable & (region.axis >= 0))[:, seen.owner]
    low, high = (end[seen.owner] for end in region.bounds())
    padding = ((0, size - len(points)), (0, 0))
    return Candidates(
        jnp.asarray(np.pad(seen.columns, padding)),
        jnp.asarray(np.pad(movable, padding)),
        jnp.asarray(np.arange(size) < len(points)),
        jnp.asarray(low),
        jnp.asarray(high),
    )


def steps_within(work: float, num: int, size: int) -> int:
    """The largest of a few numbers of gradient steps that `num` choices can afford."""
    return max(n for n in (0, 4, 8, 16, 32) if n == 0 or n * num * size**2 <= work)


def moved_to(
    region: Region,
    points: Float[np.ndarray, "k d"],
    columns: Float[np.ndarray, "k e"],
    known: set[bytes],
) -> Float[np.ndarray, "k d"]:
    """Points with the real coordinates of their moved features, where that is not known yet."""
    owner = region.features(points).owner
    first = np.unique(owner, return_index=True)[1]  # the column of each axis, if it has one only
    moved = snap(region.space, region.from_model(points, columns[:, first]))
    seen = known | set(row_keys(points))
    for i, key in enumerate(row_keys(moved)):
        if key in seen:
            moved[i] = points[i]
        seen.add(key)
    return moved


def choose(
    key: PRNGKey,
    region: Region,
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
    candidates = make_candidates(region, points, NUM_POOL)
    num = 1 << (n - 1).bit_length()
    if strategy == "thompson":
        key = jax.random.fold_in(key, 2)
        chosen = np.asarray(choose_by_thompson(key, *models[:2], candidates, num=num))
        return points[chosen[chosen < len(points)][:n]]
    is_real = bool(np.asarray(candidates.movable).any())
    steps = steps_within(MAX_WORK, num, len(models.values.data.y)) if is_real else 0
    best = jnp.asarray(models.best)
    indices, moved = choose_jointly(
        *models[:2], candidates, best, num=num, num_steps=steps, caution=CAUTION
    )
    chosen = np.asarray(indices)
    real = np.asarray(chosen < len(points))
    chosen, columns = chosen[real][:n], np.asarray(moved)[real][:n]
    return moved_to(region, points[chosen], columns, known)


@checked_call()
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
        num_known = int(history.observed.sum())
        if num_known and history.frame is not None:
            num_known += int(history.frame.history.observed.sum())
        if space.num_dims == 0 or num_known < max(wanted, 2):
            return start.propose(key, space, history, n)
        points, region = snap(space, history.points), Region(space, history.frame)
        step_key = jax.random.fold_in(key, len(history))
        rng = generator(step_key, 3)
        known = set(row_keys(points))
        with float64_on_cpu():
            everything = region.history(points, history)
            models = fit_models(region.model_space, everything.points, everything, rng)
            ranked = np.argsort(history.values, kind="stable")  # NaN last
            good = points[ranked[: min(16, int(history.observed.sum()))]]
            if not len(good):  # all that is known lies outside of the space
                good = snap(space, sequence(step_key, 16, space.num_dims, "sobol"))
            pool = search_pool(step_key, region, good, known, models, rng)
            strategy = "thompson" if n >= thompson_from else "improvement"
            rows = choose(step_key, region, pool, known, models, n, strategy, rng)
        known |= set(row_keys(rows))
        rows = fill_up(space, rows, good, known, n, rng)
        return space.from_unit(rows)

    return Sampler("bayesian", propose)
