"""How ONE trial trains: pure functions; only `engine` adds the trial axis."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, UInt32

from jaxopt_lab.core.types import BoolScalar, Hparams, IntScalar, Params, PRNGKey, PyTree, Scalar
from jaxopt_lab.problems.mlp import members, observation, optimizers, schedules, skipping
from jaxopt_lab.problems.mlp.calibrated import calibrated_loss
from jaxopt_lab.problems.mlp.data import Criterion
from jaxopt_lab.problems.mlp.moments import Gate
from jaxopt_lab.problems.mlp.network import PaddedMLP
from jaxopt_lab.problems.mlp.signature import Signature


class Batch(NamedTuple):
    """Rows of one step, common to the trials that train together.

    Attributes:
      inputs: [b, ...].
      targets: [b, ...].
      mask: False at padding.
      depth: the most layers of any of those trials; None: deeper ones are not skipped.
      coins: uint32 per validation row, the same at every evaluation: `NUM_RESAMPLES` fair coins
        that say in which resamples of the rows it stands. None unless observed.
    """

    inputs: Array
    targets: Array
    mask: Bool[Array, " b"]
    depth: IntScalar | None
    coins: UInt32[Array, " b"] | None = None


class Minibatch(NamedTuple):
    """Where a block of rows stands in its minibatch; scalars common to the trials, too.

    Attributes:
      num_rows: float32, rows of the whole minibatch.
      is_first: whether the block is its first.
      is_last: whether it is its last.
    """

    num_rows: Scalar
    is_first: BoolScalar
    is_last: BoolScalar


class StepInfo(NamedTuple):
    """Diagnostics of one step; `observed` is that of `observation`, () unless asked for."""

    loss_sum: Scalar
    num_rows: Scalar
    observed: PyTree = ()


class Evaluation(NamedTuple):
    """Sums over the real rows of one chunk, their count, and the outputs of all rows; those of
    members are of their mean prediction."""

    sums: dict[str, Scalar]
    num_rows: Scalar
    outputs: Float[Array, "b o"]


class Metrics(NamedTuple):
    """What an epoch ends with: means over rows.

    Attributes:
      train_loss: of the epoch's minibatches.
      monitor: the validation loss, or without validation rows the training loss.
      validated: whether there are validation rows; without any, early stopping keeps the last
        epoch, for a training loss tells none to be the best.
      calibrated: the validation loss after the temperature that makes it least, where that is what
        tells the best epoch; else None.
    """

    train_loss: Scalar
    monitor: Scalar
    validated: BoolScalar | bool = True
    calibrated: Scalar | None = None


class Best(NamedTuple):
    """Early stopping's memory."""

    params: Params
    loss: Scalar
    wait: IntScalar
    stopped: BoolScalar


class TrainState(NamedTuple):
    """All that a trial carries from step to step; parts that are off are empty tuples.

    Attributes:
      params: weights.
      opt_state: state of the Optax chain.
      step: int32, updates made.
      diverged_at: int32, the first step whose loss was not finite; -1 if none.
      last_loss: float32, the last finite training loss before that.
      accumulator: what a minibatch's blocks so far add to its gradient; void before the first.
      plateau: `schedules.PlateauState`.
      average: averaged weights.
      best: `Best`.
      keep: whether the last epoch's outputs are the trial's outputs.
    """

    params: Params
    opt_state: PyTree
    step: IntScalar
    diverged_at: IntScalar
    last_loss: Scalar
    accumulator: PyTree
    plateau: PyTree
    average: PyTree
    best: PyTree
    keep: BoolScalar


class Halves(NamedTuple):
    """A step taken apart, for an executor that sums the gradients of a minibatch's rows itself.

    Attributes:
      losses: (state, hparams, batch) -> [b], without noise.
      gradient: (state, hparams, batch, noise, total) -> (sum of losses / total, its gradient).
      update: (state, hparams, gradient, mean loss) -> state.
      scores: (state, hparams, batch) -> name -> [b], NaN of a trial that diverged.
    """

    losses: Callable[[Any, Hparams, Batch], Array]
    gradient: Callable[[Any, Hparams, Batch, Any, Scalar], tuple[Scalar, PyTree]]
    update: Callable[[Any, Hparams, PyTree, Scalar], Any]
    scores: Callable[[Any, Hparams, Batch], dict[str, Array]]


class Trainer(NamedTuple):
    """Pure functions that train ONE trial.

    A user's own functions of these types (a reinforcement-learning update, say) plug in here.

    `step` takes one block of rows, keys for its noise, and the minibatch that the block is of;
    `halves` are its parts, None where it cannot be taken apart. `calibrated_loss` takes outputs
    [m, o], targets and mask [m] of the validation rows, where early stopping goes by it.
    """

    init: Callable[[PRNGKey, Hparams], Any]
    step: Callable[[Any, Hparams, Batch, PRNGKey, Minibatch], tuple[Any, StepInfo]]
    evaluate: Callable[[Any, Hparams, Batch], Evaluation]
    end_epoch: Callable[[Any, Hparams, Metrics], Any]
    halves: Halves | None = None
    calibrated_loss: Callable[[Array, Array, Array], Scalar] | None = None


#: What a caller measures on a trial in training: (state, hparams, batch of training rows) ->
#: name -> array. The engine adds the trial axis.
Probe = Callable[[Any, Hparams, Batch], dict[str, Array]]


def make_model(signature: Signature, num_outputs: int) -> PaddedMLP:
    """The network that a signature describes."""
    return PaddedMLP(
        num_layers=signature.num_layers,
        hidden_size=signature.hidden_size,
        num_outputs=num_outputs,
        activations=signature.activations,
        masked_depth=signature.masked_depth,
        masked_width=signature.masked_width,
        draw_width=signature.draw_width,
        with_orthogonal="orthogonal" in signature.features,
        precision=signature.precision,
        ensemble_size=signature.ensemble_size,
        ensemble_form=signature.ensemble_form,
    )


def row_losses(
    signature: Signature, criterion: Criterion, outputs: Array, targets: Array
) -> Float[Array, " b"]:
    """What training minimises the mean of: the loss of each row, of members their mean loss."""
    if signature.ensemble_size == 1:
        return criterion.loss(outputs, targets)
    return members.mean_loss(criterion.loss, outputs, targets)


def make_trainer(
    signature: Signature,
    criterion: Criterion,
    input_shape: tuple[int, ...],
    model: Any = None,
) -> Trainer:
    """Supervised training of a `signature`'s network.

    Args:
      signature: fixes shapes and code paths.
      criterion: loss and metrics.
      input_shape: shape of one row.
      model: a Flax module called as `PaddedMLP` is; the signature's MLP by default.

    Returns:
      The pure functions. `hparams` must hold the traced hyperparameters and `total_steps`, the
      updates in the trial's whole budget (float32).
    """
    model = model or make_model(signature, criterion.num_outputs)
    features = signature.features
    use_average, use_best = signature.ema, signature.early_stopping
    use_plateau = "reduce_on_plateau" in features
    biases = signature.penalize_biases
    # What is observed is observed of all layers.
    optional = (
        model.optional_layers if isinstance(model, PaddedMLP) and not signature.observe else ()
    )

    def forward(params: Params, batch: Batch, hparams: Hparams, noise: Any = None) -> Array:
        found = model.apply({"params": params}, batch.inputs, hparams, noise, batch.depth)
        return jnp.asarray(found)

    def init(key: PRNGKey, hparams: Hparams) -> TrainState:
        params = model.init(key, jnp.zeros((1, *input_shape)), hparams)["params"]
        zero, inf = jnp.zeros((), jnp.int32), jnp.asarray(jnp.inf, jnp.float32)
        return TrainState(
            params=params,
            opt_state=optimizer(hparams, 1.0).init(params),
            step=zero,
            diverged_at=zero - 1,
            last_loss=inf,
            accumulator=jax.tree.map(jnp.zeros_like, params) if signature.accumulate else (),
            plateau=schedules.plateau_init() if use_plateau else (),
            average=params if use_average else (),
            best=Best(params, inf, zero, jnp.zeros((), bool)) if use_best else (),
            keep=jnp.ones((), bool),
        )

    def optimizer(
        hparams: Hparams, multiplier: Any, gate: Gate | None = None, norm: Scalar | None = None
    ) -> optax.GradientTransformation:
        return optimizers.build(
            signature.optimizers, hparams, features, multiplier, biases, gate, norm
        )

    def wanted_layers(batch: Batch) -> dict[str, BoolScalar]:
        """Layers that are skipped unless a trial of the cohort has them."""
        if batch.depth is None:
            return {}
        return {name: i + 1 < batch.depth for i, name in enumerate(optional)}

    def update(
        state: TrainState,
        hparams: Hparams,
        gradient: Params,
        has_rows: BoolScalar,
        skipped: dict[str, BoolScalar],
    ) -> tuple[TrainState, PyTree]:
        rate = schedules.multiplier(hparams, state.step, hparams["total_steps"], features)
        if use_plateau:
            rate = rate * state.plateau.scale
        # A diverged trial keeps the state in which it was found.
        gate = Gate(state.diverged_at < 0, has_rows)
        norm = None
        if skipped and "clip_norm" in features:
            norm = optimizers.penalized_norm(gradient, state.params, hparams, features, biases)
        chain = optimizer(hparams, rate, gate, norm)

        def move(gradient: Params, carry: PyTree) -> tuple[PyTree, Params]:
            """Move the weights of some layers, with their moments and averages."""
            params, opt_state, average = carry
            updates, opt_state = chain.update(gradient, opt_state, params)
            new, new_average = optax.apply_updates(params, updates), average
            if use_average:
                new_average = _average(average, new, state.step, hparams)
            kept = optax.tree.where(gate.alive, (new, new_average), (params, average))
            return (kept[0], opt_state, kept[1]), updates  # the gate has kept `opt_state` already

        whole = state.params, state.opt_state, state.average
        always = [name for name in state.params if name not in skipped]
        moved, updates = move(skipping.only(gradient, always), skipping.only(whole, always))

        def layer_moved(name: str, wanted: BoolScalar) -> PyTree:
            own = skipping.only(gradient, [name])
            carry = skipping.only(whole, [name])
            return skipping.run_if(wanted, lambda carry: move(own, carry)[0], carry)

        parts = [moved, *(layer_moved(*item) for item in skipped.items())]
        params, opt_state, average = skipping.joined(parts)
        new = state._replace(
            params=params, opt_state=opt_state, average=average, step=state.step + gate.alive
        )
        if not signature.observe:
            return new, ()
        return new, observation.of_update(gradient, updates, state.params, hparams)

    def losses_of(params: Params, hparams: Hparams, batch: Batch, noise: Any = None) -> Array:
        outputs = forward(params, batch, hparams, noise)
        return row_losses(signature, criterion, outputs, batch.targets)

    def mean_loss(
        params: Params, hparams: Hparams, batch: Batch, noise: Any, divisor: Scalar
    ) -> Scalar:
        losses = losses_of(params, hparams, batch, noise)
        return jnp.where(batch.mask, losses, 0.0).sum() / divisor

    def step(
        state: TrainState, hparams: Hparams, batch: Batch, keys: PRNGKey, minibatch: Minibatch
    ) -> tuple[TrainState, StepInfo]:
        noise = model.noise(keys, signature.noise_rows) if "dropout" in features else None
        count = batch.mask.sum().astype(jnp.float32)
        divisor = minibatch.num_rows if signature.accumulate else count
        skipped, so_far, is_first = wanted_layers(batch), state.accumulator, minibatch.is_first

        def loss_of(params: Params) -> Scalar:
            if signature.accumulate:
                params = {
                    name: skipping.summing(layer, skipped[name], so_far[name], is_first)
                    if name in skipped
                    else layer
                    for name, layer in params.items()
                }
            return mean_loss(params, hparams, batch, noise, divisor)

        loss, gradient = jax.value_and_grad(loss_of)(state.params)
        loss_sum = loss * divisor
        state = _watch(state, loss_sum / count)
        if not signature.accumulate:
            state, observed = update(state, hparams, gradient, count > 0, skipped)
            return state, StepInfo(loss_sum, count, observed)
        gradient = {
            name: layer if name in skipped else skipping.add_to(so_far[name], layer, is_first)
            for name, layer in gradient.items()
        }
        state = state._replace(accumulator=gradient)
        nothing = observation.zeros() if signature.observe else ()
        state, observed = skipping.run_if(
            minibatch.is_last,
            lambda carry: update(carry[0], hparams, carry[0].accumulator, count > 0, skipped),
            (state, nothing),
        )
        return state, StepInfo(loss_sum, count, observed)

    def judged(state: TrainState, hparams: Hparams, batch: Batch) -> tuple[dict[str, Array], Array]:
        """Loss and metrics of each row, and outputs."""
        params = state.average if use_average else state.params
        outputs = forward(params, batch, hparams)
        if signature.ensemble_size > 1:
            outputs = criterion.average(outputs)
        per_row = {"loss": criterion.loss(outputs, batch.targets)}
        per_row.update(criterion.metrics(outputs, batch.targets))
        return per_row, outputs

    def evaluate(state: TrainState, hparams: Hparams, batch: Batch) -> Evaluation:
        per_row, outputs = judged(state, hparams, batch)
        sums = {k: jnp.where(batch.mask, v, 0.0).sum() for k, v in per_row.items()}
        if batch.coins is not None:
            losses = jnp.where(batch.mask, per_row["loss"], 0.0)
            sums["resampled_loss"] = observation.resampled(losses, batch.coins)
        fine = state.diverged_at < 0
        sums = {k: jnp.where(fine, v, jnp.nan) for k, v in sums.items()}
        return Evaluation(sums, batch.mask.sum().astype(jnp.float32), outputs)

    def end_epoch(state: TrainState, hparams: Hparams, metrics: Metrics) -> TrainState:
        if use_plateau:
            moved = schedules.plateau_update(state.plateau, hparams, metrics.monitor)
            on = hparams["schedule"] == schedules.SCHEDULES.index("reduce_on_plateau")
            state = state._replace(plateau=optax.tree.where(on, moved, state.plateau))
        return _keep_best(state, hparams, metrics, use_average) if use_best else state

    def losses(state: TrainState, hparams: Hparams, batch: Batch) -> Array:
        return losses_of(state.params, hparams, batch)

    def gradient(
        state: TrainState, hparams: Hparams, batch: Batch, noise: Any, total: Scalar
    ) -> tuple[Scalar, PyTree]:
        return jax.value_and_grad(mean_loss)(state.params, hparams, batch, noise, total)

    def move(state: TrainState, hparams: Hparams, gradient: PyTree, loss: Scalar) -> TrainState:
        return update(_watch(state, loss), hparams, gradient, jnp.ones((), bool), {})[0]

    def scores(state: TrainState, hparams: Hparams, batch: Batch) -> dict[str, Array]:
        fine = state.diverged_at < 0
        return {k: jnp.where(fine, v, jnp.nan) for k, v in judged(state, hparams, batch)[0].items()}

    # Noise of other models is of whole minibatches.
    can_halve = isinstance(model, PaddedMLP) or "dropout" not in features
    halves = Halves(losses, gradient, move, scores) if can_halve else None
    calibrated = partial(calibrated_loss, criterion.loss) if signature.calibrated else None
    return Trainer(init, step, evaluate, end_epoch, halves, calibrated)


def _watch(state: TrainState, loss: Scalar) -> TrainState:
    """Note the first loss that is not finite, from which on the trial is frozen, and the last
    finite one before it.

    What a trial does after early stopping is not part of it.
    """
    finite, fine_so_far = jnp.isfinite(loss), state.diverged_at < 0
    if state.best != ():
        fine_so_far = fine_so_far & ~state.best.stopped
    return state._replace(
        diverged_at=jnp.where(fine_so_far & ~finite, state.step, state.diverged_at),
        last_loss=jnp.where(fine_so_far & finite, loss, state.last_loss),
    )


def _average(average: Params, params: Params, step: IntScalar, hparams: Hparams) -> Params:
    """Exponential average whose decay starts low, so that the first weights are soon forgotten."""
    count = step.astype(jnp.float32) + 1.0
    decay = jnp.minimum(hparams["ema_decay"], count / (count + 9.0))
    return jax.tree.map(lambda a, p: decay * a + (1.0 - decay) * p, average, params)


def _keep_best(
    state: TrainState, hparams: Hparams, metrics: Metrics, use_average: bool
) -> TrainState:
    """Remember the best epoch's weights; stop once `early_stopping_patience` epochs had none."""
    best = state.best
    watched = metrics.monitor if metrics.calibrated is None else metrics.calibrated
    is_better = (watched < best.loss) | jnp.logical_not(metrics.validated)
    improved = is_better & ~best.stopped
    current = state.average if use_average else state.params
    wait = jnp.where(improved, 0, best.wait + 1)
    return state._replace(
        best=Best(
            params=optax.tree.where(improved, current, best.params),
            loss=jnp.where(improved, watched, best.loss),
            wait=wait,
            stopped=best.stopped | (wait >= hparams["early_stopping_patience"]),
        ),
        keep=improved,
    )


def final_params(state: TrainState) -> Params:
    """The weights a trial ends with: the best epoch's, the averaged ones, or the last."""
    if state.best != ():
        return state.best.params
    return state.average if state.average != () else state.params


def as_final(state: TrainState) -> TrainState:
    """The state whose evaluation is that of `final_params`."""
    params = final_params(state)
    return state._replace(params=params, average=params if state.average != () else ())


def trim(params: Params, num_layers: int, hidden_size: int) -> dict[str, Any]:
    """Cut padding away: the layers and units that a trial really has.

    Args:
      params: numpy weights of a padded MLP.
      num_layers: the trial's hidden layers.
      hidden_size: the trial's neurons.
    """
    names = [f"hidden_{i}" for i in range(num_layers)]
    trimmed = {}
    for name in names:
        rows = params[name]["kernel"].shape[0] if name == "hidden_0" else hidden_size
        # The adapter `r` is of the layer's rows; all else ends in its columns.
        ends = {leaf: rows if leaf == "r" else hidden_size for leaf in params[name]}
        trimmed[name] = {leaf: x[..., : ends[leaf]] for leaf, x in params[name].items()}
        trimmed[name]["kernel"] = trimmed[name]["kernel"][:rows]
    head = params["output"]
    trimmed["output"] = {"kernel": head["kernel"][..., :hidden_size, :], "bias": head["bias"]}
    return trimmed
