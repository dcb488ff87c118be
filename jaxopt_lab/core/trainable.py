"""What trains: pure functions of ONE trial. Only an executor adds the trial axis."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxopt_lab.core.row_loop import RowLoop
from jaxopt_lab.core.types import IntScalar, PRNGKey, PyTree, Scalar

State = PyTree
#: Name -> array; scalars that are floats can be objectives.
Metrics = Mapping[str, Array]


class Shared(NamedTuple):
    """What is common to the trials of a cohort: under `vmap` it is never batched.

    Attributes:
      key: of (study, replicate, split, unit): data order and noise that the trials share.
      unit: int32, units of budget done before this one.
      budget: int32, units in a trial's whole budget.
      split: int32, which member of its trial this is: a split of the data, a seed, or both.
      data: of the problem, on the device once.
      extra: int32 scalars of the cohort, from its program (`Program.extra`).
    """

    key: PRNGKey
    unit: IntScalar
    budget: IntScalar
    split: IntScalar
    data: PyTree
    extra: tuple[IntScalar, ...] = ()


def no_metrics(state: State, hparams: Any, shared: Shared) -> Metrics:
    """Evaluate nothing."""
    del state, hparams, shared
    return {}


def whole_state(state: State) -> PyTree:
    """Keep the state."""
    return state


def no_info(state: State) -> PyTree:
    """Tell nothing besides metrics."""
    del state
    return {}


class Trainable(NamedTuple):
    """Pure functions of one trial; a unit of budget is whatever `step` does.

    Attributes:
      init: (key, hparams) -> state: a pytree of arrays. The key is the trial's own.
      step: (state, hparams, shared) -> (state, metrics): one unit. The state keeps its structure,
        shapes and dtypes.
      evaluate: (state, hparams, shared) -> metrics, after each unit; names differ from those of
        `step`.
      result: state -> what is kept of a trained trial: weights, say.
      info: state -> small arrays that the host is told of every trial at the end of each wave.
      row_loop: the same unit as a loop over rows, for the executor `kernel`; None if it is none.

    Examples:
      >>> def init(key, hparams):
      ...     return jax.random.normal(key)
      >>> def step(x, hparams, shared):
      ...     x = x - hparams["learning_rate"] * 2 * x
      ...     return x, {"loss": x**2}
      >>> descent = Trainable(init, step)
    """

    init: Callable[[PRNGKey, Any], State]
    step: Callable[[State, Any, Shared], tuple[State, Metrics]]
    evaluate: Callable[[State, Any, Shared], Metrics] = no_metrics
    result: Callable[[State], PyTree] = whole_state
    info: Callable[[State], PyTree] = no_info
    row_loop: RowLoop | None = None


class Guarded(NamedTuple):
    """A trial's state under `guarded`.

    Attributes:
      inner: its state, frozen at the first objective that was not finite.
      diverged_at: int32, the unit (from 0) of that objective; -1 if none.
      last: float32, the last finite objective before.
    """

    inner: State
    diverged_at: IntScalar
    last: Scalar


def guarded(trainable: Trainable, objective: str) -> Trainable:
    """Freeze a trial at the first objective that is not finite; its curves are NaN from there.

    Other trials of its cohort are not touched. `info` then tells `diverged_at` and `last`.

    Args:
      trainable: to wrap.
      objective: name of a scalar metric.
    """

    def init(key: PRNGKey, hparams: Any) -> Guarded:
        inner = trainable.init(key, hparams)
        return Guarded(inner, jnp.full((), -1, jnp.int32), jnp.full((), jnp.nan, jnp.float32))

    def step(state: Guarded, hparams: Any, shared: Shared) -> tuple[Guarded, Metrics]:
        inner, metrics = trainable.step(state.inner, hparams, shared)
        metrics = {**metrics, **trainable.evaluate(inner, hparams, shared)}
        value = jnp.asarray(metrics[objective], jnp.float32)
        fine_so_far, finite = state.diverged_at < 0, jnp.isfinite(value)
        alive = fine_so_far & finite
        kept = jax.tree.map(lambda new, old: jnp.where(alive, new, old), inner, state.inner)
        first = fine_so_far & ~finite
        guard = Guarded(
            kept,
            jnp.where(first, shared.unit, state.diverged_at).astype(jnp.int32),
            jnp.where(alive, value, state.last),
        )
        return guard, {name: _nan_unless(alive, metric) for name, metric in metrics.items()}

    def info(state: Guarded) -> PyTree:
        own = trainable.info(state.inner)
        return {**own, "diverged_at": state.diverged_at, "last": state.last}

    loop = trainable.row_loop
    if loop is not None:
        loop = loop._replace(objective=objective)
    return Trainable(
        init, step, no_metrics, lambda state: trainable.result(state.inner), info, loop
    )


def _nan_unless(alive: Array, metric: Any) -> Array:
    metric = jnp.asarray(metric)
    if not jnp.issubdtype(metric.dtype, jnp.inexact):
        return metric
    return jnp.where(alive, metric, jnp.nan)
