"""The fluctuation number: what it sees, what it ignores, and intervals around it."""

import numpy as np
import pytest

from jaxopt_lab.stabilization import fluctuation
from jaxopt_lab.stabilization.fluctuation import MAX_FLUCTUATION, measure
from jaxopt_lab.stabilization.intervals import geometric_mean, paired_ratio, ratio_of_means

STEPS = np.arange(120)
DESCENT = 0.2 + np.exp(-STEPS / 15)


def noisy(spread: float, seed: int = 0) -> np.ndarray:
    return DESCENT * np.exp(np.random.default_rng(seed).normal(0, spread, len(STEPS)))


@pytest.mark.parametrize("spread", [0.01, 0.1, 0.5])
def test_it_is_the_standard_deviation_of_the_log(spread: float) -> None:
    found = [measure(noisy(spread, seed)).spread for seed in range(20)]
    assert np.mean(found) == pytest.approx(spread, rel=0.1)


def test_a_smooth_curve_has_none_whatever_its_trend() -> None:
    for curve in (DESCENT, np.linspace(1, 3, 120), np.exp(-STEPS / 20)):
        assert measure(curve).spread < 4e-3
    assert measure(np.full(120, 0.3)).spread == pytest.approx(0, abs=1e-9)


def test_the_unit_does_not_matter_nor_does_the_early_curve() -> None:
    curve = noisy(0.1)
    changed = np.concatenate([np.linspace(90, 5, 60), 1000 * curve[60:]])
    assert measure(changed).spread == pytest.approx(measure(curve).spread)


def test_a_rare_spike_is_counted_and_hardly_moves_the_spread() -> None:
    curve = noisy(0.02)
    apart, together = curve.copy(), curve.copy()
    apart[[80, 100]] *= 3.0
    together[[80, 81]] *= 3.0
    before, after = measure(curve), measure(apart)
    assert (before.num_spikes, after.num_spikes) == (0, 2)
    assert measure(together).num_spikes == 1
    assert after.spread < 1.5 * before.spread
    assert after.peak == pytest.approx(np.log(3), rel=0.1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_diverged_curve_has_the_most(bad: float) -> None:
    curve = noisy(0.02)
    curve[-1] = bad
    assert measure(curve).spread == MAX_FLUCTUATION


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="too short"):
        measure(DESCENT[:5])
    with pytest.raises(ValueError, match="above 0"):
        measure(DESCENT - 1.0)


def test_drift_and_rise_tell_overfitting_from_learning() -> None:
    falling_then_rising = np.exp(np.abs(STEPS - 30) / 60)
    assert fluctuation.rise(falling_then_rising) == pytest.approx(1.48, abs=0.25)
    assert measure(falling_then_rising).drift == pytest.approx(1.0, abs=0.05)
    assert fluctuation.rise(DESCENT) == pytest.approx(0, abs=0.02)
    assert measure(np.exp(-STEPS / 60)).drift == pytest.approx(-1.0, abs=0.05)


def resampled(rows: np.ndarray, seed: int = 0) -> np.ndarray:
    """[t, 32] from losses of single rows [t, m]: each row twice or not at all."""
    weights = 2.0 * np.random.default_rng(seed).integers(0, 2, (rows.shape[1], 32))
    return rows @ weights / rows.shape[1]


def test_the_noise_floor_is_the_part_that_rows_do_not_share() -> None:
    rng = np.random.default_rng(0)
    common = np.exp(rng.normal(0, 0.2, (120, 1)))
    own = 1.0 + rng.normal(0, 0.3, (120, 25))
    assert fluctuation.noise_floor(resampled(1.0 + 0 * own)) == pytest.approx(0, abs=1e-9)
    assert fluctuation.noise_floor(resampled(common + 0 * own)) == pytest.approx(0, abs=1e-9)
    floor = fluctuation.noise_floor(resampled(common * own))
    assert floor == pytest.approx(0.3 / np.sqrt(25), rel=0.15)
    few = fluctuation.noise_floor(resampled(common * own[:, :6]))
    assert few > 1.6 * floor


def test_the_best_loss_owes_nothing_to_luck() -> None:
    rng = np.random.default_rng(0)
    rows = 1.0 + rng.normal(0, 0.5, (200, 400))
    loss = rows.mean(axis=1)
    assert loss.min() < 0.95
    assert fluctuation.best_losses(loss, resampled(rows)).mean() == pytest.approx(1.0, abs=0.02)
    better = rows.copy()
    better[50] -= 0.5
    found = fluctuation.best_losses(better.mean(axis=1), resampled(better))
    assert found.mean() == pytest.approx(0.5, abs=0.05)


def test_intervals_cover_and_pairs_remove_what_seeds_share() -> None:
    rng = np.random.default_rng(0)
    hits = sum(
        found.low <= 1.0 <= found.high
        for found in (geometric_mean(np.exp(rng.normal(0, 1, 12))) for _ in range(200))
    )
    assert 170 <= hits <= 198
    shared = np.exp(rng.normal(0, 2, 6))
    ratio = paired_ratio(shared * 0.5, shared)
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((0.5, 0.5, 0.5))


def test_a_ratio_of_means_weighs_seeds_by_their_size() -> None:
    before, after = np.asarray([1.0, 1.0, 8.0, 2.0]), np.asarray([1.2, 1.2, 2.0, 1.6])
    found = ratio_of_means(after, before)
    assert found.value == pytest.approx(0.5)
    assert found.low < 0.5 < 1.0 < found.high
    assert ratio_of_means(before * 0.9, before) == pytest.approx((0.9, 0.9, 0.9))
