"""A supervised trial as the executor `kernel` sees it: rows, and functions of a few of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxopt_lab.core.executors.padding import NoKernelForm
from jaxopt_lab.core.row_loop import Chunk, Minibatches, RowLoop
from jaxopt_lab.core.trainable import Shared
from jaxopt_lab.core.types import Params, PyTree, Scalar
from jaxopt_lab.problems.supervised.batches import Batch, Rows
from jaxopt_lab.problems.supervised.losses import Scored, weighted
from jaxopt_lab.problems.supervised.metrics import is_over_all_rows
from jaxopt_lab.problems.supervised.modules import Variables
from jaxopt_lab.problems.supervised.training import (
    EVALUATE,
    TRAIN,
    Setting,
    TrainState,
    evaluated,
    key_of,
    metrics_by_row,
    order_of_epoch,
    steepest,
    updated,
)


def padded_rows(
    data: Rows, order: Array, num_real: Any, batch_size: int, chunk: int, total_steps: PyTree = ()
) -> Minibatches:
    """Lay rows out minibatch after minibatch, each filled up to a whole number of chunks.

    Args:
      data: of the problem.
      order: [p] int32, rows in their order; a multiple of `batch_size`.
      num_real: how many of them count.
      batch_size: of a minibatch.
      chunk: rows of a chunk.
      total_steps: what an update is given.
    """
    size = -(-batch_size // chunk) * chunk
    added = ((0, 0), (0, size - batch_size))
    real = (jnp.arange(order.shape[0]) < num_real).reshape(-1, batch_size)
    rows = jnp.pad(order.reshape(-1, batch_size), added, mode="edge").reshape(-1)
    weights = jnp.pad(real, added).reshape(-1).astype(jnp.float32)
    if not isinstance(data.weights, tuple):
        weights = weights * data.weights[rows]
    taken = jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], (data.inputs, data.targets))
    num_steps = (num_real + batch_size - 1) // batch_size
    totals = weights.reshape(-1, size).sum(1)
    return Minibatches(taken, weights, totals, num_steps, total_steps)


def make_row_loop(setting: Setting) -> RowLoop:
    """The functions of `training.make_trainable` for one chunk of rows."""
    whole = [name for name, function in setting.metrics.items() if is_over_all_rows(function)]

    def training(shared: Shared, chunk: int) -> Minibatches:
        data, split = shared.data, shared.split % setting.num_splits
        num_rows, size = data.num_train[split], setting.batch_size
        total = ((num_rows + size - 1) // size * shared.budget).astype(jnp.float32)
        return padded_rows(data, order_of_epoch(setting, shared), num_rows, size, chunk, total)

    def validation(shared: Shared, chunk: int) -> Minibatches:
        data, split = shared.data, shared.split % setting.num_splits
        rows, num = data.valid_rows[split], data.num_valid[split]
        return padded_rows(data, rows, num, rows.shape[0], chunk)

    def batch_of(chunk: Chunk) -> Batch:
        inputs, targets = chunk.rows
        return Batch(inputs, targets, chunk.weights > 0, chunk.weights)

    def scored_of(params: PyTree, state: TrainState, hparams: Any, batch: Batch) -> Scored:
        variables = Variables(params, state.collections)
        scored = setting.score(
            variables, batch, hparams, key_of(state.key, TRAIN, state.step), True
        )
        if np.ndim(scored.losses) != 1:
            raise NoKernelForm("its loss is a mean over rows, which cannot be taken in parts")
        return scored

    def losses(state: TrainState, hparams: Any, chunk: Chunk) -> Array:
        if jax.tree.leaves(state.collections):
            raise NoKernelForm(
                f"a module with {', '.join(state.collections)} sees whole minibatches"
            )
        if whole:
            raise NoKernelForm(f"the metric {whole[0]!r} is of all rows at once")
        return scored_of(state.params, state, hparams, batch_of(chunk)).losses

    def gradient(
        state: TrainState, hparams: Any, chunk: Chunk, total: Scalar, common: PyTree
    ) -> tuple[Scalar, PyTree]:
        del common
        batch = batch_of(chunk)

        def loss_of(params: PyTree) -> Scalar:
            return weighted(scored_of(params, state, hparams, batch).losses, batch) / total

        loss, found = jax.value_and_grad(loss_of)(state.params)
        return loss, steepest(found)

    def update(
        state: TrainState, hparams: Any, gradient: PyTree, loss: Scalar, total_steps: Scalar
    ) -> TrainState:
        optimizer = setting.build(hparams, total_steps)
        params, opt_state = updated(
            optimizer, gradient, state.opt_state, state.params, loss, _no_value
        )
        return state._replace(params=params, opt_state=opt_state, step=state.step + 1)

    def scores(state: TrainState, hparams: Any, chunk: Chunk) -> dict[str, Array]:
        variables, batch = evaluated(setting, state), batch_of(chunk)
        key = key_of(state.key, EVALUATE, state.step)
        scored = setting.score(variables, batch, hparams, key, False)
        found = metrics_by_row(setting, scored, variables, batch, hparams, key)
        return {"loss": scored.losses, **found}

    has_validation = bool(setting.num_valid)
    return RowLoop(
        training,
        validation if has_validation else None,
        losses,
        gradient,
        update,
        scores if has_validation else None,
        setting.batch_size,
        setting.weighted,
        setting.precision,
        memory={},
    )


def _no_value(params: Params) -> Scalar:
    del params
    raise NoKernelForm("an optimizer that computes the loss again has no kernel form")
