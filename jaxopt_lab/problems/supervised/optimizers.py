"""What a user gives as `optimizer`: any function of traced hyperparameters, or several of them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from optax.contrib import ScheduleFreeState

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.types import Params, PyTree, Scalar
from jaxopt_lab.problems.supervised.modules import name_of, parameters_of, taken_as

#: (hparams, total_steps) -> transformation.
Build = Callable[[Any, Scalar], optax.GradientTransformationExtraArgs]
#: (state of the optimizer, parameters) -> parameters that are evaluated and kept.
EvalParams = Callable[[PyTree, Params], Params]

#: What `adamw` takes where a hyperparameter has no value: Optax's own.
ADAMW_DEFAULTS = {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 1e-4}


def adamw(hparams: Any) -> optax.GradientTransformation:
    """The default: AdamW of whichever of its arguments are hyperparameters.

    Args:
      hparams: with `learning_rate`; `b1`, `b2`, `eps` and `weight_decay` where they are searched.
    """
    given = {name: hparams[name] for name in ADAMW_DEFAULTS if name in hparams}
    return optax.adamw(hparams["learning_rate"], **given)


def is_transformation(given: Any) -> bool:
    """Whether it is an optimizer of Optax itself, with nothing searched."""
    return hasattr(given, "init") and hasattr(given, "update")


def checked_optimizers(optimizer: Any) -> dict[str, Any]:
    """Name -> function of hyperparameters or transformation; "" where there is only one.

    Args:
      optimizer: a function, a transformation, or a dict of several; None is `adamw`.

    Raises:
      UserError: for anything else.
    """
    if optimizer is None:
        return {"": adamw}
    found = dict(optimizer) if isinstance(optimizer, Mapping) else {"": optimizer}
    if not found:
        raise UserError("optimizer={} holds none; give {'adamw': lambda h: optax.adamw(...)}")
    for name, one in found.items():
        if not callable(one) and not is_transformation(one):
            what = f"optimizer {name!r}" if name else "optimizer"
            raise UserError(
                f"{what} must be a function of the hyperparameters, such as "
                f"lambda h: optax.adamw(h['learning_rate']), got {type(one).__name__}"
            )
        if [*parameters_of(one)][:1] == ["learning_rate"]:
            name = name_of(one)
            raise UserError(
                f"{name} makes a chain of a learning rate, and the optimizer must be a function of "
                f"all hyperparameters: give lambda h: optax.{name}(h['learning_rate'])"
            )
    return found


def make_build(optimizer: Any) -> Build:
    """A function that builds the transformation inside the trace.

    Args:
      optimizer: (hparams) -> transformation, or (hparams, total_steps), or a transformation.
    """
    name = name_of(optimizer)
    total = None if is_transformation(optimizer) else taken_as(optimizer, "total_steps", 1)

    def build(hparams: Any, total_steps: Scalar) -> optax.GradientTransformationExtraArgs:
        if is_transformation(optimizer):
            return optax.with_extra_args_support(optimizer)
        given = {} if total is None else {total: total_steps}
        found = optimizer(hparams, **given)
        if not is_transformation(found):
            raise UserError(
                f"the optimizer {name} must return an Optax transformation, it returned "
                f"{type(found).__name__}"
            )
        return optax.with_extra_args_support(found)

    return build


def eval_params(opt_state: PyTree, params: Params) -> Params:
    """Those of `optax.contrib.schedule_free` where it is part of the chain; else `params`."""

    def is_it(node: Any) -> bool:
        return isinstance(node, ScheduleFreeState)

    found = [node for node in jax.tree.leaves(opt_state, is_leaf=is_it) if is_it(node)]
    if len(found) != 1:
        return params
    return optax.contrib.schedule_free_eval_params(found[0], params)
