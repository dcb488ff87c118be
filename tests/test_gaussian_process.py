"""Golden tests of the Gaussian process against scikit-learn, and of the acquisition functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax import Array
from jax.test_util import check_grads
from scipy.optimize import minimize
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from jaxopt_lab.search.acquisition import Candidates, choose_jointly, log_expected_improvement
from jaxopt_lab.search.encoding import features
from jaxopt_lab.search.feasibility import labels, log_probability
from jaxopt_lab.search.gaussian_process import (
    Data,
    Hyperparameters,
    choose_warp,
    condition,
    covariance,
    fit,
    initial_hyperparameters,
    negative_log_posterior,
    predict,
    rank_error,
)
from jaxopt_lab.search.models import float64_on_cpu
from jaxopt_lab.search.outputs import WARP_OFFSETS, warps
from jaxopt_lab.spaces.distributions import Choice, Uniform
from jaxopt_lab.spaces.space import SearchSpace

LENGTHS = np.array([0.3, 0.8, 0.5])


@pytest.fixture(autouse=True)
def float64():
    with float64_on_cpu():
        yield


def make_data(n: int, size: int, categorical: tuple[bool, ...] = (False,) * 3) -> Data:
    rng = np.random.default_rng(0)
    x = np.full((size, 3), 0.5)
    x[:n] = rng.random((n, 3))
    if any(categorical):
        x[:, list(categorical)] = np.round(x[:, list(categorical)])
    y = np.sin(6 * x[:, 0]) + x[:, 1] ** 2 - (x[:, 2] > 0.5)
    arrays = x, y, np.full(size, 0.01), np.arange(size) < n, np.arange(3), np.array(categorical)
    return Data(*map(jnp.asarray, arrays))


def make_hyper() -> Hyperparameters:
    values = np.log(LENGTHS), np.log(1.7), np.log(0.05), 0.0
    return Hyperparameters(*(jnp.asarray(v) for v in values))


def test_posterior_is_scikit_learns() -> None:
    data, hyper = make_data(40, 64), make_hyper()
    kernel = ConstantKernel(1.7, "fixed") * Matern(LENGTHS, "fixed", nu=2.5)
    alpha = 0.05 + 0.01 + 1.7e-8
    theirs = GaussianProcessRegressor(kernel, alpha=alpha, optimizer=None)
    theirs.fit(np.asarray(data.x)[:40], np.asarray(data.y)[:40])
    points = np.random.default_rng(1).random((50, 3))
    mean, deviation = theirs.predict(points, return_std=True)
    ours, variance = predict(condition(hyper, data), jnp.asarray(points))
    np.testing.assert_allclose(ours, mean, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(variance, deviation**2, rtol=1e-6, atol=1e-9)


def test_marginal_likelihood_is_scikit_learns() -> None:
    """Two hyperparameter settings differ by the same log likelihood, once priors are out."""
    data = make_data(40, 64)

    def ours(hyper: Hyperparameters) -> float:
        no_prior = negative_log_posterior(hyper, data._replace(mask=jnp.zeros(64, bool)))
        return float(negative_log_posterior(hyper, data) - no_prior)

    def theirs(lengths: np.ndarray) -> float:
        kernel = ConstantKernel(1.7, "fixed") * Matern(lengths, "fixed", nu=2.5)
        process = GaussianProcessRegressor(kernel, alpha=0.06 + 1.7e-8, optimizer=None)
        process.fit(np.asarray(data.x)[:40], np.asarray(data.y)[:40])
        return -process.log_marginal_likelihood_value_

    other = make_hyper()._replace(log_lengths=jnp.asarray(np.log(2 * LENGTHS)))
    difference = theirs(2 * LENGTHS) - theirs(LENGTHS)
    assert ours(other) - ours(make_hyper()) == pytest.approx(difference, rel=1e-7)


def test_gradient_is_that_of_finite_differences() -> None:
    data, hyper = make_data(20, 32, (False, True, False)), make_hyper()

    def loss(at: Hyperparameters) -> Array:
        return negative_log_posterior(jax.tree.map(jnp.asarray, at), data)

    check_grads(jax.jit(loss), (hyper,), 1, ["rev"])


def test_padding_changes_nothing() -> None:
    points = jnp.asarray(np.random.default_rng(1).random((9, 3)))
    small, large = (predict(condition(make_hyper(), make_data(20, s)), points) for s in (32, 128))
    np.testing.assert_allclose(small[0], large[0], rtol=1e-9)
    np.testing.assert_allclose(small[1], large[1], rtol=1e-9)


def test_categories_are_equally_far() -> None:
    space = SearchSpace(a=Uniform(0, 1), b=Choice(["x", "y", "z"]), c=Uniform(0, 1))
    seen = features(space, space.to_unit([{"a": 0.5, "b": v, "c": 0.5} for v in "xyz"]))
    arrays = seen.columns, np.zeros(3), np.zeros(3), np.ones(3, bool), seen.owner, seen.categorical
    data = Data(*map(jnp.asarray, arrays))
    cov = covariance(make_hyper(), data, data.x, data.x)
    np.testing.assert_allclose(cov[0, 1], cov[0, 2])
    np.testing.assert_allclose(cov[0, 1], 1.7 * np.exp(-1 / 0.8), rtol=1e-6)


def test_fit_finds_what_matters() -> None:
    data = make_data(60, 64)._replace(noise=jnp.zeros(64))
    data = data._replace(y=jnp.where(data.mask, jnp.sin(6 * data.x[:, 0]), 0.0))
    hyper, loss = fit(initial_hyperparameters(3, 3), data)
    assert np.isfinite(loss)
    lengths = np.exp(hyper.log_lengths)
    assert lengths[0] < 0.3 * lengths[1:].min()
    assert np.exp(hyper.log_noise) < 0.01


def test_log_expected_improvement() -> None:
    mean, variance = jnp.linspace(-3.0, 5.0, 9), jnp.full(9, 0.64)
    z = -np.asarray(mean) / 0.8
    expected = np.log(0.8 * (scipy.stats.norm.pdf(z) + z * scipy.stats.norm.cdf(z)))
    ours = log_expected_improvement(mean, variance, jnp.asarray(0.0))
    np.testing.assert_allclose(ours, expected, rtol=1e-8)
    far = log_expected_improvement(jnp.asarray([1e2, 1e4, 1e6]), jnp.ones(3), jnp.asarray(0.0))
    assert np.all(np.isfinite(far))
    assert np.all(np.diff(far) < 0)


def test_joint_choices_spread_as_conditioning_again_would() -> None:
    """The rank-one updates give the points that conditioning on each fantasy anew gives."""
    data, hyper = make_data(20, 32), make_hyper()
    points = jnp.asarray(np.random.default_rng(3).random((60, 3)))
    posterior = condition(hyper, data)
    best, still = jnp.asarray(-0.9), jnp.zeros((60, 3), bool)
    candidates = Candidates(points, still, jnp.ones(60, bool))
    fast, _ = choose_jointly(posterior, None, candidates, best, 6, 0)
    slow: list[int] = []
    for _ in range(6):
        mean, variance = predict(posterior, points)
        worth = np.array(log_expected_improvement(mean, variance, best))
        worth[slow] = -np.inf
        choice = int(np.argmax(worth))
        slow.append(choice)
        row = int(data.mask.sum())
        data = data._replace(
            x=data.x.at[row].set(points[choice]),
            y=data.y.at[row].set(mean[choice]),
            # A fantasy is free of noise.
            noise=data.noise.at[row].set(-jnp.exp(hyper.log_noise)),
            mask=data.mask.at[row].set(True),
        )
        best = jnp.minimum(best, mean[choice])
        posterior = condition(hyper, data)
    assert fast.tolist() == slow


def test_feasibility_learns_a_border() -> None:
    data = make_data(60, 64)
    signs = labels(np.asarray(data.x[:, 0]) > 0.6)
    data = data._replace(y=jnp.asarray(signs), noise=jnp.zeros(64))
    hyper, _ = fit(initial_hyperparameters(3, 3), data)
    points = jnp.asarray([[0.1, 0.5, 0.5], [0.95, 0.5, 0.5]])
    inside, outside = np.exp(log_probability(condition(hyper, data), points))
    assert inside > 0.9
    assert outside < 0.1


def test_choices_are_improved_along_movable_features_only() -> None:
    data, hyper = make_data(20, 32), make_hyper()
    points = jnp.asarray(np.random.default_rng(3).random((60, 3)))
    posterior, best = condition(hyper, data), jnp.asarray(-0.9)
    movable = jnp.tile(jnp.asarray([True, True, False]), (60, 1))
    candidates = Candidates(points, movable, jnp.ones(60, bool))
    chosen, moved = choose_jointly(posterior, None, candidates, best, 4, 32)
    start = points[chosen]
    np.testing.assert_array_equal(moved[:, 2], start[:, 2])
    assert np.all((moved >= 0) & (moved <= 1))

    def worth(x: Array) -> float:
        return float(log_expected_improvement(*predict(posterior, x[None]), best)[0])

    assert worth(moved[0]) > worth(start[0]) + 1e-3
    alone = minimize(
        lambda x: -worth(jnp.asarray([*x, start[0, 2]])), start[0, :2], method="Nelder-Mead"
    )
    assert worth(moved[0]) == pytest.approx(-alone.fun, abs=1e-2)


def test_predictions_that_leave_one_out_are_scikit_learns() -> None:
    data, hyper = make_data(20, 32), make_hyper()
    x, y = (np.asarray(a)[:20] for a in (data.x, data.y))
    kernel = ConstantKernel(1.7, "fixed") * Matern(LENGTHS, "fixed", nu=2.5)
    theirs = GaussianProcessRegressor(kernel, alpha=0.06 + 1.7e-8, optimizer=None)
    errors = []
    for i in range(20):
        rest = np.arange(20) != i
        (left_out,) = theirs.fit(x[rest], y[rest]).predict(x[i : i + 1])
        errors.append(abs((y < left_out).sum() - (y < y[i]).sum()))
    assert float(rank_error(condition(hyper, data))) == pytest.approx(np.mean(errors))
    assert np.mean(errors) > 0


def test_the_warp_that_makes_the_values_smooth_is_chosen() -> None:
    data = make_data(50, 64)._replace(noise=jnp.zeros(64))
    bowl = np.square(np.asarray(data.x)[:50] - 0.4).sum(1)
    starts = initial_hyperparameters(3, 3)
    chosen = {}
    for name, values in {"bowl": bowl, "steep": np.exp(12 * bowl)}.items():
        outputs = warps(values, np.zeros(50))
        y, noise = (jnp.asarray(np.pad(a, ((0, 0), (0, 14)))) for a in outputs)
        chosen[name] = int(choose_warp(starts, data, y, noise, 25)[0])
    assert chosen["bowl"] in (0, len(WARP_OFFSETS))  # none, or the mildest
    assert chosen["steep"] in range(1, len(WARP_OFFSETS))


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_outputs_keep_their_order(scale: float) -> None:
    values = np.random.default_rng(0).lognormal(0, 3, 200) * scale
    y, noise = warps(values, 0.1 * values)
    assert y.shape == noise.shape == (4, 200)
    assert np.all(np.diff(y[:, np.argsort(values)]) >= 0)
    np.testing.assert_allclose(y.mean(1), 0, atol=1e-9)
    np.testing.assert_allclose(y.std(1), 1)
    assert np.all(np.isfinite(noise))


def test_standard_errors_follow_the_warp() -> None:
    values, noise = np.linspace(1.0, 2.0, 51), np.full(51, 1e-3)
    y, variances = warps(values, noise)
    slope = np.gradient(y, values, axis=1)
    np.testing.assert_allclose(np.sqrt(variances)[:, 5:-5], 1e-3 * slope[:, 5:-5], rtol=2e-2)


def test_outputs_of_constant_values() -> None:
    y, noise = warps(np.full(5, 3.0), np.zeros(5))
    assert y.tolist() == noise.tolist() == [[0.0] * 5]
