"""One conformance suite for every sampler: listing a new one here tests it."""

import jax
import numpy as np
import optuna
import pytest

from jaxopt_lab import search
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.search import History, Sampler
from jaxopt_lab.search.base import MAX_PROPOSALS
from jaxopt_lab.search.encoding import parents_first, row_keys, snap
from jaxopt_lab.search.region import Region, frame_of, hull
from jaxopt_lab.spaces.distributions import Choice, IntUniform, LogIntUniform, LogUniform, Uniform
from jaxopt_lab.spaces.space import SearchSpace

MIXED = SearchSpace(
    learning_rate=LogUniform(1e-4, 1e-1),
    dropout=Uniform(0.0, 0.5),
    num_layers=IntUniform(1, 4),
    width=LogIntUniform(8, 256),
    activation=Choice(["relu", "tanh", "gelu"]),
    batch_size=Choice([32, 64, 128]),
    epochs=5,
)
CONDITIONAL = SearchSpace(
    momentum=Uniform(0.5, 0.99).when(optimizer=["momentum", "nesterov"]),
    optimizer=Choice(["sgd", "momentum", "nesterov"]),
    num_layers=IntUniform(1, 3),
    width_3=LogIntUniform(8, 64).when(num_layers=3),
    gate=Choice(["a", "b"]).when(width_3=[8, 64]),
)
FINITE = SearchSpace(a=Choice(["x", "y", "z"]), b=IntUniform(0, 3), c=Choice([True, False]))

SAMPLERS = {name: factory() for name, factory in search.REGISTRY.items()}
SAMPLERS["halton"] = search.quasi_random("halton")
SAMPLERS["tpe"] = search.from_optuna(lambda seed: optuna.samplers.TPESampler(seed=seed))
SAMPLERS["cma_es"] = search.from_optuna(
    lambda seed: optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
)
SAMPLERS["nsga_ii"] = search.from_optuna(
    lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=8)
)

SAMPLERS["prior"] = search.with_prior(search.random(), {}, num=6)

OPTUNAS = ("tpe", "cma_es", "nsga_ii")

each_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)


def random_history(space: SearchSpace, n: int, seed: int = 0) -> History:
    """n distinct points with a smooth value."""
    rng = np.random.default_rng(seed)
    points = snap(space, rng.random((n, space.num_dims)))
    return History(points, ((points - 0.3) ** 2).sum(1))


def check_configs(space: SearchSpace, configs: list[dict]) -> None:
    """Every configuration lies in the space and holds exactly the active parameters."""
    for config in configs:
        for name, value in space.fixed.items():
            assert config[name] == value
        for name, dist in space.parameters.items():
            assert (name in config) == space.is_active(name, config), (name, config)
            assert name not in config or dist.contains(config[name]), (name, config)
        assert set(config) <= {*space.parameters, *space.fixed}


def same(a: list[dict], b: list[dict]) -> bool:
    return [sorted(map(repr, c.items())) for c in a] == [sorted(map(repr, c.items())) for c in b]


@each_sampler
@pytest.mark.parametrize(
    "space", [MIXED, CONDITIONAL, FINITE], ids=["mixed", "conditional", "finite"]
)
@pytest.mark.parametrize(("num_before", "n"), [(0, 9), (20, 4)])
def test_inside_the_space(sampler: Sampler, space: SearchSpace, num_before: int, n: int) -> None:
    history = random_history(space, num_before)
    configs = sampler.propose(jax.random.key(3), space, history, n)
    assert len(configs) == n or (sampler.name == "grid" and space is FINITE)
    check_configs(space, configs)


@pytest.mark.parametrize(
    "sampler",
    [pytest.param(s, marks=[pytest.mark.slow] * (n in OPTUNAS)) for n, s in SAMPLERS.items()],
    ids=SAMPLERS,
)
def test_largest_batch(sampler: Sampler) -> None:
    configs = sampler.propose(jax.random.key(0), MIXED, random_history(MIXED, 30), 256)
    assert len(configs) == 256
    check_configs(MIXED, configs)


@each_sampler
@pytest.mark.parametrize("n", [0, 257])
def test_refuses_other_batch_sizes(sampler: Sampler, n: int) -> None:
    with pytest.raises(ValueError, match=r"\[1, 256\]"):
        sampler.propose(jax.random.key(0), MIXED, History.empty(MIXED), n)


@each_sampler
def test_refuses_the_history_of_another_space(sampler: Sampler) -> None:
    with pytest.raises(ValueError, match="dimensions"):
        sampler.propose(jax.random.key(0), MIXED, History.empty(FINITE), 1)


@each_sampler
@pytest.mark.parametrize("num_before", [0, 40])
def test_same_key_same_proposals(sampler: Sampler, num_before: int) -> None:
    history = random_history(CONDITIONAL, num_before)
    first, again = (sampler.propose(jax.random.key(5), CONDITIONAL, history, 6) for _ in range(2))
    assert same(first, again)
    if sampler.name != "grid":
        other = sampler.propose(jax.random.key(6), CONDITIONAL, history, 6)
        assert not same(first, other)


def awkward(kind: str) -> History:
    """Histories that break naive models."""
    points = random_history(MIXED, 24).points
    rng = np.random.default_rng(1)
    values = {
        "nan": np.where(rng.random(24) < 0.4, np.nan, rng.random(24)),
        "all_nan": np.full(24, np.nan),
        "infinite": np.where(rng.random(24) < 0.4, np.inf, rng.random(24)),
        "ties": rng.integers(0, 2, 24).astype(float),
        "constant": np.full(24, 3.0),
        "huge": 10.0 ** rng.uniform(-300, 300, 24),
        "large_offset": 1e9 + rng.random(24),
        "negative": -rng.random(24),
        "one_point": rng.random(1),
        "same_point": rng.random(24),
        "all_pending": rng.random(24),
        "noise": rng.random(24),
    }[kind]
    points = np.repeat(points[:1], 24, 0) if kind == "same_point" else points[: len(values)]
    pending = np.full(len(values), kind == "all_pending")
    noise = np.where(rng.random(len(values)) < 0.5, np.nan, 0.3) if kind == "noise" else None
    return History(points, values, pending=pending, noise=noise)


KINDS = [
    "nan",
    "all_nan",
    "infinite",
    "ties",
    "constant",
    "huge",
    "large_offset",
    "negative",
    "one_point",
    "same_point",
    "all_pending",
    "noise",
]


@each_sampler
@pytest.mark.parametrize("kind", KINDS)
def test_awkward_histories(sampler: Sampler, kind: str) -> None:
    configs = sampler.propose(jax.random.key(1), MIXED, awkward(kind), 3)
    assert len(configs) == 3
    check_configs(MIXED, configs)
    assert len({repr(c) for c in configs}) == 3


@each_sampler
def test_finite_space_is_exhausted_before_anything_repeats(sampler: Sampler) -> None:
    history = History.empty(FINITE)
    for n in (7, 9, 8):
        configs = sampler.propose(jax.random.key(2), FINITE, history, n)
        history = history.extended(FINITE, configs, np.arange(n, dtype=float))
    assert len(set(row_keys(history.points))) == 24
    more = sampler.propose(jax.random.key(2), FINITE, history, 2)
    assert len(more) == (0 if sampler.name == "grid" else 2)


@each_sampler
def test_edges_are_reached(sampler: Sampler) -> None:
    space = SearchSpace(i=IntUniform(1, 4), j=LogIntUniform(1, 4), c=Choice(["a", "b", "c"]))
    history = History.empty(space)
    for _ in range(5):
        configs = sampler.propose(jax.random.key(0), space, history, 8)
        values = history.points.sum(1)
        assert len(values) == len(history)
        history = history.extended(space, configs, np.zeros(len(configs)))
    configs = space.from_unit(history.points)
    for name, edges in (("i", {1, 4}), ("j", {1, 4}), ("c", {"a", "c"})):
        assert edges <= {c[name] for c in configs}


@each_sampler
def test_resuming_gives_the_same(sampler: Sampler) -> None:
    """A history rebuilt from the stored configurations leads to the same proposals."""
    history = History.empty(MIXED)
    told: list[dict] = []
    for _ in range(3):
        configs = sampler.propose(jax.random.key(4), MIXED, history, 4)
        rebuilt = History.from_configs(MIXED, told, np.arange(len(told), dtype=float))
        assert same(configs, sampler.propose(jax.random.key(4), MIXED, rebuilt, 4))
        told += configs
        history = history.extended(MIXED, configs, np.arange(len(told) - 4.0, len(told)))


@each_sampler
def test_space_without_dimensions(sampler: Sampler) -> None:
    space = SearchSpace(width=8)
    configs = sampler.propose(jax.random.key(0), space, History.empty(space), 1)
    assert configs == [{"width": 8}]


@pytest.mark.parametrize("name", ["random", "quasi_random", "grid", "halton"])
@pytest.mark.parametrize("space", [MIXED, FINITE], ids=["mixed", "finite"])
def test_batches_do_not_matter(name: str, space: SearchSpace) -> None:
    """Asked for one at a time or all together, these samplers propose the same."""
    propose, key = SAMPLERS[name].propose, jax.random.key(9)
    history, one_by_one = History.empty(space), []
    for _ in range(7):
        configs = propose(key, space, history, 1)
        one_by_one += configs
        history = history.extended(space, configs, [0.0])
    assert same(one_by_one, propose(key, space, History.empty(space), 7))


@pytest.mark.parametrize("name", ["random", "quasi_random", "grid", "halton"])
@pytest.mark.parametrize(
    "space",
    [
        MIXED,
        CONDITIONAL,
        FINITE,
        SearchSpace(seed=IntUniform(0, 900)),
        SearchSpace(rate=LogUniform(1.0, 1.0 + 1e-6)),
    ],
    ids=["mixed", "conditional", "finite", "repeats", "narrow"],
)
def test_many_at_once_are_what_calls_in_turn_would_give(name: str, space: SearchSpace) -> None:
    """Also where a draw comes again, and after the last configuration of a finite space."""
    sampler, key, history = SAMPLERS[name], jax.random.key(9), History.empty(space)
    first = sampler.propose(key, space, history, 3)
    history = history.extended(space, first, np.zeros(len(first)))
    assert sampler.propose_many is not None
    many = sampler.propose_many(key, space, history, 2 * MAX_PROPOSALS + 100)
    in_turn: list[dict] = []
    for n in (MAX_PROPOSALS, MAX_PROPOSALS, 100):
        more = sampler.propose(key, space, history, n)
        in_turn += more
        history = history.extended(space, more, np.full(len(more), np.nan))
    assert same(many, in_turn)
    assert many[:3] != first


def test_grid_order_and_size() -> None:
    space = SearchSpace(
        momentum=Uniform(0.5, 0.9).when(optimizer="momentum"),
        optimizer=Choice(["sgd", "momentum"]),
        width=Choice([8, 16]),
    )
    sampler = search.grid(points_per_range=2)
    configs = sampler.propose(jax.random.key(0), space, History.empty(space), 10)
    assert len(configs) == search.grid_size(space, 2) == 6
    assert [(c["optimizer"], c.get("momentum"), c["width"]) for c in configs] == [
        ("sgd", None, 8),
        ("sgd", None, 16),
        ("momentum", 0.5, 8),
        ("momentum", 0.5, 16),
        ("momentum", 0.9, 8),
        ("momentum", 0.9, 16),
    ]


def test_grid_goes_on_around_points_from_elsewhere() -> None:
    space = SearchSpace(a=Choice([1, 2, 3, 4]))
    history = History.from_configs(space, [{"a": 3}], [0.0])
    configs = search.grid().propose(jax.random.key(0), space, history, 8)
    assert [c["a"] for c in configs] == [1, 2, 4]


def test_grid_needs_two_points_per_range() -> None:
    with pytest.raises(UserError, match="at least 2"):
        search.grid(points_per_range=1)


def test_quasi_random_knows_its_kinds() -> None:
    with pytest.raises(UserError, match="Did you mean 'sobol'"):
        search.quasi_random("sobel")


def test_sobol_is_scipys() -> None:
    from scipy.stats import qmc

    from jaxopt_lab.search.base import generator

    space = SearchSpace(a=Uniform(0, 1), b=Uniform(0, 1), c=Uniform(0, 1))
    key = jax.random.key(11)
    configs = search.quasi_random().propose(key, space, History.empty(space), 64)
    ours = np.array([[c["a"], c["b"], c["c"]] for c in configs])
    np.testing.assert_array_equal(ours, qmc.Sobol(3, rng=generator(key, 1)).random_base2(6))
    assert qmc.discrepancy(ours) < 0.5 * qmc.discrepancy(np.random.default_rng(0).random((64, 3)))


def test_snap_is_the_round_trip_of_the_space() -> None:
    for space in (MIXED, CONDITIONAL, FINITE):
        points = np.random.default_rng(0).random((200, space.num_dims))
        expected = space.to_unit(space.from_unit(points))
        np.testing.assert_allclose(snap(space, points), expected, atol=1e-12)


def test_history_validates() -> None:
    with pytest.raises(ValueError, match="unit cube"):
        History(np.array([[1.5]]), np.array([0.0]))
    with pytest.raises(ValueError, match="pending must have shape"):
        History(np.array([[0.5]]), np.array([0.0]), pending=np.zeros(2, bool))
    history = History(np.zeros((3, 1)), np.array([1.0, np.inf, 2.0]), pending=np.arange(3) == 2)
    assert history.infeasible.tolist() == [False, True, False]
    assert history.observed.tolist() == [True, False, False]


def test_a_prior_comes_first_and_then_the_sampler() -> None:
    believed = {"learning_rate": 3e-3, "dropout": 0.1, "activation": "tanh"}
    sampler = search.with_prior(search.random(), believed, num=40, spread=0.05)
    key, history = jax.random.key(0), History.empty(MIXED)
    configs = sampler.propose(key, MIXED, history, 50)
    assert {name: configs[0][name] for name in believed} == pytest.approx(believed)
    near = [c for c in configs[:40] if 1e-3 < c["learning_rate"] < 1e-2]
    assert len(near) >= 38
    assert 20 <= sum(c["activation"] == "tanh" for c in configs[:40]) < 40
    # Proposals do not depend on how a search is cut into batches.
    part = sampler.propose(key, MIXED, history, 7)
    assert same(part, configs[:7])
    seen = history.extended(MIXED, part, np.zeros(7))
    assert same(sampler.propose(key, MIXED, seen, 33), configs[7:40])
    after = history.extended(MIXED, configs[:40], np.zeros(40))
    assert same(
        sampler.propose(key, MIXED, after, 10), search.random().propose(key, MIXED, after, 10)
    )


@pytest.mark.parametrize(
    ("believed", "message"),
    [
        ({"learning_rat": 1e-3}, "Did you mean 'learning_rate'"),
        ({"dropout": 0.9}, "dropout = 0.9 is not in"),
        ({"activation": "rellu"}, "activation = 'rellu' is not in"),
        ({"epochs": 5}, "not a parameter of the space"),
    ],
)
def test_a_prior_outside_the_space_is_refused(believed: dict, message: str) -> None:
    sampler = search.with_prior(search.random(), believed)
    with pytest.raises(UserError, match=message):
        sampler.propose(jax.random.key(0), MIXED, History.empty(MIXED), 1)


@pytest.mark.parametrize("settings", [{"num": 0}, {"spread": 0.0}, {"spread": 2.0}])
def test_a_prior_checks_its_settings(settings: dict) -> None:
    with pytest.raises(UserError, match="must be"):
        search.with_prior(search.random(), {}, **settings)


REALS = SearchSpace(**{name: Uniform(0, 1) for name in "abcd"})


def test_corners_need_evidence() -> None:
    """One coordinate matters; of the others one may seem to, but not all go to their ends."""
    rng = np.random.default_rng(0)
    points = rng.random((10, 4))
    values = (points[:, 0] - 0.4) ** 2 + 0.05 * rng.standard_normal(10)
    configs = search.bayesian().propose(jax.random.key(0), REALS, History(points, values), 8)
    proposed = REALS.to_unit(configs)
    at_an_end = (proposed <= 1e-6) | (proposed >= 1 - 1e-6)
    assert at_an_end.sum(1).max() <= 1
    assert at_an_end.any(0).sum() <= 1


def test_an_end_is_reached_where_the_values_fall_towards_it() -> None:
    points = np.random.default_rng(0).random((24, 4))
    values = 5.0 * points[:, 0] + (points[:, 1] - 0.5) ** 2
    configs = search.bayesian().propose(jax.random.key(0), REALS, History(points, values), 4)
    assert np.median([c["a"] for c in configs]) < 0.02


@pytest.mark.slow
def test_a_part_of_a_space_learns_from_the_rest() -> None:
    outer = SearchSpace(x=Uniform(0, 1), kind=Choice(["a", "b"]), n=IntUniform(1, 4))
    inner = SearchSpace(x=Uniform(0.5, 1.2), kind="a", n=IntUniform(2, 3))
    rng = np.random.default_rng(0)
    draws = outer.from_unit(rng.random((30, 3)))
    value = [abs(c["x"] - 0.7) for c in draws]
    outside = [i for i, c in enumerate(draws) if inner.why_outside(c)]
    frame = frame_of(
        outer,
        inner,
        [draws[i] for i in outside],
        [value[i] for i in outside],
        [False] * 30,
        [0] * 30,
    )
    assert frame is not None
    assert frame.space.parameters["x"] == Uniform(0, 1.2)
    one = [{"x": 1.1, "kind": "a", "n": 2}]
    history = History.from_configs(inner, one, [0.4], frame=frame)
    configs = search.bayesian(num_initial=6).propose(jax.random.key(0), inner, history, 3)
    assert all(inner.why_outside(c) is None for c in configs)
    assert min(abs(c["x"] - 0.7) for c in configs) < 0.05
    region = Region(inner, frame)
    points = inner.to_unit(one)
    np.testing.assert_allclose(region.to_model(points), frame.space.to_unit(one))
    np.testing.assert_allclose(region.from_model(points, region.to_model(points)), points)


@pytest.mark.parametrize(
    "inner",
    [
        SearchSpace(x=LogUniform(0.1, 1)),
        SearchSpace(x=Uniform(0, 1).when(k=1), k=1),
        SearchSpace(y=Uniform(0, 1)),
        SearchSpace(x=Uniform(0, 1), k=2),
    ],
)
def test_spaces_that_have_no_hull(inner: SearchSpace) -> None:
    outer = SearchSpace(x=Uniform(0, 1), k=1)
    assert hull(outer, inner) is None
    assert frame_of(outer, inner, [], [], [], []) is None
    assert hull(outer, outer) == outer


@pytest.mark.slow
def test_many_conditions_in_a_chain() -> None:
    chain = {f"c{i}": Choice([1, 2]).when(**{f"c{i + 1}": 1}) for i in range(1500)}
    space = SearchSpace(**chain, c1500=1)
    assert parents_first(space)[0] == "c1499"
