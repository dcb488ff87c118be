"""Greedy ensembles: never worse than the best single member, NaN never chosen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxopt_lab.tuning.ensemble import bagged, combine, greedy


def squared(prediction: np.ndarray, targets: np.ndarray) -> float:
    return float(np.mean((prediction[:, 0] - targets) ** 2))


def log_loss(prediction: np.ndarray, targets: np.ndarray) -> float:
    chosen = prediction[np.arange(len(targets)), targets]
    return float(-np.mean(np.log(np.maximum(chosen, 1e-12))))


def population(seed: int, num_members: int = 8, num_rows: int = 40) -> tuple:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=num_rows)
    noise = rng.normal(size=(num_members, num_rows)) * rng.uniform(0.3, 1.5, (num_members, 1))
    return (truth + noise)[:, :, None], truth


@pytest.mark.parametrize("select", [greedy, bagged])
@given(seed=st.integers(0, 10_000), num_members=st.integers(1, 9))
def test_never_worse_than_the_best_single(select, seed: int, num_members: int) -> None:
    predictions, truth = population(seed, num_members)
    weights = select(predictions, truth, squared, max_steps=12)
    singles = [squared(p, truth) for p in predictions]
    assert squared(combine(predictions, weights), truth) <= min(singles) * (1 + 1e-12)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()


@pytest.mark.parametrize("select", [greedy, bagged])
def test_beats_the_best_single_on_new_rows(select) -> None:
    predictions, truth = population(3, num_members=12, num_rows=2_000)
    weights = select(predictions[:, :1_000], truth[:1_000], squared)
    new = squared(combine(predictions[:, 1_000:], weights), truth[1_000:])
    assert new < 0.8 * min(squared(p, truth[1_000:]) for p in predictions[:, 1_000:])


@pytest.mark.parametrize("select", [greedy, bagged])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_member_that_is_not_finite_is_never_chosen(select, bad: float) -> None:
    predictions, truth = population(1)
    predictions[2] = truth[:, None]
    predictions[2, 5] = bad
    weights = select(predictions, truth, squared)
    assert weights[2] == 0
    assert np.isfinite(combine(predictions, weights)).all()


def test_one_member() -> None:
    predictions, truth = population(0, num_members=1)
    assert greedy(predictions, truth, squared).tolist() == [1.0]
    assert bagged(predictions, truth, squared).tolist() == [1.0]


def test_ties_go_to_the_lower_index_and_the_smaller_ensemble() -> None:
    predictions, truth = population(0, num_members=1)
    weights = greedy(np.repeat(predictions, 4, axis=0), truth, squared)
    assert weights.tolist() == [1.0, 0.0, 0.0, 0.0]


def test_order_of_members_does_not_matter() -> None:
    predictions, truth = population(5)
    order = np.random.default_rng(0).permutation(len(predictions))
    weights = greedy(predictions, truth, squared)
    np.testing.assert_allclose(greedy(predictions[order], truth, squared), weights[order])


def test_tolerance_shortens() -> None:
    predictions, truth = population(7, num_members=20)
    used = [np.count_nonzero(greedy(predictions, truth, squared, tolerance=t)) for t in (0.0, 0.5)]
    assert used[0] > used[1]


def test_probabilities() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 60)
    predictions = rng.dirichlet(np.ones(3), (6, 60)) + np.eye(3)[truth] * rng.uniform(
        0, 1, (6, 60, 1)
    )
    predictions /= predictions.sum(axis=2, keepdims=True)
    weights = greedy(predictions, truth, log_loss)
    mixed = combine(predictions, weights)
    np.testing.assert_allclose(mixed.sum(axis=1), 1)
    assert log_loss(mixed, truth) <= min(log_loss(p, truth) for p in predictions)


def test_refuses_what_makes_no_sense() -> None:
    predictions, truth = population(0)
    with pytest.raises(ValueError, match="no member"):
        greedy(np.full_like(predictions, np.nan), truth, squared)
    with pytest.raises(ValueError, match="targets"):
        greedy(predictions, truth[:-1], squared)
    with pytest.raises(ValueError, match="max_steps"):
        greedy(predictions, truth, squared, max_steps=0)
    with pytest.raises(ValueError, match="share"):
        bagged(predictions, truth, squared, share=0.0)
