"""The executor `kernel`: several units of every trial in one launch, a program for each trial.

A program loads its trial's state once and keeps it on the chip. Inside are all loops: over units,
minibatches, chunks of rows whose gradients are summed, and chunks of validation rows. Validation is
in there because the weights are, and because a launch for each unit would cost small networks what
the kernel gains. After each unit a trial that is alive stores its state, so that one whose
objective is not finite keeps the last good one, at no second copy on the chip.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxopt_lab.core.executors import fitting, pallas
from jaxopt_lab.core.executors.evaluation import Traced
from jaxopt_lab.core.executors.noise import COUNTER, Generator
from jaxopt_lab.core.executors.padding import (
    NoKernelForm,
    Padded,
    cleaned,
    from_padded,
    padded_size,
    to_padded,
)
from jaxopt_lab.core.executors.values import Context, as_padded
from jaxopt_lab.core.row_loop import NO_LOOP, Chunk, Minibatches, RowLoop
from jaxopt_lab.core.trainable import Guarded, Shared
from jaxopt_lab.core.types import Hparams, PyTree

#: The first version of JAX whose equations are the ones evaluated here.
OLDEST_JAX = (0, 10)
#: What random numbers in a kernel are drawn from.
NOISE: Generator = COUNTER


class Kernel(NamedTuple):
    """A trial's functions, traced, and how a kernel runs them.

    Attributes:
      loop: the functions.
      state: shapes and dtypes of what it carries, without a guard.
      gradient, update, scores, ended: of `loop`, as equations; `scores` is None without
        validation, `ended` where nothing is done at the end of a unit.
      training, validation: shapes and dtypes of what `loop` gives of the rows.
      metrics: name -> dtype of what a unit ends with; None is float32, of what is measured.
      sizes: on the chip.
      context: how equations are evaluated.
      interpret: whether to run without a GPU.
    """

    loop: RowLoop
    state: PyTree
    gradient: Traced
    update: Traced
    scores: Traced | None
    ended: Traced | None
    training: Minibatches
    validation: Minibatches | None
    metrics: dict[str, Any]
    sizes: fitting.Sizes
    context: Context
    interpret: bool

    @property
    def constants(self) -> list[Any]:
        """Arrays that the functions close over, in their order."""
        return [x for part in self.parts for x in part.constants]

    @property
    def parts(self) -> list[Traced]:
        """The functions that there are."""
        parts = (self.gradient, self.update, self.scores, self.ended)
        return [part for part in parts if part is not None]

    @property
    def measured(self) -> list[str]:
        """Names of the metrics of training and validation, as which a unit is ended."""
        return [name for name, dtype in self.metrics.items() if dtype is None]


def build(
    loop: RowLoop | None, state: PyTree, hparams: Hparams, shared: Shared, interpret: bool = False
) -> Kernel:
    """Trace a trial's functions for a kernel; nothing is compiled.

    Args:
      loop: of the trainable; None if its unit is no loop over rows.
      state: shapes and dtypes of one trial's state, `Guarded` where the loop has an objective.
      hparams: of one trial, likewise.
      shared: of a unit, likewise.
      interpret: whether it will run without a GPU, where products are the device's own.

    Raises:
      NoKernelForm: what has no form in a kernel.
    """
    if jax.__version_info__ < OLDEST_JAX:
        wanted = ".".join(map(str, OLDEST_JAX))
        raise NoKernelForm(f"it needs JAX {wanted} or later, and this is {jax.__version__}")
    if loop is None:
        raise NoKernelForm(NO_LOOP)
    arithmetic = fitting.PRECISIONS[loop.precision]
    if problem := pallas.missing(arithmetic):
        raise NoKernelForm(problem)
    inner = state.inner if loop.objective is not None else state
    inner, hparams = jax.tree.map(_shape, (jax.eval_shape(loop.carried, inner), hparams))
    weights_like = jax.ShapeDtypeStruct((), jnp.float32)
    # A first guess of rows, to know the gradient, of which the rows follow.
    sizes, rows = None, fitting.FEW_ROWS
    first = jax.eval_shape(lambda shared: loop.training(shared, rows), shared)
    _check_losses(loop, inner, hparams, _chunk_of(first, rows))
    for _ in range(2):
        training = jax.eval_shape(lambda shared, n=rows: loop.training(shared, n), shared)
        chunk = _chunk_of(training, rows)
        gradient = Traced(loop.gradient, inner, hparams, chunk, weights_like, training.common)
        like = gradient.like[1]
        sizes = fitting.sizes_of(
            jax.tree.leaves(inner), jax.tree.leaves(like), loop.batch_size, loop.precision
        )
        if sizes.rows == rows:
            break
        rows = sizes.rows
    assert sizes is not None
    update = Traced(loop.update, inner, hparams, like, weights_like, training.common)
    scores, ended, validation, metrics = None, None, None, dict.fromkeys(("train_loss", "loss"))
    if loop.validation is not None and loop.scores is not None:
        rows_of = loop.validation
        validation = jax.eval_shape(lambda shared: rows_of(shared, rows), shared)
        scores = Traced(loop.scores, inner, hparams, _chunk_of(validation, rows))
        metrics = dict.fromkeys(("train_loss", *scores.like))
    if loop.ended is not None:
        numbers = dict.fromkeys(metrics, weights_like)
        ended = Traced(loop.ended, inner, hparams, numbers, training.common)
        metrics = {**metrics, **{name: x.dtype for name, x in ended.like[1].items()}}
    by_parts = sizes.state_bytes <= fitting.PARTS_BYTES
    context = Context(None if interpret else arithmetic, NOISE, rows, by_parts=by_parts)
    found = Kernel(
        loop, inner, gradient, update, scores, ended, training, validation, metrics, sizes, context,
        interpret,
    )  # fmt: skip
    _check(found, inner, hparams, chunk)
    return found


def misfit(
    loop: RowLoop | None, state: PyTree, hparams: Hparams, shared: Shared, interpret: bool
) -> str:
    """Why no kernel can train a trial, in words for a plan; "" if one can. Arguments of `build`."""
    try:
        found = build(loop, state, hparams, shared, interpret)
    except NoKernelForm as error:
        return str(error)
    if interpret:
        return ""
    machine = pallas.machine()
    return machine.problem or fitting.misfit(found.sizes, found.loop.batch_size, machine)


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf))


def _chunk_of(found: Minibatches, rows: int) -> Chunk:
    """The shapes of some of the rows."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype),
        Chunk(found.rows, found.weights),
    )


def _check_losses(loop: RowLoop, state: PyTree, hparams: Hparams, chunk: Chunk) -> None:
    """See whether rows are apart, by what is quickest to trace."""
    losses, num_rows = Traced(loop.losses, state, hparams, chunk), chunk.weights.shape[0]

    def evaluate() -> None:
        rows = jax.tree.map(lambda x: _padded_example(x, 0), chunk)
        context = Context(None, NOISE, num_rows, apart=True)
        constants = [_padded_example(x) for x in losses.constants]
        own = _padded_examples(state), _padded_examples(hparams)
        _check_rows(losses(context, constants, *own, rows), "losses", num_rows)

    jax.eval_shape(evaluate)


def _check(kernel: Kernel, state: PyTree, hparams: Hparams, chunk: Chunk) -> None:
    """Evaluate everything once without computing."""
    apart = kernel.context._replace(apart=True)

    def everything() -> None:
        own = _padded_examples(state), _padded_examples(hparams)
        rows = jax.tree.map(lambda x: _padded_example(x, 0), chunk)
        zero = Padded(jnp.zeros(()), (), False)
        constants = iter([_padded_example(x) for x in kernel.constants])
        given = [[next(constants) for _ in part.constants] for part in kernel.parts]
        common = _padded_examples(kernel.training.common)
        gradient = kernel.gradient(kernel.context, given[0], *own, rows, zero, common)[1]
        kernel.update(kernel.context, given[1], *own, gradient, zero, common)
        if kernel.scores is not None and kernel.validation is not None:
            valid = jax.tree.map(
                lambda x: _padded_example(x, 0),
                _chunk_of(kernel.validation, kernel.context.num_rows),
            )
            for name, values in kernel.scores(apart, given[2], *own, valid).items():
                _check_rows(values, name, kernel.context.num_rows)
        if kernel.ended is not None:
            numbers = dict.fromkeys(kernel.measured, zero)
            kernel.ended(kernel.context, given[-1], *own, numbers, common)

    jax.eval_shape(everything)


def _check_rows(values: Any, name: str, num_rows: int) -> None:
    found = as_padded(values)
    if found.shape != (num_rows,) or found.rows not in (0, None):
        raise NoKernelForm(f"{name} is a mean, not one number for each row")


def _padded_example(leaf: Any, rows: int | None = None) -> Padded:
    shape = tuple(jnp.shape(leaf))
    return Padded(to_padded(jnp.zeros(shape, jnp.result_type(leaf))), shape, True, rows)


def _padded_examples(tree: PyTree) -> PyTree:
    return jax.tree.map(_padded_example, tree)


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
      kernel: from `build`.
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


class _Inputs(NamedTuple):
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
    shared = _Inputs(
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
    own = [to_padded(jnp.asarray(x, _stored(x.dtype)), 1) for x in state_leaves]
    values = [jnp.asarray(x) for x in jax.tree.leaves(hparams)]
    shared_leaves, shared_tree = jax.tree.flatten(shared)
    num_trials, room = own[0].shape[0], 1 << max(each - 1, 0).bit_length()
    metrics = jax.ShapeDtypeStruct((num_trials, len(kernel.metrics), room), jnp.float32)
    results = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in own]

    def body(*references: Any) -> None:
        given = list(references)
        taken = [[given.pop(0) for _ in part] for part in (own, values, shared_leaves)]
        shapes = [tuple(x.shape[1:]) for x in state_leaves]
        program = _Program(
            kernel,
            jax.tree.unflatten(jax.tree.structure(hparams), [_scalar(r) for r in taken[1]]),
            jax.tree.unflatten(shared_tree, taken[2]),
            given[:-1],
            given[-1],
            shapes,
        )
        loaded = [_load(r, shape) for r, shape in zip(taken[0], shapes, strict=True)]
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


def _stored(dtype: Any) -> Any:
    """What a state's numbers are held as: truth values are whole numbers."""
    return jnp.dtype(jnp.int32) if _is_bool(dtype) else jnp.dtype(dtype)


def _is_bool(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.bool_)


def _scalar(reference: Any) -> Padded:
    return Padded(reference[0], ())


def _load(reference: Any, shape: tuple[int, ...]) -> Padded:
    everything = (slice(None),) * (len(reference.shape) - 1)
    return Padded(reference[(0, *everything)], shape, True)


class _Program:
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
        inputs: _Inputs,
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
        return [jnp.asarray(x, _stored(y.dtype)) for x, y in zip(leaves, like, strict=True)]

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
