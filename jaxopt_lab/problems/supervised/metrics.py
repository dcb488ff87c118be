"""Metrics by the names that they have in scikit-learn: functions of (outputs, targets).

A metric gives one number for each row, which are averaged with the sample weights, or, where it
is marked with `over_all_rows`, one for all of them. Outputs of a classifier are logits: [b, c] of
classes, or [b] or [b, 1] of the second of two.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Num

from jaxopt_lab.core.attributes import missing
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.other_names import METRICS
from jaxopt_lab.core.types import Scalar

__all__ = [
    "absolute_error",
    "accuracy",
    "balanced_accuracy",
    "f1",
    "f1_macro",
    "is_over_all_rows",
    "log_loss",
    "over_all_rows",
    "predicted",
    "r2",
    "roc_auc",
    "root_mean_squared_error",
    "squared_error",
    "top_k_accuracy",
]

_MARK = "_over_all_rows"


def over_all_rows(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a metric that is computed from all validation rows at once.

    Args:
      function: (outputs [n, ...], targets [n, ...]) -> an array of any shape, in JAX. If it has a
        parameter `sample_weight`, it is given weights [n] float32, 0 where a row is to be left
        out; if not, it is given exactly the rows that count, and compiled for each number of them.

    Returns:
      The function, marked.

    Examples:
      >>> @over_all_rows
      ... def bias(outputs, targets):
      ...     return (outputs - targets).mean()
    """
    setattr(function, _MARK, True)
    return function


def is_over_all_rows(function: Callable[..., Any]) -> bool:
    """Whether a metric is marked."""
    return bool(getattr(function, _MARK, False))


def squared_error(outputs: Float[Array, "b ..."], targets: Num[Array, "b ..."]) -> Array:
    """Squared error, mean over the outputs of a row; [b, 1] and [b] are the same."""
    return _row_mean((_like(outputs, targets) - targets) ** 2)


def absolute_error(outputs: Float[Array, "b ..."], targets: Num[Array, "b ..."]) -> Array:
    """Absolute error, mean over the outputs of a row; [b, 1] and [b] are the same."""
    return _row_mean(jnp.abs(_like(outputs, targets) - targets))


def accuracy(outputs: Float[Array, "b ..."], targets: Num[Array, "b ..."]) -> Array:
    """1 where the most likely class is the right one; mean over a row's other axes."""
    return _row_mean((predicted(outputs, targets) == _labels(targets)).astype(jnp.float32))


def log_loss(outputs: Float[Array, "b ..."], targets: Num[Array, "b ..."]) -> Array:
    """Cross-entropy in nats."""
    if _is_binary(outputs, targets):
        logits = _like(outputs, targets)
        return _row_mean(optax.sigmoid_binary_cross_entropy(logits, targets))
    losses = optax.softmax_cross_entropy_with_integer_labels(outputs, _labels(targets))
    return _row_mean(losses)


def top_k_accuracy(k: int) -> Callable[..., Any]:
    """1 where the right class is among the k most likely ones.

    Args:
      k: at least 1.
    """

    def top_accuracy(outputs: Float[Array, "b c"], targets: Int[Array, " b"]) -> Array:
        best = jax.lax.top_k(outputs, min(k, outputs.shape[-1]))[1]
        return (best == targets[..., None]).any(-1).astype(jnp.float32)

    top_accuracy.__name__ = f"top_{k}_accuracy"
    return top_accuracy


@over_all_rows
def f1(outputs: Array, targets: Array, sample_weight: Array) -> Scalar:
    """F1 of class 1 of two; 0 where nothing is that class or said to be.

    Args:
      outputs: logits [n], [n, 1] or [n, 2].
      targets: 0 or 1.
      sample_weight: [n].
    """
    return _f1_of(1, predicted(outputs, targets), _labels(targets), sample_weight)


@over_all_rows
def f1_macro(outputs: Array, targets: Array, sample_weight: Array) -> Scalar:
    """Mean F1 of the classes that occur among targets or predictions.

    Args:
      outputs: logits [n, c], or of two classes [n] or [n, 1].
      targets: [n] int32.
      sample_weight: [n].
    """
    found, labels = predicted(outputs, targets), _labels(targets)
    values, there = [], []
    for label in range(_num_classes(outputs, targets)):
        values.append(_f1_of(label, found, labels, sample_weight))
        seen = ((found == label) | (labels == label)) & (sample_weight > 0)
        there.append(seen.any())
    return _mean_where(jnp.stack(values), jnp.stack(there))


@over_all_rows
def balanced_accuracy(outputs: Array, targets: Array, sample_weight: Array) -> Scalar:
    """Mean recall of the classes that occur.

    Args:
      outputs: logits [n, c], or of two classes [n] or [n, 1].
      targets: [n] int32.
      sample_weight: [n].
    """
    found, labels = predicted(outputs, targets), _labels(targets)
    recalls, there = [], []
    for label in range(_num_classes(outputs, targets)):
        total = (sample_weight * (labels == label)).sum()
        right = (sample_weight * ((labels == label) & (found == label))).sum()
        recalls.append(right / jnp.where(total > 0, total, 1.0))
        there.append(total > 0)
    return _mean_where(jnp.stack(recalls), jnp.stack(there))


@over_all_rows
def roc_auc(outputs: Array, targets: Array, sample_weight: Array) -> Scalar:
    """Area under the receiver operating characteristic curve; ties count half.

    Of more than two classes the mean of each against the others, by softmax probabilities
    (`multi_class="ovr"`). NaN where a class, or everything else, has no rows.

    Args:
      outputs: logits [n, c], or of two classes [n] or [n, 1].
      targets: [n].
      sample_weight: [n].
    """
    labels = _labels(targets)
    if _is_binary(outputs, targets):
        return _auc_of(_like(outputs, targets), labels == 1, sample_weight)
    if outputs.shape[-1] == 2:
        return _auc_of(outputs[:, 1] - outputs[:, 0], labels == 1, sample_weight)
    shares = jax.nn.softmax(outputs)
    areas = [
        _auc_of(shares[:, label], labels == label, sample_weight)
        for label in range(outputs.shape[-1])
    ]
    return jnp.stack(areas).mean()


@over_all_rows
def r2(outputs: Array, targets: Array, sample_weight: Array) -> Scalar:
    """Coefficient of determination: 1 is perfect, 0 as good as the mean.

    Args:
      outputs: [n] or [n, 1].
      targets: [n].
      sample_weight: [n].
    """
    outputs = _like(outputs, targets)
    weights = sample_weight.reshape(-1, *[1] * (targets.ndim - 1))
    mean = (weights * targets).sum(0) / weights.sum(0)
    errors = (weights * (outputs - targets) ** 2).sum(0)
    return (1.0 - errors / (weights * (targets - mean) ** 2).sum(0)).mean()


@over_all_rows
def root_mean_squared_error(outputs: Array, targets: Array, sample_weight: Array) -> Scalar:
    """Root of the mean squared error, in the units of the targets.

    Args:
      outputs: [n] or [n, 1].
      targets: [n].
      sample_weight: [n].
    """
    errors = squared_error(outputs, targets)
    total = jnp.where(sample_weight > 0, errors * sample_weight, 0.0).sum()
    return jnp.sqrt(total / sample_weight.sum())


#: The short name of `roc_auc`.
auc = roc_auc


def predicted(outputs: Array, targets: Array) -> Int[Array, "..."]:
    """The most likely class of each row."""
    if _is_binary(outputs, targets):
        return (_like(outputs, targets) > 0).astype(jnp.int32)
    return jnp.argmax(outputs, -1).astype(jnp.int32)


def _is_binary(outputs: Array, targets: Array) -> bool:
    """Whether there is one logit for each target, instead of one for each class."""
    return outputs.shape == targets.shape or outputs.shape == (*targets.shape, 1)


def _num_classes(outputs: Array, targets: Array) -> int:
    return 2 if _is_binary(outputs, targets) else int(outputs.shape[-1])


def _labels(targets: Array) -> Array:
    return targets.astype(jnp.int32)


def _like(outputs: Array, targets: Array) -> Array:
    """Outputs in the shape of the targets, where they differ by a last axis of 1 only."""
    is_wider = outputs.shape == (*targets.shape, 1)
    if not is_wider and outputs.shape != targets.shape:
        raise UserError(
            f"outputs {list(outputs.shape)} and targets {list(targets.shape)} must have one shape, "
            "but for a last axis of 1"
        )
    return outputs[..., 0] if is_wider else outputs


def _row_mean(values: Array) -> Float[Array, " b"]:
    return values.reshape(values.shape[0], int(np.prod(values.shape[1:]))).mean(1)


def _f1_of(label: int, found: Array, labels: Array, weights: Array) -> Scalar:
    both = (weights * ((found == label) & (labels == label))).sum()
    either = (weights * (found == label)).sum() + (weights * (labels == label)).sum()
    return 2 * both / jnp.where(either > 0, either, 1.0)


def _mean_where(values: Array, there: Array) -> Scalar:
    return jnp.where(there, values, 0.0).sum() / there.sum()


def _auc_of(scores: Array, is_positive: Array, weights: Array) -> Scalar:
    order = jnp.argsort(scores)
    scores, is_positive, weights = scores[order], is_positive[order], weights[order]
    positive, negative = jnp.where(is_positive, weights, 0.0), jnp.where(is_positive, 0.0, weights)
    below = jnp.concatenate([jnp.zeros(1), jnp.cumsum(negative)])
    first = jnp.searchsorted(scores, scores, side="left")
    last = jnp.searchsorted(scores, scores, side="right")
    area = (positive * 0.5 * (below[first] + below[last])).sum()
    area = area / (positive.sum() * negative.sum())
    return jnp.where(jnp.isfinite(jnp.where(weights > 0, scores, 0.0)).all(), area, jnp.nan)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        raise missing(f"module {__name__!r}", name, __all__, METRICS)
