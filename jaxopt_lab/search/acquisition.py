"""What a point is worth to evaluate next, and joint choices of several points."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Bool, Float, Int

from jaxopt_lab.search.feasibility import log_probability
from jaxopt_lab.search.gaussian_process import Posterior, covariance, cross_factor, predict
from jaxopt_lab.types import PRNGKey

_LOG_SQRT_2PI = 0.9189385332046727


def log_expected_improvement(
    mean: Float[Array, " m"], variance: Float[Array, " m"], best: Float[Array, ""]
) -> Float[Array, " m"]:
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


@partial(jax.jit, static_argnames="num")
def choose_jointly(
    posterior: Posterior,
    points: Float[Array, "m e"],
    log_feasible: Float[Array, " m"],
    allowed: Bool[Array, " m"],
    best: Float[Array, ""],
    num: int,
) -> Int[Array, " k"]:
    """Choose points one after the other, each as if those before had come out as predicted.

    A chosen point is fantasised at its posterior mean: the means stay, the variances shrink by a
    rank-one update, and the incumbent falls to the lowest mean chosen.

    Args:
      posterior: the process.
      points: [m, e] features of candidates, num <= m.
      log_feasible: [m] log probability that a candidate is feasible.
      allowed: [m] which candidates may be chosen; if too few, others follow.
      best: incumbent value.
      num: how many to choose.

    Returns:
      [num] distinct indices into `points`.

    Source: the kriging believer of Ginsbourger et al. 2010.
    """
    hyper = posterior.hyper
    factor, mean, variance = cross_factor(posterior, points)
    noise = jnp.exp(hyper.log_noise)

    def step(carry: tuple, index: Int[Array, ""]) -> tuple[tuple, Int[Array, ""]]:
        variance, best, free, extra = carry
        worth = log_expected_improvement(mean, variance, best) + log_feasible
        worth = jnp.where(allowed, worth, worth - 1e6)
        choice = jnp.argmax(jnp.where(free, worth, -jnp.inf))
        row = covariance(hyper, posterior.data, points[choice][None], points)[0]
        row = row - factor[:, choice] @ factor - extra[:, choice] @ extra
        row = row / jnp.sqrt(variance[choice] + noise)
        carry = (
            jnp.maximum(variance - row**2, 1e-12),
            jnp.minimum(best, mean[choice]),
            free.at[choice].set(False),
            extra.at[index].set(row),
        )
        return carry, choice

    extra = jnp.zeros((num, points.shape[0]), mean.dtype)
    carry = (variance, best, jnp.ones(points.shape[0], bool), extra)
    return jax.lax.scan(step, carry, jnp.arange(num))[1]


@partial(jax.jit, static_argnames="num")
def choose_by_thompson(
    key: PRNGKey,
    posterior: Posterior,
    points: Float[Array, "m e"],
    log_feasible: Float[Array, " m"],
    allowed: Bool[Array, " m"],
    num: int,
) -> Int[Array, " k"]:
    """Choose the minimiser of each of `num` joint draws of the function over the candidates.

    Draws are taken one after the other; a candidate chosen before is passed over.

    Source: Kandasamy et al. 2018, arXiv:1705.09236.
    """
    factor, mean, _ = cross_factor(posterior, points)
    hyper = posterior.hyper
    cov = covariance(hyper, posterior.data, points, points) - factor.T @ factor
    signal = jnp.exp(hyper.log_signal)
    chol = jnp.linalg.cholesky(cov + 1e-6 * signal * jnp.eye(len(points), dtype=cov.dtype))
    normal = jax.random.normal(key, (len(points), num), cov.dtype)
    draws = mean[:, None] + chol @ normal
    penalty = jnp.where(allowed, 0.0, 1e6) - jnp.sqrt(signal) * jnp.maximum(log_feasible, -1e3)

    def step(free: Bool[Array, " m"], draw: Float[Array, " m"]) -> tuple:
        choice = jnp.argmin(jnp.where(free, draw + penalty, jnp.inf))
        return free.at[choice].set(False), choice

    return jax.lax.scan(step, jnp.ones(len(points), bool), draws.T)[1]
