"""One unit of a trainable as a loop over rows, for an executor that owns the loop."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from jaxopt_lab.core.types import IntScalar, PyTree, Scalar


class Chunk(NamedTuple):
    """Some rows of a minibatch.

    Attributes:
      rows: pytree of arrays [c, ...].
      weights: [c] float32; 0 at a row that only fills up.
    """

    rows: PyTree
    weights: Any


class Minibatches(NamedTuple):
    """The rows of a unit, minibatch after minibatch, or those of a validation.

    Each minibatch is filled up to a whole number of chunks.

    Attributes:
      rows: pytree of arrays [p, ...].
      weights: [p] float32; 0 at a row that only fills up.
      totals: [s] float32, the weight of each minibatch.
      num_steps: int32, how many minibatches there are; what stands behind them is not looked at.
      common: pytree of scalars that the functions of `RowLoop` are given.
      chunks: [s] int32, chunks of each minibatch, all but the last of as many; () where each has
        those of `RowLoop.batch_size` rows.
    """

    rows: PyTree
    weights: Float[Array, " p"]
    totals: Float[Array, " s"]
    num_steps: IntScalar
    common: PyTree = ()
    chunks: Any = ()


#: Why a unit that is any function cannot be trained in a kernel.
NO_LOOP = "only lab.supervised and tables tell the executor their loop over rows"
#: See `RowLoop.ended`.
Ended = Callable[[PyTree, Any, dict[str, Array], PyTree], tuple[PyTree, dict[str, Array]]]


def whole_state(state: PyTree) -> PyTree:
    """All of it is carried."""
    return state


def as_carried(state: PyTree, carried: PyTree, hparams: Any, shared: Any) -> PyTree:
    """What was carried is the state."""
    del state, hparams, shared
    return carried


class RowLoop(NamedTuple):
    """The inner half of a trainable, whose loss is the weighted mean over rows of a minibatch.

    All functions but the first two are of ONE trial. `Trainable.step` does the same as a loop over
    them does; the executor finds out by itself whether one row can see another. `state` is what
    `carried` makes of a trial's, but in that function and in `whole`.

    Attributes:
      training: (shared, rows of a chunk) -> minibatches of the unit; common to the trials.
      validation: (shared, rows of a chunk) -> one minibatch of all rows; None without any.
      losses: (state, hparams, chunk) -> [c] losses of rows in training.
      gradient: (state, hparams, chunk, total, common) -> (sum of weighted losses / total, its
        gradient).
      update: (state, hparams, gradient, loss, common) -> state, after a whole minibatch.
      scores: (state, hparams, chunk) -> name -> [c], of validation rows, "loss" among them.
      batch_size: rows of a minibatch.
      may_be_empty: whether a minibatch's rows may all be without weight.
      precision: what products use, a key of `executors.fitting.PRECISIONS`.
      objective: name of the metric whose first value that is not finite freezes the trial, whose
        state is then `trainable.Guarded`; None if nothing does.
      ended: (state, hparams, metrics, common) -> (state, more metrics), scalars all of them, after
        the unit's scores; None if a unit ends with those.
      carried: a trial's state -> what of it changes in training.
      whole: (state before, what was carried, hparams, shared of the last unit) -> a trial's state.
      memory: what an executor remembers of the functions that it has traced, so that who asks
        whether they fit and who runs them trace once; None: nothing.
    """

    training: Callable[[Any, int], Minibatches]
    validation: Callable[[Any, int], Minibatches] | None
    losses: Callable[[PyTree, Any, Chunk], Array]
    gradient: Callable[[PyTree, Any, Chunk, Scalar, PyTree], tuple[Scalar, PyTree]]
    update: Callable[[PyTree, Any, PyTree, Scalar, PyTree], PyTree]
    scores: Callable[[PyTree, Any, Chunk], dict[str, Array]] | None
    batch_size: int
    may_be_empty: bool = False
    precision: str = "float32"
    objective: str | None = None
    ended: Ended | None = None
    carried: Callable[[PyTree], PyTree] = whole_state
    whole: Callable[[PyTree, PyTree, Any, Any], PyTree] = as_carried
    memory: dict[Any, Any] | None = None
