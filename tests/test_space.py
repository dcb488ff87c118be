"""Distributions, conditions, TOML: round trips, edges, and every message for a wrong space."""

import datetime
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.spaces.distributions import (
    Choice,
    Distribution,
    IntUniform,
    LogIntUniform,
    LogUniform,
    Uniform,
)
from jaxopt_lab.spaces.space import INACTIVE, SearchSpace, read_toml
from jaxopt_lab.spaces.values import plain

UNIT = st.floats(0.0, 1.0)
PLAIN = st.one_of(
    st.integers(-1000, 1000), st.text("abcdef", min_size=1), st.booleans(), st.floats(-9, 9)
)


def ordered(values: st.SearchStrategy) -> st.SearchStrategy:
    """Pairs low < high."""
    return st.tuples(values, values).filter(lambda pair: pair[0] < pair[1])


DISTRIBUTIONS = st.one_of(
    ordered(st.floats(-1e6, 1e6, allow_subnormal=False)).map(lambda p: Uniform(*p)),
    ordered(st.floats(1e-12, 1e6))
    .filter(lambda p: p[1] > p[0] * 1.001)
    .map(lambda p: LogUniform(*p)),
    ordered(st.integers(-1000, 1000)).map(lambda p: IntUniform(*p)),
    ordered(st.integers(1, 10**6)).map(lambda p: LogIntUniform(*p)),
    st.lists(PLAIN, min_size=1, max_size=6, unique=True).map(Choice),
)


@given(DISTRIBUTIONS, UNIT)
def test_unit_to_value_and_back_is_the_same_value(dist: Distribution, u: float) -> None:
    value = dist.from_unit(u)
    assert dist.contains(value)
    v = dist.to_unit(value)
    assert 0.0 <= v <= 1.0
    again = dist.from_unit(v)
    if math.isfinite(dist.cardinality):
        assert again == value
    else:
        assert again == pytest.approx(value, rel=1e-9, abs=1e-9 * (dist.high - dist.low))
        assert v == pytest.approx(u, abs=1e-6) or dist.high - dist.low < 1e-6 * abs(dist.high)


@given(DISTRIBUTIONS)
def test_both_edges_of_the_cube_are_the_ends_of_the_range(dist: Distribution) -> None:
    ends = (dist.ranked[0], dist.ranked[-1]) if isinstance(dist, Choice) else dist.extremes
    assert (dist.from_unit(0.0), dist.from_unit(1.0)) == ends
    assert all(dist.contains(end) for end in ends)
    assert not isinstance(dist.from_unit(0.5), np.generic)


@pytest.mark.parametrize(
    "dist", [IntUniform(3, 7), LogIntUniform(1, 64), Choice([4, 2, 8]), Choice(["b", "a"])]
)
def test_every_value_of_a_finite_distribution_is_reached(dist: Distribution) -> None:
    reached = {dist.from_unit(u) for u in np.linspace(0, 1, 2001)}
    assert len(reached) == dist.cardinality
    assert all(dist.from_unit(dist.to_unit(v)) == v for v in reached)


def test_whole_numbers_are_equally_likely_and_logarithmic_ones_are_not() -> None:
    grid = (np.arange(8000) + 0.5) / 8000
    counts = np.bincount([IntUniform(0, 3).from_unit(u) for u in grid])
    assert set(counts) == {2000}
    drawn = np.array([LogIntUniform(1, 100).from_unit(u) for u in grid])
    assert abs(np.mean(drawn <= 10) - 0.5) < 0.1
    assert np.median([LogUniform(1e-4, 1.0).from_unit(u) for u in grid]) == pytest.approx(
        1e-2, rel=1e-2
    )


def test_numbers_of_a_choice_are_ordered_and_text_is_not() -> None:
    assert Choice([64, 16, 32]).ranked == (16, 32, 64)
    assert Choice(["b", "a"]).ranked == ("b", "a")
    assert Choice([True, False]).ranked == (True, False)


CONDITIONAL = SearchSpace(
    momentum=Uniform(0.5, 0.99).when(optimizer=["momentum", "nesterov"]),
    optimizer=Choice(["sgd", "momentum", "nesterov"]),
    gate=Choice(["a", "b"]).when(momentum_kind=True, optimizer="momentum"),
    momentum_kind=Choice([True, False]).when(optimizer="momentum"),
    clip=IntUniform(1, 3).when(fixed=2),
    never=IntUniform(1, 3).when(fixed=3),
    fixed=2,
)


@pytest.mark.parametrize("dist", [Uniform(-1, 2), LogUniform(1e-5, 3e-2), IntUniform(0, 9)])
def test_a_column_is_mapped_as_its_numbers_are(dist: Distribution) -> None:
    column = [0.0, -0.0, 1.0, 1e-300, 1 - 2**-53, *np.random.default_rng(0).random(500)]
    values = dist.from_units(column)
    assert values == [dist.from_unit(u) for u in column]
    assert {type(value) for value in values} == {type(dist.from_unit(0.5))}


@given(st.lists(UNIT, min_size=6, max_size=6))
def test_inactive_parameters_are_left_out_and_lie_in_the_middle(row: list[float]) -> None:
    (config,) = CONDITIONAL.from_unit([row])
    assert config["fixed"] == 2
    assert "never" not in config
    assert "clip" in config
    assert ("momentum" in config) == (config["optimizer"] != "sgd")
    assert ("gate" in config) == (config.get("momentum_kind") is True)
    point = CONDITIONAL.to_unit([config])
    for name, u in zip(CONDITIONAL.names, point[0], strict=True):
        assert name in config or u == INACTIVE
    again = CONDITIONAL.from_unit(point)[0]
    assert again == {
        **config,
        **{k: pytest.approx(v) for k, v in config.items() if k == "momentum"},
    }
    assert list(config) == [n for n in (*CONDITIONAL.names, "fixed") if n in config]


def test_a_fixed_space_has_no_axes() -> None:
    space = SearchSpace(a=1, b="x")
    assert (space.num_dims, space.cardinality) == (0, 1)
    assert space.from_unit(np.zeros((3, 0))) == [{"a": 1, "b": "x"}] * 3
    assert space.to_unit([{}, {}]).shape == (2, 0)


def test_size_of_a_space_and_its_extremes() -> None:
    space = SearchSpace(a=Choice([1, 2]), b=IntUniform(0, 4), c=7)
    assert space.cardinality == 10
    assert SearchSpace(a=Choice([1, 2]), b=Uniform(0, 1)).cardinality == math.inf
    assert space.extremes() == {"a": (1, 2), "b": (0, 4), "c": (7,)}


@pytest.mark.parametrize(
    "points", [[[0.5]], [0.5, 0.5], np.zeros((2, 3)), np.zeros((2, 2, 1)), [[0.5, -0.1]],
               [[1.1, 0.5]], [[0.5, math.nan]]]
)  # fmt: skip
def test_points_of_a_wrong_shape_or_outside_the_cube_are_refused(points: Any) -> None:
    space = SearchSpace(a=Uniform(0, 1), b=Uniform(0, 1))
    with pytest.raises(ValueError, match=r"coordinates must lie|points must"):
        space.from_unit(points)


TOML = """
[space]
learning_rate = { log_uniform = [1e-4, 1e-1] }
dropout = { uniform = [0.0, 0.5] }
num_layers = { int_uniform = [1, 4] }
hidden_size = { log_int_uniform = [8, 256] }
optimizer = { choice = ["adam", "momentum"] }
momentum = { uniform = [0.5, 0.99], when = { optimizer = ["momentum"] } }
b1 = { uniform = [0.5, 0.99], when = { optimizer = "adam" } }
batch_size = 64
ema = true
schedule = "cosine"
"""


def test_toml_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(TOML)
    space = SearchSpace.from_toml(path)
    assert space == SearchSpace(
        learning_rate=LogUniform(1e-4, 1e-1),
        dropout=Uniform(0.0, 0.5),
        num_layers=IntUniform(1, 4),
        hidden_size=LogIntUniform(8, 256),
        optimizer=Choice(["adam", "momentum"]),
        momentum=Uniform(0.5, 0.99).when(optimizer="momentum"),
        b1=Uniform(0.5, 0.99).when(optimizer="adam"),
        batch_size=64,
        ema=True,
        schedule="cosine",
    )
    assert SearchSpace.from_dict(space.to_dict()) == space
    assert hash(SearchSpace.from_dict(space.to_dict())) == hash(space)
    assert space != SearchSpace(batch_size=64)
    assert "momentum=Uniform(0.5, 0.99).when(optimizer=['momentum'])" in repr(space)


VALUES = st.recursive(
    st.one_of(PLAIN, st.none()), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)


@given(st.lists(VALUES, min_size=1, max_size=6, unique_by=repr), st.booleans())
def test_any_value_goes_through_json_and_back(values: list[Any], static: bool) -> None:
    assume(len({plain(v) for v in values}) == len(values))
    space = SearchSpace(a=Choice(values, static=static), b=values[0])
    again = SearchSpace.from_dict(json.loads(json.dumps(space.to_dict())))
    assert again == space
    assert again.fixed == space.fixed
    assert again.parameters["a"].static is static
    for value in values:
        config = json.loads(json.dumps({"a": value, "b": values[0]}))
        (drawn,) = space.from_unit(space.to_unit([config]))
        assert drawn["a"] == plain(value)
        assert space.why_outside(config) is None


def test_lists_and_none_are_values_without_an_order() -> None:
    choice = Choice([[64, 64], (128,), None])
    assert choice.values == ((64, 64), (128,), None)
    assert not choice.ordered
    assert choice.contains([64, 64])
    assert choice.from_unit(choice.to_unit([128])) == (128,)
    space = SearchSpace(widths=choice, depth=IntUniform(1, 3).when(widths=[[64, 64]]))
    assert "depth" in space.from_unit([[0.1, 0.5]])[0]
    assert "depth" not in space.from_unit([[0.9, 0.5]])[0]


@pytest.mark.parametrize(
    "dist",
    [
        Uniform(0, 1, static=True),
        LogUniform(1, 2, static=True),
        IntUniform(1, 2, static=True),
        LogIntUniform(1, 2, static=True),
        Choice([1, 2], static=True),
    ],
)
def test_static_stays(dist: Distribution) -> None:
    space = SearchSpace(x=dist.when(y=1), y=1)
    assert space.parameters["x"].static
    assert space.to_dict()["x"]["static"] is True
    assert SearchSpace.from_dict(space.to_dict()).parameters["x"].static
    assert space != SearchSpace(x=type(dist)(*_args(dist)).when(y=1), y=1)


def _args(dist: Distribution) -> list[Any]:
    return [dist.extremes] if isinstance(dist, Choice) else list(dist.extremes)


def test_scalars_of_numpy_are_numbers() -> None:
    space = SearchSpace(
        a=Uniform(np.float64(0), np.float32(0.5)),
        b=IntUniform(np.int64(1), np.int32(3)),
        c=Choice(np.array([8, 16])),
        d=Choice([np.float64(0.5), np.str_("x"), np.bool_(True)]),
        e=np.int64(7),
        f=Uniform(0, 1).when(e=np.int64(7)),
    )
    assert json.loads(json.dumps(space.to_dict())) == space.to_dict()
    (config,) = space.from_unit([[0.5] * 5])
    assert not any(isinstance(value, np.generic) for value in config.values())
    assert space.why_outside({**config, "b": np.int64(2), "c": np.int64(8)}) is None


@given(st.dictionaries(st.text("abcdefgh", min_size=1), st.one_of(DISTRIBUTIONS, PLAIN)))
def test_dict_round_trip(parameters: dict[str, Any]) -> None:
    space = SearchSpace(**parameters)
    assert SearchSpace.from_dict(space.to_dict()) == space
    assert SearchSpace.from_dict(space.to_dict()).names == space.names


def test_a_parameter_may_have_any_name() -> None:
    assert SearchSpace.from_dict({"self": 3, "lambda": 4}).fixed == {"self": 3, "lambda": 4}


WRONG_DISTRIBUTIONS = {
    "high below low": (lambda: Uniform(1, 0), r"low must be below high, got \[1, 0\]"),
    "empty uniform": (lambda: Uniform(1, 1), "low must be below high"),
    "infinite": (lambda: Uniform(0, math.inf), "both ends must be finite numbers"),
    "NaN": (lambda: Uniform(math.nan, 1), "both ends must be finite numbers"),
    "too wide": (lambda: Uniform(-1.7e308, 1.7e308), "too wide"),
    "text end": (lambda: Uniform("0", 1), "both ends must be finite numbers, got"),
    "boolean end": (lambda: IntUniform(False, True), "both ends must be finite numbers"),
    "logarithm at zero": (lambda: LogUniform(0, 1), "cannot reach 0; its low end must be above 0"),
    "logarithm below zero": (lambda: LogUniform(-1, 1), "cannot reach -1"),
    "no whole number": (lambda: IntUniform(1.5, 3), "ends must be whole numbers"),
    "logarithm of zero integers": (lambda: LogIntUniform(0, 3), "low end must be at least 1"),
    "empty choice": (lambda: Choice([]), "the list of values is empty"),
    "choice of a text": (lambda: Choice("abc"), "give a list of values"),
    "choice of a number": (lambda: Choice(3), "give a list of values"),
    "choice of a table": (lambda: Choice([{"a": 1}]), "must be numbers, text, booleans, None or"),
    "choice of a date": (lambda: Choice([datetime.date(2024, 1, 1)]), "must be numbers, text"),
    "list twice": (lambda: Choice([[1, 2], (1, 2)]), "a value stands twice"),
    "static text": (lambda: Uniform(0, 1, static="yes"), "static must be true or false"),
    "beyond floats": (lambda: Uniform(0, 10**400), "finite numbers, got .*whole number of 401 dig"),
    "inexact whole numbers": (lambda: IntUniform(0, 2**60), r"within 2\^53 of zero"),
    "long choice": (lambda: Choice([10**30, 1]), "a whole number of 31 digits is too large"),
    "condition on a date": (
        lambda: Uniform(0, 1).when(a=datetime.date(2024, 1, 1)),
        "when: values must be numbers",
    ),
    "value twice": (lambda: Choice([1, 2, 1]), "a value stands twice"),
    "equal values": (lambda: Choice([1, True]), "a value stands twice"),
    "NaN choice": (lambda: Choice([1.0, math.nan]), "NaN"),
    "no distribution": (lambda: SearchSpace(a={"b": 1}), "a: {'b': 1} is neither a distribution"),
    "function": (lambda: SearchSpace(a=print), "a: values must be numbers, text"),
    "parent missing": (
        lambda: SearchSpace(a=Uniform(0, 1).when(optimiser="x"), optimizer="x"),
        "names 'optimiser', which is not in the space. Did you mean 'optimizer'?",
    ),
    "circle": (
        lambda: SearchSpace(a=Choice([1, 2]).when(b=1), b=Choice([1, 2]).when(a=1)),
        "conditions form a cycle: a -> b -> a",
    ),
    "own parent": (lambda: SearchSpace(a=Choice([1, 2]).when(a=1)), "form a cycle: a -> a"),
}


@pytest.mark.parametrize(("make", "message"), WRONG_DISTRIBUTIONS.values(), ids=WRONG_DISTRIBUTIONS)
def test_a_wrong_distribution_says_what_is_right(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


WRONG_ENTRIES = {
    "unknown kind": ({"log_unifrom": [1, 2]}, "unknown distribution 'log_unifrom'. Did you mean"),
    "two kinds": ({"uniform": [0, 1], "choice": [1]}, "exactly one of .* got 'uniform, choice'"),
    "no kind": ({}, "exactly one of .* got none"),
    "one end": ({"uniform": [1]}, r"uniform takes \[low, high\], got \[1\]"),
    "no list": ({"choice": 3}, "choice takes a list of values, got 3"),
    "high below low": ({"uniform": [2, 1]}, "low must be below high"),
    "text ends": ({"log_uniform": ["a", "b"]}, "both ends must be finite numbers"),
    "bare list": ([1, 2], "write a plain value or one of"),
    "nothing": (None, "write a plain value or one of"),
    "when holds a table": ({"uniform": [0, 1], "when": {"a": {"b": 1}}}, "when: values must be"),
    "static number": ({"uniform": [0, 1], "static": 1}, "static must be true or false, got 1"),
    "static alone": ({"static": True}, "exactly one of .* got none"),
    "when is no table": ({"uniform": [0, 1], "when": "sgd"}, "'when' must be a table"),
}


@pytest.mark.parametrize(("entry", "message"), WRONG_ENTRIES.values(), ids=WRONG_ENTRIES)
def test_a_wrong_entry_names_its_parameter(entry: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        SearchSpace.from_dict({"rate": entry})
    assert str(caught.value).startswith("rate: ")


WRONG_FILES = {
    "missing": (None, "cannot read"),
    "no TOML": ("space = [", "is not valid TOML"),
    "long number": ("[space]\na = " + "9" * 5000, "a number has too many digits"),
    "number beyond floats": ("[space]\na = 0x" + "f" * 400, "a: a whole number of 482 digits"),
    "nested deeply": ("[space]\na = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
    "date": ("[space]\na = 2024-01-01", "a: write a plain value"),
    "date in a condition": (
        "[space]\na = 1\nb = { choice = [1, 2], when = { a = 2024-01-01 } }",
        "b: when: values must be numbers",
    ),
    "cycle": (
        "[space]\na = { choice = [1, 2], when = { b = 1 } }\n"
        "b = { choice = [1, 2], when = { a = 1 } }",
        "conditions form a cycle: a -> b -> a",
    ),
    "no such table": ("[spaces]\na = 1", r"no table \[space\]. It has: spaces. Did you mean 'spa"),
    "no table": ("space = 3", r"space is no table; write \[space\]"),
    "list of tables": ("[[space]]\na = 1", r"space is no table; write \[space\]"),
    "condition of no value": (
        "[space]\na = { choice = ['sgd', 'adam'] }\nb = { choice = [1, 2], when = { a = 'adan' } }",
        "b: its condition never holds: a is never 'adan'. Did you mean 'adam'",
    ),
    "condition of another fixed value": (
        "[space]\na = 'sgd'\nb = { choice = [1, 2], when = { a = ['adam', 'lion'] } }",
        "a is never 'adam' or 'lion'",
    ),
    "empty file": ("", r"no table \[space\]"),
    "empty table": ("[space]", r"table \[space\] is empty"),
}


@pytest.mark.parametrize(("text", "message"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "study.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        SearchSpace.from_toml(path)
    assert len(str(caught.value)) < 300


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_bytes(b"\xef\xbb\xbf[space]\r\na = 1\r\n")
    assert SearchSpace.from_toml(path).fixed == {"a": 1}


def test_bytes_that_are_no_text_are_no_toml(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not valid TOML"):
        read_toml(path, "space")


@given(DISTRIBUTIONS, st.lists(UNIT, min_size=2, max_size=2))
def test_a_larger_coordinate_never_gives_a_smaller_number(
    dist: Distribution, units: list[float]
) -> None:
    assume(not isinstance(dist, Choice) or dist.ordered)
    low, high = sorted(units)
    assert dist.from_unit(low) <= dist.from_unit(high)
