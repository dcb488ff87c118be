"""A loss that moves no weight: found in the trace of its gradient."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.tracing.dependencies import dependencies
from jaxopt_lab.core.types import Params, PyTree, Scalar
from jaxopt_lab.problems.supervised.batches import Batch
from jaxopt_lab.problems.supervised.losses import weighted
from jaxopt_lab.problems.supervised.modules import Variables
from jaxopt_lab.problems.supervised.training import Setting, TrainState, key_of


def refuse_still(setting: Setting, state: TrainState, hparams: Any, loss: str, model: str) -> None:
    """Refuse a loss whose gradient is zero for every weight, whatever the data are.

    Args:
      setting: what a trial's functions are made of.
      state: shapes and dtypes of a trial's state.
      hparams: shapes and dtypes of the traced hyperparameters, and the static ones.
      loss: its name in messages.
      model: likewise.

    Raises:
      UserError: if nothing could be learned.
    """

    def gradient(params: Params, collections: PyTree, hparams: Any, key: Any, batch: Batch) -> Any:
        def loss_of(params: Params) -> Scalar:
            variables = Variables(params, collections)
            scored = setting.score(variables, batch, hparams, key_of(key), True)
            return weighted(scored.losses, batch)

        return jax.grad(loss_of)(params)

    batch = jax.tree.map(lambda leaf: _rows(leaf, setting.batch_size), setting.example)
    arguments = (state.params, state.collections, hparams, state.key, batch)
    closed = jax.make_jaxpr(gradient)(*arguments)
    if not closed.out_avals or any(dependencies(closed)):
        return
    # It is the same for all inputs; that of a loss which is linear in the weights is not zero.
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), arguments)
    if any(bool(leaf.any()) for leaf in jax.tree.leaves(gradient(*zeros))):
        return
    raise UserError(
        f"the gradient of {loss} is zero for all weights of {model}, so nothing would be learned: "
        "it does not depend on the outputs, or only through what has no slope (stop_gradient, "
        "argmax, rounding, comparisons, integers); give a loss that is differentiable in the "
        "outputs, and what it measures now as a metric"
    )


def _rows(leaf: Any, number: int) -> jax.ShapeDtypeStruct:
    shape, dtype = jnp.shape(leaf)[1:], jnp.result_type(leaf)
    return jax.ShapeDtypeStruct((number, *shape), jax.dtypes.canonicalize_dtype(dtype))
