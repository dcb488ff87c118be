"""Arrays as a trial reads them: rows by split, minibatches in a random order, chunks to validate.

All of it is common to the trials that train together: under `vmap` nothing here is batched.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.types import IntScalar, PRNGKey, PyTree
from jaxopt_lab.problems.shuffling import shuffled


class Batch(NamedTuple):
    """Some rows, as a loss of the whole form gets them.

    The last minibatch of an epoch and the last chunk of a validation are filled up with real rows
    that `mask` leaves out.

    Attributes:
      inputs: pytree of arrays [b, ...].
      targets: pytree of arrays [b, ...].
      mask: [b], False where a row only fills up.
      weights: [b] float32, sample weights; 0 where `mask` is False.
    """

    inputs: PyTree
    targets: PyTree
    mask: Bool[Array, " b"]
    weights: Float[Array, " b"]


class Rows(NamedTuple):
    """The data of a problem. Lists of rows have one length, so that all splits share one program.

    Attributes:
      inputs: pytree of arrays [N, ...].
      targets: pytree of arrays [N, ...].
      weights: [N] float32, or () where every row counts the same.
      train_rows: [K, n] int32 indices into N; the first `num_train[k]` are real.
      num_train: [K] int32.
      valid_rows: [K, m] int32, likewise; m is 0 without validation.
      num_valid: [K] int32.
    """

    inputs: PyTree
    targets: PyTree
    weights: Any
    train_rows: Any
    num_train: Any
    valid_rows: Any
    num_valid: Any


def lay_out(
    inputs: PyTree,
    targets: PyTree,
    weights: np.ndarray | None,
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
) -> Rows:
    """Put checked arrays and the splits together.

    Args:
      inputs: pytree of arrays [N, ...].
      targets: pytree of arrays [N, ...].
      weights: [N] or None.
      splits: K pairs (training rows, validation rows).
    """

    def padded(lists: list[np.ndarray]) -> np.ndarray:
        length = max(len(rows) for rows in lists)
        # What is not real is the first real row, so that whatever is computed of it is sane.
        return np.stack(
            [np.pad(rows, (0, length - len(rows)), mode="edge") for rows in lists]
        ).astype(np.int32)

    train, valid = [rows for rows, _ in splits], [rows for _, rows in splits]
    return Rows(
        inputs=inputs,
        targets=targets,
        weights=() if weights is None else np.asarray(weights, np.float32),
        train_rows=padded(train),
        num_train=np.asarray([len(rows) for rows in train], np.int32),
        valid_rows=padded(valid),
        num_valid=np.asarray([len(rows) for rows in valid], np.int32),
    )


def epoch_order(key: PRNGKey, data: Rows, split: IntScalar, batch_size: int) -> Int[Array, " p"]:
    """The rows of an epoch's minibatches, one after the other.

    Args:
      key: of the epoch.
      data: of the problem.
      split: which one.
      batch_size: rows of a minibatch.

    Returns:
      A random order of the split's training rows, begun anew where the last minibatch would end
      early; int32, a multiple of `batch_size` long.
    """
    rows, num_real = data.train_rows[split], data.num_train[split]
    order = shuffled(key, rows, num_real)
    length = -(-rows.shape[0] // batch_size) * batch_size
    return order[jnp.arange(length) % num_real]


def minibatch(data: Rows, order: Int[Array, " p"], at: IntScalar, size: int, num: Any) -> Batch:
    """The rows of one minibatch.

    Args:
      data: of the problem.
      order: what `epoch_order` returned.
      at: where in it the minibatch begins.
      size: its rows.
      num: training rows of the split; what stands behind them only fills up.
    """
    rows = jax.lax.dynamic_slice_in_dim(order, at, size)
    return _gather(data, rows, at + jnp.arange(size) < num)


def validation_chunk(data: Rows, split: IntScalar, number: IntScalar, size: int) -> Batch:
    """Some validation rows of a split: chunk `number` of chunks of `size` rows."""
    rows, num = data.valid_rows[split], data.num_valid[split]
    places = number * size + jnp.arange(size)
    return _gather(data, rows[places % num], places < num)


def _gather(data: Rows, rows: Int[Array, " b"], mask: Bool[Array, " b"]) -> Batch:
    weights = mask.astype(jnp.float32)
    if not isinstance(data.weights, tuple):
        weights = weights * data.weights[rows]
    inputs, targets = jax.tree.map(lambda leaf: leaf[rows], (data.inputs, data.targets))
    return Batch(inputs, targets, mask, weights)


#: Arrays of different lengths that a message lists, at most.
_TOLD = 4
_RAGGED = (
    "If each is one row, such as a sequence, pad them to one length and stack them, with a mask as "
    "a further input."
)


def checked_arrays(what: str, tree: PyTree) -> tuple[PyTree, int | None]:
    """A user's arrays as JAX holds them, and how many rows they have (None without any array).

    Args:
      what: "inputs" or "targets", for messages.
      tree: pytree of arrays with a common leading axis; 64-bit ones become 32-bit.

    Raises:
      UserError: for leaves that are no arrays of numbers, or of different lengths.
    """
    lengths: dict[str, int] = {}

    def converted(path: Any, leaf: Any) -> np.ndarray:
        name = what + jax.tree_util.keystr(path)
        if not hasattr(leaf, "__array__"):
            raise UserError(
                f"{name} is a {type(leaf).__name__}, not an array; give arrays whose leading axis "
                "counts the rows: numpy.asarray makes one of a list"
            )
        if np.ma.is_masked(leaf):
            raise UserError(
                f"{name} is a masked array, whose masked values would be trained on: fill them "
                "(.filled(0)), and give the mask as a further input"
            )
        array = np.asarray(leaf)
        if array.dtype.kind not in "biufc" and not jnp.issubdtype(array.dtype, jnp.number):
            raise UserError(
                f"{name} is an array of {array.dtype}, not of numbers; encode it, with "
                "sklearn.preprocessing.OrdinalEncoder say"
            )
        if array.ndim == 0:
            raise UserError(f"{name} is a single number; its leading axis must count the rows")
        lengths[name] = len(array)
        return _narrowed(name, array)

    found = jax.tree_util.tree_map_with_path(converted, tree)
    if len(set(lengths.values())) > 1:
        told = [f"{name} has {length}" for name, length in lengths.items()]
        more = f" and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
        raise UserError(
            f"all arrays need as many rows as each other: {', '.join(told[:_TOLD])}{more}."
            + (f" {_RAGGED}" if isinstance(tree, list | tuple) else "")
        )
    return found, next(iter(lengths.values()), None)


#: What JAX makes of 64-bit numbers unless it is told otherwise.
_NARROW = {
    "float64": "float32",
    "int64": "int32",
    "uint64": "uint32",
    "complex128": "complex64",
}


def _narrowed(name: str, array: np.ndarray) -> np.ndarray:
    wanted = np.dtype(_NARROW.get(str(array.dtype), array.dtype))
    if array.dtype.kind in "iu" and array.size and array.dtype != wanted:
        limits = np.iinfo(wanted)
        if array.min() < limits.min or array.max() > limits.max:
            raise UserError(
                f"{name} holds integers beyond {limits.max}, which do not fit 32 bits; scale or "
                "encode them"
            )
    return array.astype(wanted)
