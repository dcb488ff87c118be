"""The tabular MLP as the executor `kernel` sees it: rows, and functions of a few of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxopt_lab.core.executors.padding import NoKernelForm
from jaxopt_lab.core.keys import fold_in
from jaxopt_lab.core.row_loop import Chunk, Minibatches, RowLoop
from jaxopt_lab.core.trainable import Shared
from jaxopt_lab.core.types import Hparams, PyTree, Scalar
from jaxopt_lab.problems.mlp.data import FoldArrays
from jaxopt_lab.problems.mlp.signature import Signature
from jaxopt_lab.problems.mlp.stream import gather, round_up
from jaxopt_lab.problems.mlp.trainer import Batch, Metrics, Trainer

#: The purpose of the key of a unit's noise.
_NOISE = 6


def make_row_loop(
    trainer: Trainer,
    signature: Signature,
    epoch_rows: Callable[[Shared], tuple[Array, Array]],
    evaluations: int = 1,
) -> RowLoop:
    """The functions of `epochs` for one chunk of rows; `whole` is left to it.

    Blocks of rows are filled up to whole chunks, of which the executor sums the gradients of a
    whole minibatch: the accumulator stays outside. Dropout is drawn in the kernel, from a key of
    the unit and the number of the update: like the trials of a cohort under `vmap`, all trials
    draw the same.

    Args:
      trainer: pure functions of a step, with `halves`.
      signature: of the program.
      epoch_rows: inputs and targets of a unit in their order, [p, ...]; p is a multiple of
        `signature.block`.
      evaluations: per epoch; a kernel has one.
    """
    assert trainer.halves is not None
    halves, size = trainer.halves, signature.block
    has_dropout = "dropout" in signature.features

    def training(shared: Shared, chunk: int) -> Minibatches:
        num_rows = shared.data.num_train[shared.split]
        rows = epoch_rows(shared)
        real, length = jnp.arange(rows[0].shape[0]) < num_rows, round_up(size, chunk)

        def laid(x: Array) -> Array:
            blocks = x.reshape(-1, size, *x.shape[1:])
            added = [(0, 0), (0, length - size), *[(0, 0)] * (x.ndim - 1)]
            return jnp.pad(blocks, added).reshape(-1, *x.shape[1:])

        blocks = shared.extra[0] if signature.accumulate else 1
        num_blocks = (num_rows + size - 1) // size
        first = jnp.arange(rows[0].shape[0] // size) * blocks
        totals = jnp.clip(num_rows - first * size, 0, blocks * size).astype(jnp.float32)
        return Minibatches(
            jax.tree.map(laid, rows),
            laid(real.astype(jnp.float32)),
            totals,
            (num_blocks + blocks - 1) // blocks,
            common_of(shared),
            jnp.clip(num_blocks - first, 0, blocks) * (length // chunk)
            if signature.accumulate
            else (),
        )

    def common_of(shared: Shared) -> dict[str, Array]:
        found = {"num_valid": shared.data.num_valid[shared.split]}
        if has_dropout:
            words = jax.random.key_data(fold_in(shared.key, _NOISE))
            found |= {"first_word": words[0], "second_word": words[1]}
        return found

    def validation(shared: Shared, chunk: int) -> Minibatches:
        data: FoldArrays = shared.data
        rows, num_rows = data.valid_rows[shared.split], data.num_valid[shared.split]
        rows = jnp.pad(rows, (0, round_up(rows.shape[0], chunk) - rows.shape[0]))
        weights = (jnp.arange(rows.shape[0]) < num_rows).astype(jnp.float32)
        taken = gather(data, shared.split, rows)
        return Minibatches(taken, weights, weights.sum()[None], jnp.ones((), jnp.int32))

    def batch_of(chunk: Chunk) -> Batch:
        inputs, targets = chunk.rows
        return Batch(inputs, targets, chunk.weights > 0, None)

    def losses(state: Any, hparams: Hparams, chunk: Chunk) -> Array:
        if signature.ensemble_size > 1:
            raise NoKernelForm("members that share weights are rows of their own")
        if signature.calibrated:
            raise NoKernelForm("a loss at several temperatures needs the outputs of all rows")
        if signature.observe or evaluations > 1:
            raise NoKernelForm("what is observed within an epoch is not told by a kernel")
        return halves.losses(state, hparams, batch_of(chunk))

    def gradient(
        state: Any, hparams: Hparams, chunk: Chunk, total: Scalar, common: dict[str, Array]
    ) -> tuple[Scalar, PyTree]:
        noise = noise_of(state, chunk, common) if has_dropout else None
        return halves.gradient(state, hparams, batch_of(chunk), noise, total)

    def noise_of(state: Any, chunk: Chunk, common: dict[str, Array]) -> list[Array]:
        """Of each layer, [c, h] uint16."""
        is_first = jnp.arange(2) == 0
        words = jnp.where(is_first, common["first_word"], common["second_word"])
        key = fold_in(jax.random.wrap_key_data(words, impl="threefry2x32"), state.step)
        shape = chunk.weights.shape[0], signature.hidden_size
        keys = [fold_in(key, layer) for layer in range(signature.num_layers)]
        return [jax.random.bits(key, shape, jnp.uint16) for key in keys]

    def update(state: Any, hparams: Hparams, gradient: PyTree, loss: Scalar, common: PyTree) -> Any:
        del common
        return halves.update(state, hparams, gradient, loss)

    def scores(state: Any, hparams: Hparams, chunk: Chunk) -> dict[str, Array]:
        return halves.scores(state, hparams, batch_of(chunk))

    def ended(
        state: Any, hparams: Hparams, metrics: dict[str, Array], common: dict[str, Array]
    ) -> tuple[Any, dict[str, Array]]:
        train_loss = metrics["train_loss"]
        validated = common["num_valid"] > 0
        monitor = jnp.where(validated, metrics["loss"], train_loss)
        state = trainer.end_epoch(state, hparams, Metrics(train_loss, monitor, validated))
        return state, {"keep": state.keep}

    def carried(state: Any) -> Any:
        return state.train._replace(accumulator=())

    functions = training, validation, losses, gradient, update, scores
    return RowLoop(*functions, size, ended=ended, carried=carried, memory={})
