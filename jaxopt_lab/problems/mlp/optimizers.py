"""Hyperparameters -> one Optax chain: penalties -> clip -> moments -> decoupled decay -> rate."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_lab.core.types import Hparams, Params, PyTree, Scalar
from jaxopt_lab.problems.mlp import clipping, moments, schedules
from jaxopt_lab.problems.mlp.hyperparameters import OPTIMIZERS

#: Optimizers whose name promises that weight decay is not decoupled: `weight_decay` is ignored.
WITHOUT_DECAY = ("adam",)


def kernel_mask(params: Params) -> PyTree:
    """True at every leaf named `kernel`: what decay and penalties act on unless asked."""
    return jax.tree_util.tree_map_with_path(lambda path, _: _leaf_name(path) == "kernel", params)


def _leaf_name(path: tuple[Any, ...]) -> str:
    return str(getattr(path[-1], "key", path[-1])) if path else ""


def add_l1(strength: Any) -> optax.GradientTransformation:
    """Add the gradient of `strength * sum |w|`; the penalty's kink at 0 has gradient 0."""
    return optax.stateless(
        lambda updates, params: jax.tree.map(
            lambda g, w: g + strength * jnp.sign(w), updates, params
        )
    )


def build(
    names: Sequence[str],
    hparams: Hparams,
    features: frozenset[str],
    multiplier: Scalar | float,
    penalize_biases: bool = False,
    gate: moments.Gate | None = None,
    norm: Scalar | None = None,
) -> optax.GradientTransformation:
    """Build the chain of one trial from traced values.

    Args:
      names: the optimizer, or several of which the trial's is `hparams["optimizer"]`
        (`moments.gated`).
      hparams: traced hyperparameters; `learning_rate` and those of the optimizer.
      features: which of l1, l2, clip_value, clip_norm, agc, adagc, weight_decay the study uses;
        the others are left out of the program.
      multiplier: schedule times plateau scale at this step.
      penalize_biases: whether penalties and decay act on all parameters.
      gate: when the moments move; None: always.
      norm: `penalized_norm` of all weights, if the chain is given only some of them.

    Returns:
      A transformation whose state does not depend on any hyperparameter's value.
    """
    mask = None if penalize_biases else kernel_mask
    parts = _penalties(hparams, features, mask)
    if "clip_norm" in features:
        most = hparams["clip_norm"]
        parts.append(
            optax.clip_by_global_norm(most) if norm is None else clip_known_norm(most, norm)
        )
    if "agc" in features:
        parts.append(clipping.to_weights(hparams["agc"]))
    if "adagc" in features:
        parts.append(clipping.to_history(hparams["adagc"]))
    parts.append(moments.gated(names, hparams, gate))
    if "weight_decay" in features and not set(names) <= set(WITHOUT_DECAY):
        decay = hparams["weight_decay"]
        for name in set(names) & set(WITHOUT_DECAY):
            decay = jnp.where(hparams["optimizer"] == OPTIMIZERS.index(name), 0.0, decay)
        parts.append(optax.add_decayed_weights(decay, mask))
    parts.append(optax.scale(-hparams["learning_rate"] * multiplier))
    return optax.chain(*parts)


def _penalties(
    hparams: Hparams, features: frozenset[str], mask: Any
) -> list[optax.GradientTransformation]:
    """What comes before the clip by norm."""
    parts = []
    if "l1" in features:
        l1 = add_l1(hparams["l1"])
        parts.append(l1 if mask is None else optax.masked(l1, mask))
    if "l2" in features:
        parts.append(optax.add_decayed_weights(hparams["l2"], mask))
    if "clip_value" in features:
        parts.append(optax.clip(hparams["clip_value"]))
    return parts


def penalized_norm(
    gradient: Params, params: Params, hparams: Hparams, features: frozenset[str], biases: bool
) -> Scalar:
    """The global norm that `clip_norm` bounds: of the gradient with its penalties.

    Args:
      gradient: of all weights.
      params: all weights.
      hparams: as for `build`.
      features: as for `build`.
      biases: `penalize_biases` of `build`.
    """
    penalties = _penalties(hparams, features, None if biases else kernel_mask)
    chain = optax.chain(optax.identity(), *penalties)  # of nothing there is no chain
    return optax.tree.norm(chain.update(gradient, chain.init(params), params)[0])


def clip_known_norm(most: Any, norm: Scalar) -> optax.GradientTransformation:
    """`optax.clip_by_global_norm` of a part of the weights, the norm of all of which is known."""

    def clip(updates: PyTree, params: PyTree) -> PyTree:
        del params
        return jax.tree.map(lambda g: jnp.where(norm < most, g, (g / norm) * most), updates)

    return optax.stateless(clip)


def averaging_code(config: Mapping[str, Any]) -> str | None:
    """The averaged weights of a trial as code to paste; None without them.

    Returns:
      A statement for after each update, `step` counting from 0; `averaged` begins as `params`.
    """
    if not config["ema"]:
        return None
    keep = f"min({config['ema_decay']!r}, (step + 1) / (step + 10))"
    return f"averaged = optax.incremental_update(params, averaged, step_size=1 - {keep})"


def to_optax(config: Mapping[str, Any], steps_per_epoch: int, num_epochs: int) -> str:
    """Write a trial's optimizer as code to paste: one expression that uses `optax`, `jax`, `jnp`.

    Args:
      config: complete configuration (Python values).
      steps_per_epoch: updates per epoch.
      num_epochs: the trial's budget, which the schedule spans.

    Returns:
      Source text of an `optax.GradientTransformation` that makes the trial's own updates. With
      `reduce_on_plateau`, pass `value=` the latest validation loss to `update`.
    """
    c, total = config, steps_per_epoch * num_epochs
    mask = "" if c["penalize_biases"] else f", mask={_MASK}"
    parts = []
    if c["l1"]:
        l1 = (
            "optax.stateless(lambda g, p: jax.tree.map("
            f"lambda g, w: g + {c['l1']!r} * jnp.sign(w), g, p))"
        )
        parts.append(l1 if c["penalize_biases"] else f"optax.masked({l1}, {_MASK})")
    if c["l2"]:
        parts.append(f"optax.add_decayed_weights({c['l2']!r}{mask})")
    if math.isfinite(c["clip_value"]):
        parts.append(f"optax.clip({c['clip_value']!r})")
    if math.isfinite(c["clip_norm"]):
        parts.append(f"optax.clip_by_global_norm({c['clip_norm']!r})")
    if math.isfinite(c["agc"]):
        parts.append(f"optax.adaptive_grad_clip({c['agc']!r})")
    if math.isfinite(c["adagc"]):
        parts.append(clipping.history_code(c["adagc"]))
    adam = f"optax.scale_by_adam(b1={c['b1']!r}, b2={c['b2']!r}, eps={c['eps']!r})"
    moments = {
        "momentum": f"optax.trace(decay={c['momentum']!r}, nesterov=False)",
        "nesterov": f"optax.trace(decay={c['momentum']!r}, nesterov=True)",
        "adam": adam,
        "adamw": adam,
        "rmsprop": f"optax.scale_by_rms(decay={c['b2']!r}, eps={c['eps']!r})",
        "lion": f"optax.scale_by_lion(b1={c['b1']!r}, b2={c['b2']!r})",
    }
    if c["optimizer"] in moments:
        parts.append(moments[c["optimizer"]])
    if c["weight_decay"] and c["optimizer"] not in WITHOUT_DECAY:
        parts.append(f"optax.add_decayed_weights({c['weight_decay']!r}{mask})")
    parts.append(f"optax.scale_by_learning_rate({schedules.to_optax(c, total)})")
    if c["schedule"] == "reduce_on_plateau":
        floor = max(c["plateau_floor"], c["min_lr"] / max(c["learning_rate"], 1e-300))
        parts.append(
            f"optax.contrib.reduce_on_plateau(factor={c['plateau_factor']!r}, "
            f"patience={c['plateau_patience']}, rtol=0.0, atol={c['plateau_min_delta']!r}, "
            f"cooldown={c['plateau_cooldown']}, min_scale={floor!r}, "
            f"accumulation_size={steps_per_epoch})"
        )
    return f"optax.chain({', '.join(parts)})"


_MASK = "lambda p: jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == 'kernel', p)"
