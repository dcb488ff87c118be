"""What runs on the chip: one trial, from its first unit of a launch to the last.

A program loads its trial's state once and keeps it on the chip. Inside are all loops: over units,
minibatches, chunks of rows whose gradients are summed, and chunks of validation rows. Validation is
in there because the weights are, and because a launch for each unit would cost small networks what
the kernel gains. After each unit a trial that is alive stores its state, so that one whose
objective is not finite keeps the last good one, at no second copy on the chip.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lab.core.executors import pallas
from jaxopt_lab.core.executors.kernel import Kernel
from jaxopt_lab.core.executors.padding import Padded, cleaned, padded_size
from jaxopt_lab.core.executors.values import as_padded
from jaxopt_lab.core.row_loop import Chunk
from jaxopt_lab.core.trainable import Guarded
from jaxopt_lab.core.types import Hparams, PyTree


class Inputs(NamedTuple):
    """References of what all trials share."""

    numbers: Any
    common: list[Any]
    rows: PyTree
    weights: Any
    totals: Any
    chunks: Any
    valid_rows: PyTree
    valid_weights: Any
    valid_total: Any
    constants: list[Any]


def stored(dtype: Any) -> Any:
    """What a state's numbers are held as: truth values are whole numbers."""
    return jnp.dtype(jnp.int32) if _is_bool(dtype) else jnp.dtype(dtype)


def _is_bool(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.bool_)


def scalar(reference: Any) -> Padded:
    """A trial's number."""
    return Padded(reference[0], ())


def load(reference: Any, shape: tuple[int, ...]) -> Padded:
    """A trial's array."""
    everything = (slice(None),) * (len(reference.shape) - 1)
    return Padded(reference[(0, *everything)], shape, True)


class Program:
    """One trial's program.

    Args:
      kernel: what is run.
      hparams: of the trial.
      inputs: references of what all share.
      results: references of its state at the end.
      curves: reference [1, names, units] of its metrics.
      shapes: of the leaves of the state.
    """

    def __init__(
        self,
        kernel: Kernel,
        hparams: Hparams,
        inputs: Inputs,
        results: list[Any],
        curves: Any,
        shapes: list[tuple[int, ...]],
    ) -> None:
        self.kernel, self.hparams, self.inputs = kernel, hparams, inputs
        self.results, self.curves, self.shapes = results, curves, shapes
        constants = iter(kernel.constants)
        loaded = iter(inputs.constants)
        self.constants = [
            [_whole(next(loaded), np.shape(next(constants))) for _ in part.constants]
            for part in kernel.parts
        ]

    def common(self, i: Any) -> PyTree:
        """What all trials share in a unit."""
        structure = jax.tree.structure(self.kernel.training.common)
        return jax.tree.unflatten(structure, [Padded(r[i], ()) for r in self.inputs.common])

    def run(self, state: PyTree) -> None:
        """All units."""
        self._store(state)
        room = self.curves.shape[2]
        for i in range(self.curves.shape[1]):
            self.curves[0, i, :] = jnp.full((room,), jnp.nan, jnp.float32)
        guarded = self.kernel.loop.objective is not None
        inner = state.inner if guarded else state
        guard = (state.diverged_at.array, state.last.array) if guarded else ()
        numbers = self.inputs.numbers

        def unit(i: Any, carry: Any) -> Any:
            arrays, guard = carry
            inner, metrics = self._unit(i, self._padded(arrays))
            alive: Any = True
            if guarded:
                alive, guard = self._guard(guard, metrics, numbers[1] + i)
            for number, name in enumerate(self.kernel.metrics):
                value = jnp.asarray(metrics[name], jnp.float32)
                self.curves[0, number, i] = jnp.where(alive, value, jnp.nan)
            full: Any = Guarded(inner, *guard) if guarded else inner
            self._store(full, alive)
            return self._arrays(inner), guard

        start = (self._arrays(inner), guard)
        _, guard = jax.lax.fori_loop(0, numbers[0], unit, start)
        if guarded:
            # Of one that diverged: its state is what was stored last.
            for reference, value in zip(self.results[-2:], guard, strict=True):
                reference[0] = value

    def _guard(self, guard: Any, metrics: dict[str, Any], unit: Any) -> tuple[Any, Any]:
        diverged_at, last = guard
        value = metrics[str(self.kernel.loop.objective)]
        fine_so_far, finite = diverged_at < 0, jnp.isfinite(value)
        alive = fine_so_far & finite
        first = fine_so_far & ~finite
        return alive, (jnp.where(first, unit, diverged_at), jnp.where(alive, value, last))

    def _store(self, state: PyTree, alive: Any = True) -> None:
        arrays = [leaf.array if isinstance(leaf, Padded) else leaf
                  for leaf in jax.tree.leaves(state)]  # fmt: skip

        def write() -> None:
            for reference, array in zip(self.results, arrays, strict=True):
                everything = (slice(None),) * (len(reference.shape) - 1)
                reference[(0, *everything)] = jnp.asarray(array, reference.dtype)

        if alive is True:
            write()
        else:
            pallas.when(alive)(write)

    def _arrays(self, state: PyTree) -> list[Any]:
        """Of a state, zeros where it is padded, with the dtypes that it had."""
        like = jax.tree.leaves(self.kernel.state)
        leaves = [cleaned(as_padded(leaf)).array for leaf in jax.tree.leaves(state)]
        return [jnp.asarray(x, stored(y.dtype)) for x, y in zip(leaves, like, strict=True)]

    def _padded(self, arrays: list[Any]) -> PyTree:
        leaves, tree = jax.tree.flatten(self.kernel.state)
        values = [
            Padded(x != 0 if _is_bool(y.dtype) else x, tuple(y.shape), True)
            for x, y in zip(arrays, leaves, strict=True)
        ]
        return jax.tree.unflatten(tree, values)

    def _unit(self, i: Any, state: PyTree) -> tuple[PyTree, dict[str, Any]]:
        """One unit: the state after it, and its metrics."""
        zero = jnp.zeros((), jnp.float32)

        def step(j: Any, carry: Any) -> Any:
            arrays, loss_sum, weight = carry
            total = self.inputs.totals[i, j]
            arrays, loss = self._step(i, j, total, arrays)
            return arrays, loss_sum + loss * total, weight + total

        start = (self._arrays(state), zero, zero)
        num_steps = self.inputs.numbers[2]
        arrays, loss_sum, weight = jax.lax.fori_loop(0, num_steps, step, start)
        state = self._padded(arrays)
        metrics = {"train_loss": loss_sum / weight}
        if self.kernel.scores is None:
            metrics["loss"] = metrics["train_loss"]
        else:
            metrics |= self._validate(state)
        if self.kernel.ended is None:
            return state, metrics
        state, more = self.kernel.ended(
            self.kernel.context,
            self.constants[-1],
            state,
            self.hparams,
            {name: _number(metrics[name]) for name in self.kernel.measured},
            self.common(i),
        )
        return state, metrics | {name: as_padded(x).array for name, x in more.items()}

    def _step(self, i: Any, j: Any, total: Any, arrays: list[Any]) -> tuple[list[Any], Any]:
        """One minibatch: chunks of rows whose gradients are summed, then the update."""
        kernel, inputs = self.kernel, self.inputs
        size = kernel.context.num_rows
        num_chunks: Any = -(-kernel.loop.batch_size // size)
        before = j * num_chunks
        if not isinstance(kernel.training.chunks, tuple):
            num_chunks, before = inputs.chunks[i, j], j * inputs.chunks[i, 0]
        state, common = self._padded(arrays), self.common(i)
        divisor = jnp.where(total > 0, total, 1.0) if kernel.loop.may_be_empty else total

        def part(number: Any) -> tuple[Any, list[Any]]:
            first = number * size
            at = before * size + first
            read = partial(_read, index=(i,), at=at, size=size)
            chunk = Chunk(
                jax.tree.map(read, inputs.rows, kernel.training.rows),
                read(inputs.weights, kernel.training.weights),
            )
            context = kernel.context._replace(first_row=jnp.asarray(first, jnp.uint32))
            loss, gradient = kernel.gradient(
                context, self.constants[0], state, self.hparams, chunk, _number(divisor), common
            )
            leaves = [as_padded(x) for x in jax.tree.leaves(gradient)]
            return as_padded(loss).array, [cleaned(x).array for x in leaves]

        if isinstance(num_chunks, int) and num_chunks == 1:
            loss, gradient = part(0)
        else:
            blank = [
                jnp.zeros(tuple(map(padded_size, x.shape)), x.dtype)
                for x in jax.tree.leaves(kernel.gradient.like[1])
            ]

            def add(number: Any, sums: Any) -> Any:
                return jax.tree.map(jnp.add, sums, part(number))

            zero = jnp.zeros((), jnp.float32)
            loss, gradient = jax.lax.fori_loop(0, num_chunks, add, (zero, blank))
        like, tree = jax.tree.flatten(kernel.gradient.like[1])
        given = [Padded(x, tuple(y.shape), True) for x, y in zip(gradient, like, strict=True)]
        new = kernel.update(
            kernel.context,
            self.constants[1],
            state,
            self.hparams,
            jax.tree.unflatten(tree, given),
            _number(loss),
            common,
        )
        moved = self._arrays(new)
        if kernel.loop.may_be_empty:
            moved = [jnp.where(total > 0, x, y) for x, y in zip(moved, arrays, strict=True)]
        return moved, loss

    def _validate(self, state: PyTree) -> dict[str, Any]:
        """Weighted means over all validation rows."""
        kernel, inputs = self.kernel, self.inputs
        assert kernel.scores is not None
        assert kernel.validation is not None
        size, names = kernel.context.num_rows, kernel.measured[1:]
        validation, scores = kernel.validation, kernel.scores

        def part(number: Any, sums: list[Any]) -> list[Any]:
            read = partial(_read, index=(), at=number * size, size=size)
            chunk = Chunk(
                jax.tree.map(read, inputs.valid_rows, validation.rows),
                read(inputs.valid_weights, validation.weights),
            )
            found = scores(kernel.context, self.constants[2], state, self.hparams, chunk)
            weights = chunk.weights.array
            values = [as_padded(found[name]).array.astype(jnp.float32) for name in names]
            added = [jnp.where(weights > 0, x * weights, 0.0).sum() for x in values]
            return [x + y for x, y in zip(sums, added, strict=True)]

        num_chunks = validation.weights.shape[0] // size
        zero = jnp.zeros((), jnp.float32)
        sums = jax.lax.fori_loop(0, num_chunks, part, [zero for _ in names])
        total = inputs.valid_total[0]
        return {name: x / total for name, x in zip(names, sums, strict=True)}


def _number(array: Any) -> Padded:
    return Padded(array, ())


def _whole(reference: Any, shape: tuple[int, ...]) -> Padded:
    return Padded(reference[...], shape, True)


def _read(reference: Any, like: Any, *, index: tuple[Any, ...], at: Any, size: int) -> Padded:
    """Some rows of a reference [..., rows, features]."""
    features = tuple(like.shape[1:])
    everything = (slice(None),) * len(features)
    array = reference[(*index, pallas.rows(at, size), *everything)]
    return Padded(array, (size, *features), True, 0)
