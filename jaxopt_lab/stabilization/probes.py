"""What is measured on one trial's weights: sharpness, its stability threshold, gradient noise."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from jaxopt_lab.core.types import Hparams, Params, PyTree, Scalar
from jaxopt_lab.problems.mlp import schedules
from jaxopt_lab.problems.mlp.data import Criterion
from jaxopt_lab.problems.mlp.signature import Signature
from jaxopt_lab.problems.mlp.trainer import Batch, Probe, TrainState, row_losses

#: Hessian-vector products of the power iteration.
NUM_PRODUCTS = 24
#: Rows of the small gradients of the noise scale.
SMALL_ROWS = 32
Loss = Callable[[Params], Scalar]


def make_probe(signature: Signature, criterion: Criterion, model: Any) -> Probe:
    """The probe of one signature's trials.

    Args:
      signature: for the optimizer; of one only.
      criterion: its loss is the function probed: without dropout and penalties.
      model: the signature's network.

    Returns:
      A function whose dictionary holds the scalars `sharpness` (of the preconditioned Hessian
      for adam, adamw, rmsprop), `threshold` (above it, full-batch training is unstable; inf where
      no theory gives one), `noise_scale` in rows, and `gradient_norm` over all rows.
    """

    (optimizer,) = signature.optimizers

    def mean_loss(params: Params, batch: Batch, hparams: Hparams) -> Scalar:
        outputs = model.apply({"params": params}, batch.inputs, hparams, None, batch.depth)
        losses = row_losses(signature, criterion, outputs, batch.targets)
        return jnp.where(batch.mask, losses, 0.0).sum() / batch.mask.sum()

    def probe(state: TrainState, hparams: Hparams, batch: Batch) -> dict[str, Array]:
        scale = preconditioner(optimizer, state.opt_state, hparams, state.params)

        def loss(params: Params) -> Scalar:
            return mean_loss(params, batch, hparams)

        rate = schedules.multiplier(hparams, state.step, hparams["total_steps"])
        if state.plateau != ():
            rate = rate * state.plateau.scale
        rate = rate * hparams["learning_rate"]
        small, big = gradient_norms(state.params, batch, hparams, mean_loss)
        num_small, num_big = min(SMALL_ROWS, batch.mask.shape[0]), batch.mask.sum()
        return {
            "sharpness": sharpness(loss, state.params, scale),
            "threshold": stability_threshold(optimizer, hparams) / rate,
            "noise_scale": noise_scale(small, big, num_small, num_big),
            "gradient_norm": jnp.sqrt(big),
        }

    return probe


def sharpness(
    loss: Loss, params: Params, scale: Params | None = None, num_products: int = NUM_PRODUCTS
) -> Scalar:
    """Largest eigenvalue (in magnitude) of a Hessian by power iteration.

    Args:
      loss: params -> scalar.
      params: where.
      scale: positive diagonal P; the Hessian is preconditioned to P^-1/2 H P^-1/2, which has the
        eigenvalues of P^-1 H. None: P = 1.
      num_products: Hessian-vector products.
    """
    flat, unflatten = ravel_pytree(params)
    root = 1.0 if scale is None else jnp.sqrt(ravel_pytree(scale)[0])
    gradient = jax.grad(lambda x: loss(unflatten(x)))

    def product(v: Array) -> Array:
        return jax.jvp(gradient, (flat,), (v / root,))[1] / root

    def body(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        v, _ = carry
        hv = product(v)
        return hv / jnp.maximum(jnp.linalg.norm(hv), 1e-30), v @ hv

    start = jax.random.normal(jax.random.key(0, impl="threefry2x32"), flat.shape)
    # A trial's own from the start: JAX mistakes the shape of a product whose weights differ by
    # trial and whose tangent does not.
    start += 0.0 * flat
    carry = (start / jnp.linalg.norm(start), jnp.zeros(()))
    return jax.lax.fori_loop(0, num_products, body, carry)[1]


def stability_threshold(optimizer: str, hparams: Hparams) -> Array:
    """Sharpness beyond which full-batch training is unstable, times the learning rate.

    For adam, adamw and rmsprop it holds for the preconditioned Hessian; inf for lion.

    Source: Cohen et al. 2021, arXiv:2103.00065 (gradient descent with heavy-ball and Nesterov
    momentum); Cohen et al. 2022, arXiv:2207.14484 (adaptive methods).
    """
    b1, momentum = hparams["b1"], hparams["momentum"]
    adam = (2.0 + 2.0 * b1) / (1.0 - b1)
    found = {
        "sgd": 2.0,
        "momentum": 2.0 + 2.0 * momentum,
        "nesterov": (2.0 + 2.0 * momentum) / (1.0 + 2.0 * momentum),
        "adam": adam,
        "adamw": adam,
        "rmsprop": 2.0,
    }
    return jnp.asarray(found.get(optimizer, jnp.inf), jnp.float32)


def preconditioner(
    optimizer: str, opt_state: PyTree, hparams: Hparams, params: Params
) -> Params | None:
    """The diagonal that an adaptive optimizer divides by; None where it has none.

    Source: Cohen et al. 2022, arXiv:2207.14484: (1 - b1^t) (sqrt(nu / (1 - b2^t)) + epsilon).
    """
    if optimizer not in ("adam", "adamw", "rmsprop"):
        return None
    second = optax.tree.get(opt_state, "nu")
    eps = hparams["eps"]
    if optimizer == "rmsprop":
        return jax.tree.map(lambda nu: jnp.sqrt(nu + eps), second)
    count = jnp.maximum(optax.tree.get(opt_state, "count"), 1)
    first, squared = 1.0 - hparams["b1"] ** count, 1.0 - hparams["b2"] ** count
    return jax.tree.map(lambda nu: first * (jnp.sqrt(nu / squared) + eps), second)


def gradient_norms(
    params: Params, batch: Batch, hparams: Hparams, mean_loss: Callable[..., Scalar]
) -> tuple[Scalar, Scalar]:
    """Mean squared norm of gradients on `SMALL_ROWS` rows each, and squared norm on all rows.

    Only whole small batches of real rows count (or one of all rows, where there are fewer).
    """
    size = min(SMALL_ROWS, batch.mask.shape[0])
    num = batch.mask.shape[0] // size

    def body(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        total, count = carry

        def part(x: Array) -> Array:
            return jax.lax.dynamic_slice_in_dim(x, i * size, size)

        mask = part(batch.mask)
        mine = Batch(part(batch.inputs), part(batch.targets), mask, batch.depth)
        gradient = jax.grad(mean_loss)(params, mine, hparams)
        whole = mask.all()
        norm = optax.tree.norm(gradient, squared=True)
        return total + jnp.where(whole, norm, 0.0), count + whole

    carry = (jnp.zeros(()), jnp.zeros((), jnp.int32))
    total, count = jax.lax.fori_loop(0, num, body, carry)
    big = optax.tree.norm(jax.grad(mean_loss)(params, batch, hparams), squared=True)
    return total / jnp.maximum(count, 1), big


def noise_scale(small: Scalar, big: Scalar, num_small: Any, num_big: Any) -> Scalar:
    """Gradient noise scale tr(covariance) / |gradient|^2 in rows, from two batch sizes.

    Below it, a batch's gradient is mostly noise; far above it, larger batches gain nothing.

    Args:
      small: mean squared gradient norm over batches of `num_small` rows.
      big: squared gradient norm of a batch of `num_big` rows.
      num_small: rows.
      num_big: rows, more than `num_small`.

    Returns:
      The ratio of the two unbiased estimates; inf where the gradient is lost in the noise, 0
      where the two sizes are the same.

    Source: McCandlish et al. 2018, arXiv:1812.06162, appendix A.1.
    """
    num_big = jnp.asarray(num_big, jnp.float32)
    difference = jnp.maximum(num_big - num_small, 1e-6)
    squared = (num_big * big - num_small * small) / difference
    variance = (small - big) * num_small * num_big / difference
    found = jnp.where(squared > 0, variance / jnp.where(squared > 0, squared, 1.0), jnp.inf)
    return jnp.where(num_big > num_small, jnp.maximum(found, 0.0), 0.0)
