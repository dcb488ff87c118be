"""How one trial trains: a unit is an epoch over its split's rows, then all of its validation."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, UInt32

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.trainable import Metrics, Shared, Trainable
from jaxopt_lab.core.types import BoolScalar, IntScalar, Params, PRNGKey, PyTree, Scalar
from jaxopt_lab.problems.supervised.batches import (
    Batch,
    epoch_order,
    minibatch,
    validation_chunk,
)
from jaxopt_lab.problems.supervised.in_place import update_in_place
from jaxopt_lab.problems.supervised.losses import (
    Score,
    Scored,
    call_on_rows,
    check_labels,
    one_per_row,
    weighted,
)
from jaxopt_lab.problems.supervised.metrics import is_over_all_rows
from jaxopt_lab.problems.supervised.modules import Network, Variables, name_of, parameters_of
from jaxopt_lab.problems.supervised.optimizers import Build, EvalParams
from jaxopt_lab.problems.supervised.products import with_fast_products

_MARK = "If it is of all rows, mark it with lab.metrics.over_all_rows."
_ORDER = 1
_INIT = 1
#: Purposes of a trial's noise.
TRAIN, EVALUATE = 2, 3


class TrainState(NamedTuple):
    """All that a trial carries from epoch to epoch.

    Attributes:
      params: weights.
      collections: what else the module has, such as running averages of a normalisation.
      opt_state: of the optimizer.
      step: int32, updates made.
      key: uint32 data of the trial's own key, for dropout and other noise.
    """

    params: Params
    collections: PyTree
    opt_state: PyTree
    step: IntScalar
    key: UInt32[Array, " w"]


class Setting(NamedTuple):
    """What a trial's functions are made of.

    Attributes:
      network: of the module.
      score: of a batch.
      build: the optimizer.
      eval_params: what is evaluated and kept.
      metrics: name -> function.
      example: a batch of one row, for initialisation.
      batch_size: rows of a minibatch.
      eval_batch_size: rows of a chunk of validation.
      num_splits: K.
      num_valid: validation rows of each split; () without validation.
      label_range: least and greatest label, for messages.
      weighted: whether rows have weights of their own.
      precision: what products use in the executor `kernel`.
    """

    network: Network
    score: Score
    build: Build
    eval_params: EvalParams
    metrics: Mapping[str, Callable[..., Any]]
    example: Batch
    batch_size: int
    eval_batch_size: int
    num_splits: int
    num_valid: tuple[int, ...]
    label_range: tuple[int, int] | None
    weighted: bool = False
    precision: str = "float32"


def make_trainable(setting: Setting) -> Trainable:
    """The pure functions of one trial; `Shared.data` is `batches.Rows`."""

    def init(key: PRNGKey, hparams: Any) -> TrainState:
        # Of a kind that does not depend on JAX's settings, and as numbers that can be stored.
        data = jax.random.bits(key, (2,), jnp.uint32)
        example = jax.tree.map(jnp.asarray, setting.example)
        variables = setting.network.init(key_of(data, _INIT), example, hparams)
        optimizer = setting.build(hparams, jnp.ones((), jnp.float32))
        opt_state = optimizer.init(variables.params)
        state = TrainState(*variables, opt_state, jnp.zeros((), jnp.int32), data)
        return jax.tree.map(jnp.asarray, state)

    def step(state: TrainState, hparams: Any, shared: Shared) -> tuple[TrainState, Metrics]:
        state, train_loss = _train_epoch(setting, state, hparams, shared)
        metrics = {"train_loss": train_loss}
        if setting.num_valid:
            return state, {**metrics, **_validate(setting, state, hparams, shared)}
        return state, {**metrics, "loss": train_loss}

    def result(state: TrainState) -> PyTree:
        return setting.network.exported(evaluated(setting, state))

    return Trainable(init, step, result=result)


def key_of(data: UInt32[Array, " w"], *numbers: Any) -> PRNGKey:
    """A trial's key for a purpose, from `TrainState.key`."""
    key = jax.random.wrap_key_data(data, impl="threefry2x32")
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key


def evaluated(setting: Setting, state: TrainState) -> Variables:
    """What is evaluated and kept of a trial."""
    return Variables(setting.eval_params(state.opt_state, state.params), state.collections)


def order_of_epoch(setting: Setting, shared: Shared) -> Array:
    """The rows of a unit's minibatches, see `epoch_order`."""
    key, split = jax.random.fold_in(shared.key, _ORDER), shared.split % setting.num_splits
    return epoch_order(key, shared.data, split, setting.batch_size)


def _train_epoch(
    setting: Setting, state: TrainState, hparams: Any, shared: Shared
) -> tuple[TrainState, Scalar]:
    """The state after an epoch, and the mean loss of its minibatches."""
    data, split, size = shared.data, shared.split % setting.num_splits, setting.batch_size
    num_rows = data.num_train[split]
    num_steps = (num_rows + size - 1) // size
    total_steps = (num_steps * shared.budget).astype(jnp.float32)
    order = order_of_epoch(setting, shared)

    def body(i: Array, carry: tuple[TrainState, Scalar, Scalar]) -> Any:
        state, loss_sum, weight = carry
        batch = minibatch(data, order, i * size, size, num_rows)
        state, loss = _train_step(setting, state, hparams, batch, total_steps)
        added = batch.weights.sum()
        return state, loss_sum + loss * added, weight + added

    zero = jnp.zeros((), jnp.float32)
    state, loss_sum, weight = jax.lax.fori_loop(0, num_steps, body, (state, zero, zero))
    return state, loss_sum / weight


def _train_step(
    setting: Setting, state: TrainState, hparams: Any, batch: Batch, total_steps: Scalar
) -> tuple[TrainState, Scalar]:
    weight = batch.weights.sum()
    has_rows = weight > 0
    key = key_of(state.key, TRAIN, state.step)

    def loss_of(params: Params, collections: PyTree, hparams: Any) -> tuple[Scalar, PyTree]:
        variables = Variables(params, collections)
        scored = setting.score(variables, batch, hparams, key, True)
        loss = weighted(scored.losses, batch) / jnp.where(has_rows, weight, 1.0)
        return loss, scored.collections

    fast = with_fast_products(loss_of)
    grad = jax.value_and_grad(fast, has_aux=True)
    (loss, collections), gradient = grad(state.params, state.collections, hparams)
    gradient = steepest(gradient)

    def update(gradient: PyTree, opt_state: PyTree, params: Params) -> tuple[Params, PyTree]:
        def value_of(params: Params) -> Scalar:
            return loss_of(params, state.collections, hparams)[0]

        optimizer = setting.build(hparams, total_steps)
        return updated(optimizer, gradient, opt_state, params, loss, value_of)

    params, opt_state = update_in_place(update, has_rows, gradient, state.opt_state, state.params)
    collections = _like(collections, state.collections, "the module's collections")
    moved = _where(has_rows, collections, state.collections)
    return TrainState(params, moved, opt_state, state.step + has_rows, state.key), loss


def steepest(gradient: PyTree) -> PyTree:
    """The direction in which a real loss rises most, which is what Optax expects.

    Of complex weights that is the conjugate of what `jax.grad` gives; real ones are left alone.
    """
    return jax.tree.map(lambda leaf: leaf.conj() if jnp.iscomplexobj(leaf) else leaf, gradient)


def updated(
    optimizer: optax.GradientTransformationExtraArgs,
    gradient: PyTree,
    opt_state: PyTree,
    params: Params,
    loss: Scalar,
    value_of: Callable[[Params], Scalar],
) -> tuple[Params, PyTree]:
    """Weights and the optimizer's state after an update.

    Args:
      optimizer: of the trial.
      gradient: like `params`.
      opt_state: of the optimizer.
      params: weights.
      loss: of the minibatch.
      value_of: computes it for other weights, for the optimizers that search along a line, or
        that take gradients beside the weights (`optax.contrib.sam`).
    """

    def gradient_of(params: Params, number: int = 0) -> PyTree:
        del number  # SAM's inner step; all are of this minibatch
        return steepest(jax.grad(value_of)(params))

    def value_at(params: Params, grad_fn: Any = None) -> Scalar:
        del grad_fn  # Optax's line searches hand on what they do not take themselves
        return value_of(params)

    extra = {"value": loss, "grad": gradient, "value_fn": value_at, "grad_fn": gradient_of}
    taken = parameters_of(optimizer.update)
    if not any(one.kind is one.VAR_KEYWORD for one in taken.values()):
        extra = {name: value for name, value in extra.items() if name in taken}
    updates, new = optimizer.update(gradient, opt_state, params, **extra)
    return optax.apply_updates(params, updates), _like(new, opt_state, "the optimizer's state")


def _where(condition: BoolScalar, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), new, old)


def _like(new: PyTree, old: PyTree, what: str) -> PyTree:
    """The same numbers in the types of before: a chain may start from Python's own."""
    before: Any = jax.tree.structure(old)
    after: Any = jax.tree.structure(new)
    if before != after:
        raise UserError(f"{what} must keep its structure, {before}; a step made {after} of it")

    def typed(path: Any, x: Any, y: Any) -> Array:
        if np.shape(x) != np.shape(y):
            raise UserError(
                f"{what}{jax.tree_util.keystr(path)} changed its shape in a step, from "
                f"{list(np.shape(y))} to {list(np.shape(x))}; it must stay the same"
            )
        return jnp.asarray(x, y.dtype)

    return jax.tree_util.tree_map_with_path(typed, new, old)


def _validate(setting: Setting, state: TrainState, hparams: Any, shared: Shared) -> Metrics:
    """Loss and metrics of the split's validation rows."""
    data, split = shared.data, shared.split % setting.num_splits
    size, variables = setting.eval_batch_size, evaluated(setting, state)
    key = key_of(state.key, EVALUATE, shared.unit)
    whole = {name: f for name, f in setting.metrics.items() if is_over_all_rows(f)}

    def chunk(number: Array) -> tuple[Scalar, dict[str, Scalar], Any]:
        batch = validation_chunk(data, split, number, size)
        chunk_key = jax.random.fold_in(key, number)
        scored = setting.score(variables, batch, hparams, chunk_key, False)
        outputs = _outputs(setting, scored, variables, batch, hparams, chunk_key)
        scored = scored._replace(outputs=outputs)
        by_row = metrics_by_row(setting, scored, variables, batch, hparams, chunk_key)
        values = {"loss": scored.losses, **by_row}
        sums = {name: weighted(each, batch) for name, each in values.items()}
        kept = (outputs, batch.targets, batch.weights) if whole else ()
        return batch.weights.sum(), sums, kept

    num_chunks = -(-data.valid_rows.shape[1] // size)
    weights, sums, kept = jax.lax.map(chunk, jnp.arange(num_chunks))
    found = {name: values.sum() / weights.sum() for name, values in sums.items()}
    if whole:
        rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), kept)
        for name, function in whole.items():
            check_labels(function, rows[0], setting.label_range)
            found[name] = _of_all_rows(setting, function, rows, split)
    return found


def _outputs(
    setting: Setting,
    scored: Scored,
    variables: Variables,
    batch: Batch,
    hparams: Any,
    key: PRNGKey,
) -> PyTree:
    """Of the module, where a metric wants them."""
    if setting.metrics and scored.outputs is None:
        return setting.network.apply(variables, batch, hparams, key, False)[0]
    return scored.outputs


def metrics_by_row(
    setting: Setting,
    scored: Scored,
    variables: Variables,
    batch: Batch,
    hparams: Any,
    key: PRNGKey,
) -> dict[str, Array]:
    """Name -> [b], of the metrics that are no metrics of all rows."""
    outputs, found = _outputs(setting, scored, variables, batch, hparams, key), {}
    for name, function in setting.metrics.items():
        if is_over_all_rows(function):
            continue
        check_labels(function, outputs, setting.label_range)
        values = call_on_rows(function, outputs, batch.targets)
        found[name] = one_per_row(name_of(function), values, batch, outputs, _MARK)
    return found


def _of_all_rows(
    setting: Setting,
    function: Callable[..., Any],
    rows: tuple[PyTree, PyTree, Array],
    split: IntScalar,
) -> Array:
    """A metric of all rows: by weights where it takes them, else of exactly the real rows."""
    outputs, targets, weights = rows
    if "sample_weight" in parameters_of(function):
        return jnp.asarray(function(outputs, targets, sample_weight=weights))
    lengths = sorted(set(setting.num_valid))

    def of_first(length: int) -> Callable[[], Array]:
        cut = jax.tree.map(lambda leaf: leaf[:length], (outputs, targets))
        return lambda: jnp.asarray(function(*cut))

    which = jnp.asarray([lengths.index(n) for n in setting.num_valid], jnp.int32)[split]
    return jax.lax.switch(which, [of_first(length) for length in lengths])
