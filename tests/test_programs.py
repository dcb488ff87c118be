"""Programs hold every trial of their space, and are chosen without looking at trials."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_lab.planning.costs import Costs, Load
from jaxopt_lab.planning.plan import crowds
from jaxopt_lab.problems.mlp import choosing
from jaxopt_lab.problems.mlp.choosing import choose, values_of
from jaxopt_lab.problems.mlp.estimates import estimate, with_cohorts
from jaxopt_lab.problems.mlp.hyperparameters import ACTIVATIONS, complete, features_of
from jaxopt_lab.problems.mlp.programs import Programs
from jaxopt_lab.schedulers import bohb, hyperband, successive_halving
from jaxopt_lab.spaces.distributions import Choice, IntUniform, LogIntUniform, Uniform
from jaxopt_lab.spaces.space import SearchSpace


def one_of(values: list, least: int = 1) -> st.SearchStrategy:
    """A choice among some of the values."""
    return st.lists(st.sampled_from(values), min_size=least, max_size=4, unique=True).map(Choice)


SPACES = st.fixed_dictionaries(
    {"ema": st.just(Choice([True, False]))},
    optional={
        "hidden_size": st.one_of(
            one_of([4, 16, 48, 64, 100]),
            st.just(LogIntUniform(8, 64)),
            st.just(IntUniform(70, 90).when(ema=True)),
            st.just(24),
        ),
        "num_layers": st.one_of(st.just(IntUniform(1, 4)), one_of([1, 2, 5]), st.just(2)),
        "batch_size": st.one_of(one_of([10, 16, 32, 96, 128]), st.just(IntUniform(20, 60))),
        "activation": st.one_of(one_of(list(ACTIVATIONS)), st.just("gelu")),
        "optimizer": one_of(["adam", "adamw", "sgd", "lion"]),
        "dropout": st.just(Uniform(0.0, 0.5)),
        "clip_norm": st.just(Choice([1.0, float("inf")])),
        "schedule": one_of(["constant", "reduce_on_plateau"]),
        "early_stopping": st.just(Choice([True, False])),
        "early_stopping_monitor": one_of(["loss", "calibrated_loss"]),
    },
)

LOADS = st.builds(
    Load,
    num_trials=st.sampled_from([1, 20, 500]),
    num_epochs=st.sampled_from([1, 30, 1000]),
    num_folds=st.sampled_from([1, 5]),
    num_rows=st.sampled_from([50, 2000, 10**5]),
    num_features=st.sampled_from([3, 80]),
    num_devices=st.sampled_from([1, 2, 8]),
)


def assert_holds(found: Programs, config: dict[str, Any]) -> None:
    """The signature can train exactly this configuration."""
    sig = found.signature(config)
    assert sig.hidden_size >= config["hidden_size"]
    assert sig.masked_width or sig.hidden_size == config["hidden_size"]
    assert sig.num_layers >= config["num_layers"]
    assert sig.masked_depth or sig.num_layers == config["num_layers"]
    assert config["batch_size"] % sig.block == 0
    assert sig.accumulate or sig.block == config["batch_size"]
    assert config["activation"] in sig.activations
    assert sig.features >= features_of({k: [v] for k, v in config.items()})
    assert config["optimizer"] in sig.optimizers
    for name in ("ema", "early_stopping", "penalize_biases", "precision"):
        assert getattr(sig, name) == config[name]
    by_calibrated = config["early_stopping_monitor"] == "calibrated_loss"
    assert sig.calibrated == (config["early_stopping"] and by_calibrated)


@settings(max_examples=40)
@given(SPACES, LOADS, st.integers(0, 2**31))
def test_every_configuration_of_the_space_has_a_program_that_holds_it(
    parameters: dict[str, Any], load: Load, seed: int
) -> None:
    space = SearchSpace(**parameters)
    found = choose(space, load, Costs())
    points = np.random.default_rng(seed).random((20, space.num_dims))
    for config in space.from_unit(points):
        full = complete(config)
        assert_holds(found, full)
        assert found.signature(full).features == found.features
    for outside in ({"hidden_size": 1}, {"hidden_size": 500}, {"num_layers": 1}, {"l1": 0.1},
                    {"num_layers": 9, "activation": "sigmoid", "batch_size": 7}):  # fmt: skip
        assert_holds(found, complete(outside))


@settings(max_examples=30)
@given(SPACES, LOADS)
def test_the_choice_is_the_same_every_time_and_survives_json(
    parameters: dict[str, Any], load: Load
) -> None:
    space = SearchSpace(**parameters)
    found = choose(space, load, Costs())
    again = choose(SearchSpace.from_dict(space.to_dict()), load, Costs())
    assert found == again
    assert Programs.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@settings(max_examples=30)
@given(SPACES, LOADS)
def test_the_choice_costs_no_more_than_exact_shapes(parameters: dict[str, Any], load: Load) -> None:
    space = SearchSpace(**parameters)
    found = choose(space, load, Costs())
    values = values_of(space)
    exact = replace(
        found,
        widths=tuple(sorted(values["hidden_size"])),
        depths=tuple(sorted(values["num_layers"])),
        block=0,
        activations=(),
        optimizers=(),
    )
    exact = with_cohorts(exact, values, load, Costs(), True)
    if len(exact.widths) < choosing.MAX_VALUES:
        price = [estimate(p, values, load, Costs(), True).total for p in (found, exact)]
        assert 0 < price[0] <= price[1] * (1 + 1e-9)


SMALL = SearchSpace(
    hidden_size=Choice([16, 32, 64]), num_layers=IntUniform(1, 3), batch_size=Choice([32, 64])
)


def load_of(num_trials: int, num_epochs: int) -> Load:
    return Load(num_trials, num_epochs, 5, 2000, 20)


def test_few_short_trials_share_programs_and_many_long_ones_do_not() -> None:
    few, many = (choose(SMALL, load_of(*n), Costs()) for n in ((20, 5), (20_000, 1000)))
    assert few.masked_width
    assert few.masked_depth
    assert few.widths == (64,)
    assert not many.masked_width
    assert many.widths == (16, 32, 64)
    assert many.block == 0


def test_optimizers_that_cost_nothing_together_share_a_program() -> None:
    space = SearchSpace(optimizer=Choice(["adam", "lion", "adamw"]))
    found = choose(space, load_of(20_000, 1000), Costs())
    assert found.optimizers == ("adam", "adamw")
    signatures = {found.signature(complete({"optimizer": n})) for n in ("adam", "adamw", "lion")}
    assert len(signatures) == 2


def test_many_long_trials_do_not_keep_moments_that_they_do_not_need() -> None:
    space = SearchSpace(optimizer=Choice(["sgd", "adam"]), hidden_size=256)
    assert choose(space, load_of(20, 1), Costs()).optimizers
    assert not choose(space, load_of(20_000, 1000), Costs()).optimizers


def test_sizes_of_a_range_are_rounded_up_to_few() -> None:
    found = choose(SearchSpace(hidden_size=IntUniform(48, 250)), load_of(200, 20), Costs())
    assert 1 < len(found.widths) <= choosing.MAX_CLASSES
    assert found.widths[-1] == 250
    assert not any(width % choosing.LANES for width in found.widths[:-1])


@settings(max_examples=12)
@given(SPACES, LOADS, st.sampled_from([1, 2, 4, 8, 16]))
def test_no_other_cohorts_take_less_time_by_the_same_estimate(
    parameters: dict[str, Any], load: Load, width: int
) -> None:
    space = SearchSpace(**parameters)
    found = choose(space, load, Costs())
    assert len(found.max_cohorts) == len(found.widths)
    other = replace(found, max_cohorts=(width,) * len(found.widths))
    price = [estimate(p, values_of(space), load, Costs(), True).total for p in (found, other)]
    assert price[0] <= price[1] * (1 + 1e-9)


def test_cohorts_are_as_wide_as_their_trials_fill() -> None:
    """One shape on two devices: 64 trials fill four cohorts of 16, five trials none."""
    one_shape = SearchSpace(dropout=Uniform(0, 0.5))
    many, few = (choose(one_shape, Load(n, 8, 1, 2000, 8, 2), Costs()) for n in (64, 5))
    assert many.max_cohorts == (16,)
    assert few.max_cohorts == (4,)


def test_rungs_of_many_trials_count_as_much_as_the_last_one() -> None:
    """Nine trials at the end alone would train in cohorts of one."""
    one_shape = SearchSpace(dropout=Uniform(0, 0.5), batch_size=128)
    last = Load(9, 18, 1, 4000, 100, 2)
    halving = replace(last, num_trials=81, crowds=crowds(81, 27, 1, successive_halving()))
    assert halving.together == ((81, 3), (27, 6), (9, 18))
    alone, together = (choose(one_shape, load, Costs()) for load in (last, halving))
    assert alone.max_cohorts == (1,)
    assert together.max_cohorts > (1,)


def test_brackets_in_turn_do_not_train_together() -> None:
    settings = {"reduction": 3, "min_epochs": 3}
    together = crowds(17, 9, 2, hyperband(**settings))
    in_turn = crowds(17, 9, 2, bohb(**settings))
    units = [sum(number * units for number, units in found) for found in (together, in_turn)]
    assert units[0] == units[1]
    assert len(in_turn) >= len(together)
    assert crowds(17, 9, 2, None) == ((17, 9), (17, 9))


def test_programs_of_an_earlier_version_are_read() -> None:
    """It had one bound of the cohort width for all programs."""
    found = choose(SMALL, load_of(20, 5), Costs())
    stored = json.loads(json.dumps(found.to_dict()))
    del stored["max_cohorts"]
    again = Programs.from_dict({**stored, "max_width": 2})
    assert again.max_cohorts == (2,) * len(found.widths)
    assert replace(again, max_cohorts=found.max_cohorts) == found


def test_a_space_of_one_shape_is_exact() -> None:
    found = choose(SearchSpace(dropout=Uniform(0, 0.5)), load_of(20, 5), Costs())
    sig = found.signature(complete({"dropout": 0.2}))
    assert not any((sig.masked_width, sig.masked_depth, sig.accumulate))
    assert sig.features == {"dropout"}


@pytest.mark.parametrize(
    "changes", [{"block": 33}, {"draw_width": 3}], ids=["noise_rows", "draw_width"]
)
def test_a_signature_checks_itself(changes: dict[str, int]) -> None:
    sig = choose(SMALL, load_of(20, 5), Costs()).signature(complete({}))
    with pytest.raises(ValueError, match=r"no multiple|is below"):
        replace(sig, **changes)


def test_a_signature_reads_as_one_line() -> None:
    config = complete({"ema": True, "batch_size": 64})
    assert str(choose(SMALL, load_of(20, 5), Costs()).signature(config)) == (
        "up to 3 x up to 64 relu, adamw, batch 32 and multiples, ema"
    )
