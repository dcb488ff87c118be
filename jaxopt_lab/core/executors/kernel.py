"""What a kernel runs: a trial's functions, traced, and looked at before anything compiles."""

from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lab.core.executors import fitting, pallas
from jaxopt_lab.core.executors.evaluation import Traced
from jaxopt_lab.core.executors.noise import COUNTER, Generator
from jaxopt_lab.core.executors.padding import NoKernelForm, Padded, to_padded
from jaxopt_lab.core.executors.values import Context, as_padded
from jaxopt_lab.core.row_loop import NO_LOOP, Chunk, Minibatches, RowLoop, as_carried
from jaxopt_lab.core.trainable import Shared
from jaxopt_lab.core.types import Hparams, PyTree

#: The first version of JAX whose equations are the ones evaluated here.
OLDEST_JAX = (0, 10)
#: What random numbers in a kernel are drawn from.
NOISE: Generator = COUNTER
#: Of JAX, that equations depend on.
_SETTINGS = ("jax_default_matmul_precision", "jax_enable_x64")


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
        """Names of the metrics of training and validation, which `ended` is given."""
        return [name for name, dtype in self.metrics.items() if dtype is None]


def build(
    loop: RowLoop | None, state: PyTree, hparams: Hparams, shared: Shared, interpret: bool = False
) -> Kernel:
    """Trace a trial's functions for a kernel, once for the same shapes; nothing is compiled.

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
    asked = _asked(loop, inner, hparams, shared, interpret)
    memory = {} if loop.memory is None else loop.memory
    if asked not in memory:
        memory[asked] = _traced(loop, inner, hparams, shared, interpret)
    found: Kernel = memory[asked]
    return found._replace(loop=loop)


def _asked(
    loop: RowLoop, state: PyTree, hparams: Hparams, shared: Shared, interpret: bool
) -> Hashable:
    """All that a kernel depends on: functions, shapes, noise, and JAX's settings."""
    given = (state, hparams, jax.eval_shape(lambda shared: shared, shared))
    leaves, structure = jax.tree.flatten(given)
    shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
    settings = tuple(jax.config.values.get(name) for name in _SETTINGS)
    same = loop._replace(objective=None, whole=as_carried, memory=None)
    arithmetic = fitting.PRECISIONS[loop.precision]
    return same, structure, shapes, interpret, arithmetic, NOISE, settings


def _traced(
    loop: RowLoop, inner: PyTree, hparams: Hparams, shared: Shared, interpret: bool
) -> Kernel:
    """The kernel of what a trial carries, by shapes."""
    arithmetic = fitting.PRECISIONS[loop.precision]
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
        # As the engine traces, which then finds what is traced here.
        with jax.default_matmul_precision(None if interpret else "highest"):
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
