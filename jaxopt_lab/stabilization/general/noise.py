"""How noisy what a supervised problem measures is, at the end of a training: the gradient of its
minibatches, and its validation loss by the choice of rows.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxopt_lab.core.trainable import Shared
from jaxopt_lab.core.types import Params, Scalar
from jaxopt_lab.problems.supervised.batches import epoch_order, minibatch, validation_chunk
from jaxopt_lab.problems.supervised.losses import weighted
from jaxopt_lab.problems.supervised.modules import Variables
from jaxopt_lab.problems.supervised.training import Setting, evaluated
from jaxopt_lab.stabilization.probes import SMALL_ROWS, noise_scale

#: Small batches that are averaged, at most.
MAX_BATCHES = 32


def make_probe(setting: Setting) -> Callable[[Any, Any, Shared], dict[str, Array]]:
    """The probe of one program's trials.

    Args:
      setting: what their functions are made of; its loss is probed as it is validated, without
        dropout.

    Returns:
      A function of a trial's guarded state whose dictionary holds `noise_scale`, in rows: see
      `probes.noise_scale`. It is 0 where there are too few rows for two batches. And, where the
      loss is one number for each row, `loss_error`: see `loss_error`.
    """
    key = jax.random.key(0, impl="threefry2x32")

    def probe(state: Any, hparams: Any, shared: Shared) -> dict[str, Array]:
        inner, data = state.inner, shared.data
        split = shared.split % setting.num_splits
        num_rows = data.num_train[split]
        size = min(SMALL_ROWS, data.train_rows.shape[1])
        order = epoch_order(shared.key, data, split, size)
        num = jnp.minimum(num_rows // size, MAX_BATCHES)

        def loss(params: Params, number: Array) -> Scalar:
            batch = minibatch(data, order, number * size, size, num_rows)
            variables = Variables(params, inner.collections)
            scored = setting.score(variables, batch, hparams, key, False)
            return weighted(scored.losses, batch) / jnp.maximum(batch.weights.sum(), 1e-12)

        def body(number: Array, carry: tuple[Params, Scalar]) -> tuple[Params, Scalar]:
            total, squares = carry
            gradient = jax.grad(loss)(inner.params, number)
            squares = squares + optax.tree.norm(gradient, squared=True)
            return jax.tree.map(jnp.add, total, gradient), squares

        carry = (jax.tree.map(jnp.zeros_like, inner.params), jnp.zeros(()))
        total, squares = jax.lax.fori_loop(0, num, body, carry)
        count = jnp.maximum(num, 1).astype(jnp.float32)
        mean = optax.tree.norm(jax.tree.map(lambda x: x / count, total), squared=True)
        found = {"noise_scale": noise_scale(squares / count, mean, size, size * count)}
        error = loss_error(setting, inner, hparams, shared) if setting.num_valid else None
        return found if error is None else {**found, "loss_error": error}

    return probe


def loss_error(setting: Setting, state: Any, hparams: Any, shared: Shared) -> Scalar | None:
    """Standard error that the choice of validation rows leaves in the validation loss, over that
    loss.

    Args:
      setting: of the program.
      state: of the trial.
      hparams: of the trial.
      shared: with the data.

    Returns:
      None where the loss is a mean over a batch: nobody knows its rows'.
    """
    data, split = shared.data, shared.split % setting.num_splits
    size, variables = setting.eval_batch_size, evaluated(setting, state)
    key, by_row = jax.random.key(0, impl="threefry2x32"), True

    def chunk(number: Array) -> tuple[Array, Array]:
        nonlocal by_row
        batch = validation_chunk(data, split, number, size)
        losses = setting.score(variables, batch, hparams, key, False).losses
        by_row = losses.ndim == 1
        return jnp.broadcast_to(losses, batch.weights.shape), batch.weights

    num_chunks = -(-data.valid_rows.shape[1] // size)
    losses, weights = jax.lax.map(chunk, jnp.arange(num_chunks))
    mean = (losses * weights).sum() / weights.sum()
    shares = weights / weights.sum()
    return jnp.linalg.norm(shares * (losses / mean - 1.0)) if by_row else None
