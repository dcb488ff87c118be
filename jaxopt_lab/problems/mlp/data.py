"""The parts of every task: arrays laid out by fold, and a loss with metrics."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from jaxopt_lab.datasets.target_losses import HUBER_DELTA, SQUARED, TargetLoss
from jaxopt_lab.problems.mlp.members import mean_output, mean_probability

#: Inputs are padded with zero columns to a multiple of this, so that tables whose encodings
#: differ by a few columns share compiled programs.
COLUMN_MULTIPLE = 16
#: Rows that are padded so that tables share programs come in multiples of this, or of a power of
#: two near an eighth of their number.
ROW_MULTIPLE = 64


class FoldArrays(NamedTuple):
    """Data of all folds, padded to one shape so that all folds share one program.

    Fold g < G - 1 is a cross-validation fold; the last one is the refit on all rows, which has
    no validation rows. G' is G where the encoding differs by fold, else 1.

    Attributes:
      inputs: [G', N, ...] float32 rows as the network sees them.
      targets: [G', N] or [G', N, ...] float32 or int32.
      train_rows: [G, n] int32 indices into N; the first `num_train[g]` are real.
      num_train: [G] int32.
      valid_rows: [G, m] int32, likewise.
      num_valid: [G] int32.
    """

    inputs: Any
    targets: Any
    train_rows: Any
    num_train: Any
    valid_rows: Any
    num_valid: Any


def lay_out(
    inputs: list[np.ndarray],
    targets: list[np.ndarray],
    folds: list[tuple[np.ndarray, np.ndarray]],
    rounded: bool = False,
) -> FoldArrays:
    """Stack encodings (one per fold, or one for all) and pad index lists to a common length.

    Args:
      inputs: one or G arrays [N, F]; padded with zero columns to a common width.
      targets: one or G arrays [N] or [N, ...].
      folds: G pairs (training rows, validation rows).
      rounded: whether rows and columns are padded to sizes that other tables have, too; the rows
        that this adds are never read.
    """

    def size(number: int, multiple: int) -> int:
        """At least `number`; at most a quarter more where it is large."""
        step = max(multiple, 2 ** (number.bit_length() - 3)) if rounded else multiple
        return -(-number // step) * step

    width = size(max(a.shape[1] for a in inputs), COLUMN_MULTIPLE)
    multiple = ROW_MULTIPLE if rounded else 1
    more = size(len(targets[0]), multiple) - len(targets[0])
    padded = [np.pad(a, [(0, more), (0, width - a.shape[1])]) for a in inputs]

    def pad_rows(rows: list[np.ndarray]) -> np.ndarray:
        length = size(max(1, max(len(r) for r in rows)), multiple)
        return np.stack([np.pad(r, (0, length - len(r))) for r in rows]).astype(np.int32)

    train, valid = [t for t, _ in folds], [v for _, v in folds]
    return FoldArrays(
        inputs=np.stack(padded),
        targets=np.stack([np.pad(t, [(0, more)] + [(0, 0)] * (t.ndim - 1)) for t in targets]),
        train_rows=pad_rows(train),
        num_train=np.asarray([len(t) for t in train], np.int32),
        valid_rows=pad_rows(valid),
        num_valid=np.asarray([len(v) for v in valid], np.int32),
    )


class Criterion(NamedTuple):
    """What is minimised, per example.

    Attributes:
      loss: (outputs [b, o], targets [b]) -> [b].
      metrics: (outputs, targets) -> {name: [b]}; averaged over the validation rows.
      num_outputs: size o of the network's head.
      average: outputs of members [k, b, o] -> those of their mean prediction [b, o].
    """

    loss: Callable[[Array, Array], Float[Array, " b"]]
    metrics: Callable[[Array, Array], dict[str, Float[Array, " b"]]]
    num_outputs: int
    average: Callable[[Array], Array] = mean_output


def squared_error(outputs: Float[Array, "b 1"], targets: Float[Array, " b"]) -> Float[Array, " b"]:
    """Squared error in the units of the (transformed) target, squared."""
    return (outputs[:, 0] - targets) ** 2


def absolute_error(outputs: Float[Array, "b 1"], targets: Float[Array, " b"]) -> Float[Array, " b"]:
    """Absolute error in the units of the (transformed) target."""
    return jnp.abs(outputs[:, 0] - targets)


def huber_error(outputs: Float[Array, "b 1"], targets: Float[Array, " b"]) -> Float[Array, " b"]:
    """Huber's loss with `HUBER_DELTA`, in the units of the (transformed) target, squared."""
    return jnp.asarray(optax.huber_loss(outputs[:, 0], targets, delta=HUBER_DELTA))


def pinball_error(quantile: float) -> Callable[[Array, Array], Array]:
    """The loss that the quantile of that level minimises."""

    def loss(outputs: Float[Array, "b 1"], targets: Float[Array, " b"]) -> Float[Array, " b"]:
        errors = targets - outputs[:, 0]
        return jnp.maximum(quantile * errors, (quantile - 1.0) * errors)

    loss.__qualname__ = f"pinball_error({quantile})"  # by which finished trainings are told apart
    return loss


def cross_entropy(outputs: Float[Array, "b c"], targets: Int[Array, " b"]) -> Float[Array, " b"]:
    """Cross-entropy in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(outputs, targets)


def correct(outputs: Float[Array, "b c"], targets: Int[Array, " b"]) -> Float[Array, " b"]:
    """1 where the most likely class is the right one."""
    return (jnp.argmax(outputs, -1) == targets).astype(jnp.float32)


def regression(loss: TargetLoss = SQUARED, num_targets: int = 1) -> Criterion:
    """The loss of real targets, of several the mean of theirs; the same object for the same.

    Args:
      loss: of one target.
      num_targets: T; outputs and targets are [b, T] where there are several.
    """
    return _regression(loss) if num_targets == 1 else _several(_regression(loss), num_targets)


@cache
def _regression(loss: TargetLoss) -> Criterion:
    if loss.name == "quantile":
        minimised = pinball_error(float(loss.quantile))
    else:
        minimised = {
            "squared": squared_error,
            "absolute": absolute_error,
            "huber": huber_error,
        }[loss.name]
    return Criterion(minimised, lambda o, t: {"absolute_error": absolute_error(o, t)}, 1)


@cache
def _several(criterion: Criterion, num_targets: int) -> Criterion:
    """Means over targets of a loss and metrics of one target."""

    def loss(outputs: Float[Array, "b t"], targets: Float[Array, "b t"]) -> Float[Array, " b"]:
        each = jax.vmap(criterion.loss, in_axes=(2, 1))(outputs[:, None], targets)
        return each.mean(axis=0)

    def metrics(outputs: Array, targets: Array) -> dict[str, Array]:
        each = jax.vmap(criterion.metrics, in_axes=(2, 1))(outputs[:, None], targets)
        return {name: values.mean(axis=0) for name, values in each.items()}

    loss.__qualname__ = f"mean_of_targets({criterion.loss.__qualname__})"
    return Criterion(loss, metrics, num_targets)


@cache
def classification(num_classes: int) -> Criterion:
    """Cross-entropy over `num_classes` classes."""
    return Criterion(
        cross_entropy, lambda o, t: {"accuracy": correct(o, t)}, num_classes, mean_probability
    )


@cache
def weighted(criterion: Criterion, num_targets: int = 1) -> Criterion:
    """The same loss and metrics, each row's times its weight.

    Args:
      criterion: of targets [b], numbers or class indices, or of numbers [b, T].
      num_targets: T; 1 of targets [b].

    Returns:
      One of float32 targets [b, T + 1]: the target, which float32 must hold exactly if it is a
      class, or the targets, and the weight, of mean 1 over the rows of a mean.
    """
    kind = jnp.float32 if criterion.num_outputs == num_targets else jnp.int32

    def plain(targets: Array) -> Array:
        return targets[:, 0].astype(kind) if num_targets == 1 else targets[:, :-1]

    def loss(outputs: Array, targets: Array) -> Array:
        return targets[:, -1] * criterion.loss(outputs, plain(targets))

    def metrics(outputs: Array, targets: Array) -> dict[str, Array]:
        found = criterion.metrics(outputs, plain(targets))
        return {name: targets[:, -1] * value for name, value in found.items()}

    return criterion._replace(loss=loss, metrics=metrics)
