"""Extrapolated curves: probabilities that hold, and trials that are rightly stopped."""

import numpy as np
import pytest
from jaxtyping import Float

from jaxopt_lab import schedulers
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.schedulers import Standing
from jaxopt_lab.schedulers.curve_extrapolation import probability_below, promote_likely

EPOCHS = 40
T = np.arange(1.0, EPOCHS + 1)


def curves(seed: int, num: int = 60, decays: bool = False) -> Float[np.ndarray, "n epochs"]:
    """Power laws with noise; with a rate that decays they fall by a further part until the end."""
    rng = np.random.default_rng(seed)
    low, fall = 0.2 + rng.exponential(0.3, num), rng.uniform(0.3, 2.0, num)
    exponents = np.exp(rng.uniform(np.log(0.2), np.log(2.0), num))
    noise = np.exp(rng.uniform(np.log(0.002), np.log(0.03), num))
    found = low[:, None] + fall[:, None] * T ** -exponents[:, None]
    if decays:
        found = found + 0.15 * (0.5 + 0.5 * np.cos(np.pi * T / EPOCHS))
    return found + noise[:, None] * rng.standard_normal((num, EPOCHS))


def replay(found: Float[np.ndarray, "n epochs"]) -> tuple[list[int], list[int], int]:
    """Who would have been stopped, who not, and epochs trained."""
    scheduler = schedulers.curve_extrapolation()
    (rungs,) = scheduler.brackets(len(found), EPOCHS, 1)
    alive, before, spent = list(range(len(found))), 0, 0
    for rung in rungs:
        spent += (rung.num_epochs - before) * len(alive)
        before = rung.num_epochs
        seen = found[alive, : rung.num_epochs]
        standing = Standing(seen[:, -1], seen, np.zeros((0, rung.num_epochs)), EPOCHS)
        if rung.num_epochs < EPOCHS:
            chosen = scheduler.promote(standing, len(alive))
            alive = [i for i, goes_on in zip(alive, chosen, strict=True) if goes_on]
    return sorted({*range(len(found))} - {*alive}), alive, spent


@pytest.mark.parametrize("decays", [False, True], ids=["power law", "decaying rate"])
def test_of_those_that_are_stopped_almost_none_would_have_won(decays: bool) -> None:
    wrong = stopped = 0
    for seed in range(3):
        found = curves(seed, decays=decays)
        lost, kept, spent = replay(found)
        stopped += len(lost)
        wrong += int((found[lost, -1] < found[kept, -1].min()).sum())
        assert spent < 0.5 * found.size
    assert stopped > 100
    assert wrong <= 0.05 * stopped


def test_probabilities_are_those_that_come_true() -> None:
    rng, told, true = np.random.default_rng(5), [], []
    for row in curves(7, 120):
        target = row[-1] + 0.05 * rng.standard_normal()
        told += [probability_below(row[:age], EPOCHS, target) for age in (12, 24)]
        true += [row[-1] < target] * 2
    probable, came = np.array(told), np.array(true)
    assert came[probable < 0.05].mean() <= 0.05
    assert came[probable > 0.95].mean() >= 0.95
    middle = (probable > 0.2) & (probable < 0.8)
    assert 0.3 < came[middle].mean() < 0.7


def test_a_law_is_continued_to_its_end_whatever_its_scale() -> None:
    law = 0.3 + T**-0.5
    end, now = law[-1], law[:15]
    for scale, shift in ((1.0, 0.0), (1e-200, 0.0), (1e100, 0.0), (1.0, -5.0)):
        values = scale * now + shift
        assert probability_below(values, EPOCHS, scale * (end + 0.1) + shift) > 0.95
        assert probability_below(values, EPOCHS, scale * (end - 0.1) + shift) < 0.05
    # What it has now is above: the fall that is still to come was counted.
    assert law[14] > end + 0.09


@pytest.mark.parametrize(
    "curve",
    [np.ones(3), np.array([1.0, 0.9, np.nan, 0.8, 0.7, 0.6, 0.5]), np.array([1e300, -1e300] * 5)],
    ids=["short", "not finite", "huge"],
)
def test_where_nobody_can_tell_a_trial_goes_on(curve: np.ndarray) -> None:
    assert probability_below(curve, EPOCHS, 0.0) == 1.0


def test_a_flat_curve_stays_where_it_is() -> None:
    assert probability_below(np.ones(10), EPOCHS, 0.9) == 0.0
    assert probability_below(np.ones(10), EPOCHS, 1.0) == 1.0


def test_the_best_of_earlier_brackets_counts() -> None:
    mine = 0.5 + np.stack([T**-1.0, 1.02 * T**-1.0])[:, :20]
    alone = Standing(mine[:, -1], mine, np.zeros((0, 20)), EPOCHS)
    assert promote_likely(alone, 2, 0.05).tolist() == [True, True]
    others = np.full((1, 20), 0.2)
    after = promote_likely(alone._replace(others=others), 2, 0.05)
    assert after.tolist() == [True, False]  # the best of a bracket always goes on
    assert promote_likely(alone._replace(others=others), 2, 0.0).all()


def test_a_probability_is_one() -> None:
    with pytest.raises(UserError, match="least_probability must be a number from 0 to 1"):
        schedulers.make("curve_extrapolation", {"least_probability": 5})
