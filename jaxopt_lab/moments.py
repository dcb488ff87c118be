"""Optax's running moments of the gradient, arranged so that XLA moves them in place.

In Optax an update is computed from the old moments, like the new moments themselves. XLA's CPU
backend fuses that into separate loops, of which the one that ends last still needs the old
moments, and so it copies all of them at every step. Here the new moments come out of a branch
that XLA cannot look across, and the update is computed from them. See `docs/performance.md`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lab.types import BoolScalar, PyTree


class Gate(NamedTuple):
    """When moments move.

    Attributes:
      alive: whether this trial still trains; if not, its moments stay as they are.
      has_rows: True; an array that XLA does not know to be so, common to the trials that train
        together (under `vmap` it must not be batched).
    """

    alive: BoolScalar
    has_rows: BoolScalar


Direction = Callable[[PyTree, Any, Mapping[str, Any]], PyTree]


def transformation(name: str, hparams: Mapping[str, Any]) -> optax.GradientTransformation:
    """Optax's own transformation of one of `hyperparameters.OPTIMIZERS`, at unit rate."""
    h = hparams
    builders: dict[str, Callable[[], optax.GradientTransformation]] = {
        "sgd": optax.identity,
        "momentum": lambda: optax.trace(decay=h["momentum"], nesterov=False),
        "nesterov": lambda: optax.trace(decay=h["momentum"], nesterov=True),
        "adam": lambda: optax.scale_by_adam(b1=h["b1"], b2=h["b2"], eps=h["epsilon"]),
        "adamw": lambda: optax.scale_by_adam(b1=h["b1"], b2=h["b2"], eps=h["epsilon"]),
        "rmsprop": lambda: optax.scale_by_rms(decay=h["b2"], eps=h["epsilon"]),
        "lion": lambda: optax.scale_by_lion(b1=h["b1"], b2=h["b2"]),
    }
    return builders[name]()


def gated(
    name: str, hparams: Mapping[str, Any], gate: Gate | None = None
) -> optax.GradientTransformation:
    """The same transformation, with moments that move in place on a CPU.

    Args:
      name: one of `hyperparameters.OPTIMIZERS`.
      hparams: its traced settings.
      gate: None for Optax's transformation as it is.
    """
    plain, direction = transformation(name, hparams), _DIRECTIONS.get(name)
    if gate is None:
        return plain

    def moved(gradient: PyTree, state: Any) -> Any:
        return optax.tree.where(gate.alive, plain.update(gradient, state)[1], state)

    def in_place(gradient: PyTree, state: Any) -> Any:
        return jax.lax.cond(gate.has_rows, moved, lambda _, state: state, gradient, state)

    def update(gradient: PyTree, state: Any, params: Any = None) -> tuple[PyTree, Any]:
        del params
        if direction is None:
            updates, new = plain.update(gradient, state)
            return updates, optax.tree.where(gate.alive, new, state)
        # An accelerator fuses several outputs, and waits for the host at a branch.
        new = jax.lax.platform_dependent(gradient, state, cpu=in_place, default=moved)
        return direction(gradient, new, hparams), new

    return optax.GradientTransformation(plain.init, update)


def _adam(_: PyTree, new: optax.ScaleByAdamState, h: Mapping[str, Any]) -> PyTree:
    """Optax's formula, with one division per weight instead of three."""
    first = 1.0 / (1.0 - h["b1"] ** new.count)
    second = 1.0 / (1.0 - h["b2"] ** new.count)
    return jax.tree.map(
        lambda m, v: (m * first) / (jnp.sqrt(v * second) + h["epsilon"]), new.mu, new.nu
    )


def _momentum(_: PyTree, new: optax.TraceState, h: Mapping[str, Any]) -> PyTree:
    del h
    return new.trace


def _nesterov(gradient: PyTree, new: optax.TraceState, h: Mapping[str, Any]) -> PyTree:
    return jax.tree.map(lambda g, t: g + h["momentum"] * t, gradient, new.trace)


def _rmsprop(gradient: PyTree, new: optax.ScaleByRmsState, h: Mapping[str, Any]) -> PyTree:
    return jax.tree.map(lambda g, v: g * jax.lax.rsqrt(v + h["epsilon"]), gradient, new.nu)


#: (gradient, new moments, hparams) -> update; an optimizer that needs the old ones is not here.
_DIRECTIONS: dict[str, Direction] = {
    "momentum": _momentum,
    "nesterov": _nesterov,
    "adam": _adam,
    "adamw": _adam,
    "rmsprop": _rmsprop,
}
