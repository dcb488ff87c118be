"""The executor `kernel`: several units of every trial in one launch, a program for each trial."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxopt_lab.core.executors import fitting, pallas
from jaxopt_lab.core.executors.kernel import Kernel
from jaxopt_lab.core.executors.padding import from_padded, to_padded
from jaxopt_lab.core.executors.program import Inputs, Program, load, scalar, stored
from jaxopt_lab.core.row_loop import Minibatches, RowLoop
from jaxopt_lab.core.trainable import Shared
from jaxopt_lab.core.types import Hparams, PyTree


def advance(
    kernel: Kernel,
    states: PyTree,
    hparams: Hparams,
    shared_at: Callable[[Any], Shared],
    num_units: Any,
    length: int,
) -> tuple[PyTree, dict[str, Array]]:
    """Train all trials of a cohort by some units.

    Args:
      kernel: from `kernel.build`.
      states: of the trials [V, ...].
      hparams: likewise.
      shared_at: unit of this call, from 0 -> what its trials share.
      num_units: int32, at most `length`.
      length: units that metrics have room for.

    Returns:
      The states, and name -> [V, length], NaN behind `num_units`.
    """
    loop, rows, before = kernel.loop, kernel.context.num_rows, states
    states = jax.vmap(partial(_taken, loop))(states)
    num_bytes = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(kernel.training.rows))
    num_steps = max(kernel.training.totals.shape[0], 1)
    each = min(length, fitting.MAX_ROW_BYTES // max(num_bytes, 1))
    each = int(max(1, min(each, -(-fitting.LEAST_STEPS // num_steps))))
    valid = None if loop.validation is None else loop.validation(shared_at(0), rows)

    def launched(first: Any, count: Any, states: PyTree) -> tuple[PyTree, Array]:
        """`count` units, at most `each`; metrics [V, names, each]."""
        training = jax.vmap(lambda i: loop.training(shared_at(first + i), rows))(jnp.arange(each))
        unit = shared_at(first).unit
        return _launch(kernel, states, hparams, training, valid, (count, unit), each)

    if each >= length:
        states, found = launched(0, num_units, states)
    else:
        room = -(-length // each) * each
        num_trials = jax.tree.leaves(states)[0].shape[0]
        blank = jnp.full((num_trials, len(kernel.metrics), room), jnp.nan, jnp.float32)

        def body(i: Any, carry: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
            states, curves = carry
            first = i * each
            states, part = launched(first, jnp.minimum(each, num_units - first), states)
            return states, jax.lax.dynamic_update_slice_in_dim(curves, part, first, 2)

        num_launches = (num_units + each - 1) // each
        states, found = jax.lax.fori_loop(0, num_launches, body, (states, blank))
    last = shared_at(jnp.maximum(num_units - 1, 0))
    states = jax.vmap(partial(_put_back, loop), (0, 0, 0, None))(before, states, hparams, last)
    return states, {
        name: _metric(found[:, i, :length], dtype)
        for i, (name, dtype) in enumerate(kernel.metrics.items())
    }


def _taken(loop: RowLoop, state: PyTree) -> PyTree:
    """Of a trial's state, guarded or not, what a launch takes."""
    if loop.objective is None:
        return loop.carried(state)
    return state._replace(inner=loop.carried(state.inner))


def _put_back(
    loop: RowLoop, before: PyTree, state: PyTree, hparams: Hparams, shared: Shared
) -> PyTree:
    """Undo `_taken`."""
    if loop.objective is None:
        return loop.whole(before, state, hparams, shared)
    return state._replace(inner=loop.whole(before.inner, state.inner, hparams, shared))


def _metric(values: Array, dtype: Any) -> Array:
    """Values as the unit tells them; where there are none, NaN or its like."""
    if dtype is None or jnp.issubdtype(dtype, jnp.inexact):
        return values
    return jnp.nan_to_num(values).astype(dtype)


def _launch(
    kernel: Kernel,
    states: PyTree,
    hparams: Hparams,
    training: Minibatches,
    valid: Minibatches | None,
    now: tuple[Any, Any],
    each: int,
) -> tuple[PyTree, Array]:
    common = [jnp.asarray(x) for x in jax.tree.leaves(training.common)]
    numbers = jnp.stack([*map(jnp.int32, now), training.num_steps[0].astype(jnp.int32)])
    nothing: Any = ()
    shared = Inputs(
        numbers,
        common,
        jax.tree.map(partial(to_padded, leading=2), training.rows),
        training.weights,
        training.totals,
        training.chunks,
        nothing if valid is None else jax.tree.map(partial(to_padded, leading=1), valid.rows),
        nothing if valid is None else valid.weights,
        nothing if valid is None else valid.totals,
        [to_padded(jnp.asarray(x)) for x in kernel.constants],
    )
    state_leaves, state_tree = jax.tree.flatten(states)
    own = [to_padded(jnp.asarray(x, stored(x.dtype)), 1) for x in state_leaves]
    values = [jnp.asarray(x) for x in jax.tree.leaves(hparams)]
    shared_leaves, shared_tree = jax.tree.flatten(shared)
    num_trials, room = own[0].shape[0], 1 << max(each - 1, 0).bit_length()
    metrics = jax.ShapeDtypeStruct((num_trials, len(kernel.metrics), room), jnp.float32)
    results = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in own]

    def body(*references: Any) -> None:
        given = list(references)
        taken = [[given.pop(0) for _ in part] for part in (own, values, shared_leaves)]
        shapes = [tuple(x.shape[1:]) for x in state_leaves]
        program = Program(
            kernel,
            jax.tree.unflatten(jax.tree.structure(hparams), [scalar(r) for r in taken[1]]),
            jax.tree.unflatten(shared_tree, taken[2]),
            given[:-1],
            given[-1],
            shapes,
        )
        loaded = [load(r, shape) for r, shape in zip(taken[0], shapes, strict=True)]
        program.run(jax.tree.unflatten(state_tree, loaded))

    found = pallas.launch(
        body, num_trials, [*own, *values], shared_leaves, [*results, metrics],
        kernel.sizes.warps, kernel.interpret,
    )  # fmt: skip
    new = [
        from_padded(x, old.shape).astype(old.dtype)
        for x, old in zip(found[:-1], state_leaves, strict=True)
    ]
    return jax.tree.unflatten(state_tree, new), found[-1][:, :, :each]
