"""What a user gives as `loss`: of outputs and targets, or of the module itself."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.types import PRNGKey, PyTree, Scalar
from jaxopt_lab.problems.supervised import metrics
from jaxopt_lab.problems.supervised.batches import Batch
from jaxopt_lab.problems.supervised.modules import (
    Network,
    Variables,
    name_of,
    needed_by,
    parameters_of,
    taken_as,
)

#: Functions whose targets are the indices of their outputs' last axis.
OF_CLASSES = (
    optax.softmax_cross_entropy_with_integer_labels,
    metrics.accuracy,
    metrics.log_loss,
    metrics.f1_macro,
    metrics.balanced_accuracy,
)
#: What a loss of the whole form may name.
ARGUMENTS = ("module", "variables", "batch", "hparams", "rngs", "train")


class Scored(NamedTuple):
    """What a batch comes to.

    Attributes:
      losses: [b], or a scalar mean.
      outputs: of the module; None where the loss has its own way.
      collections: of the module, after the batch.
    """

    losses: Float[Array, "..."]
    outputs: PyTree
    collections: PyTree


#: (variables, batch, hparams, key, train) -> losses and more.
Score = Callable[[Variables, Batch, Any, PRNGKey, bool], Scored]


def is_whole(loss: Any) -> bool:
    """Whether a loss is of the whole form: whether it has a parameter named `module`."""
    return "module" in parameters_of(loss)


def checked_loss(loss: Any) -> None:
    """Refuse what cannot be a loss, before anything is traced.

    Raises:
      UserError: for what is no function, or has parameters that nothing is known to give.
    """
    if not callable(loss):
        raise UserError(
            f"loss must be a function of (outputs, targets), got {type(loss).__name__}; "
            "optax.squared_error is one"
        )
    needed = needed_by(loss)
    if not is_whole(loss):
        others = [name for name in needed[2:] if name != hparams_of(loss)]
        if others:
            raise UserError(
                f"{name_of(loss)} takes {others[0]!r}, which nothing gives: a loss is a function "
                "of (outputs, targets) or (outputs, targets, hparams), or has a parameter named "
                "module"
            )
        return
    unknown = [name for name in needed if name not in ARGUMENTS]
    if unknown:
        raise UserError(
            f"{name_of(loss)} takes {unknown[0]!r}, which nothing gives; a loss of the module may "
            f"take {', '.join(ARGUMENTS)}"
        )


def hparams_of(loss: Any) -> str | None:
    """The parameter by which a loss of outputs and targets takes the hyperparameters."""
    return taken_as(loss, "hparams", 2)


def make_score(network: Network, loss: Any, label_range: tuple[int, int] | None) -> Score:
    """Make one function of both forms of a loss.

    Args:
      network: of the module.
      loss: checked.
      label_range: least and greatest target, where targets are one array of integers.
    """
    if is_whole(loss):
        return _whole(network, loss)
    name = name_of(loss)
    taken = hparams_of(loss)

    def score(
        variables: Variables, batch: Batch, hparams: Any, key: PRNGKey, train: bool
    ) -> Scored:
        outputs, collections = network.apply(variables, batch, hparams, key, train)
        check_labels(loss, outputs, label_range)
        given = {} if taken is None else {taken: hparams}
        losses = call_on_rows(loss, outputs, batch.targets, given)
        return Scored(one_per_row(name, losses, batch, outputs), outputs, collections)

    return score


def _whole(network: Network, loss: Any) -> Score:
    name, named = name_of(loss), [arg for arg in parameters_of(loss) if arg in ARGUMENTS]

    def score(
        variables: Variables, batch: Batch, hparams: Any, key: PRNGKey, train: bool
    ) -> Scored:
        arguments = network.arguments(variables, hparams, key, train)
        offered = {"variables": None, **arguments, "batch": batch, "hparams": hparams}
        offered["train"] = train
        found = loss(**{arg: offered[arg] for arg in named})
        losses, new = found if isinstance(found, tuple) else (found, None)
        if np.ndim(losses):
            losses = one_per_row(name, losses, batch, None)
        return Scored(_floating(name, losses), None, network.moved(arguments, new))

    return score


def call_on_rows(
    function: Any, outputs: PyTree, targets: PyTree, given: Mapping[str, Any] | None = None
) -> Any:
    """Call a loss or metric; where it refuses shapes that differ by a last axis of 1, say so.

    Args:
      function: of outputs and targets.
      outputs: of the module.
      targets: of the same rows.
      given: further keywords.

    Raises:
      UserError: instead of the function's own error, for such shapes only.
    """
    _check_form(function, outputs, targets)
    try:
        return function(outputs, targets, **(given or {}))
    except (AssertionError, TypeError, ValueError) as error:  # the first: older Optax, by chex
        given_shapes: Any = getattr(outputs, "shape", None), getattr(targets, "shape", None)
        mend = _OTHER_BY_ONE.get(_wider(*given_shapes) or "")
        if isinstance(error, UserError | jax.errors.JAXTypeError) or mend is None:
            raise
        text = " ".join(str(error).split())
        raise UserError(
            f"{name_of(function)} failed on outputs {_shapes(outputs)} and targets "
            f"{_shapes(targets)}: {text} {mend}"
        ) from error


def _wider(outputs: Any, targets: Any) -> str | None:
    """Which of two shapes has one last axis of 1 more; None of neither."""
    if outputs is None or targets is None:
        return None
    if outputs == (*targets, 1):
        return "outputs"
    return "targets" if targets == (*outputs, 1) else None


def _check_form(function: Any, outputs: PyTree, targets: PyTree) -> None:
    """Refuse outputs or labels whose form a function of classes cannot take.

    Raises:
      UserError: with what to make of them.
    """
    if function not in OF_CLASSES:
        return
    name = name_of(function)
    for what, tree in (("outputs", outputs), ("targets", targets)):
        if not hasattr(tree, "dtype"):
            raise UserError(
                f"{name} takes one array of {what}, got a {type(tree).__name__}; choose one: "
                f"lambda outputs, targets: {name}(outputs[...], targets[...])"
            )
    shape, wanted = np.shape(targets), np.shape(outputs)[:-1]
    if function is not optax.softmax_cross_entropy_with_integer_labels:
        return
    whole = jnp.issubdtype(targets.dtype, jnp.integer)
    if whole and shape == wanted:
        return
    if shape == np.shape(outputs) and shape[-1] > 1:
        mend = "of one-hot rows take targets.argmax(-1), or the loss optax.softmax_cross_entropy"
    elif shape == (*wanted, 1):
        mend = "give targets[..., 0]" + ("" if whole else ".astype('int32')")
    elif shape == wanted:
        mend = "give targets.astype('int32'), or another loss if they are no classes"
    else:
        mend = "let the module return one more axis than the targets have"
    raise UserError(
        f"{name} needs whole numbers {list(wanted)} as labels, got {targets.dtype} {list(shape)}; "
        f"{mend}"
    )


#: What to do about outputs [b, 1] and targets [b].
_SQUEEZE = "Let the module return x[..., 0], or give targets a last axis."
_OTHER_BY_ONE = {
    "outputs": _SQUEEZE,
    "targets": "Give targets[..., 0], or let the module keep a last axis of 1.",
}


def one_per_row(
    name: str, values: Any, batch: Batch, outputs: PyTree, hint: str = ""
) -> Float[Array, " b"]:
    """The values of a function that must give one number for each row.

    Args:
      name: of the function.
      values: what it returned.
      batch: of which.
      outputs: for the message.
      hint: what to do about a single number.

    Raises:
      UserError: for anything but floating-point numbers [b].
    """
    num_rows = batch.mask.shape[0]
    if isinstance(values, (tuple, list, dict)) or np.shape(values) != (num_rows,):
        targets = _shapes(batch.targets)
        of = "" if outputs is None else f" of outputs {_shapes(outputs)} and targets {targets}"
        raise UserError(
            f"{name} must return one number for each of {num_rows} rows, [{num_rows}]; it returned "
            f"{_shapes(values)}{of}. {_mend(values, batch, hint)}"
        )
    return _floating(name, values)


def _floating(name: str, values: Any) -> Array:
    array = jnp.asarray(values)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise UserError(f"{name} must return real numbers, it returned {array.dtype}")
    return array.astype(jnp.float32)


def _shapes(tree: PyTree) -> str:
    shapes = [str(list(np.shape(leaf))) for leaf in jax.tree.leaves(tree)]
    return ", ".join(shapes) or "nothing"


def _mend(values: Any, batch: Batch, hint: str) -> str:
    num_rows, shape = batch.mask.shape[0], () if isinstance(values, dict) else np.shape(values)
    if shape == ():
        return hint or "Do not average over the rows: that is done with their weights."
    if shape == (num_rows, num_rows):
        return f"Outputs and targets were broadcast against each other. {_SQUEEZE}"
    if shape[:1] == (num_rows,):
        return "Take the mean over its other axes."
    return ""


def check_labels(function: Any, outputs: PyTree, label_range: tuple[int, int] | None) -> None:
    """Refuse labels that are none of the classes, which JAX would take for others in silence.

    Args:
      function: a loss or metric; only those of `OF_CLASSES` are checked.
      outputs: of the module, [b, ..., c].
      label_range: least and greatest target.

    Raises:
      UserError: if a label lies outside 0 to c - 1.
    """
    if label_range is None or function not in OF_CLASSES or not np.ndim(outputs):
        return
    num_classes, (low, high) = np.shape(outputs)[-1], label_range
    softmax = optax.softmax_cross_entropy_with_integer_labels
    if np.ndim(outputs) == 2 and num_classes == 1 and function is softmax:
        raise UserError(
            f"{name_of(function)} of one output is 0 whatever it is: give the module "
            f"{max(high + 1, 2)} outputs, or take optax.sigmoid_binary_cross_entropy of "
            "outputs[:, 0]"
        )
    if np.ndim(outputs) < 2 or num_classes < 2:
        return
    if low < 0 or high >= num_classes:
        more = f"give it {high + 1} outputs, or " if low >= 0 else ""
        raise UserError(
            f"{name_of(function)} got labels from {low} to {high}, but the module has "
            f"{num_classes} outputs, for labels from 0 to {num_classes - 1}; {more}number the "
            "classes from 0"
        )


def weighted(values: Float[Array, "..."], batch: Batch) -> Scalar:
    """The sum of weighted values over the rows of a batch; of a mean, times their weight."""
    if np.ndim(values) == 0:
        return values * batch.weights.sum()
    return jnp.where(batch.weights > 0, values * batch.weights, 0.0).sum()
