"""Decisions of a population: the faults that other implementations have had, held as tests."""

import math
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxopt_lab as lab
from jaxopt_lab import schedulers
from jaxopt_lab.core.devices import float64
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.schedulers.explore import reflected
from jaxopt_lab.schedulers.pb2 import _columns
from jaxopt_lab.schedulers.populations import Past, PopulationScheduler, Seen, axes_of
from jaxopt_lab.search.gaussian_process import Data, Hyperparameters, covariance

SPACE = lab.SearchSpace(
    rate=lab.LogUniform(1e-4, 1e-1),
    clip=lab.Uniform(0.1, 0.4),
    steps=lab.IntUniform(1, 5),
    batch=lab.LogIntUniform(1, 300),
    gamma=lab.Choice([0.9, 0.99, 0.999]),
    flag=lab.Choice([True, False]),
    width=lab.Choice([32, 64], static=True),
)
FREE = ("rate", "clip", "steps", "batch", "gamma", "flag")
KEYS = [jax.random.key(i) for i in range(20)]
KEY = KEYS[0]
SCHEDULERS = {
    "truncation": schedulers.population_based_training(every=1),
    "tournament": schedulers.population_based_training(every=1, exploit="tournament"),
    "resample": schedulers.population_based_training(every=1, explore="resample"),
    "pb2": schedulers.pb2(every=1),
}
each = pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
SCORES = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=9)


def seen(scores: Any, seed: int = 0, past: Past | None = None) -> Seen:
    """A population at random places."""
    rng = np.random.default_rng(seed)
    configs = SPACE.from_unit(rng.random((len(scores), SPACE.num_dims)))
    nothing = Past(np.zeros(0, np.int64), np.zeros((0, SPACE.num_dims)), np.zeros(0))
    return Seen(
        np.asarray(scores, np.float64),
        SPACE.to_unit(configs),
        axes_of(SPACE, FREE),
        past or nothing,
        3,
        9,
    )


def past_of(points: np.ndarray, gain: Any) -> Past:
    generations = np.repeat([1, 2, 3], math.ceil(len(points) / 3))[: len(points)]
    return Past(generations, points, np.asarray([gain(p) for p in points]))


@each
@settings(max_examples=30)
@given(SCORES, st.integers(0, 2))
def test_no_parent_is_worse_or_not_finite(
    scheduler: PopulationScheduler, values: list[float], seed: int
) -> None:
    population = seen(values)
    found = scheduler.decide(KEYS[seed], population)
    finite, own = np.isfinite(population.scores), np.arange(len(values))
    assert found.parents.shape == (len(values),)
    copies = found.parents != own
    assert finite[found.parents[copies]].all()
    better = population.scores[found.parents] < population.scores
    assert (better | ~finite)[copies].all()
    if finite.any():
        assert copies[~finite].all(), "a member that diverged goes on from one that did not"
    np.testing.assert_array_equal(found.points[~copies], population.points[~copies])
    again = scheduler.decide(KEYS[seed], population)
    np.testing.assert_array_equal(again.parents, found.parents)
    np.testing.assert_array_equal(again.points, found.points)


@pytest.mark.parametrize("exploit", [schedulers.truncation(), schedulers.tournament()])
def test_equal_scores_copy_nobody(exploit: Any) -> None:
    scores = np.array([1.0, 1.0, 1.0, 1.0])
    assert exploit.call(KEY, scores).tolist() == [0, 1, 2, 3]


def test_truncation_copies_the_best_share_into_the_worst() -> None:
    scores = np.arange(10.0)[::-1]
    parents = np.stack([schedulers.truncation(0.2).call(key, scores) for key in KEYS])
    assert set(parents[:, :2].ravel()) == {8, 9}
    assert (parents[:, 2:] == np.arange(2, 10)).all()


def extreme_steps(name: str, step: float) -> np.ndarray:
    """What many copies of members at both ends of a range become."""
    axis = SPACE.names.index(name)
    points = np.full((200, SPACE.num_dims), 0.5)
    points[:, axis] = np.where(np.arange(200) % 2, 0.0, 1.0)
    population = seen(np.ones(200))._replace(points=points)
    explored = schedulers.perturb(step, 0.0).call(KEY, population, np.arange(200))
    return explored[:, axis]


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("step", [0.1, 1.0])
def test_values_at_the_ends_stay_inside(name: str, step: float) -> None:
    places = extreme_steps(name, step)
    assert places.min() >= 0.0
    assert places.max() <= 1.0
    dist = SPACE.parameters[name]
    assert all(dist.contains(dist.from_unit(float(u))) for u in places)


def test_steps_are_reflected_not_clipped() -> None:
    np.testing.assert_allclose(reflected(np.array([-0.1, 1.2, 2.3, -1.4])), [0.1, 0.8, 0.3, 0.6])
    places = extreme_steps("clip", 0.1)
    assert ((places > 0.0) & (places < 1.0)).all()


@each
def test_choices_stay_choices_and_whole_numbers_whole(scheduler: PopulationScheduler) -> None:
    population = seen(np.arange(60.0), seed=1)
    found = scheduler.decide(KEY, population)
    for config in SPACE.from_unit(found.points):
        assert SPACE.why_outside(config) is None
        assert type(config["steps"]) is int
        assert type(config["batch"]) is int
        assert type(config["flag"]) is bool
        assert config["gamma"] in (0.9, 0.99, 0.999)


def test_an_ordered_choice_steps_to_a_neighbour_and_an_unordered_one_stays() -> None:
    gamma, flag = (SPACE.names.index(name) for name in ("gamma", "flag"))
    population = seen(np.ones(300), seed=2)
    explored = schedulers.perturb(0.01, 0.0).call(KEY, population, np.arange(300))
    levels = np.round(population.points[:, gamma] * 3 - 0.5).astype(int)
    moved = np.round(explored[:, gamma] * 3 - 0.5).astype(int)
    assert (np.abs(levels - moved) == 1).all()
    np.testing.assert_array_equal(explored[:, flag], population.points[:, flag])
    anew = schedulers.perturb(0.01, 0.5).call(KEY, population, np.arange(300))
    assert 0.1 < np.mean(anew[:, flag] != population.points[:, flag]) < 0.4


def test_a_whole_number_moves_however_small_the_step() -> None:
    """Rounded back to the level from which it came, it would never move."""
    for name in ("steps", "batch"):
        axis, dist = SPACE.names.index(name), SPACE.parameters[name]
        population = seen(np.ones(50), seed=3)
        explored = schedulers.perturb(1e-3, 0.0).call(KEY, population, np.arange(50))
        before = [dist.from_unit(float(u)) for u in population.points[:, axis]]
        after = [dist.from_unit(float(u)) for u in explored[:, axis]]
        assert all(1 <= abs(a - b) <= 3 for a, b in zip(before, after, strict=True))


@each
def test_static_values_are_the_parents(scheduler: PopulationScheduler) -> None:
    population = seen(np.arange(40.0), seed=4)
    found = scheduler.decide(KEY, population)
    width = SPACE.names.index("width")
    np.testing.assert_array_equal(found.points[:, width], population.points[found.parents, width])
    assert (found.parents != np.arange(40)).any()


def test_each_hyperparameter_has_random_numbers_of_its_own() -> None:
    population = seen(np.ones(400), seed=5)
    explored = schedulers.perturb(0.02, 0.0).call(KEY, population, np.arange(400))
    steps = (explored - population.points)[:, :2]
    inside = (np.abs(population.points[:, :2] - 0.5) < 0.4).all(axis=1)
    correlation = np.corrcoef(steps[inside].T)[0, 1]
    assert abs(correlation) < 0.2


def test_pb2_takes_the_values_that_gained() -> None:
    """Gains grow with the rate; what diverged at the highest ones is no reason to go there."""
    rng = np.random.default_rng(0)
    points = SPACE.to_unit(SPACE.from_unit(rng.random((60, SPACE.num_dims))))
    past = past_of(points, lambda p: -((p[0] - 0.7) ** 2) if p[0] < 0.9 else math.nan)
    population = seen(np.arange(40.0), past=past)
    found = SCHEDULERS["pb2"].decide(KEY, population)
    copies = found.parents != np.arange(40)
    assert copies.sum() == 8
    rates = found.points[copies, 0]
    assert np.abs(np.median(rates) - 0.7) < 0.15
    assert (rates < 0.9).all()
    by_chance = SCHEDULERS["truncation"].decide(KEY, population).points[copies, 0]
    assert np.abs(rates - 0.7).mean() < np.abs(by_chance - 0.7).mean()


def test_the_kernel_of_pb2_forgets_by_generations() -> None:
    """k(t, t') = (1 - e)^(|t - t'| / 2), of Parker-Holder et al. 2020, times that of the values."""
    length = 1.7
    with float64():
        columns = _columns(np.array([0, 1, 5]), np.full((3, 1), 0.4), 6)
        owner, is_time = np.array([0, 1, 1, 1, 1, 1, 1]), np.array([False, *[True] * 6])
        hyper = Hyperparameters(np.log([0.5, length]), np.zeros(()), np.zeros(()), np.zeros(()))
        data = Data(columns, np.zeros(3), np.zeros(3), np.ones(3, bool), owner, is_time)
        hyper, data = jax.tree.map(jax.numpy.asarray, (hyper, data))
        found = np.asarray(covariance(hyper, data, data.x, data.x))
    kept = np.exp(-1 / length)
    apart = np.abs(np.subtract.outer([0, 1, 5], [0, 1, 5]))
    np.testing.assert_allclose(found, kept ** (apart / 2), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: schedulers.population_based_training(every=0), "every must be a whole number"),
        (lambda: schedulers.population_based_training(every="5"), "every must be a whole number"),
        (lambda: schedulers.pb2(exploit="truncate"), "Did you mean 'truncation'"),
        (lambda: schedulers.population_based_training(explore="perturbe"), "Did you mean"),
        (lambda: schedulers.truncation(0.6), r"fraction .* at most 0\.5, got 0\.6"),
        (lambda: schedulers.perturb(step=-0.1), r"step must lie in \[0, 1\], got -0\.1"),
        (lambda: schedulers.perturb(resample=2), r"resample must lie in \[0, 1\], got 2"),
    ],
)
def test_a_setting_that_cannot_be_is_named(make: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()


def test_the_name_says_all_settings() -> None:
    made = schedulers.population_based_training(
        every=5, exploit=schedulers.truncation(0.3), explore=schedulers.perturb(0.05, 0.2)
    )
    assert "every 5" in made.name
    assert "0.3" in made.name
    assert "0.05" in made.name
    assert made.name != schedulers.population_based_training(every=5).name
