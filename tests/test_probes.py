"""Probes against closed forms: sharpness, its threshold for every optimizer, noise scale."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_lab.models.products import product
from jaxopt_lab.problems.mlp import hyperparameters, optimizers
from jaxopt_lab.problems.mlp.trainer import Batch
from jaxopt_lab.stabilization import probes

EIGENVALUES = np.array([9.0, 3.0, 1.0, 0.1])


def quadratic(seed: int = 0) -> tuple[Any, np.ndarray]:
    """A loss x' H x / 2 with known eigenvalues, and H."""
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))[0]
    matrix = (basis * EIGENVALUES) @ basis.T
    h = jnp.asarray(matrix, jnp.float32)
    return lambda params: 0.5 * params["w"] @ h @ params["w"], matrix


def test_sharpness_of_a_quadratic_is_its_largest_eigenvalue() -> None:
    loss, _ = quadratic()
    found = probes.sharpness(loss, {"w": jnp.ones(4)}, num_products=40)
    assert float(found) == pytest.approx(9.0, rel=1e-4)


def test_preconditioned_sharpness_is_that_of_the_scaled_hessian() -> None:
    loss, matrix = quadratic()
    scale = np.array([0.5, 2.0, 5.0, 1.0], np.float32)
    largest = np.linalg.eigvals(np.diag(1 / scale) @ matrix).real.max()
    found = probes.sharpness(loss, {"w": jnp.ones(4)}, {"w": jnp.asarray(scale)}, num_products=60)
    assert float(found) == pytest.approx(largest, rel=1e-4)


def values(**config: Any) -> dict[str, jax.Array]:
    traced = hyperparameters.traced(hyperparameters.complete(config))
    return {name: jnp.asarray(value) for name, value in traced.items()}


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov"])
@pytest.mark.parametrize(("factor", "diverges"), [(0.98, False), (1.02, True)])
def test_training_diverges_exactly_beyond_the_threshold(
    name: str, factor: float, diverges: bool
) -> None:
    loss, _ = quadratic()
    hparams = values(optimizer=name, momentum=0.8)
    rate = factor * float(probes.stability_threshold(name, hparams)) / EIGENVALUES[0]
    hparams["learning_rate"] = jnp.asarray(rate, jnp.float32)
    chain = optimizers.build([name], hparams, frozenset(), 1.0)

    def step(carry: Any, _: None) -> tuple[Any, jax.Array]:
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = chain.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    start = {"w": jnp.ones(4)}
    losses = jax.lax.scan(step, (start, chain.init(start)), None, 1500)[1]
    assert bool(losses[-1] < 1e-3 * losses[0]) != diverges
    assert bool(losses[-1] < 1e3 * losses[0]) != diverges


def test_adam_with_its_preconditioner_frozen_diverges_beyond_the_threshold() -> None:
    """Adam with a constant second moment is momentum (as an average) on a scaled loss."""
    hparams = values(optimizer="adam", b1=0.9)
    threshold = float(probes.stability_threshold("adam", hparams))
    assert threshold == pytest.approx(38.0, rel=1e-5)
    for factor in (0.98, 1.02):
        rate, x, m = factor * threshold / EIGENVALUES[0], 1.0, 0.0
        for _ in range(2000):
            m = 0.9 * m + 0.1 * EIGENVALUES[0] * x
            x -= rate * m
        assert (abs(x) > 1e3) == (factor > 1)


def test_the_preconditioner_is_what_adam_divides_by() -> None:
    params = {"w": jnp.asarray([1.0, 1.0])}
    for name in ("adam", "adamw", "rmsprop"):
        hparams = values(optimizer=name, b1=0.0, b2=0.9, eps=1e-3, learning_rate=1.0)
        chain = optimizers.build([name], hparams, frozenset({"clip_norm"}), 1.0)
        state = chain.init(params)
        for gradient in ({"w": jnp.asarray([3.0, -0.2])}, {"w": jnp.asarray([1.0, 0.1])}):
            updates, state = chain.update(gradient, state, params)
        scale = probes.preconditioner(name, state, hparams, params)
        np.testing.assert_allclose(updates["w"], -gradient["w"] / scale["w"], rtol=1e-5)
    assert probes.preconditioner("sgd", (), values(), params) is None


def test_noise_scale_of_expected_norms_is_exact() -> None:
    signal, variance = 0.3, 12.0
    small, big = (jnp.asarray(signal + variance / n) for n in (32, 1024))
    found = probes.noise_scale(small, big, 32, 1024)
    assert float(found) == pytest.approx(variance / signal, rel=1e-4)


def test_noise_scale_of_a_known_problem() -> None:
    """Gradients that are the rows themselves: trace of their covariance over squared mean."""
    rng = np.random.default_rng(0)
    mean, std = np.array([0.5, -0.2, 0.0]), np.array([1.0, 2.0, 0.5])
    drawn = rng.normal(size=(1024, 3))
    drawn = (drawn - drawn.mean(axis=0)) / drawn.std(axis=0, ddof=1)
    rows = jnp.asarray(mean + std * drawn, jnp.float32)

    def mean_loss(params: Any, batch: Batch, hparams: Any) -> jax.Array:
        losses = jnp.where(batch.mask, batch.inputs @ params["w"], 0.0)
        return losses.sum() / batch.mask.sum()

    batch = Batch(rows, jnp.zeros(1024), jnp.ones(1024, bool), jnp.asarray(1))
    small, big = probes.gradient_norms({"w": jnp.ones(3)}, batch, {}, mean_loss)
    found = probes.noise_scale(small, big, probes.SMALL_ROWS, 1024)
    assert float(found) == pytest.approx((std**2).sum() / (mean**2).sum(), rel=0.3)
    masked = batch._replace(mask=jnp.arange(1024) < 1000)
    again, _ = probes.gradient_norms({"w": jnp.ones(3)}, masked, {}, mean_loss)
    assert float(again) == pytest.approx(float(small), rel=0.1)


def test_noise_scale_where_the_gradient_is_lost() -> None:
    assert probes.noise_scale(jnp.asarray(1.0), jnp.asarray(1.0 / 32), 32, 1024) == jnp.inf
    assert probes.noise_scale(jnp.asarray(1.0), jnp.asarray(1.0), 32, 32) == 0.0


def test_a_population_of_layers_has_its_sharpness_without_a_preconditioner() -> None:
    """The power iteration starts from one vector for all; `product` meets it in a loop."""
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.normal(size=(8, 3)), jnp.float32)
    kernels = jnp.asarray(rng.normal(size=(2, 3, 16)), jnp.float32)

    def found(kernel: jax.Array) -> jax.Array:
        return probes.sharpness(
            lambda params: (product(inputs, params["w"]) ** 2).sum() / 2, {"w": kernel}
        )

    largest = np.linalg.eigvalsh(inputs.T @ inputs).max()
    np.testing.assert_allclose(jax.vmap(found)(kernels), [largest] * 2, rtol=1e-3)
