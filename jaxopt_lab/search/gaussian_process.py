"""Gaussian-process regression for mixed spaces, in float64 and padded to powers of two.

All functions here are pure JAX and expect float64 arrays: call them inside
`jax.enable_x64(True)`, as `bayesian` does; nothing global is changed.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.scipy.linalg import cho_solve, solve_triangular
from jaxtyping import Array, Bool, Float

#: Added to the diagonal of every covariance matrix, relative to the signal variance.
JITTER = 1e-8
#: Mean and spread of the logarithm of the noise variance of standardised values.
NOISE_PRIOR = (-6.0, 2.0)
SIGNAL_PRIOR = (0.0, 1.0)
NUM_STEPS = 60
LEARNING_RATE = 0.15


class Data(NamedTuple):
    """Observations, padded: rows where `mask` is False are ignored.

    Attributes:
      x: [n, d] in the unit cube.
      y: [n] standardised values.
      noise: [n] known variance of each value, 0 where unknown.
      mask: [n] which rows are real.
      categorical: [d] which dimensions have no order.
    """

    x: Float[Array, "n d"]
    y: Float[Array, " n"]
    noise: Float[Array, " n"]
    mask: Bool[Array, " n"]
    categorical: Bool[Array, " d"]


class Hyperparameters(NamedTuple):
    """Logarithms of length scales, signal variance and noise variance; and the mean."""

    log_lengths: Float[Array, " d"]
    log_signal: Float[Array, ""]
    log_noise: Float[Array, ""]
    mean: Float[Array, ""]


class Posterior(NamedTuple):
    """A process conditioned on data: `chol` of the covariance, and its solution for the values."""

    hyper: Hyperparameters
    data: Data
    chol: Float[Array, "n n"]
    weights: Float[Array, " n"]


def covariance(
    hyper: Hyperparameters,
    categorical: Bool[Array, " d"],
    a: Float[Array, "n d"],
    b: Float[Array, "m d"],
) -> Float[Array, "n m"]:
    """Matern-5/2 over ordered dimensions times exp(-[differs] / length) over categorical ones.

    Source: Rasmussen & Williams 2006, equation 4.17; for the product with a categorical kernel,
    Ru et al. 2020, arXiv:1906.08878, and Roustant et al. 2020, arXiv:1802.02368.
    """
    inverse = jnp.exp(-hyper.log_lengths)
    scale = jnp.where(categorical, 0.0, inverse)
    za, zb = a * scale, b * scale
    square = (za**2).sum(1)[:, None] + (zb**2).sum(1)[None, :] - 2.0 * za @ zb.T
    square = jnp.maximum(5.0 * square, 1e-14)
    root = jnp.sqrt(square)
    weight = jnp.where(categorical, inverse, 0.0)
    differs = jnp.zeros_like(square)
    if categorical.shape[0]:
        differs = ((a[:, None, :] != b[None, :, :]) * weight).sum(-1)
    return jnp.exp(hyper.log_signal - root - differs) * (1.0 + root + square / 3.0)


def noisy_covariance(hyper: Hyperparameters, data: Data) -> Float[Array, "n n"]:
    """Covariance of the observations, noise included; padded rows are those of the identity."""
    cov = covariance(hyper, data.categorical, data.x, data.x)
    both = data.mask[:, None] & data.mask[None, :]
    diagonal = jnp.exp(hyper.log_noise) + data.noise + JITTER * jnp.exp(hyper.log_signal)
    return jnp.where(both, cov, 0.0) + jnp.diag(jnp.where(data.mask, diagonal, 1.0))


@jax.custom_vjp
def _gaussian_loss(cov: Float[Array, "n n"], residual: Float[Array, " n"]) -> Float[Array, ""]:
    return _gaussian_loss_forward(cov, residual)[0]


def _gaussian_loss_forward(
    cov: Float[Array, "n n"], residual: Float[Array, " n"]
) -> tuple[Float[Array, ""], tuple[Float[Array, "n n"], Float[Array, " n"]]]:
    chol = jnp.linalg.cholesky(cov)
    weights = cho_solve((chol, True), residual)
    loss = 0.5 * residual @ weights + jnp.log(jnp.diagonal(chol)).sum()
    return loss, (chol, weights)


def _gaussian_loss_backward(
    kept: tuple[Float[Array, "n n"], Float[Array, " n"]], slope: Float[Array, ""]
) -> tuple[Float[Array, "n n"], Float[Array, " n"]]:
    chol, weights = kept
    root = solve_triangular(chol, jnp.eye(len(weights), dtype=chol.dtype), lower=True)
    inverse = root.T @ root
    return 0.5 * slope * (inverse - jnp.outer(weights, weights)), slope * weights


_gaussian_loss.defvjp(_gaussian_loss_forward, _gaussian_loss_backward)


def negative_log_posterior(hyper: Hyperparameters, data: Data) -> Float[Array, ""]:
    """Minus the log marginal likelihood minus the log priors, up to a constant.

    Length scales have the dimension-scaled prior LogNormal(sqrt(2) + log(d) / 2, sqrt(3)).

    Source: Hvarfner et al. 2024, arXiv:2402.02229.
    """
    residual = jnp.where(data.mask, data.y - hyper.mean, 0.0)
    loss = _gaussian_loss(noisy_covariance(hyper, data), residual)

    def log_normal(log_x: Float[Array, "..."], loc: float, scale: float) -> Float[Array, ""]:
        return (0.5 * ((log_x - loc) / scale) ** 2).sum()

    num_dims = hyper.log_lengths.shape[0]
    loc = 2.0**0.5 + 0.5 * jnp.log(max(num_dims, 1))
    loss += (0.5 * (hyper.log_lengths - loc) ** 2 / 3.0).sum()
    loss += log_normal(hyper.log_signal, *SIGNAL_PRIOR) + log_normal(hyper.log_noise, *NOISE_PRIOR)
    return loss + 0.5 * hyper.mean**2


def initial_hyperparameters(num_dims: int, num_starts: int) -> Hyperparameters:
    """[r, ...] where the restarts begin: short to long length scales, high to low noise."""
    root = max(num_dims, 1) ** 0.5
    lengths = jnp.geomspace(0.2 * root, 2.0 * root, num_starts)
    ones = jnp.ones(num_starts)
    return Hyperparameters(
        jnp.log(lengths)[:, None] * jnp.ones((1, num_dims)),
        0.0 * ones,
        jnp.linspace(-4.0, -8.0, num_starts),
        0.0 * ones,
    )


@partial(jax.jit, static_argnames="num_steps")
def fit(
    starts: Hyperparameters, data: Data, num_steps: int = NUM_STEPS
) -> tuple[Hyperparameters, Float[Array, ""]]:
    """Maximise the posterior of the hyperparameters by Adam from every start; the best wins.

    Returns:
      The hyperparameters, and their negative log posterior.
    """
    schedule = optax.cosine_decay_schedule(LEARNING_RATE, num_steps, 0.02)
    optimizer = optax.adam(schedule, b1=0.8, b2=0.95)
    value_and_grad = jax.vmap(jax.value_and_grad(negative_log_posterior), (0, None))

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        hyper, state, best, best_loss = carry
        loss, grads = value_and_grad(hyper, data)
        better = loss < best_loss
        best = jax.tree.map(
            lambda new, old: jnp.where(
                jnp.reshape(better, (-1,) + (1,) * (new.ndim - 1)), new, old
            ),
            hyper,
            best,
        )
        best_loss = jnp.where(better, loss, best_loss)
        grads = jax.tree.map(lambda g: jnp.nan_to_num(jnp.clip(g, -1e3, 1e3)), grads)
        updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(hyper, updates), state, best, best_loss), None

    worst = jnp.full(starts.mean.shape, jnp.inf)
    carry = (starts, optimizer.init(starts), starts, worst)
    (_, _, best, best_loss), _ = jax.lax.scan(step, carry, None, num_steps + 1)
    winner = jnp.argmin(best_loss)
    return jax.tree.map(lambda leaf: leaf[winner], best), best_loss[winner]


@jax.jit
def condition(hyper: Hyperparameters, data: Data) -> Posterior:
    """Condition the process on the data."""
    chol = jnp.linalg.cholesky(noisy_covariance(hyper, data))
    residual = jnp.where(data.mask, data.y - hyper.mean, 0.0)
    return Posterior(hyper, data, chol, cho_solve((chol, True), residual))


def cross_factor(posterior: Posterior, points: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """L^-1 K(X, points): its columns' products are what the data explain of the covariance."""
    hyper, data = posterior.hyper, posterior.data
    cross = covariance(hyper, data.categorical, data.x, points)
    cross = jnp.where(data.mask[:, None], cross, 0.0)
    return solve_triangular(posterior.chol, cross, lower=True)


@jax.jit
def predict(
    posterior: Posterior, points: Float[Array, "m d"]
) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """Posterior mean and variance of the noise-free function.

    Source: Rasmussen & Williams 2006, algorithm 2.1.
    """
    hyper, data = posterior.hyper, posterior.data
    cross = covariance(hyper, data.categorical, data.x, points)
    cross = jnp.where(data.mask[:, None], cross, 0.0)
    factor = solve_triangular(posterior.chol, cross, lower=True)
    variance = jnp.exp(hyper.log_signal) - (factor**2).sum(0)
    return hyper.mean + cross.T @ posterior.weights, jnp.maximum(variance, 1e-12)
