"""Optax's running moments of the gradient, arranged so that XLA moves them in place.

In Optax an update is computed from the old moments, like the new moments themselves. XLA's CPU
backend fuses that into separate loops, of which the one that ends last still needs the old
moments, and so it copies all of them at every step. Here the new moments come out of a branch
that XLA cannot look across, and the update is computed from them. See `docs/performance.md`.

Trials of different optimizers train together by one formula whose coefficients each trial picks
(`together`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_lab.core.types import BoolScalar, IntScalar, PyTree, Scalar
from jaxopt_lab.problems.mlp.hyperparameters import FIRST_MOMENT, OPTIMIZERS, SECOND_MOMENT


class Gate(NamedTuple):
    """When moments move.

    Attributes:
      alive: whether this trial still trains; if not, its moments stay as they are.
      has_rows: True; an array that XLA does not know to be so, common to the trials that train
        together (under `vmap` it must not be batched).
    """

    alive: BoolScalar
    has_rows: BoolScalar


class Moments(NamedTuple):
    """Running moments of optimizers that train together; () where none of them has it.

    Attributes:
      updates: made so far.
      first: decaying sum or mean of the gradients.
      second: decaying mean of their squares.
    """

    updates: IntScalar
    first: PyTree
    second: PyTree


Direction = Callable[[PyTree, Any, Mapping[str, Any]], PyTree]


def transformation(name: str, hparams: Mapping[str, Any]) -> optax.GradientTransformation:
    """Optax's own transformation of one of `hyperparameters.OPTIMIZERS`, at unit rate."""
    h = hparams
    builders: dict[str, Callable[[], optax.GradientTransformation]] = {
        "sgd": optax.identity,
        "momentum": lambda: optax.trace(decay=h["momentum"], nesterov=False),
        "nesterov": lambda: optax.trace(decay=h["momentum"], nesterov=True),
        "adam": lambda: optax.scale_by_adam(b1=h["b1"], b2=h["b2"], eps=h["eps"]),
        "adamw": lambda: optax.scale_by_adam(b1=h["b1"], b2=h["b2"], eps=h["eps"]),
        "rmsprop": lambda: optax.scale_by_rms(decay=h["b2"], eps=h["eps"]),
        "lion": lambda: optax.scale_by_lion(b1=h["b1"], b2=h["b2"]),
    }
    return builders[name]()


def gated(
    names: Sequence[str], hparams: Mapping[str, Any], gate: Gate | None = None
) -> optax.GradientTransformation:
    """The same transformation, with moments that move in place on a CPU.

    Args:
      names: out of `hyperparameters.OPTIMIZERS`; with several, out of its `MERGEABLE`, a trial's
        own is `hparams["optimizer"]`.
      hparams: traced settings.
      gate: None for Optax's transformation as it is.
    """
    merged = len(names) > 1
    plain = together(names, hparams) if merged else transformation(names[0], hparams)
    direction = _direction_of(names) if merged else _DIRECTIONS.get(names[0])
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


def together(names: Sequence[str], hparams: Mapping[str, Any]) -> optax.GradientTransformation:
    """Several optimizers in one: each trial makes the updates of its own.

    All of them are `n / (sqrt(scale * second + inside) + outside)`, where `n` is a multiple of the
    first moment, which for sgd and rmsprop is the gradient, and nesterov adds the gradient again.

    Args:
      names: out of `hyperparameters.MERGEABLE`.
      hparams: traced settings; a trial's optimizer is `hparams["optimizer"]`.
    """
    h = hparams
    first_decay = _own(names, h, 0.0, momentum=h["momentum"], nesterov=h["momentum"],
                       adam=h["b1"], adamw=h["b1"])  # fmt: skip
    first_share = _own(names, h, 1.0, adam=1.0 - h["b1"], adamw=1.0 - h["b1"])
    second_decay = _own(names, h, 0.0, **dict.fromkeys(SECOND_MOMENT, h["b2"]))
    second_share = _own(names, h, 0.0, **dict.fromkeys(SECOND_MOMENT, 1.0 - h["b2"]))

    def init(params: PyTree) -> Moments:
        blank = jax.tree.map(jnp.zeros_like, params)
        kept = [blank if _keeps(names, kind) else () for kind in (FIRST_MOMENT, SECOND_MOMENT)]
        return Moments(jnp.zeros((), jnp.int32), *kept)

    def update(gradient: PyTree, state: Moments, params: Any = None) -> tuple[PyTree, Moments]:
        del params
        first, second = state.first, state.second
        if _keeps(names, FIRST_MOMENT):
            first = jax.tree.map(lambda g, m: first_decay * m + first_share * g, gradient, first)
        if _keeps(names, SECOND_MOMENT):
            # In this order a share of 0 leaves 0 where the square would overflow.
            second = jax.tree.map(
                lambda g, v: second_decay * v + (second_share * g) * g, gradient, second
            )
        new = Moments(state.updates + 1, first, second)
        return _direction_of(names)(gradient, new, h), new

    return optax.GradientTransformation(init, update)


def _direction_of(names: Sequence[str]) -> Direction:
    def direction(gradient: PyTree, new: Moments, h: Mapping[str, Any]) -> PyTree:
        adam = dict.fromkeys(("adam", "adamw"), 1.0 / (1.0 - h["b1"] ** new.updates))
        factor = _own(names, h, 1.0, nesterov=h["momentum"], **adam)
        again = _own(names, h, 0.0, nesterov=1.0)
        adam = dict.fromkeys(adam, 1.0 / (1.0 - h["b2"] ** new.updates))
        scale = _own(names, h, 0.0, rmsprop=1.0, **adam)
        inside = _own(names, h, 0.0, rmsprop=h["eps"])
        outside = _own(names, h, 1.0, rmsprop=0.0, **dict.fromkeys(adam, h["eps"]))

        def numerator(g: Any, m: Any) -> Any:
            return again * g + factor * m if "nesterov" in names else factor * m

        found = gradient
        if _keeps(names, FIRST_MOMENT):
            found = jax.tree.map(numerator, gradient, new.first)
        if not _keeps(names, SECOND_MOMENT):
            return found
        return jax.tree.map(
            lambda n, v: n / (jnp.sqrt(scale * v + inside) + outside), found, new.second
        )

    return direction


def _keeps(names: Sequence[str], kind: Sequence[str]) -> bool:
    return any(name in kind for name in names)


def _own(names: Sequence[str], h: Mapping[str, Any], other: float, **values: Any) -> Scalar:
    """Of several optimizers' values that of the trial's own, `other` if it has none."""
    known = {name: value for name, value in values.items() if name in names}
    codes = [h["optimizer"] == OPTIMIZERS.index(name) for name in known]
    choices = [jnp.asarray(value, jnp.float32) for value in known.values()]
    return jnp.select(codes, choices, other) if known else jnp.asarray(other, jnp.float32)


def _adam(_: PyTree, new: optax.ScaleByAdamState, h: Mapping[str, Any]) -> PyTree:
    """Optax's formula, with one division per weight instead of three."""
    first = 1.0 / (1.0 - h["b1"] ** new.count)
    second = 1.0 / (1.0 - h["b2"] ** new.count)
    return jax.tree.map(
        lambda m, v: (m * first) / (jnp.sqrt(v * second) + h["eps"]), new.mu, new.nu
    )


def _momentum(_: PyTree, new: optax.TraceState, h: Mapping[str, Any]) -> PyTree:
    del h
    return new.trace


def _nesterov(gradient: PyTree, new: optax.TraceState, h: Mapping[str, Any]) -> PyTree:
    return jax.tree.map(lambda g, t: g + h["momentum"] * t, gradient, new.trace)


def _rmsprop(gradient: PyTree, new: optax.ScaleByRmsState, h: Mapping[str, Any]) -> PyTree:
    return jax.tree.map(lambda g, v: g * jax.lax.rsqrt(v + h["eps"]), gradient, new.nu)


#: (gradient, new moments, hparams) -> update; an optimizer that needs the old ones is not here.
_DIRECTIONS: dict[str, Direction] = {
    "momentum": _momentum,
    "nesterov": _nesterov,
    "adam": _adam,
    "adamw": _adam,
    "rmsprop": _rmsprop,
}
