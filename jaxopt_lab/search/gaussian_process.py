"""Gaussian-process regression for mixed spaces, in float64 and padded to powers of two.

All functions here are pure JAX and expect float64 arrays: call them inside
`core.devices.float64`, as `bayesian` does; nothing global is changed.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.linalg import cho_solve, solve_triangular
from jaxtyping import Array, Bool, Float, Int

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
      x: [n, e] features: a column per ordered dimension, in [0, 1], and one-hot columns per
        categorical dimension.
      y: [n] standardised values.
      noise: [n] known variance of each value, 0 where unknown.
      mask: [n] which rows are real.
      owner: [e] the dimension that each feature belongs to.
      categorical: [e] which features are one-hot.
    """

    x: Float[Array, "n e"]
    y: Float[Array, " n"]
    noise: Float[Array, " n"]
    mask: Bool[Array, " n"]
    owner: Int[Array, " e"]
    categorical: Bool[Array, " e"]


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


def _square_distance(a: Float[Array, "n e"], b: Float[Array, "m e"]) -> Float[Array, "n m"]:
    square = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2.0 * a @ b.T
    return jnp.maximum(square, 0.0)


def covariance(
    hyper: Hyperparameters, data: Data, a: Float[Array, "n e"], b: Float[Array, "m e"]
) -> Float[Array, "n m"]:
    """Matern-5/2 over ordered dimensions times exp(-[differs] / length) over categorical ones.

    Of `data` only `owner` and `categorical` are read.

    Source: Rasmussen & Williams 2006, equation 4.17; for the categorical factor, the kernel of
    Hutter et al. 2011, Sequential model-based optimization for general algorithm configuration.
    """
    inverse = jnp.exp(-hyper.log_lengths)[data.owner]
    scale = jnp.where(data.categorical, 0.0, inverse)
    root = jnp.sqrt(5.0 * _square_distance(a * scale, b * scale) + 1e-14)
    # Two one-hot rows that differ are at squared distance 2.
    weight = jnp.where(data.categorical, jnp.sqrt(0.5 * inverse), 0.0)
    differs = _square_distance(a * weight, b * weight)
    return jnp.exp(hyper.log_signal - root - differs) * (1.0 + root + root**2 / 3.0)


def noisy_covariance(hyper: Hyperparameters, data: Data) -> Float[Array, "n n"]:
    """Covariance of the observations, noise included; padded rows are those of the identity."""
    cov = covariance(hyper, data, data.x, data.x)
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

    def log_normal(log_x: Any, loc: float, scale: float) -> Float[Array, ""]:
        return (0.5 * ((log_x - loc) / scale) ** 2).sum()

    num_dims = hyper.log_lengths.shape[0]
    loc = 2.0**0.5 + 0.5 * jnp.log(max(num_dims, 1))
    loss += (0.5 * (hyper.log_lengths - loc) ** 2 / 3.0).sum()
    loss += log_normal(hyper.log_signal, *SIGNAL_PRIOR) + log_normal(hyper.log_noise, *NOISE_PRIOR)
    return loss + 0.5 * hyper.mean**2


def initial_hyperparameters(num_dims: int, num_starts: int) -> Hyperparameters:
    """[r, ...] where the restarts begin: short to long length scales, high to low noise."""
    lengths = np.geomspace(0.2, 2.0, num_starts) * max(num_dims, 1) ** 0.5
    return Hyperparameters(
        jnp.asarray(np.log(lengths)[:, None] * np.ones((1, num_dims))),
        jnp.asarray(np.zeros(num_starts)),
        jnp.asarray(np.linspace(-4.0, -8.0, num_starts)),
        jnp.asarray(np.zeros(num_starts)),
    )


@partial(jax.jit, static_argnames=("num_steps", "num_kept"))
def fit(
    starts: Hyperparameters, data: Data, num_steps: int = NUM_STEPS, num_kept: int | None = None
) -> tuple[Hyperparameters, Float[Array, ""]]:
    """Maximise the posterior of the hyperparameters by Adam from several starts; the best wins.

    Args:
      starts: [r, ...] where to start.
      data: the observations.
      num_steps: steps of Adam.
      num_kept: climb from so many starts, the best ones; None for all.

    Returns:
      The hyperparameters, and their negative log posterior.
    """
    if num_kept is not None:
        at_start = jax.lax.map(lambda hyper: negative_log_posterior(hyper, data), starts)
        kept = jnp.argsort(at_start)[:num_kept]
        starts = jax.tree.map(lambda leaf: leaf[kept], starts)
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


@jax.jit
def incumbent(posterior: Posterior) -> Float[Array, ""]:
    """The lowest posterior mean at an observed point: the best value with its noise taken off."""
    hyper, data = posterior.hyper, posterior.data
    noise = jnp.exp(hyper.log_noise) + data.noise + JITTER * jnp.exp(hyper.log_signal)
    mean = data.y - noise * posterior.weights
    return jnp.min(jnp.where(data.mask, mean, jnp.inf))


def cross_factor(
    posterior: Posterior, points: Float[Array, "m e"]
) -> tuple[Float[Array, "n m"], Float[Array, " m"], Float[Array, " m"]]:
    """L^-1 K(X, points), whose columns' products are what the data explain of the covariance.

    Returns:
      That factor, and the posterior mean and variance of the noise-free function.

    Source: Rasmussen & Williams 2006, algorithm 2.1.
    """
    hyper, data = posterior.hyper, posterior.data
    cross = covariance(hyper, data, data.x, points)
    cross = jnp.where(data.mask[:, None], cross, 0.0)
    factor = solve_triangular(posterior.chol, cross, lower=True)
    variance = jnp.exp(hyper.log_signal) - (factor**2).sum(0)
    mean = hyper.mean + cross.T @ posterior.weights
    return factor, mean, jnp.maximum(variance, 1e-12)


@jax.jit
def predict(
    posterior: Posterior, points: Float[Array, "m e"]
) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """Posterior mean and variance of the noise-free function."""
    _, mean, variance = cross_factor(posterior, points)
    return mean, variance


def rank_error(posterior: Posterior) -> Float[Array, ""]:
    """How far the rank of a value is from that of its prediction from all others, on average.

    Ranks compare processes of outputs that differ by a monotone function.

    Source: Rasmussen & Williams 2006, equation 5.12, for the leave-one-out predictions.
    """
    data = posterior.data
    root = solve_triangular(posterior.chol, jnp.eye(len(data.y), dtype=data.y.dtype), lower=True)
    left_out = data.y - posterior.weights / (root**2).sum(0)
    real = data.mask[None, :]
    predicted = (real & (data.y[None, :] < left_out[:, None])).sum(1)
    actual = (real & (data.y[None, :] < data.y[:, None])).sum(1)
    return jnp.where(data.mask, jnp.abs(predicted - actual), 0).sum() / data.mask.sum()


@partial(jax.jit, static_argnames="num_steps")
def choose_warp(
    starts: Hyperparameters,
    data: Data,
    y: Float[Array, "w n"],
    noise: Float[Array, "w n"],
    num_steps: int,
) -> tuple[Int[Array, ""], Hyperparameters]:
    """Choose among several outputs of the same points by how well others predict the ranks.

    Args:
      starts: [r, ...] where fits may start; each climbs from its best.
      data: the points; its outputs are not read.
      y: [w, n] outputs.
      noise: [w, n] known variances.
      num_steps: steps of Adam.

    Returns:
      The index of the outputs with the lowest `rank_error`, and the hyperparameters fitted to it.
    """

    def one(y: Float[Array, " n"], noise: Float[Array, " n"]) -> tuple:
        warped = data._replace(y=y, noise=noise)
        hyper, _ = fit(starts, warped, num_steps, 1)
        return hyper, rank_error(condition(hyper, warped))

    hypers, errors = jax.vmap(one)(y, noise)
    winner = jnp.argmin(errors)
    return winner, jax.tree.map(lambda leaf: leaf[winner], hypers)
