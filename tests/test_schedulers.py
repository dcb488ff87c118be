"""Every scheduler keeps the contract: pure, falling rungs, and no NaN goes on."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxopt_lab import schedulers
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.schedulers import Rung, Scheduler

each = pytest.mark.parametrize("scheduler", [make() for make in schedulers.REGISTRY.values()])
LOSSES = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1)


@each
@given(st.integers(1, 300), st.integers(1, 200))
def test_rungs_fall_in_trials_and_rise_in_epochs(scheduler: Scheduler, n: int, epochs: int) -> None:
    rungs = scheduler.rungs(n, epochs)
    assert rungs[0].num_trials == n
    assert rungs[-1].num_epochs == epochs
    for before, after in itertools.pairwise(rungs):
        assert 1 <= after.num_trials < before.num_trials
        assert 1 <= before.num_epochs < after.num_epochs


@each
@given(LOSSES, st.data())
def test_the_best_finite_losses_are_promoted(
    scheduler: Scheduler, values: list[float], data: st.DataObject
) -> None:
    losses = np.array(values)
    count = data.draw(st.integers(1, len(losses)))
    chosen = scheduler.promote(losses, count)
    finite = np.isfinite(losses)
    assert chosen.shape == losses.shape
    assert chosen.sum() == min(count, finite.sum())
    assert not (chosen & ~finite).any()
    if (finite & ~chosen).any() and chosen.any():
        assert losses[chosen].max() <= losses[finite & ~chosen].min()
    np.testing.assert_array_equal(scheduler.promote(losses.copy(), count), chosen)


@each
def test_ties_go_to_the_lower_index(scheduler: Scheduler) -> None:
    losses = np.array([2.0, 1.0, 1.0, 1.0, np.nan])
    assert np.flatnonzero(scheduler.promote(losses, 2)).tolist() == [1, 2]


@each
@pytest.mark.parametrize("count", [0, 4])
def test_an_impossible_number_is_refused(scheduler: Scheduler, count: int) -> None:
    with pytest.raises(ValueError, match=rf"in \[1, 3\], got {count}"):
        scheduler.promote(np.ones(3), count)


def test_halving_by_three_from_81() -> None:
    rungs = schedulers.successive_halving().rungs(81, 81)
    assert rungs == (Rung(81, 1), Rung(27, 3), Rung(9, 9), Rung(3, 27), Rung(1, 81))
    assert schedulers.successive_halving(min_epochs=9).rungs(5, 27) == (Rung(5, 9), Rung(1, 27))
    assert schedulers.successive_halving().rungs(2, 27) == (Rung(2, 27),)


@pytest.mark.parametrize(
    "settings", [{"reduction": 1}, {"min_epochs": 0}, {"num_brackets": 0}], ids=str
)
def test_a_setting_that_cannot_be_is_named(settings: dict[str, int]) -> None:
    (name,) = settings
    with pytest.raises(UserError, match=f"{name} must be at least"):
        schedulers.successive_halving(**settings)
