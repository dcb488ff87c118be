"""Supervised training as a `Trainable`: one unit is an epoch over a fold's rows, validated.

All trials of a cohort read one stream of minibatches and one noise: what comes from `Shared` stays
without a trial axis, so that a slice of rows, a branch on depth and a loop over steps are one for
all of them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxopt_lab.core.keys import fold_in
from jaxopt_lab.core.trainable import Metrics as UnitMetrics
from jaxopt_lab.core.trainable import Shared, Trainable
from jaxopt_lab.core.types import Hparams, PRNGKey, PyTree
from jaxopt_lab.problems.mlp.data import FoldArrays
from jaxopt_lab.problems.mlp.hyperparameters import CALIBRATED_LOSS
from jaxopt_lab.problems.mlp.row_loop import make_row_loop
from jaxopt_lab.problems.mlp.signature import Signature
from jaxopt_lab.problems.mlp.stream import gather, round_up
from jaxopt_lab.problems.mlp.trainer import (
    Batch,
    Evaluation,
    Metrics,
    Minibatch,
    Probe,
    StepInfo,
    Trainer,
    as_final,
    final_params,
)
from jaxopt_lab.problems.shuffling import shuffled

#: Validation rows per chunk.
CHUNK = 512
#: Training rows that a probe sees, at most.
PROBE_ROWS = 1024
# Purposes of keys; 1 is that of a trial's own.
_ORDER, _NOISE, _COINS, _PROBE = 2, 3, 4, 5


class EpochState(NamedTuple):
    """One trial in training.

    Attributes:
      train: the trainer's state.
      outputs: [m, o] outputs on the validation rows at the epoch that counts; m is padded.
    """

    train: Any
    outputs: Array


class _Part(NamedTuple):
    """What passes from one part of an epoch to the next."""

    train: PyTree
    metrics: Metrics
    outputs: Array


def epochs(
    trainer: Trainer,
    signature: Signature,
    arrays: FoldArrays,
    num_outputs: int,
    evaluations: int = 1,
    skip_layers: bool = True,
) -> Trainable:
    """Train one trial by whole epochs.

    Args:
      trainer: pure functions of a step.
      signature: of the program: rows per block and per noise key, whether it observes.
      arrays: the data, for their shapes; what is read comes with `Shared.data`.
      num_outputs: size of the network's head.
      evaluations: per epoch, evenly spaced; the last is the one that an epoch ends with.
      skip_layers: whether layers that no trial of the cohort has are skipped by real branches, as
        pays on a CPU. An accelerator would copy what a branch returns, and has few operations to
        lose.

    Returns:
      Functions whose metrics are `train_loss`, the validation metrics, what is observed, each
      [evaluations, ...] where there are several, and `keep`: whether the epoch's outputs count.
      `Shared.extra` holds blocks per minibatch and the depth of the deepest trial.
    """
    # Traced once, however often the shapes of their results are asked for.
    train_step = jax.jit(trainer.step, inline=True)
    evaluate = jax.jit(trainer.evaluate, inline=True)
    padded_valid = round_up(arrays.valid_rows.shape[1], CHUNK)
    size, per_block = signature.block, signature.block // signature.noise_rows

    def depth_of(shared: Shared) -> Any:
        return shared.extra[1] if skip_layers else None

    def init(key: PRNGKey, hparams: Hparams) -> EpochState:
        return EpochState(trainer.init(key, hparams), jnp.zeros((padded_valid, num_outputs)))

    def epoch_rows(shared: Shared) -> tuple[Array, Array]:
        """Inputs and targets of the training rows in a random order common to the cohort."""
        data: FoldArrays = shared.data
        num_rows = data.num_train[shared.split]
        order = shuffled(fold_in(shared.key, _ORDER), data.train_rows[shared.split], num_rows)
        order = jnp.pad(order, (0, round_up(order.shape[0], size) - order.shape[0]))
        return gather(data, shared.split, order)

    def train_steps(
        rows: tuple[Array, Array],
        shared: Shared,
        state: PyTree,
        hparams: Hparams,
        bounds: tuple[Any, Any],
    ) -> tuple[PyTree, Array, PyTree]:
        """Steps from `bounds[0]` to `bounds[1]` of an epoch: state, mean loss, observations."""
        inputs, targets = rows
        blocks, depth = shared.extra[0], depth_of(shared)
        num_rows = shared.data.num_train[shared.split]
        num_steps = (num_rows + size - 1) // size
        noise_key = fold_in(shared.key, _NOISE)

        def step(i: Array, state: PyTree) -> tuple[PyTree, StepInfo]:
            start = i * size
            batch = Batch(
                jax.lax.dynamic_slice_in_dim(inputs, start, size),
                jax.lax.dynamic_slice_in_dim(targets, start, size),
                start + jnp.arange(size) < num_rows,
                depth,
            )
            keys = jax.vmap(partial(jax.random.fold_in, noise_key))(
                i * per_block + jnp.arange(per_block)
            )
            first = i - i % blocks
            end = jnp.minimum(first + blocks, num_steps)
            of_minibatch = jnp.minimum(end * size, num_rows) - first * size
            minibatch = Minibatch(of_minibatch.astype(jnp.float32), i == first, i == end - 1)
            return train_step(state, hparams, batch, keys, minibatch)

        def body(i: Array, carry: PyTree) -> PyTree:
            state, loss_sum, observed = carry
            state, info = step(i, state)
            observed = jax.tree.map(jnp.add, observed, info.observed)
            return state, loss_sum + info.loss_sum, observed

        like = jax.eval_shape(step, jnp.zeros((), jnp.int32), state)[1].observed
        blank = jax.tree.map(lambda x: jnp.zeros(x.shape), like)
        state, total, observed = jax.lax.fori_loop(*bounds, body, (state, jnp.zeros(()), blank))
        first, last = (jnp.minimum(bound * size, num_rows) for bound in bounds)
        return state, total / (last - first), observed

    def validate(shared: Shared, state: PyTree, hparams: Hparams) -> tuple[dict[str, Array], Array]:
        """Means over the fold's validation rows (NaN without any) and outputs on each of them."""
        data: FoldArrays = shared.data
        rows, num_rows = data.valid_rows[shared.split], data.num_valid[shared.split]
        rows = jnp.pad(rows, (0, padded_valid - rows.shape[0]))
        coins = None
        if signature.observe:
            coins = jax.random.bits(jax.random.key(_COINS, impl="threefry2x32"), rows.shape)

        def chunk(i: Array) -> Evaluation:
            index = jax.lax.dynamic_slice_in_dim(rows, i * CHUNK, CHUNK)
            mask = i * CHUNK + jnp.arange(CHUNK) < num_rows
            batch = Batch(*gather(data, shared.split, index), mask, depth_of(shared))
            if coins is not None:
                mine = jax.lax.dynamic_slice_in_dim(coins, i * CHUNK, CHUNK)
                batch = batch._replace(coins=mine)
            return evaluate(state, hparams, batch)

        def body(i: Array, carry: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
            sums, outputs = carry
            more = chunk(i)
            outputs = jax.lax.dynamic_update_slice_in_dim(outputs, more.outputs, i * CHUNK, axis=0)
            return jax.tree.map(jnp.add, sums, more.sums), outputs

        like = jax.eval_shape(chunk, jnp.zeros((), jnp.int32)).sums
        sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
        outputs = jnp.zeros((padded_valid, num_outputs))
        num_chunks = (num_rows + CHUNK - 1) // CHUNK
        sums, outputs = jax.lax.fori_loop(0, num_chunks, body, (sums, outputs))
        return {k: v / num_rows for k, v in sums.items()}, outputs

    def calibrate(loss: Callable[..., Any], shared: Shared, outputs: Array) -> Any:
        """The calibrated loss of a fold's validation rows by the outputs on them [m, o]."""
        data: FoldArrays = shared.data
        rows, num_rows = data.valid_rows[shared.split], data.num_valid[shared.split]
        rows = jnp.pad(rows, (0, padded_valid - rows.shape[0]))
        targets = gather(data, shared.split, rows)[1]
        return loss(outputs, targets, jnp.arange(padded_valid) < num_rows)

    def part(
        j: Array | int,
        carry: _Part,
        rows: tuple[Array, Array],
        shared: Shared,
        hparams: Hparams,
    ) -> tuple[_Part, dict[str, Array]]:
        """The steps up to an evaluation, and the evaluation: what passes on, a row of curves."""
        data: FoldArrays = shared.data
        steps = (data.num_train[shared.split] + size - 1) // size
        bounds = (j * steps // evaluations, (j + 1) * steps // evaluations)
        state, train_loss, observed = train_steps(rows, shared, carry.train, hparams, bounds)
        valid, outputs = validate(shared, state, hparams)
        calibrated = None
        if trainer.calibrated_loss is not None:
            calibrated = calibrate(trainer.calibrated_loss, shared, outputs)
            calibrated = jnp.where(jnp.isnan(valid["loss"]), jnp.nan, calibrated)
            valid[CALIBRATED_LOSS] = calibrated
        validated = data.num_valid[shared.split] > 0
        monitor = jnp.where(validated, valid["loss"], train_loss)
        row = {"train_loss": train_loss, **valid, **(observed or {})}
        metrics = Metrics(train_loss, monitor, validated, calibrated)
        return _Part(state, metrics, outputs), row

    def parts(
        found: _Part, run: Callable[[Array | int, _Part], tuple[_Part, dict[str, Array]]]
    ) -> tuple[_Part, dict[str, Array]]:
        """All parts of an epoch; each of its curves gets a leading axis of evaluations."""

        def body(j: Array, carry: tuple[_Part, dict[str, Array]]) -> tuple[_Part, dict[str, Array]]:
            found, curves = carry
            found, row = run(j, found)
            return found, jax.tree.map(lambda curve, x: curve.at[j].set(x), curves, row)

        shapes = jax.eval_shape(partial(run, 0), found)[1]
        curves = jax.tree.map(lambda x: jnp.zeros((evaluations, *x.shape), x.dtype), shapes)
        return jax.lax.fori_loop(0, evaluations, body, (found, curves))

    def step(state: EpochState, hparams: Hparams, shared: Shared) -> tuple[EpochState, UnitMetrics]:
        blank = jnp.zeros(())
        of_none = blank if trainer.calibrated_loss is not None else None
        found = _Part(state.train, Metrics(blank, blank, blank > 0, of_none), state.outputs)
        run = partial(part, rows=epoch_rows(shared), shared=shared, hparams=hparams)
        found, curves = run(0, found) if evaluations == 1 else parts(found, run)
        ended = trainer.end_epoch(found.train, hparams, found.metrics)
        outputs = jnp.where(ended.keep, found.outputs, state.outputs)
        return EpochState(ended, outputs), {**curves, "keep": ended.keep}

    def info(state: EpochState) -> PyTree:
        train = state.train
        return {
            "outputs": state.outputs,
            "diverged_at": train.diverged_at,
            "last_loss": train.last_loss,
        }

    def whole(state: EpochState, train: Any, hparams: Hparams, shared: Shared) -> EpochState:
        """A state whose training went on in a kernel."""
        train = train._replace(accumulator=state.train.accumulator)
        return EpochState(train, validate(shared, as_final(train), hparams)[1])

    loop = None
    if trainer.halves is not None:
        loop = make_row_loop(trainer, signature, epoch_rows, evaluations)._replace(whole=whole)
    return Trainable(
        init, step, result=lambda state: final_params(state.train), info=info, row_loop=loop
    )


def on_training_rows(probe: Probe, skip_layers: bool = True) -> Callable[..., dict[str, Array]]:
    """A probe of a batch as the engine calls it: it sees random training rows, the same for all."""

    def measure(state: EpochState, hparams: Hparams, shared: Shared) -> dict[str, Array]:
        data: FoldArrays = shared.data
        num_rows = data.num_train[shared.split]
        size = min(PROBE_ROWS, data.train_rows.shape[1])
        order = shuffled(fold_in(shared.key, _PROBE), data.train_rows[shared.split], num_rows)
        depth = shared.extra[1] if skip_layers else None
        rows = gather(data, shared.split, order[:size])
        return probe(state.train, hparams, Batch(*rows, jnp.arange(size) < num_rows, depth))

    return measure
