"""What a point is worth to evaluate next, and joint choices of several points."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Bool, Float, Int

from jaxopt_lab.core.types import PRNGKey
from jaxopt_lab.search.feasibility import log_probability
from jaxopt_lab.search.gaussian_process import JITTER, Posterior, covariance, cross_factor, predict

_LOG_SQRT_2PI = 0.9189385332046727


def log_expected_improvement(
    mean: Float[Array, "*m"], variance: Float[Array, "*m"], best: Float[Array, ""]
) -> Float[Array, "*m"]:
    """Logarithm of E[max(best - f, 0)], exact also where the expectation underflows.

    Source: Ament et al. 2023, arXiv:2310.20708, equation 9 (here by `log_ndtr`).
    """
    deviation = jnp.sqrt(variance)
    z = (best - mean) / deviation
    near = jnp.maximum(z, -1e3)
    log_density = -0.5 * near**2 - _LOG_SQRT_2PI
    ratio = near * jnp.exp(log_ndtr(near) - log_density)
    inside = log_density + jnp.log1p(jnp.maximum(ratio, -1.0 + 1e-15))
    far = -0.5 * z**2 - _LOG_SQRT_2PI - 2.0 * jnp.log(jnp.maximum(-z, 1.0))
    return jnp.log(deviation) + jnp.where(z < -1e3, far, inside)


@jax.jit
def appraise(
    posterior: Posterior,
    feasibility: Posterior | None,
    points: Float[Array, "m e"],
    best: Float[Array, ""],
) -> Float[Array, " m"]:
    """Log expected improvement plus log probability of being feasible, of each point alone."""
    mean, variance = predict(posterior, points)
    worth = log_expected_improvement(mean, variance, best)
    return worth if feasibility is None else worth + log_probability(feasibility, points)


def log_interior(points: Any, movable: Any, low: Any, high: Any, xp: Any = jnp) -> Any:
    """How far from the ends of its range every movable coordinate lies: 0 for all in the middle.

    Sum of log(4 t (1 - t)) over shares t of the ranges, about -5.5 for one at an end. As a barrier
    added to an acquisition function it lets a coordinate come to an end as near as its slope
    there is steep. Without it a process that knows little of a coordinate finds most variance, and
    so most improvement, in the corners.

    Args:
      points: [*m, e] coordinates.
      movable: [*m, e] which of them count.
      low: [e] or one number: where their ranges begin.
      high: where they end.
      xp: NumPy, where these are its arrays: nothing is compiled then.

    Returns:
      [*m] sums.

    Source: for the trouble, Siivola et al. 2018, arXiv:1704.00963; the barrier of interior-point
    methods instead of their virtual derivatives.
    """
    share = xp.clip((points - low) / (high - low), 0.0, 1.0)
    inside = xp.log(4.0 * (share + 1e-3) * (1.0 + 1e-3 - share))
    return xp.where(movable, inside, 0.0).sum(-1)


class Candidates(NamedTuple):
    """Points that may be chosen.

    Attributes:
      columns: [m, e] features.
      movable: [m, e] which features may be moved to improve a candidate: active real numbers.
      allowed: [m] which candidates may be chosen; if too few, others follow.
      low: [e] least value of each feature within the space that is searched.
      high: [e] greatest value.
    """

    columns: Float[Array, "m e"]
    movable: Bool[Array, "m e"]
    allowed: Bool[Array, " m"]
    low: Float[Array, " e"] | float = 0.0
    high: Float[Array, " e"] | float = 1.0


class _Belief(NamedTuple):
    """The process after some points were chosen, each taken to come out as predicted.

    Attributes:
      x: [n + num, e] observed points, then chosen ones.
      filled: [n + num] which rows count.
      root: [n + num, n + num] inverse of the Cholesky factor of their covariance.
      best: incumbent value.
    """

    x: Float[Array, "n e"]
    filled: Bool[Array, " n"]
    root: Float[Array, "n n"]
    best: Float[Array, ""]


def _cross(
    posterior: Posterior, belief: _Belief, points: Float[Array, "m e"]
) -> Float[Array, "n m"]:
    cov = covariance(posterior.hyper, posterior.data, belief.x, points)
    return jnp.where(belief.filled[:, None], cov, 0.0)


def _polish(
    worth: Callable[[Float[Array, " e"]], Float[Array, ""]],
    start: Float[Array, " e"],
    movable: Bool[Array, " e"],
    ends: tuple[Any, Any],
    num_steps: int,
) -> Float[Array, " e"]:
    """The best point on a path of steepening care: Adam, its rate falling from 2e-2 to 2e-4."""
    optimizer = optax.adam(optax.exponential_decay(2e-2, max(num_steps, 1), 1e-2), b1=0.7, b2=0.9)

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        x, state, best, best_worth = carry
        value, slope = jax.value_and_grad(worth)(x)
        best = jnp.where(value > best_worth, x, best)
        best_worth = jnp.maximum(value, best_worth)
        slope = jnp.nan_to_num(jnp.where(movable, -slope, 0.0))
        updates, state = optimizer.update(slope, state)
        moved = jnp.where(movable, jnp.clip(x + updates, *ends), x)
        return (moved, state, best, best_worth), None

    carry = (start, optimizer.init(start), start, jnp.full((), -jnp.inf, start.dtype))
    return jax.lax.scan(step, carry, None, num_steps + 1)[0][2]


@partial(jax.jit, static_argnames=("num", "num_steps", "caution"))
def choose_jointly(
    posterior: Posterior,
    feasibility: Posterior | None,
    candidates: Candidates,
    best: Float[Array, ""],
    num: int,
    num_steps: int,
    caution: float = 0.0,
) -> tuple[Int[Array, " k"], Float[Array, "k e"]]:
    """Choose points one after the other, each as if those before had come out as predicted.

    A chosen candidate is improved by gradient steps, then fantasised at its posterior mean, free
    of noise, lest a process that takes its own misfit for noise chooses one place many times: the
    means stay, the inverse Cholesky factor grows by a row, the variances shrink by its square, and
    the incumbent falls to the lowest mean chosen.

    Args:
      posterior: the process.
      feasibility: that of feasibility; None if nothing was infeasible.
      candidates: m points, num <= m.
      best: incumbent value.
      num: how many to choose.
      num_steps: gradient steps for each; 0 for none.
      caution: weight of `log_interior` against the log expected improvement.

    Returns:
      [num] distinct indices into the candidates, and [num, e] the points they were moved to.

    Source: the kriging believer of Ginsbourger et al. 2010.
    """
    hyper, data, points = posterior.hyper, posterior.data, candidates.columns
    signal = jnp.exp(hyper.log_signal)
    size = len(data.y)
    identity = jnp.eye(size, dtype=points.dtype)
    root = solve_triangular(posterior.chol, identity, lower=True)
    belief = _Belief(
        jnp.pad(data.x, ((0, num), (0, 0))),
        jnp.pad(data.mask, (0, num)),
        jnp.pad(root, ((0, num), (0, num))),
        best,
    )
    cross = _cross(posterior, belief, points)
    mean = hyper.mean + cross[:size].T @ posterior.weights
    variance = jnp.maximum(signal - ((root @ cross[:size]) ** 2).sum(0), 1e-12)
    ends = candidates.low, candidates.high
    on_top = caution * log_interior(points, candidates.movable, *ends)
    if feasibility is not None:
        on_top = on_top + log_probability(feasibility, points)

    def worth_at(
        belief: _Belief, movable: Bool[Array, " e"], x: Float[Array, " e"]
    ) -> Float[Array, ""]:
        k = _cross(posterior, belief, x[None])[:, 0]
        variance = jnp.maximum(signal - ((belief.root @ k) ** 2).sum(), 1e-12)
        worth = log_expected_improvement(
            hyper.mean + k[:size] @ posterior.weights, variance, belief.best
        )
        worth = worth + caution * log_interior(x, movable, *ends)
        return worth if feasibility is None else worth + log_probability(feasibility, x[None])[0]

    def step(carry: tuple, index: Int[Array, ""]) -> tuple[tuple, tuple]:
        belief, cross, variance, free = carry
        worth = log_expected_improvement(mean, variance, belief.best) + on_top
        worth = jnp.where(candidates.allowed, worth, worth - 1e6)
        choice = jnp.argmax(jnp.where(free, worth, -jnp.inf))
        x = points[choice]
        if num_steps:
            movable = candidates.movable[choice]
            x = _polish(partial(worth_at, belief, movable), x, movable, ends, num_steps)
        k = _cross(posterior, belief, x[None])[:, 0]
        explained = belief.root @ k
        deviation = jnp.sqrt(jnp.maximum(signal - (explained**2).sum(), 1e-12) + JITTER * signal)
        row = (-(explained @ belief.root) / deviation).at[size + index].set(1.0 / deviation)
        belief = _Belief(
            belief.x.at[size + index].set(x),
            belief.filled.at[size + index].set(True),
            belief.root.at[size + index].set(row),
            jnp.minimum(belief.best, hyper.mean + k[:size] @ posterior.weights),
        )
        cross = cross.at[size + index].set(covariance(hyper, data, x[None], points)[0])
        variance = jnp.maximum(variance - (row @ cross) ** 2, 1e-12)
        return (belief, cross, variance, free.at[choice].set(False)), (choice, x)

    carry = (belief, cross, variance, jnp.ones(len(points), bool))
    return jax.lax.scan(step, carry, jnp.arange(num))[1]


@partial(jax.jit, static_argnames="num")
def choose_by_thompson(
    key: PRNGKey,
    posterior: Posterior,
    feasibility: Posterior | None,
    candidates: Candidates,
    num: int,
) -> Int[Array, " k"]:
    """Choose the minimiser of each of `num` joint draws of the function over the candidates.

    Draws are taken one after the other; a candidate chosen before is passed over.

    Source: Kandasamy et al. 2018, arXiv:1705.09236.
    """
    hyper, points = posterior.hyper, candidates.columns
    factor, mean, _ = cross_factor(posterior, points)
    cov = covariance(hyper, posterior.data, points, points) - factor.T @ factor
    signal = jnp.exp(hyper.log_signal)
    chol = jnp.linalg.cholesky(cov + 1e-6 * signal * jnp.eye(len(points), dtype=cov.dtype))
    normal = jax.random.normal(key, (len(points), num), cov.dtype)
    draws = mean[:, None] + chol @ normal
    penalty = jnp.where(candidates.allowed, 0.0, 1e6)
    if feasibility is not None:
        log_feasible = log_probability(feasibility, points)
        penalty = penalty - jnp.sqrt(signal) * jnp.maximum(log_feasible, -1e3)

    def step(free: Bool[Array, " m"], draw: Float[Array, " m"]) -> tuple:
        choice = jnp.argmin(jnp.where(free, draw + penalty, jnp.inf))
        return free.at[choice].set(False), choice

    return jax.lax.scan(step, jnp.ones(len(points), bool), draws.T)[1]
