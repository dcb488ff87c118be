"""Learning-rate schedules as traced multipliers of a unit-rate optimizer.

Optax builds a schedule from Python numbers, so each new value would be a new program. Here the
kind, the warm-up and every shape parameter are traced: one program serves all schedules.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxopt_lab.core.types import Hparams, IntScalar, Scalar
from jaxopt_lab.problems.mlp.hyperparameters import SCHEDULES

ONE_CYCLE_START = 1 / 25
_MIN_FRACTION = 1e-4


def warmup_steps(warmup_fraction: Any, total_steps: Any) -> Any:
    """Number of linear warm-up steps: the nearest whole number of `total_steps`' share."""
    return jnp.round(warmup_fraction * total_steps)


def multiplier(
    hparams: Hparams,
    step: IntScalar,
    total_steps: Scalar,
    features: Collection[str] | None = None,
) -> Scalar:
    """Learning rate at a step, as a multiple of the peak rate.

    Args:
      hparams: with `schedule` (index in `SCHEDULES`) and the schedule's parameters.
      step: 0-based count of updates made before this one.
      total_steps: updates in the trial's whole budget.
      features: of `hyperparameters.features_of`: which schedules can occur, and whether warm-up
        can; the others are left out of the program. None: all.

    Returns:
      A factor in [0, 1]. `reduce_on_plateau` is 1 here: its factor is `PlateauState.scale`.
    """
    named = SCHEDULES if features is None else [kind for kind in SCHEDULES if kind in features]
    with_warmup = features is None or "warmup_fraction" in features
    step = step.astype(jnp.float32)
    warm = warmup_steps(hparams["warmup_fraction"], total_steps) if with_warmup else jnp.zeros(())
    rest = jnp.maximum(total_steps - warm, 1.0)
    after = jnp.maximum(step - warm, 0.0)
    progress = jnp.minimum(after / rest, 1.0)
    final = hparams["final_fraction"]
    decay_steps = jnp.maximum(jnp.round(hparams["decay_every"] * rest), 1.0)
    by_kind = {
        "constant": lambda: jnp.ones(()),
        "cosine": lambda: final + (1 - final) * _cosine(progress),
        "exponential": lambda: jnp.maximum(final, _MIN_FRACTION) ** progress,
        "step": lambda: hparams["decay_factor"] ** jnp.floor(after / decay_steps),
        "linear": lambda: 1 - (1 - final) * progress,
        "one_cycle": lambda: _one_cycle(progress, hparams["peak_fraction"], final),
        "inverse_sqrt": lambda: jnp.sqrt(
            jnp.maximum(warm, 1.0) / jnp.maximum(step, jnp.maximum(warm, 1.0))
        ),
        "reduce_on_plateau": lambda: jnp.ones(()),
    }
    decayed = (
        jnp.select(
            [hparams["schedule"] == SCHEDULES.index(name) for name in named],
            [by_kind[name]() for name in named],
            jnp.ones(()),
        )
        if named
        else jnp.ones(())
    )
    if not with_warmup:
        return decayed
    return jnp.where(step < warm, (step + 1) / jnp.maximum(warm, 1.0), decayed)


def _cosine(progress: Scalar) -> Scalar:
    return 0.5 * (1 + jnp.cos(jnp.pi * progress))


def _one_cycle(progress: Scalar, peak: Scalar, final: Scalar) -> Scalar:
    up = ONE_CYCLE_START + (1 - ONE_CYCLE_START) * (1 - _cosine(jnp.minimum(progress / peak, 1.0)))
    down = final + (1 - final) * _cosine(jnp.clip((progress - peak) / (1 - peak), 0.0, 1.0))
    return jnp.where(progress < peak, up, down)


class PlateauState(NamedTuple):
    """What reduce-on-plateau remembers between epochs."""

    best: Scalar
    wait: IntScalar
    cooldown: IntScalar
    scale: Scalar


def plateau_init() -> PlateauState:
    """State before the first epoch: nothing seen, full rate."""
    zero = jnp.zeros((), jnp.int32)
    return PlateauState(jnp.asarray(jnp.inf, jnp.float32), zero, zero, jnp.ones((), jnp.float32))


def plateau_update(state: PlateauState, hparams: Hparams, loss: Scalar) -> PlateauState:
    """Take one epoch's monitored loss; reduce the scale after `plateau_patience` bad epochs.

    The rules are those that Keras documents for ReduceLROnPlateau (mode "min"): an epoch improves
    if its loss is below the best by more than `plateau_min_delta`; the `plateau_cooldown` epochs
    after a reduction do not count (Keras' own code counts the last of them, PyTorch and Optax do
    not); NaN is no improvement; the scale never falls below `plateau_floor`, nor the rate below
    `min_lr`.

    Args:
      loss: monitored loss of the epoch that ended.
    """
    cooling = state.cooldown > 0
    cooldown = jnp.maximum(state.cooldown - 1, 0)
    improved = loss < state.best - hparams["plateau_min_delta"]
    wait = jnp.where(improved | cooling, 0, state.wait + 1)
    rate = jnp.maximum(hparams["learning_rate"], jnp.finfo(jnp.float32).tiny)
    floor = jnp.maximum(hparams["plateau_floor"], hparams["min_lr"] / rate)
    fire = (wait >= hparams["plateau_patience"]) & (state.scale > floor)
    lowered = jnp.maximum(state.scale * hparams["plateau_factor"], floor)
    return PlateauState(
        best=jnp.where(improved, loss, state.best),
        wait=jnp.where(fire, 0, wait),
        cooldown=jnp.where(fire, hparams["plateau_cooldown"], cooldown),
        scale=jnp.where(fire, lowered, state.scale),
    )


def to_optax(config: Mapping[str, Any], total_steps: int) -> str:
    """Write a complete configuration's schedule as Optax code: an expression for step -> rate.

    Args:
      config: complete configuration (Python values).
      total_steps: updates in the whole budget.

    Returns:
      Source text that uses `optax` and `jnp` only. For `reduce_on_plateau` it is the constant
      peak rate; `optimizers.to_optax` adds `optax.contrib.reduce_on_plateau`.
    """
    rate, kind, final = config["learning_rate"], config["schedule"], config["final_fraction"]
    warm = round(config["warmup_fraction"] * total_steps)
    rest = max(total_steps - warm, 1)
    every = max(round(config["decay_every"] * rest), 1)
    text = {
        "constant": f"optax.constant_schedule({rate!r})",
        "reduce_on_plateau": f"optax.constant_schedule({rate!r})",
        "cosine": f"optax.cosine_decay_schedule({rate!r}, {rest}, alpha={final!r})",
        "exponential": f"optax.exponential_decay({rate!r}, {rest}, {max(final, _MIN_FRACTION)!r}, "
        f"end_value={rate * max(final, _MIN_FRACTION)!r})",
        "step": f"optax.exponential_decay({rate!r}, {every}, {config['decay_factor']!r}, "
        "staircase=True)",
        "linear": f"optax.linear_schedule({rate!r}, {rate * final!r}, {rest})",
        "one_cycle": _one_cycle_optax(config, rest),
        "inverse_sqrt": f"lambda step: {rate!r} * jnp.sqrt({max(warm, 1)} / "
        f"jnp.maximum(step{f' + {warm}' if warm else ''}, {max(warm, 1)}))",
    }[kind]
    if not warm:
        return text
    ramp = f"optax.linear_schedule({rate / warm!r}, {rate!r}, {max(warm - 1, 1)})"
    return f"optax.join_schedules([{ramp}, {text}], [{warm}])"


def _one_cycle_optax(config: Mapping[str, Any], rest: int) -> str:
    rate, peak, final = config["learning_rate"], config["peak_fraction"], config["final_fraction"]
    up = peak * rest
    half = f"(1 - {final!r}) * 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip((step - {up!r}) / "
    down = f"{final!r} + {half}{rest - up!r}, 0, 1)))"
    rise = (
        f"{ONE_CYCLE_START!r} + {1 - ONE_CYCLE_START!r} * 0.5 * "
        f"(1 - jnp.cos(jnp.pi * jnp.minimum(step / {up!r}, 1)))"
    )
    return f"lambda step: {rate!r} * jnp.where(step < {up!r}, {rise}, {down})"


def steps_per_epoch(num_rows: int, batch_size: int) -> int:
    """Updates per epoch: the last, smaller minibatch counts."""
    return math.ceil(num_rows / batch_size)
