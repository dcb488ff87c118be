"""What a trial's functions return: a state that keeps its form, metrics by name."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.types import PyTree

_NUMBERS = (bool, int, float, complex, np.generic, np.ndarray, jax.Array)


def check_leaves(function: str, what: str, tree: PyTree) -> None:
    """Refuse leaves that are no arrays.

    Args:
      function: who returned it.
      what: "state", "metrics", ....
      tree: with arrays, tracers, numbers, or whatever the user put in.

    Raises:
      UserError: that names the first other leaf by its path.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        fine = isinstance(leaf, _NUMBERS)
        if fine and isinstance(leaf, np.ndarray | np.generic):
            fine = leaf.dtype.kind in "biufcV"
        if not fine:
            raise UserError(
                f"{function}: {what}{jax.tree_util.keystr(path)} is {_described(leaf)}, which is "
                "no array: return arrays and numbers only; take what else is needed from the "
                "function around it"
            )


def check_state(function: str, before: PyTree, after: PyTree) -> None:
    """Refuse a step that changes the state's structure, or the shape or dtype of a leaf.

    Args:
      function: the step's name in messages.
      before: the state that `init` made.
      after: the one that the step returned.

    Raises:
      UserError: that names the leaf by its path, and says from what to what it changes.
    """
    old = {jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(before)}
    new = {jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(after)}
    lost, gained = [p for p in old if p not in new], [p for p in new if p not in old]
    if lost or gained:
        changes = [f"state{p} is gone" for p in lost[:2]] + [f"state{p} is new" for p in gained[:2]]
        raise UserError(
            f"{function} changes the structure of the state: {', '.join(changes)}; return what "
            "init returns"
        )
    for path, leaf in new.items():
        wanted, got = _form(old[path]), _form(leaf)
        if wanted != got:
            mend = "keep its shape"
            if wanted.partition("[")[2] == got.partition("[")[2]:
                mend = (
                    f"convert it with .astype(jnp.{wanted.partition('[')[0]}), or start with {got}"
                )
            raise UserError(
                f"{function} changes state{path} from {wanted} to {got}: every step must keep "
                f"shapes and dtypes; {mend}"
            )
    structures: list[Any] = [jax.tree.structure(before), jax.tree.structure(after)]
    if structures[0] != structures[1]:
        raise UserError(
            f"{function} changes the structure of the state: the leaves are the same, but the "
            "containers around them (or values that are not arrays in them) are others; return "
            "what init returns"
        )


def check_pair(function: str, returned: Any) -> tuple[PyTree, Any]:
    """Refuse a step that returns no pair.

    Raises:
      UserError: that says what it returned.
    """
    if isinstance(returned, tuple | list) and len(returned) == 2:
        return returned[0], returned[1]
    got = _described(returned)
    if isinstance(returned, tuple) and not hasattr(returned, "_fields"):
        got = f"a tuple of {len(returned)}"
    raise UserError(f"{function} must return (state, metrics), got {got}")


def check_metrics(function: str, metrics: Any) -> Mapping[str, Any]:
    """Refuse metrics that are not a flat mapping from names to arrays.

    Raises:
      UserError: that says what they are.
    """
    if not isinstance(metrics, Mapping):
        raise UserError(
            f"{function} must return metrics by name, {{'loss': loss}} say, got "
            f"{_described(metrics)}"
        )
    for name, value in metrics.items():
        if not isinstance(name, str):
            raise UserError(f"{function}: metrics have names in text, got {name!r}")
        if isinstance(value, Mapping | tuple | list) or value is None:
            raise UserError(
                f"{function}: the metric {name!r} must be one array, got {_described(value)}; "
                "give each a name of its own, or jnp.stack them"
            )
    check_leaves(function, "metrics", dict(metrics))
    for name, value in metrics.items():
        if hasattr(value, "dtype") and jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended):
            raise UserError(
                f"{function}: the metric {name!r} is a random key; return numbers "
                "(jax.random.key_data)"
            )
    return metrics


def check_objective(source: str, objective: str, metrics: Mapping[str, Any]) -> None:
    """Refuse an objective that is not among the metrics, or is no real number.

    Args:
      source: who is asked to return it.
      objective: name of a metric.
      metrics: name -> shape and dtype.

    Raises:
      UserError: with the names that there are.
    """
    if objective not in metrics:
        has = ", ".join(metrics) or "none"
        raise UserError(
            f"{source} returns no metric {objective!r}, which is the objective; metrics: "
            f"{has}.{did_you_mean(objective, metrics)}"
        )
    metric = metrics[objective]
    if metric.shape:
        raise UserError(
            f"{source}: the objective {objective!r} must be a scalar, got {_form(metric)}: reduce "
            "it, with jnp.mean or [-1] say"
        )
    if not jnp.issubdtype(metric.dtype, jnp.floating):
        raise UserError(
            f"{source}: the objective {objective!r} must be a float, got {_form(metric)}: "
            ".astype(jnp.float32)"
        )


def abstract(tree: PyTree) -> PyTree:
    """Shapes and dtypes of arrays, numbers and tracers, as a device would hold them."""
    return jax.tree.map(_abstract, tree)


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        dtype = leaf.dtype
        if not jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
            dtype = jax.dtypes.canonicalize_dtype(dtype)
        return jax.ShapeDtypeStruct(leaf.shape, dtype)
    array = np.asarray(leaf)
    return jax.ShapeDtypeStruct(array.shape, jax.dtypes.canonicalize_dtype(jnp.result_type(leaf)))


def _form(leaf: Any) -> str:
    struct = _abstract(leaf)
    return f"{struct.dtype}[{','.join(map(str, struct.shape))}]"


def _described(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return f"an array {_form(value)}" if value.dtype != object else "an array of objects"
    if isinstance(value, str):
        return f"the text {value!r:.60}"
    return f"a {type(value).__name__}"
